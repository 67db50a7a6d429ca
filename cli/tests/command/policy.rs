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

/// The exit code of `policy check` about a folder with one more policy, and its lines about that.
fn checked(folder: &Path, scope: &str, clauses: &str) -> (i32, Vec<String>) {
    let policy = format!("@id(\"x\")\npermit ({scope})\n{clauses};\n");
    fs::write(folder.join("x.cedar"), policy).unwrap();
    let answer = picket(&["policy", "check", text(folder)]);
    let place = format!("{}:", folder.join("x.cedar").display());
    let lines = answer.stdout.lines().filter_map(|line| line.strip_prefix(&place));
    (answer.code, lines.map(str::to_owned).collect())
}

const ANY: &str = "principal, action, resource";

/// A policy's scope and clauses, the line, and what is said, in parts.
const IMPOSSIBLE: &[(&str, &str, usize, &[&str])] = &[
    (
        "principal in Picket::Role::\"clrek\", action, resource",
        "",
        2,
        &["`clrek`", "did you mean `clerk`?", "(a warning)"],
    ),
    (
        "principal in Picket::Role::\"Reader\", action, resource",
        "",
        2,
        &["`Reader`", "did you mean `reader`?"],
    ),
    (
        "principal in Picket::Role::\"dispatcher\", action, resource",
        "",
        2,
        &["`dispatcher`", "entities.json"],
    ),
    (
        ANY,
        "unless { principal in Picket::Role::\"audtor\" }",
        3,
        &["`audtor`", "did you mean `auditor`?"],
    ),
    (
        ANY,
        "unless { principal has tenat }",
        3,
        &["`principal`", "`tenat`", "did you mean `tenant`?"],
    ),
    (
        ANY,
        "unless { context has devise && context.devise.is_trusted }",
        3,
        &["`devise`", "did you mean `device`?"],
    ),
    (
        ANY,
        "unless { context has device && context.device has trust_scor }",
        3,
        &["`context.device`", "did you mean `trust_score`?"],
    ),
    (
        ANY,
        "when { true }\nunless { context has device.is_trustd }",
        4,
        &["`is_trustd`", "did you mean `is_trusted`?"],
    ),
    (
        ANY,
        "unless { resource has colour }",
        3,
        &["`resource` never has the attribute `colour`"],
    ),
    (
        "principal, action == Picket::Action::\"read\", resource",
        "",
        2,
        &["`Picket::Action::\"read\"`", "`action in"],
    ),
    (
        ANY,
        "unless { action == Picket::Action::\"read\" }",
        3,
        &["`Picket::Action::\"read\"`", "`action in"],
    ),
    (
        ANY,
        "unless { [Picket::Action::\"write\"].contains(action) }",
        3,
        &["`Picket::Action::\"write\"`"],
    ),
    (
        ANY,
        "unless { principal is Picket::Role }",
        3,
        &["`principal is Picket::Role` is true of no request"],
    ),
];

/// A condition, and what is said of a value in it.
const IMPOSSIBLE_VALUES: &[(&str, &str)] = &[
    (
        "context has risk && context.risk.level == \"hihg\"",
        "`context.risk.level` is never `hihg`; did you mean `high`?",
    ),
    (
        "context has risk && context.risk.signals.contains(\"new_locaton\")",
        "did you mean `new_location`?",
    ),
    (
        "context has risk && context.risk.signals.containsAny([\"new_device\", \"newdevice\"])",
        "`newdevice`; did you mean `new_device`?",
    ),
    (
        "context has device && [\"trustd\", \"enrolled\"].contains(context.device.state)",
        "did you mean `trusted`?",
    ),
    (
        "context.method == \"get\"",
        "`context.method` is never `get`; did you mean `GET`?",
    ),
    ("\"POTS\" != context.method", "did you mean `POST`?"),
];

/// A policy's scope and clauses, and what is said of a name that the validator refuses.
const UNKNOWN: &[(&str, &str, &str)] = &[
    (
        "principal, action == Picket::Action::\"GTE\", resource",
        "",
        "did you mean `Picket::Action::\"GET\"`?",
    ),
    (
        "principal is Picket::Usr, action, resource",
        "",
        "did you mean `Picket::User`?",
    ),
    (ANY, "when { resource.tenat == \"a\" }", "did you mean `tenant`?"),
];

/// Each of these is taken for a rule by who wrote it, and holds for nobody.
#[test]
fn a_name_that_no_request_can_have_is_told_with_the_nearest() {
    let shipped = copy_of_shipped();
    for (scope, clauses, line, expected) in IMPOSSIBLE {
        let (code, lines) = checked(shipped.path(), scope, clauses);
        let found = lines
            .iter()
            .find(|found| found.starts_with(&format!("{line}: ")) && expected.iter().all(|part| found.contains(part)));
        assert!(found.is_some(), "{scope} {clauses}: {lines:#?}");
        assert_eq!(code, 0, "{scope} {clauses}: {lines:#?}");
    }
    for (condition, expected) in IMPOSSIBLE_VALUES {
        let (_, lines) = checked(shipped.path(), ANY, &format!("unless {{ {condition} }}"));
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{condition}: {lines:#?}"
        );
    }
    for (scope, clauses, expected) in UNKNOWN {
        let (code, lines) = checked(shipped.path(), scope, clauses);
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{scope} {clauses}: {lines:#?}"
        );
        assert_eq!(code, 1, "{scope} {clauses}: {lines:#?}");
    }
}

#[test]
fn what_a_request_can_have_is_not_warned_of() {
    let folder = copy_of_shipped();
    for (scope, clauses) in [
        (
            "principal in Picket::Role::\"clerk\", action in Picket::Action::\"read\", resource",
            "",
        ),
        (
            "principal, action, resource",
            "when { principal is Picket::User && principal has tenant && resource has tenant }",
        ),
        (
            "principal, action, resource",
            "when { context has device.is_trusted && context has risk && context.risk has country }",
        ),
        (
            "principal, action, resource",
            "unless { action == Picket::Action::\"GET\" || action in Picket::Action::\"write\" }",
        ),
        (
            "principal, action, resource",
            "when { resource.hasTag(\"anything\") && principal is Picket::Anonymous }",
        ),
    ] {
        assert_eq!(checked(folder.path(), scope, clauses).1, [""; 0], "{scope} {clauses}");
    }
    // An attribute of the folder's own schema; and roles where nothing names one.
    let folder = tempfile::tempdir().unwrap();
    let own = picket(&["policy", "schema"])
        .stdout
        .replace("route_rule: String,", "route_rule: String, floor?: Long,");
    fs::write(folder.path().join("schema.cedarschema"), own).unwrap();
    let role = "principal in Picket::Role::\"anything\", action, resource";
    assert_eq!(checked(folder.path(), role, "when { resource has floor }").1, [""; 0]);
}

#[test]
fn the_examples_have_no_warning() {
    let examples = shipped().join("examples");
    let folders: Vec<_> = fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(folders.len() > 5);
    for folder in folders.into_iter().chain([shipped()]) {
        let answer = picket(&["policy", "check", text(&folder), "--output", "json"]).json();
        assert_eq!(
            answer["warnings"].as_array().unwrap().len(),
            0,
            "{}: {answer}",
            folder.display()
        );
    }
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
