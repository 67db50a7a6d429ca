//! `picket policy check`.

use std::fs;
use std::path::Path;

use crate::support::{picket, text};

/// The policies that are shipped with the policy service.
fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-service/policies")
}

fn copy_of_shipped() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(shipped()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn the_shipped_policies_have_no_mistake() {
    let answer = picket(&["policy", "check", text(&shipped())]);
    answer.expect(0);
    assert!(answer.stdout.contains("no mistake in "), "{}", answer.stdout);
    let answer = picket(&["policy", "check", text(&shipped()), "--output", "json"]).json();
    assert_eq!(answer["problems"].as_array().unwrap().len(), 0);
    assert!(answer["policies"].as_u64().unwrap() > 0);
    assert_eq!(answer["revision"].as_str().unwrap().len(), 16);
}

#[test]
fn a_policy_that_does_not_type_check_is_named_with_file_and_line() {
    let folder = copy_of_shipped();
    let file = folder.path().join("wrong.cedar");
    fs::write(
        &file,
        "@id(\"wrong\")\npermit(principal, action, resource)\nwhen { resource.colour == 3 };\n",
    )
    .unwrap();
    let answer = picket(&["policy", "check", text(folder.path())]);
    answer.expect(1);
    let place = format!("{}:3: ", file.display());
    assert!(answer.stdout.contains(&place), "{}", answer.stdout);
    let answer = picket(&["policy", "check", text(folder.path()), "--output", "json"]);
    answer.expect(1);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(answer["problems"][0]["line"], 3);
    assert_eq!(answer["problems"][0]["file"], text(&file));
    assert!(answer["revision"].is_null());
}

#[test]
fn a_folder_without_a_schema_has_a_mistake_and_one_that_is_not_there_cannot_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let answer = picket(&["policy", "check", text(folder.path())]);
    answer.expect(1);
    assert!(answer.stdout.contains("schema.cedarschema"), "{}", answer.stdout);
    let answer = picket(&["policy", "check", text(&folder.path().join("absent"))]);
    answer.expect(3);
    assert_eq!(answer.stdout, "");
    assert!(answer.stderr.contains("absent"), "{}", answer.stderr);
}
