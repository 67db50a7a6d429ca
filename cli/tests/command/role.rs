//! `picket role`, against the policy service itself.

use crate::session::Service;

const OF_ALICE: [&str; 4] = ["--issuer", "https://issuer.example", "--subject", "alice"];

pub(crate) fn assigns_and_withdraws(service: &Service) {
    let role = |command: &str, role: &str, more: &[&str]| {
        service.picket(&[&["role", command, role], &OF_ALICE[..], more].concat())
    };
    let assigned = role("assign", "reader", &[]);
    assigned.expect(0);
    assert_eq!(assigned.stdout, "assigned\n");
    assert_eq!(
        role("assign", "reader", &[]).stdout,
        "unchanged: it was assigned before\n"
    );
    role("assign", "on-call", &["--tenant", "acme", "--for", "8h"]).expect(0);
    role("assign", "on-call", &["--for", "never"]).expect(2);
    let refused = role("assign", "two\nlines", &[]);
    refused.expect(3);
    assert!(refused.stderr.contains("field `role`"), "{}", refused.stderr);

    let list = service.picket(&["role", "list"]);
    list.expect(0);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "https://issuer.example|alice  reader  by spiffe://example.org/web"
    );
    assert!(
        lines[1].starts_with("https://issuer.example|alice  on-call in acme  until 20"),
        "{lines:?}"
    );
    let page = service.picket(&["role", "list", "-n", "1", "--output", "json"]).json();
    assert_eq!(page["assignments"][0]["role"], "reader");
    let next = page["next"].to_string();
    let rest = service
        .picket(&["role", "list", "--after", &next, "--output", "json"])
        .json();
    assert_eq!(rest["assignments"][0]["tenant"], "acme");
    assert_eq!(rest["assignments"][0]["has_ended"], false);
    let none = service
        .picket(&["role", "list", "--role", "other", "--output", "json"])
        .json();
    assert_eq!(none["assignments"].as_array().map(Vec::len), Some(0));

    // What was assigned for a tenant is another one than what was assigned everywhere.
    assert_eq!(
        role("withdraw", "on-call", &[]).stdout,
        "unchanged: it was not assigned\n"
    );
    assert_eq!(role("withdraw", "on-call", &["--tenant", "acme"]).stdout, "withdrawn\n");
    role("withdraw", "reader", &[]).expect(0);
    assert_eq!(service.picket(&["role", "list"]).stdout, "");
}
