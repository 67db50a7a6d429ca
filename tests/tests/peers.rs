//! Peers behind a trusted hop, and where requests come from, in a real Envoy.

use std::fs;
use std::time::Duration;

use picket::pki::{Authority, LeafOptions};
use picket_tests::client::Answer;
use picket_tests::client::http1::Http1Connection;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::envoy::Envoy;
use picket_tests::exchange::{Protocol, RequestSpec, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::places::Places;
use picket_tests::process::Bond;
use picket_tests::proof::still_serves;
use picket_tests::session::Session;
use picket_tests::stack::{self, Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

const XFCC: &str = "x-forwarded-client-cert";
const WEB: &str = "spiffe://example.org/web";
/// The workload that is the trusted hop here.
const HOP: &str = "billing";

/// A callee whose Envoy passes on what callers say of certificates, and whose Picket believes it of [`HOP`].
fn behind_a_hop(header: &str, hops: u32) -> Options {
    let trusted = "trust_domains: [ example.org ]";
    let hop = format!("hop_spiffe_ids: [ \"spiffe://example.org/{HOP}\" ], header: {header}, hops: {hops}");
    Options::default()
        .fake(Mode::Permit)
        .wide()
        .edit(
            "forward_client_cert_details: SANITIZE",
            "forward_client_cert_details: FORWARD_ONLY",
        )
        .edit(
            trusted,
            &format!("{trusted}\n                    forwarded_peer: {{ {hop} }}"),
        )
}

/// A request that the rule lets `web` alone send, on a connection of `peer`.
fn request(peer: &str, headers: &[(&str, &str)]) -> RequestSpec {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    RequestSpec {
        via: Via::Direct,
        peer: Some(peer.to_owned()),
        token: Some(TokenSpec::of("alice")),
        headers: headers.collect(),
        ..RequestSpec::default()
    }
}

fn encoded(pem: &str) -> String {
    pem.replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

#[track_caller]
fn assert_permitted_as_web(answer: &Answer) {
    assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
    assert_eq!(answer.received_by_upstream("x-picket-peer"), [WEB], "{answer:?}");
}

#[tokio::test]
async fn a_trusted_hop_says_who_the_peer_is_and_nobody_else_does() {
    let mut stack = Stack::start(behind_a_hop(XFCC, 1)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let pem = fs::read_to_string(stack.keys().folder().join("web.pem")).unwrap();
    let by_name = format!("By=spiffe://example.org/{HOP};Subject=\"O=a \\\"b\\\", c\";URI={WEB}");
    let by_certificate = format!("Cert=\"{}\";URI={WEB}", encoded(&pem));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for value in [&by_name, &by_certificate] {
            let forged = "URI=spiffe://example.org/orders";
            for headers in [&[(XFCC, value.as_str())][..], &[(XFCC, forged), (XFCC, value.as_str())]] {
                let request = RequestSpec {
                    protocol,
                    ..request(HOP, headers)
                };
                assert_permitted_as_web(&session.send(&request).await.unwrap());
            }
        }
    }
    for (peer, value, reason) in [
        (HOP, "URI=spiffe://example.org/orders", "peer_not_allowed"),
        (HOP, "URI=spiffe://elsewhere.example/web", "peer_not_allowed"),
        (HOP, "URI=\"", "peer_malformed"),
        ("orders", by_name.as_str(), "peer_not_allowed"),
        ("foreign", by_name.as_str(), "peer_not_allowed"),
    ] {
        let before = stack.upstream().requests();
        let answer = session.send(&request(peer, &[(XFCC, value)])).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some(reason), "{peer} {value}: {answer:?}");
        assert_eq!(stack.upstream().requests(), before);
    }
    let answer = session.send(&request(HOP, &[])).await.unwrap();
    assert_eq!(answer.reason().as_deref(), Some("peer_missing"), "{answer:?}");
    let forged = request("web", &[(XFCC, "URI=spiffe://example.org/orders")]);
    assert_permitted_as_web(&session.send(&forged).await.unwrap());
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_forwarded_certificate_is_valid_for_its_own_time() {
    let stack = Stack::start(behind_a_hop(XFCC, 1)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let authority = Authority::open(stack.keys().folder()).unwrap();
    let (now, hour) = (picket::clock::now(), Duration::from_secs(3600));
    for (from, to, reason) in [
        (now - 2 * hour, now - hour, "peer_expired"),
        (now + hour, now + 2 * hour, "peer_not_yet_valid"),
    ] {
        let mut options = LeafOptions::workload("web", WEB, now, hour);
        (options.not_before, options.not_after) = (from, to);
        let leaf = authority.issue(&options).unwrap();
        let value = format!("Cert=\"{}\"", encoded(&leaf.certificate_pem));
        let answer = session.send(&request(HOP, &[(XFCC, &value)])).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some(reason), "{answer:?}");
    }
}

#[tokio::test]
async fn a_trusted_hop_may_forward_the_certificate_as_rfc_9440_says() {
    let stack = Stack::start(behind_a_hop("client-cert", 1)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let pem = fs::read_to_string(stack.keys().folder().join("web.pem")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let value = format!(":{base64}:");
    let answer = session.send(&request(HOP, &[("client-cert", &value)])).await.unwrap();
    assert_permitted_as_web(&answer);
    let answer = session
        .send(&request("orders", &[("client-cert", &value)]))
        .await
        .unwrap();
    assert_eq!(answer.reason().as_deref(), Some("peer_not_allowed"), "{answer:?}");
    let twice = request(HOP, &[("client-cert", &value), ("client-cert", &value)]);
    let answer = session.send(&twice).await.unwrap();
    assert_eq!(answer.reason().as_deref(), Some("peer_malformed"), "{answer:?}");
}

/// An Envoy that ends TLS as [`HOP`] and adds its caller's certificate to what the caller sent.
fn gateway(stack: &Stack, format: &str) -> String {
    let pki = stack.keys().folder().display();
    let callee = stack.inbound_address().port();
    let tls = format!(
        "common_tls_context: {{ tls_certificates: [ {{ certificate_chain: {{ filename: {pki}/{HOP}.pem }}, \
         private_key: {{ filename: {pki}/{HOP}-key.pem }} }} ], \
         validation_context: {{ trusted_ca: {{ filename: {pki}/ca.pem }} }} }}"
    );
    let types = "type.googleapis.com/envoy.extensions";
    let details = format!("{{ subject: true, cert: true, dns: true, uri: true, format: {format} }}");
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: gateway
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": {types}.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          {tls}
      filters:
      - name: http
        typed_config:
          "@type": {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          forward_client_cert_details: APPEND_FORWARD
          set_current_client_cert_details: {details}
          http_filters:
          - {{ name: router, typed_config: {{ "@type": {types}.filters.http.router.v3.Router }} }}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: [ "*" ], routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: callee }} }} ] }}
  clusters:
  - name: callee
    type: STATIC
    transport_socket:
      name: tls
      typed_config:
        "@type": {types}.transport_sockets.tls.v3.UpstreamTlsContext
        {tls}
    load_assignment:
      cluster_name: callee
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {callee} }} }} }}
"#
    )
}

#[tokio::test]
async fn what_envoy_itself_forwards_is_understood_as_text_and_as_json() {
    let mut stack = Stack::start(behind_a_hop(XFCC, 1)).await.unwrap();
    let places = Places::find().unwrap();
    let token = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    for (format, forged) in [
        ("TEXT", "URI=spiffe://example.org/orders"),
        ("JSON", r#"[{"uri":["spiffe://example.org/orders"]}]"#),
    ] {
        let bootstrap = gateway(&stack, format);
        let settings = stack::sidecar(&places, format, &bootstrap, stack.folder(), Bond::Attached);
        let gateway = Envoy::start(&settings).await.unwrap();
        for (peer, headers, reason) in [
            ("web", &[][..], "policy_permit"),
            ("web", &[(XFCC, forged)], "policy_permit"),
            ("orders", &[], "peer_not_allowed"),
            ("two-names", &[], "peer_malformed"),
            ("web", &[(XFCC, "Subject=\"")], "peer_malformed"),
            ("web", &[(XFCC, "[")], "peer_malformed"),
        ] {
            let identity = stack.keys().identity(peer).unwrap();
            let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http1, gateway.listener()).await;
            let bytes = request(peer, headers).http1(Some(&token));
            let mut connection = Http1Connection::new(io.unwrap());
            let answer = wait::within("an answer", connection.exchange(&bytes)).await.unwrap();
            if reason == "policy_permit" {
                assert_permitted_as_web(&answer);
            } else {
                assert_eq!(
                    answer.reason().as_deref(),
                    Some(reason),
                    "{format} {peer} {headers:?}: {answer:?}"
                );
            }
        }
    }
    still_serves(&mut stack).await.unwrap();
}

/// A callee whose rule for orders names a network.
fn within(network: &str) -> Options {
    let rule = "- id: orders-read";
    let networks = format!("{rule}\n                      source_addresses: [ {network} ]");
    Options::default().fake(Mode::Permit).edit(rule, &networks)
}

#[tokio::test]
async fn a_rule_names_the_networks_that_requests_come_from() {
    for (network, reason) in [("127.0.0.0/8", "policy_permit"), ("10.0.0.0/8", "source_not_allowed")] {
        let stack = Stack::start(within(network)).await.unwrap();
        let mut session = Session::new(stack.keys(), stack.entrances());
        // What the caller claims is not where it is.
        for headers in [
            &[][..],
            &[("x-forwarded-for", "10.0.0.1")],
            &[("x-forwarded-for", "127.0.0.1, 10.0.0.1")],
        ] {
            let answer = session.send(&request("web", headers)).await.unwrap();
            assert_eq!(
                answer.reason().as_deref(),
                Some(reason),
                "{network} {headers:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn behind_a_trusted_hop_the_address_is_what_it_forwarded() {
    // Envoy has added the connection's address as the last one.
    let workload = "workload: orders";
    let hops = format!("{workload}\n                    forwarded_for_trusted_hops: 2");
    let mut stack = Stack::start(within("10.0.0.0/8").edit(workload, &hops)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (headers, reason) in [
        (&[("x-forwarded-for", "10.0.0.1")][..], "policy_permit"),
        (&[("x-forwarded-for", "10.0.0.1:51342")], "policy_permit"),
        (&[("x-forwarded-for", "192.0.2.1, 10.0.0.1")], "policy_permit"),
        (&[("x-forwarded-for", "192.0.2.1:51342")], "source_not_allowed"),
        (
            &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.1")],
            "policy_permit",
        ),
        (&[("x-forwarded-for", "10.0.0.1, 192.0.2.1")], "source_not_allowed"),
        (&[("x-forwarded-for", "unknown")], "source_not_allowed"),
        (&[], "source_not_allowed"),
    ] {
        let answer = session.send(&request("web", headers)).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some(reason), "{headers:?}: {answer:?}");
    }
    stack.inbound().process().ensure_running().unwrap();
}
