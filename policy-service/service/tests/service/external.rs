//! Envoy's external authorization, asked of the real program.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use picket_audit::{Event, KeyEncryptionKey};
use picket_proto::external::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use picket_proto::external::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use picket_proto::external::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use picket_proto::external::envoy::service::auth::v3::check_response::HttpResponse;
use picket_proto::external::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use rustls::version::TLS13;
use tonic::Code;
use tonic::transport::Channel;

use super::ORDERS;
use super::harness::{KEY, Service, Setup};

const WEB: &str = "spiffe://example.org/web";
const FILTER: &str = r#"{
    "workload": "orders",
    "policy_service": {"cluster": "not-used-here", "timeout_ms": 5000},
    "trust_domains": ["example.org"],
    "rules": [
        {"id": "stock-read", "hosts": ["orders.example.org"], "methods": ["GET"], "paths": ["/stock/{**}"], "credential": "none"},
        {"id": "health", "hosts": ["orders.example.org"], "paths": ["/healthz"], "credential": "none", "peer": "none", "decision": "permit"}
    ],
    "explain_permits": true
}"#;

/// A service that answers Envoys, and a client of it.
async fn start(setup: &Setup, filter: &str, caller: &str) -> (Service, AuthorizationClient<Channel>) {
    configure(setup, filter);
    let service = setup.start();
    let caller = setup.authority.identity(caller);
    let tls = setup.authority.client(Some(&caller), &TLS13);
    let channel = setup.channel(&service, tls).await.unwrap();
    (service, AuthorizationClient::new(channel))
}

fn configure(setup: &Setup, filter: &str) {
    std::fs::write(setup.path("filter.json"), filter).unwrap();
    let mut text = std::fs::read_to_string(setup.path("service.toml")).unwrap();
    text.push_str("\n[ext_authz]\nfilter_configuration_file = \"filter.json\"\npeer_ca_file = \"ca.pem\"\n");
    std::fs::write(setup.path("service.toml"), text).unwrap();
}

fn message(path: &str, certificate: &str, further: &[(&str, &[u8])]) -> CheckRequest {
    let all = [
        (":method", b"GET".as_slice()),
        (":path", path.as_bytes()),
        (":authority", b"orders.example.org"),
        ("x-request-id", b"request-1"),
    ];
    let header = |(name, value): &(&str, &[u8])| HeaderValue {
        key: (*name).to_owned(),
        value: String::new(),
        raw_value: value.to_vec(),
    };
    let headers = all.iter().chain(further).map(header).collect();
    let http = HttpRequest {
        header_map: Some(HeaderMap { headers }),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: None,
                certificate: utf8_percent_encode(certificate, NON_ALPHANUMERIC).to_string(),
            }),
            request: Some(Request { http: Some(http) }),
            ..AttributeContext::default()
        }),
    }
}

fn pairs(options: &[HeaderValueOption]) -> Vec<(&str, &str)> {
    let headers = options.iter().map(|option| option.header.as_ref().unwrap());
    headers
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect()
}

fn permitted(response: CheckResponse) -> OkHttpResponse {
    assert_eq!(response.status.unwrap().code, 0);
    match response.http_response {
        Some(HttpResponse::OkResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn denied(response: CheckResponse) -> DeniedHttpResponse {
    assert_ne!(response.status.unwrap().code, 0);
    match response.http_response {
        Some(HttpResponse::DeniedResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn check_record(database: &Path, decision_id: &str) {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(database, &key, 10).unwrap();
    assert_eq!(records.len(), 1, "the second answer was the cache's");
    let Event::Decision(record) = &records[0].content else {
        panic!("no decision: {:?}", records[0]);
    };
    assert_eq!(
        (record.decision_id.as_str(), record.caller.as_str()),
        (decision_id, ORDERS)
    );
    assert_eq!(
        (record.peer.as_deref(), record.route_rule.as_str()),
        (Some(WEB), "stock-read")
    );
    assert_eq!(record.request_id, "request-1");
}

#[tokio::test]
async fn envoy_is_told_what_the_filter_would_do_and_the_decision_is_recorded() {
    let setup = Setup::new();
    let (service, mut client) = start(&setup, FILTER, ORDERS).await;
    let web = setup.authority.identity(WEB).certificate;
    let forged: [(&str, &[u8]); 3] = [
        ("x-picket-peer", b"spiffe://example.org/root"),
        ("x_picket_peer", b"spiffe://example.org/root"),
        ("x-picket-peer", b"again"),
    ];
    let mut ids = Vec::new();
    for decided_by in ["policy_service", "cache"] {
        let response = client.check(message("/stock/./screws", &web, &forged)).await.unwrap();
        let response = permitted(response.into_inner());
        let set = pairs(&response.headers);
        let (_, id) = set.iter().find(|(name, _)| *name == "x-picket-decision-id").unwrap();
        ids.push((*id).to_owned());
        assert_eq!(
            set,
            [
                (":path", "/stock/screws"),
                ("x-picket-peer", WEB),
                ("x-picket-route-rule", "stock-read"),
                ("x-picket-decision-id", id)
            ]
        );
        // What is set must not be removed: Envoy removes last.
        assert_eq!(response.headers_to_remove, ["x_picket_peer"]);
        assert_eq!(
            pairs(&response.response_headers_to_add),
            [
                ("x-picket-reason", "policy_permit"),
                ("x-picket-decided-by", decided_by)
            ]
        );
    }
    assert_eq!(ids[0], ids[1]);
    check_record(&setup.path("audit.sqlite3"), &ids[0]);
    let metrics = service.get("/metrics").1;
    for line in [
        "picket_policy_service_ext_authz_checks_total{outcome=\"permit\",reason=\"policy_permit\"} 2",
        "picket_policy_service_ext_authz_decision_cache_total{result=\"hit\"} 1",
        "picket_policy_service_ext_authz_decision_cache_total{result=\"miss\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_refusal_is_answered_as_the_filter_would_answer_it() {
    let setup = Setup::new();
    let (_service, mut client) = start(&setup, FILTER, ORDERS).await;
    let stranger = super::harness::Authority::new().identity(WEB).certificate;
    let billing = setup.authority.identity("spiffe://elsewhere.example/web").certificate;
    let web = setup.authority.identity(WEB).certificate;
    for (path, certificate, further, status, reason) in [
        ("/stock/screws", "", None, 403, "peer_missing"),
        ("/stock/screws", stranger.as_str(), None, 403, "peer_unverified"),
        ("/stock/screws", &billing, None, 403, "peer_not_allowed"),
        ("/elsewhere", &web, None, 403, "no_rule"),
        ("/stock/a%2fb", &web, None, 400, "request_malformed"),
        ("/stock/..%3B/healthz", &web, None, 400, "request_malformed"),
        ("/stock/a%3Bb", &web, None, 400, "request_malformed"),
        ("/stock/a%3f", &web, None, 400, "request_malformed"),
        ("/stock/a%23b", &web, None, 400, "request_malformed"),
        (
            "/healthz",
            &web,
            Some((":path", b"/".as_slice())),
            400,
            "request_malformed",
        ),
    ] {
        let further: Vec<_> = further.into_iter().collect();
        let response = client.check(message(path, certificate, &further)).await.unwrap();
        let response = denied(response.into_inner());
        assert_eq!(response.status.unwrap().code, status, "{reason}");
        let headers = pairs(&response.headers);
        assert!(headers.contains(&("x-picket-reason", reason)), "{reason}: {headers:?}");
        assert!(
            headers.contains(&("content-type", "application/problem+json")),
            "{headers:?}"
        );
        let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(
            (&body["reason"], &body["request_id"]),
            (&reason.into(), &"request-1".into())
        );
    }
    // A gRPC caller gets a gRPC status, which Envoy takes from the header.
    let grpc = [("content-type", b"application/grpc".as_slice())];
    let response = denied(
        client
            .check(message("/elsewhere", &web, &grpc))
            .await
            .unwrap()
            .into_inner(),
    );
    assert!(pairs(&response.headers).contains(&("grpc-status", "7")));
    assert!(
        permitted(client.check(message("/healthz", "", &[])).await.unwrap().into_inner())
            .headers_to_remove
            .is_empty()
    );
}

#[tokio::test]
async fn a_decision_that_cannot_be_recorded_permits_nothing() {
    let setup = Setup::new();
    let (_service, mut client) = start(&setup, FILTER, ORDERS).await;
    let web = setup.authority.identity(WEB).certificate;
    let database = rusqlite::Connection::open(setup.path("audit.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE audit_record RENAME TO hidden")
        .unwrap();
    let response = client.check(message("/stock/screws", &web, &[])).await.unwrap();
    let response = denied(response.into_inner());
    assert_eq!(response.status.unwrap().code, 503);
    let headers = pairs(&response.headers);
    assert!(
        headers.contains(&("x-picket-reason", "policy_service_unavailable")),
        "{headers:?}"
    );
    assert!(headers.contains(&("retry-after", "1")), "{headers:?}");
}

#[tokio::test]
async fn envoys_are_callers_like_others_and_must_send_raw_headers() {
    let setup = Setup::new();
    let (service, mut client) = start(&setup, FILTER, ORDERS).await;
    let refused = client.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("encode_raw_headers"), "{refused}");
    let large = vec![b'a'; 200_000];
    let refused = client
        .check(message("/", "", &[("x-large", &large)]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let web = setup.authority.identity(WEB);
    let channel = setup
        .channel(&service, setup.authority.client(Some(&web), &TLS13))
        .await
        .unwrap();
    let refused = AuthorizationClient::new(channel)
        .check(message("/healthz", "", &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn without_its_section_nobody_is_authorized() {
    let setup = Setup::new();
    let service = setup.start();
    let orders = setup.authority.identity(ORDERS);
    let tls = setup.authority.client(Some(&orders), &TLS13);
    let channel = setup.channel(&service, tls).await.unwrap();
    let refused = AuthorizationClient::new(channel)
        .check(message("/healthz", "", &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[test]
fn what_this_front_cannot_do_ends_the_start_with_the_key_that_asks_for_it() {
    let setup = Setup::new();
    let providers = r#""providers": [{"name": "main", "issuer": "https://issuer.example", "audiences": ["orders"],
        "remote_keys": {"uri": "https://issuer.example/keys", "cluster": "issuer"}}], "rules""#;
    configure(&setup, &FILTER.replace(r#""rules""#, providers));
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    let expected = "ext_authz.filter_configuration_file: `";
    let reason = "providers[0].remote_keys: keys are not fetched here, only in the filter; expected `keys`";
    assert!(said.contains(expected) && said.contains(reason), "{said}");
}
