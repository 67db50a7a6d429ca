//! `picket policy activate`, `rollback`, `history`, `list`, `show` and `diff` of revisions, against the policy service itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::session::Service;
use crate::support::text;

/// A copy of the shipped policies, with their tests.
fn copy(into: &Path) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-service/policies");
    let folder = into.join("policies");
    for inner in ["", "tests"] {
        fs::create_dir(folder.join(inner)).unwrap();
        for entry in fs::read_dir(shipped.join(inner)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), folder.join(inner).join(entry.file_name())).unwrap();
            }
        }
    }
    folder
}

fn field<'a>(value: &'a serde_json::Value, path: &str) -> &'a serde_json::Value {
    value.pointer(path).unwrap_or_else(|| panic!("{path}: {value}"))
}

pub(crate) fn activates_and_rolls_back(service: &Service) {
    let folder = tempfile::tempdir().unwrap();
    let policies = copy(folder.path());
    let activate = |more: &[&str]| service.picket(&[&["policy", "activate", text(&policies)], more].concat());
    activate(&["--validate-only"]).expect(0);
    let none = service.picket(&["policy", "show", "active"]);
    none.expect(3);
    assert!(none.stderr.contains("there is no such revision"), "{}", none.stderr);
    let first = activate(&["--comment", "the first", "--expected-active", "0", "--output", "json"]).json();
    assert_eq!(field(&first, "/outcome"), "activated");
    assert_eq!(field(&first, "/number"), 1);
    assert!(field(&first, "/tests_passed").as_u64().unwrap() > 10);
    let again = activate(&["--comment", "again"]);
    again.expect(0);
    assert!(again.stdout.starts_with("unchanged revision 1, "), "{}", again.stdout);

    // It fails its own tests.
    fs::write(
        policies.join("closed.cedar"),
        "@id(\"closed\") forbid (principal, action, resource);\n",
    )
    .unwrap();
    let refused = activate(&["--comment", "closed"]);
    refused.expect(1);
    assert!(refused.stdout.contains("tests/"), "{}", refused.stdout);
    assert!(
        refused.stdout.contains("failed: effect: expected permit, found deny"),
        "{}",
        refused.stdout
    );

    fs::remove_dir_all(policies.join("tests")).unwrap();
    let aborted = activate(&["--comment", "closed", "--expected-active", "7"]);
    aborted.expect(3);
    assert!(
        aborted
            .stderr
            .contains("revision 1 is active, and revision 7 was expected"),
        "{}",
        aborted.stderr
    );
    let difference = service.picket(&["policy", "diff", "revision:active", text(&policies)]);
    difference.expect(0);
    assert!(difference.stdout.contains("closed: added"), "{}", difference.stdout);
    activate(&["--comment", "closed", "--expected-active", "1"]).expect(0);
    let difference = service.picket(&["policy", "diff", "revision:1", "revision:2"]);
    assert!(difference.stdout.contains("closed: added"), "{}", difference.stdout);
    assert!(
        difference.stdout.contains("1 policies and 0 of 0 decisions change"),
        "{}",
        difference.stdout
    );
    looks(service, folder.path());
}

fn looks(service: &Service, folder: &Path) {
    let back = service.picket(&["policy", "rollback", "1", "--comment", "open again"]);
    back.expect(0);
    assert!(back.stdout.starts_with("activated revision 1, "), "{}", back.stdout);
    let history = service.picket(&["policy", "history", "--output", "json"]).json();
    assert_eq!(field(&history, "/activations/0/previous"), 2);
    assert_eq!(field(&history, "/activations/0/comment"), "open again");
    assert_eq!(field(&history, "/activations/0/by"), "spiffe://example.org/web");
    let history = service.picket(&["policy", "history", "-n", "1"]);
    assert!(history.stdout.contains("  2 to 1  "), "{}", history.stdout);
    assert!(history.stdout.contains("more: --before 3"), "{}", history.stdout);
    let list = service.picket(&["policy", "list"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("2  ") && lines[0].ends_with("closed"), "{lines:?}");
    assert!(
        lines[1].starts_with("1  ") && lines[1].ends_with("the first  active"),
        "{lines:?}"
    );

    // What is written is what was activated, and is never written over.
    let into = folder.join("shown");
    let show = ["policy", "show", "2", "--into", text(&into)];
    service.picket(&show).expect(0);
    let (shown, policies) = (into.join("closed.cedar"), folder.join("policies/closed.cedar"));
    assert_eq!(fs::read(shown).unwrap(), fs::read(policies).unwrap());
    assert!(!into.join("tests").exists());
    let again = service.picket(&show);
    again.expect(3);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    for unknown in ["0", "newest"] {
        service.picket(&["policy", "show", unknown]).expect(2);
    }
    service.picket(&["policy", "show", "9"]).expect(3);
}
