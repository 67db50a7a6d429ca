//! The filter's configuration in a real Envoy: what is wrong with it is said, and what the host withholds is made up for.

use std::fs;

use picket_core::reason::DenyReason;
use picket_tests::exchange::RequestSpec;
use picket_tests::places::Places;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

/// What the module imports and exports, but `proxy_call_foreign_function`: neither `verify_signature` nor
/// `clear_route_cache` are there for it.
const CAPABILITIES: &[&str] = &[
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "random_get",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_grpc_call",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
    "proxy_continue_stream",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_grpc_close",
    "proxy_on_grpc_receive",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_memory_allocate",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

#[tokio::test]
async fn envoy_does_not_start_with_a_mistake_and_every_mistake_is_named() {
    let options = Options::default()
        .edit("timeout_ms: 500", "timeout_ms: 0")
        .edit("forward_credential: false", "forward_credentials: false");
    let error = format!("{:#}", Stack::start(options).await.map(|_| ()).unwrap_err());
    for expected in [
        "configuration refused: ",
        "forward_credentials: unknown field, expected one of",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let options = Options::default()
        .edit("timeout_ms: 500", "timeout_ms: 0")
        .edit("trust_domains: [ example.org ]", "trust_domains: [ Example ]");
    let error = format!("{:#}", Stack::start(options).await.map(|_| ()).unwrap_err());
    for expected in [
        "policy_service.timeout_ms: expected 1 to 60000, found 0",
        "trust_domains[0]: expected a trust domain",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn without_the_hosts_crypto_the_module_checks_signatures_itself() {
    let list = CAPABILITIES
        .iter()
        .map(|name| format!("{name}: {{}}"))
        .collect::<Vec<_>>();
    let restriction = format!("allowed_capabilities: {{ {} }}", list.join(", "));
    let options = Options::default().lenient().edit(
        "failure_policy: FAIL_RELOAD",
        &format!("failure_policy: FAIL_RELOAD\n                capability_restriction_config: {{ {restriction} }}"),
    );
    let mut stack = Stack::start(options).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let good = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    let (answer, _) = session.send_with(&RequestSpec::default(), Some(&good)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let (input, signature) = good.rsplit_once('.').unwrap();
    let bad = format!(
        "{input}.{}{signature}",
        if signature.starts_with('A') { "B" } else { "A" }
    );
    let bad = bad.get(..good.len()).unwrap().to_owned();
    let (answer, _) = session.send_with(&RequestSpec::default(), Some(&bad)).await.unwrap();
    assert_eq!(
        answer.header("x-picket-reason").as_deref(),
        Some("token_signature_invalid"),
        "{answer:?}"
    );
    let inbound = &*stack.inbound();
    wait::until("the module's verifications are counted", || async {
        let text = inbound.admin_text("/stats/prometheus").await?;
        let counted = |result: &str| {
            let labels = [
                "picket_path=\"module\"".to_owned(),
                format!("picket_result=\"{result}\""),
            ];
            text.lines().any(|line| {
                line.starts_with("picket_token_verifications{")
                    && labels.iter().all(|label| line.contains(label.as_str()))
                    && line.ends_with(" 1")
            })
        };
        Ok((counted("passed") && counted("failed")).then_some(()))
    })
    .await
    .unwrap();
    // A path in another form than the normal one takes a new route, which this host does not give.
    let request = RequestSpec {
        path: "/orders/%31".to_owned(),
        ..RequestSpec::default()
    };
    let requests = stack.upstream().requests();
    let (answer, _) = session.send_with(&request, Some(&good)).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-picket-reason").as_deref()),
        (503, Some("host_failure")),
        "{answer:?}"
    );
    assert_eq!(stack.upstream().requests(), requests);
}

#[test]
fn every_key_and_every_reason_is_in_the_reference() {
    let root = Places::find().unwrap().root;
    let reasons = fs::read_to_string(root.join("docs/reference/deny-reasons.md")).unwrap();
    for reason in DenyReason::ALL {
        let entry = format!("### `{}`\n\n{}, gRPC ", reason.code(), reason.status());
        let (_, statuses) = reasons.split_once(&entry).expect(&entry);
        let statuses = statuses.lines().next().unwrap();
        let grpc_status = format!(" ({}).", reason.grpc_status());
        assert!(statuses.contains(&grpc_status), "{entry}{statuses}");
    }
    let reference = fs::read_to_string(root.join("docs/reference/filter.md")).unwrap();
    let schema = fs::read_to_string(root.join("envoy/picket-filter.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut objects = vec![&schema];
    objects.extend(schema["$defs"].as_object().unwrap().values());
    let keys = objects
        .iter()
        .filter_map(|object| object["properties"].as_object())
        .flat_map(|members| members.keys());
    for key in keys {
        // `policy_service`, say, is in the reference by its members.
        let is_named = [
            format!("`{key}`"),
            format!("{key}."),
            format!(".{key}`"),
            format!("{key}[]`"),
        ];
        assert!(
            is_named.iter().any(|name| reference.contains(name.as_str())),
            "`{key}` is not in docs/reference/filter.md"
        );
    }
}
