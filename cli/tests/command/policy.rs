//! `picket policy check`, `picket policy test`, `picket policy matrix` and `picket policy diff`.

use std::fs;
use std::path::Path;

use crate::support::{picket, text};

/// The policies that are shipped with the policy service.
fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy-service/policies")
}

fn copy_of_shipped() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tests")).unwrap();
    for inner in ["", "tests"] {
        for entry in fs::read_dir(shipped().join(inner)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), folder.path().join(inner).join(entry.file_name())).unwrap();
            }
        }
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
fn a_folder_without_a_policy_has_a_mistake_and_one_that_is_not_there_cannot_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let answer = picket(&["policy", "check", text(folder.path())]);
    answer.expect(1);
    assert!(answer.stdout.contains("no policy file"), "{}", answer.stdout);
    let answer = picket(&["policy", "check", text(&folder.path().join("absent"))]);
    answer.expect(3);
    assert_eq!(answer.stdout, "");
    assert!(answer.stderr.contains("absent"), "{}", answer.stderr);
}

#[test]
fn the_services_own_schema_is_printed_and_a_folder_with_it_loads() {
    let printed = picket(&["policy", "schema"]);
    printed.expect(0);
    assert!(printed.stdout.contains("namespace Picket {"), "{}", printed.stdout);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("schema.cedarschema"), &printed.stdout).unwrap();
    let policy = "@id(\"p\") permit (principal, action, resource);\n";
    fs::write(folder.path().join("p.cedar"), policy).unwrap();
    picket(&["policy", "check", text(folder.path())]).expect(0);
    // The same without a member that the service makes: what helps is told with the mistakes.
    let older = printed.stdout.replace("    trust_score: Long,\n", "");
    fs::write(folder.path().join("schema.cedarschema"), older).unwrap();
    let answer = picket(&["policy", "check", text(folder.path())]);
    answer.expect(1);
    for expected in ["picket policy schema", "trust_score"] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
}

#[test]
fn the_shipped_policies_pass_their_tests_which_try_all_of_them() {
    let folder = shipped();
    let arguments = [
        "policy",
        "test",
        text(&folder),
        "--fail-on-empty",
        "--coverage-min",
        "100",
    ];
    let answer = picket(&arguments);
    answer.expect(0);
    assert!(answer.stdout.starts_with("100 % tried: 19 of 19"), "{}", answer.stdout);
    assert!(answer.stdout.contains(" passed, revision "), "{}", answer.stdout);
    let answer = picket(&[&arguments[..], &["--output", "json"]].concat()).json();
    assert_eq!(answer["failed"], 0);
    assert_eq!(answer["coverage"]["percent"], 100);
    assert_eq!(answer["problems"].as_array().unwrap().len(), 0);
    assert!(answer["passed"].as_u64().unwrap() > 20);
}

#[test]
fn a_case_that_fails_is_told_with_what_came_and_what_was_not_tried_with_its_line() {
    let folder = copy_of_shipped();
    let policies = folder.path().join("orders.cedar");
    let changed = fs::read_to_string(&policies)
        .unwrap()
        .replace("\"clerk\"", "\"reader\"");
    fs::write(&policies, &changed).unwrap();
    fs::remove_file(folder.path().join("tests/stock.yaml")).unwrap();
    let junit = folder.path().join("report.xml");
    let answer = picket(&["policy", "test", text(folder.path()), "--junit", text(&junit)]);
    answer.expect(1);
    let file = folder.path().join("tests/orders.yaml");
    let expected = format!(
        "{}: failed: a reader writes none\n  effect: expected deny, found permit\n  policy_ids: expected none, found `orders-write`\n",
        file.display()
    );
    assert!(answer.stdout.starts_with(&expected), "{}", answer.stdout);
    let line = changed.lines().position(|line| line == "@id(\"stock-read\")").unwrap() + 1;
    let untried = format!("{}:{line}: stock-read: never applied", policies.display());
    assert!(answer.stdout.contains(&untried), "{}", answer.stdout);
    let condition = format!(
        "{}:{}: stock-read: never true: `when {{ resource.route_rule == \"stock-read\" }}`",
        policies.display(),
        line + 6
    );
    assert!(answer.stdout.contains(&condition), "{}", answer.stdout);
    assert!(answer.stdout.contains(", 2 failed, revision "), "{}", answer.stdout);
    let xml = fs::read_to_string(&junit).unwrap();
    let failure =
        "<failure message=\"effect: expected deny, found permit; policy_ids: expected none, found `orders-write`\">";
    assert!(xml.contains(failure), "{xml}");
    assert!(xml.contains("failures=\"2\" errors=\"0\""), "{xml}");
    let answer = picket(&["policy", "test", text(folder.path()), "--output", "json"]);
    answer.expect(1);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(
        (&answer["failed"], &answer["files"][0]["file"]),
        (&2.into(), &text(&file).into())
    );
}

#[test]
fn less_than_was_asked_for_is_a_mistake() {
    let folder = copy_of_shipped();
    fs::remove_file(folder.path().join("tests/stock.yaml")).unwrap();
    let check = |further: &[&str], code: i32| {
        let answer = picket(&[&["policy", "test", text(folder.path())][..], further].concat());
        answer.expect(code);
        answer
    };
    check(&[], 0);
    check(&["--coverage-min", "89"], 0);
    let answer = check(&["--coverage-min", "90"], 1);
    assert!(
        answer
            .stdout
            .contains("89 % was tried, and --coverage-min asks for 90 %"),
        "{}",
        answer.stdout
    );
    check(&["--coverage-min", "101"], 2);
    fs::remove_dir_all(folder.path().join("tests")).unwrap();
    check(&[], 0);
    let answer = check(&["--fail-on-empty"], 1);
    assert!(answer.stdout.contains("there is no case"), "{}", answer.stdout);
    check(&["--tests", text(&folder.path().join("absent"))], 3);
    fs::create_dir(folder.path().join("tests")).unwrap();
    check(&["--fail-on-empty"], 1);
    check(&["--fail-on-empty", "--tests", text(&shipped().join("tests"))], 0);
}

#[test]
fn mistakes_of_policies_and_tests_are_told_at_once_and_no_case_is_run() {
    let folder = copy_of_shipped();
    let (policy, tests) = (
        folder.path().join("wrong.cedar"),
        folder.path().join("tests/stock.yaml"),
    );
    fs::write(&policy, "permit(principal, action, resource);\n").unwrap();
    fs::write(
        &tests,
        "cases: [{ name: n, request: { route_rule: a, rols: 1 }, expect: { effect: deny } }]\n",
    )
    .unwrap();
    let junit = folder.path().join("report.xml");
    fs::write(&junit, "an older report that says that all is well").unwrap();
    let answer = picket(&["policy", "test", text(folder.path()), "--junit", text(&junit)]);
    answer.expect(1);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", answer.stdout);
    assert!(
        lines[0].starts_with(&format!("{}:1: a policy needs an @id", policy.display())),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with(&format!("{}: cases[0].request.rols: unknown field", tests.display())),
        "{}",
        lines[1]
    );
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(
        xml.contains("errors=\"2\"") && xml.contains("cases[0].request.rols: unknown field"),
        "{xml}"
    );
    let answer = picket(&["policy", "test", text(folder.path()), "--output", "json"]);
    answer.expect(1);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(answer["problems"][0]["line"], 1);
    assert_eq!(answer["problems"][1]["path"], "cases[0].request.rols");
    assert!(answer.get("failed").is_none());
}

#[test]
fn the_matrix_is_printed_and_compared_with_what_it_was() {
    let folder = copy_of_shipped();
    let (policies, kept) = (text(folder.path()), folder.path().join("kept.txt"));
    let answer = picket(&["policy", "matrix", policies]);
    answer.expect(0);
    let shipped = fs::read_to_string(shipped().join("matrix.txt")).unwrap();
    assert_eq!(answer.stdout, shipped);
    fs::write(&kept, &answer.stdout).unwrap();
    let answer = picket(&["policy", "matrix", policies, "--check", text(&kept)]);
    answer.expect(0);
    assert_eq!(answer.stdout, format!("{}: as it was\n", kept.display()));
    let changed = folder.path().join("orders.cedar");
    let more = "@id(\"more\") permit (principal, action == Picket::Action::\"HEAD\", resource) \
                when { resource.route_rule == \"orders-write\" };\n";
    fs::write(&changed, format!("{}{more}", fs::read_to_string(&changed).unwrap())).unwrap();
    let answer = picket(&["policy", "matrix", policies, "--check", text(&kept)]);
    answer.expect(1);
    assert!(
        answer.stdout.starts_with(&format!("--- {}\n+++ now\n", kept.display())),
        "{}",
        answer.stdout
    );
    assert!(
        answer.stdout.contains("\n-  nobody               -       -       -"),
        "{}",
        answer.stdout
    );
    assert!(
        answer.stdout.contains("\n+  nobody               -       permit  -"),
        "{}",
        answer.stdout
    );
    let json = picket(&["policy", "matrix", policies, "--output", "json"]).json();
    let cell = &json["tables"][2]["rows"][0]["cells"][1];
    assert_eq!(
        (&cell["verdict"], &cell["policy_ids"][0]),
        (&"permit".into(), &"more".into())
    );
}

#[test]
fn a_matrix_that_cannot_be_made_is_not_printed() {
    let folder = copy_of_shipped();
    let policies = text(folder.path());
    picket(&["policy", "matrix", policies, "--check", "/no/such/file"]).expect(3);
    let answer = picket(&["policy", "matrix", policies, "--matrix", "/no/such/file"]);
    answer.expect(1);
    assert!(
        answer.stdout.starts_with("/no/such/file: cannot read: "),
        "{}",
        answer.stdout
    );
    let matrix = folder.path().join("matrix.yaml");
    fs::write(&matrix, "principals: []\nmethods: [GET]\nresources: []\nextra: 1\n").unwrap();
    let answer = picket(&["policy", "matrix", policies]);
    answer.expect(1);
    let expected = format!("{}: extra: unknown field", matrix.display());
    assert!(answer.stdout.starts_with(&expected), "{}", answer.stdout);
}

#[test]
fn what_changed_is_told_by_id_and_with_requests_also_which_decisions() {
    let (old, new) = (copy_of_shipped(), copy_of_shipped());
    let file = new.path().join("orders.cedar");
    let changed = fs::read_to_string(&file).unwrap().replace("\"clerk\"", "\"reader\"");
    let changed = changed.replace("@id(\"stock-read\")", "@id(\"stock-all\")");
    fs::write(&file, changed).unwrap();
    fs::write(new.path().join("entities.json"), "[]\n").unwrap();
    let arguments = ["policy", "diff", text(old.path()), text(new.path())];
    let answer = picket(&arguments);
    answer.expect(0);
    for expected in [
        "orders-write: changed\n--- old\n+++ new\n",
        "\n-  principal in Picket::Role::\"clerk\",\n+  principal in Picket::Role::\"reader\",\n",
        "\nstock-all: added\n",
        "\nstock-read: removed\n",
        "\nentities.json: changed\n--- entities.json\n",
        ": 4 policies and 0 of 0 decisions change\n",
    ] {
        assert!(answer.stdout.contains(expected), "{expected}\n{}", answer.stdout);
    }
    assert!(!answer.stdout.contains("schema.cedarschema"), "{}", answer.stdout);
    let cases = old.path().join("tests/orders.yaml");
    let matrix = old.path().join("matrix.yaml");
    let further = ["--requests", text(&cases), "--requests", text(&matrix)];
    let answer = picket(&[&arguments[..], &further].concat());
    answer.expect(0);
    let line = format!(
        "{}: a reader writes none: was deny by no policy, is permit by orders-write\n",
        cases.display()
    );
    assert!(answer.stdout.contains(&line), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .contains("stock, workload web, GET: was permit by stock-read, is permit by stock-all\n"),
        "{}",
        answer.stdout
    );
    picket(&[&arguments[..], &further, &["--same-decisions"]].concat()).expect(1);
    picket(&[&arguments[..], &["--same-decisions"]].concat()).expect(2);
    let json = picket(&[&arguments[..], &further, &["--output", "json"]].concat()).json();
    assert_eq!(json["policies"][2]["kind"], "added");
    assert_eq!(json["requests"], 15 + 9 * 6 * 6);
    assert!(json["decisions"].as_array().unwrap().len() > 3);
}

#[test]
fn the_same_policies_differ_in_nothing() {
    let (old, new) = (copy_of_shipped(), copy_of_shipped());
    fs::remove_dir_all(new.path().join("tests")).unwrap();
    let matrix = old.path().join("matrix.yaml");
    let arguments = [
        "policy",
        "diff",
        text(old.path()),
        text(new.path()),
        "--same-decisions",
        "--requests",
        text(&matrix),
    ];
    let answer = picket(&arguments);
    answer.expect(0);
    assert_eq!(answer.stdout.lines().count(), 1, "{}", answer.stdout);
    assert!(
        answer.stdout.ends_with(": 0 policies and 0 of 324 decisions change\n"),
        "{}",
        answer.stdout
    );
    fs::write(new.path().join("wrong.cedar"), "permit").unwrap();
    fs::write(&matrix, "resources: 1\n").unwrap();
    let answer = picket(&arguments);
    answer.expect(1);
    assert!(
        answer.stdout.contains("wrong.cedar:1: ") && answer.stdout.contains("resources: expected an array"),
        "{}",
        answer.stdout
    );
    picket(&["policy", "diff", text(old.path()), "/no/such/folder"]).expect(3);
}
