//! Delimiters in paths, in a real Envoy that leaves encoded slashes as they are: a rule that allows
//! them, and the rules beside it.

use picket_tests::exchange::parse;
use picket_tests::stack::{Options, Stack};
use picket_tests::vectors;

const PATHS: &str = "                      paths: [ \"/stock/{**}\" ]\n";
const ALLOWED: &str =
    "                      allow_in_path: [ encoded_slash, semicolon, encoded_question_mark, encoded_hash ]\n";
const SLASHES: (&str, &str) = (
    "path_with_escaped_slashes_action: REJECT_REQUEST",
    "path_with_escaped_slashes_action: KEEP_UNCHANGED",
);

/// The upstream is asked for what was sent, with upper-case digits. No reading leads to another
/// rule.
const VECTORS: &str = r#"[
  {"id": "slash", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/group%2fproject?x=%2f"},
   "expected": {"status": 200, "reason": "policy_permit", "upstream_target": "/stock/group%2Fproject?x=%2f"}},
  {"id": "semicolon", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/a;v=1/b%3bc"},
   "expected": {"status": 200, "reason": "policy_permit", "upstream_target": "/stock/a;v=1/b%3Bc"}},
  {"id": "hash", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/C%23/what%3f"},
   "expected": {"status": 200, "reason": "policy_permit", "upstream_target": "/stock/C%23/what%3F"}},
  {"id": "plus", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/a+b%2b"},
   "expected": {"status": 200, "reason": "policy_permit", "upstream_target": "/stock/a+b%2B"}},
  {"id": "dots", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/..%2fadmin/users"},
   "expected": {"status": 400, "reason": "request_malformed"}},
  {"id": "encoded-dots", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/stock/%2e%2e%3b/admin/users"},
   "expected": {"status": 400, "reason": "request_malformed"}},
  {"id": "other-rule", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/orders%2F1", "token": {"claims": {"sub": "alice"}}},
   "expected": {"status": 400, "reason": "request_malformed"}},
  {"id": "rule-without", "comment": "", "request": {"via": "direct", "peer": "web", "path": "/orders/a%2Fb", "token": {"claims": {"sub": "alice"}}},
   "expected": {"status": 400, "reason": "request_malformed"}}
]"#;

#[tokio::test]
async fn a_rule_that_allows_delimiters_forwards_them_as_they_are() {
    let options = Options::default()
        .edit(SLASHES.0, SLASHES.1)
        .edit(PATHS, &format!("{PATHS}{ALLOWED}"));
    let mut stack = Stack::start(options).await.unwrap();
    vectors::check(&mut stack, &parse(VECTORS).unwrap()).await.unwrap();
}
