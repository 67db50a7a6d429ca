//! The matrix: what is told of a file's mistakes, and how decisions are shown.

use super::*;

fn read_text(text: &str) -> Result<Matrix, DocumentErrors> {
    let folder = folder(POLICIES, &[]);
    let file = folder.path().join(MATRIX_FILE);
    std::fs::write(&file, text).unwrap();
    read_matrix(&file)
}

fn mistakes(text: &str) -> Vec<String> {
    let errors = read_text(text).unwrap_err();
    let line = |error: &DocumentError| format!("{}: {}", error.path, error.message);
    let mut lines: Vec<String> = errors.as_slice().iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_matrix_shows_each_kind_of_decision() {
    let text = r#"
peers: [{ name: web, spiffe_id: spiffe://example.org/web }]
principals:
  - { name: nobody }
  - { name: web, peer: web }
  - { name: reader, peer: web, principal: { roles: [reader] } }
  - { name: broken, principal: { auth_time_s: 1 } }
methods: [GET, OPTIONS]
resources:
  - { name: one, route_rule: a }
  - { name: secret, route_rule: a, resource: { host: h.example, path: /x, classification: secret }, methods: [POST] }
"#;
    let folder = folder(POLICIES, &[]);
    let report = read_text(text).unwrap().evaluate(&engine(&folder));
    let expected = "\
permit: a policy permits; forbid: a policy forbids; -: none permits; challenge: permitted after a stronger authentication; error: a policy fails

one (a, service.example/)
          GET     OPTIONS
  nobody  -       -
  web     -       -
  reader  permit  permit
  broken  error   error

secret (a, h.example/x, secret)
          POST
  nobody  forbid
  web     forbid
  reader  forbid
  broken  error
";
    assert_eq!(report.to_string(), expected);
    assert_eq!(report.revision, engine(&folder).revision());
    assert_eq!(report.tables[1].rows[2].cells[0].policy_ids, ["no-secrets"]);
}

#[test]
fn every_mistake_of_a_matrix_is_told() {
    let text = r#"
peers: [{ name: web, spiffe_id: web }]
principals: [{ name: a, principal: { role: x } }]
methods: [GET]
resources: [{ name: r }]
colour: red
"#;
    let found = mistakes(text);
    let expected = [
        "colour: unknown field, expected one of ",
        "peers[0].spiffe_id: `web` is not a SPIFFE ID",
        "principals[0].principal.role: unknown field",
        "resources[0].route_rule: is required",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    let text = r#"
principals: [{ name: a, peer: web }, { name: a }]
methods: []
resources: [{ name: r, route_rule: x }, { name: r, route_rule: x }]
"#;
    assert_eq!(
        mistakes(text),
        [
            ": expected 1 to 100000 cells, which are principals by methods by resources, found 0",
            "principals[0].peer: `web` is none of `peers`",
            "principals[1].name: `a` is there twice",
            "resources[1].name: `r` is there twice",
        ]
    );
}

#[test]
fn more_cells_than_anybody_reviews_are_refused() {
    let entry = |n: usize| format!("{{ name: p{n} }}");
    let principals: Vec<String> = (0..1001).map(entry).collect();
    let methods: Vec<String> = (0..100).map(|n| format!("M{n}")).collect();
    let text = format!(
        "principals: [{}]\nmethods: [{}]\nresources: [{{ name: r, route_rule: x }}]\n",
        principals.join(", "),
        methods.join(", ")
    );
    let found = mistakes(&text);
    assert!(found.len() == 1 && found[0].ends_with("found 100100"), "{found:?}");
}
