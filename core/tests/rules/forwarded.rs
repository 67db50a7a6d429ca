//! The peer behind a trusted hop: who may say it, which element says it, and what is no saying at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use picket_core::decision::Effect;
use picket_core::peer::CertificateThumbprint;
use picket_core::reason::{DecidedBy, DenyReason};
use serde_json::{Value, json};

use crate::peers::{certificate, uri};
use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const GATEWAY: &str = "spiffe://example.org/gateway";
const EDGE: &str = "spiffe://example.org/edge";
const WEB: &str = "spiffe://example.org/web";
const ADMIN: &str = "spiffe://example.org/admin";
const XFCC: &str = "x-forwarded-client-cert";

fn sidecar(header: &str, hops: u32) -> Sidecar {
    let mut document = configuration();
    document["trust_domain_aliases"] = json!({"old.example": "example.org"});
    document["forwarded_peer"] = json!({"hop_spiffe_ids": [GATEWAY, EDGE], "header": header, "hops": hops});
    Sidecar::with(&document)
}

fn through_the_gateway() -> Caller {
    Caller::new().get("/local").peer(GATEWAY)
}

/// The peer that the upstream is told, or why there is none.
fn peer(sidecar: &mut Sidecar, caller: &Caller) -> Result<String, String> {
    match sidecar.sends(caller).0 {
        picket_core::enforcement::Step::Decided(Ok(permit)) => {
            let told = permit.headers_to_set().find(|(name, _)| *name == "x-picket-peer");
            Ok(told.unwrap().1.to_owned())
        }
        picket_core::enforcement::Step::Decided(Err(refusal)) => {
            assert_eq!(refusal.decided_by, DecidedBy::Peer);
            assert!([DenyReason::PeerMalformed, DenyReason::PeerMissing].contains(&refusal.reason));
            Err(refusal.detail.unwrap())
        }
        other @ (picket_core::enforcement::Step::Ask(_) | picket_core::enforcement::Step::Introspect(_)) => {
            panic!("{other:?}")
        }
    }
}

/// Checks whom a header that the gateway forwards is about, where it is the one hop.
#[track_caller]
fn check(value: &str, expected: Result<&str, &str>) {
    let got = peer(&mut sidecar(XFCC, 1), &through_the_gateway().header(XFCC, value));
    assert_eq!(got.as_deref().map_err(String::as_str), expected, "{value}");
}

const MALFORMED: Result<&str, &str> = Err("the forwarded client certificate's header is malformed");
const NOBODY: Result<&str, &str> =
    Err("the forwarded client certificate's header has neither a certificate nor exactly one SPIFFE ID");
const CONTRADICTION: Result<&str, &str> = Err("the forwarded client certificate is not the one that its header names");

fn pem_of(id: &str) -> String {
    certificate(|parameters| parameters.subject_alt_names = vec![uri(id)]).pem()
}

/// As Envoy writes it in the text form.
fn encoded(pem: &str) -> String {
    pem.replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

#[test]
fn the_forwarded_peer_takes_the_place_of_the_hop() {
    let mut sidecar = sidecar(XFCC, 1);
    let caller = through_the_gateway()
        .get("/orders/7")
        .header(XFCC, &format!("By={GATEWAY};URI={WEB}"));
    let (request, pending) = sidecar.asks(&caller);
    assert_eq!(request.peer.unwrap().as_str(), WEB);
    let permit = sidecar.answers(pending, Ok(decision(Effect::Permit, 1000))).unwrap();
    let told = permit.headers_to_set().find(|(name, _)| *name == "x-picket-peer");
    assert_eq!(told, Some(("x-picket-peer", WEB)));
    // The cached permit is the forwarded peer's: not the hop's, and not another one's behind the same hop.
    sidecar.permits(&caller);
    let other = caller.clone().header(XFCC, &format!("URI={ADMIN}"));
    assert_eq!(sidecar.asks(&other).0.peer.unwrap().as_str(), ADMIN);
    let stranger = caller.header(XFCC, "URI=spiffe://example.org/billing");
    assert_eq!(sidecar.refuses(&stranger).reason, DenyReason::PeerNotAllowed);
}

#[test]
fn the_header_is_read_on_connections_of_trusted_hops_alone() {
    let forged = format!("URI={ADMIN}");
    for value in [forged.as_str(), "", "garbage", "URI=\""] {
        for header in [XFCC, "client-cert"] {
            let caller = Caller::new().get("/local").peer(WEB).header(header, value);
            assert_eq!(peer(&mut sidecar(header, 1), &caller).as_deref(), Ok(WEB));
            // An application that believes the header is not to see what a caller wrote.
            let caller = caller.header(&header.replace('-', "_"), value);
            let (permit, _) = sidecar(header, 1).permits(&caller);
            let removed: Vec<_> = permit.headers_to_remove().collect();
            assert!(
                removed.contains(&header) && removed.contains(&header.replace('-', "_").as_str()),
                "{removed:?}"
            );
        }
    }
    // Not where no hop is named, and not the other header.
    let caller = through_the_gateway().header(XFCC, &forged);
    assert_eq!(peer(&mut Sidecar::new(), &caller).as_deref(), Ok(GATEWAY));
    let refusal = sidecar("client-cert", 1).refuses(&caller);
    assert_eq!(refusal.reason, DenyReason::PeerMissing);
    // And not on a connection that proved nothing.
    let refusal = sidecar(XFCC, 1).refuses(&Caller::new().get("/local").no_peer().header(XFCC, &forged));
    assert_eq!(refusal.reason, DenyReason::PeerMissing);
    let expired = through_the_gateway().peer_valid(0, NOW_S).header(XFCC, &forged);
    assert_eq!(sidecar(XFCC, 1).refuses(&expired).reason, DenyReason::PeerExpired);
}

#[test]
fn a_hop_that_forwards_nothing_is_no_peer_itself() {
    let refusal = sidecar(XFCC, 1).refuses(&through_the_gateway());
    assert_eq!(refusal.reason, DenyReason::PeerMissing);
    assert_eq!(
        refusal.detail.unwrap(),
        "the trusted hop forwarded no client certificate"
    );
    let asks_for_no_peer = through_the_gateway().get("/open");
    sidecar(XFCC, 1).permits(&asks_for_no_peer);
    sidecar(XFCC, 1).permits(&asks_for_no_peer.header(XFCC, "garbage"));
}

#[test]
fn the_text_form_is_read_with_its_quotes_and_escapes() {
    let hash = "0123456789abcdef".repeat(4);
    for value in [
        format!("URI={WEB}"),
        format!("uri={WEB}"),
        format!("URI=\"{WEB}\""),
        format!("By={GATEWAY};Hash={hash};Subject=\"\";URI={WEB};DNS=a.example;DNS=b.example"),
        format!("Hash={};URI={WEB}", hash.to_uppercase()),
        // As Envoy wrote it for the subject `O=a "quoted", b` with `CN=we\b;=x`.
        format!(r#"By={GATEWAY};Hash={hash};Subject="O=a \"quoted\"\, b/CN=we\\b\;=x";URI={WEB}"#),
        format!(r#"Subject="CN=ends with a backslash\\";URI={WEB}"#),
        format!(r#"Subject=";URI={ADMIN}";URI={WEB}"#),
        format!(r#"Subject=",URI={ADMIN},";URI={WEB}"#),
        format!(r#"Subject="\";URI={ADMIN},URI=\"";URI={WEB}"#),
        format!(r#"URI={WEB};Subject="a,b;c=d""#),
        format!("Unknown=x;URI={WEB}"),
        format!(" URI={WEB} "),
    ] {
        check(&value, Ok(WEB));
    }
    check("URI=spiffe://old.example/web", Ok(WEB));
    for value in [
        "",
        " ",
        ",",
        ";",
        "URI",
        "URI=",
        "=x",
        "URI =spiffe://example.org/web",
        "URI=spiffe://example.org/web;",
        "URI=spiffe://example.org/web,",
        "URI=spiffe://example.org/web;;By=a",
        ",URI=spiffe://example.org/web",
        "URI=a,,URI=spiffe://example.org/web",
        "URI=\"spiffe://example.org/web",
        "URI=spiffe://example.org/web\"",
        "URI=\"spiffe://example.org/web\"x",
        "URI=\"spiffe://example.org/web\\",
        "URI=\"spiffe://example.org/web\\\"",
        "Hash=00;URI=spiffe://example.org/web",
        "Hash=;URI=spiffe://example.org/web",
        "Cert=%;URI=spiffe://example.org/web",
        "Cert=%4;URI=spiffe://example.org/web",
        "Cert=%zz;URI=spiffe://example.org/web",
        "{\"uri\":[\"spiffe://example.org/web\"]}",
    ] {
        let expected = if value == "URI=" { NOBODY } else { MALFORMED };
        check(value, expected);
    }
    let twice = format!("Hash={hash};Hash={hash};URI={WEB}");
    check(&twice, MALFORMED);
    let many = vec![format!("URI={WEB}"); 33].join(",");
    check(&many, MALFORMED);
    check(many.split_once(',').unwrap().1, Ok(WEB));
    check(&format!("Subject=\"{}\";URI={WEB}", "a".repeat(64 * 1024)), MALFORMED);
}

#[test]
fn a_certificate_or_exactly_one_id_is_needed_and_all_that_is_there_agrees() {
    let pem = certificate(|_| ());
    let (pem, thumbprint) = (pem.pem(), CertificateThumbprint::of_der(pem.der()));
    let cert = encoded(&pem);
    let other_hash = "0".repeat(64);
    check(&format!("Cert=\"{cert}\""), Ok(WEB));
    check(&format!("Cert={cert}"), Ok(WEB));
    check(&format!("Hash={thumbprint:?};Cert=\"{cert}\";URI={WEB}"), Ok(WEB));
    check(&format!("Cert=\"{cert}\";URI="), Ok(WEB));
    check(&format!("Cert=\"{cert}\";URI={ADMIN}"), CONTRADICTION);
    check(&format!("Cert=\"{cert}\";Hash={other_hash}"), CONTRADICTION);
    check(&format!("Cert=\"{cert}\";URI={WEB};URI={ADMIN}"), NOBODY);
    check(&format!("Cert=\"{cert}\";Cert=\"{cert}\""), MALFORMED);
    check(&format!("URI={WEB};URI={WEB}"), NOBODY);
    check("By=spiffe://example.org/web", NOBODY);
    check("DNS=spiffe://example.org/web", NOBODY);
    check("URI=https://example.org/web", NOBODY);
    check("URI=spiffe://example.org", NOBODY);
    check("URI=spiffe://example.org/web%2F", NOBODY);
    check("Cert=\"\"", Err("the client certificate cannot be read"));
    let two = certificate(|parameters| parameters.subject_alt_names.push(uri(ADMIN))).pem();
    let no_svid = Err("the client certificate is not an X.509-SVID with exactly one SPIFFE ID that has a path");
    check(&format!("Cert=\"{}\"", encoded(&two)), no_svid);
    check(&format!("Cert=\"{}\";URI={WEB}", encoded(&two)), no_svid);
}

#[test]
fn the_json_form_is_read_as_envoy_writes_it() {
    let pem = certificate(|_| ());
    let (pem, thumbprint) = (pem.pem(), CertificateThumbprint::of_der(pem.der()));
    let hash = format!("{thumbprint:?}");
    let subject = r#"O=a \"quoted\"\, b/CN=we\\b\;=x"#;
    let whole = json!([{
        "by": [GATEWAY], "hash": hash, "cert": pem, "chain": [pem], "subject": subject, "uri": [WEB], "dns": ["a.example"],
    }]);
    check(&whole.to_string(), Ok(WEB));
    let element = |element: Value| json!([element]).to_string();
    check(&format!(" {}", element(json!({"cert": pem}))), Ok(WEB));
    check(&element(json!({"uri": [WEB]})), Ok(WEB));
    check(&element(json!({"uri": [WEB, ADMIN]})), NOBODY);
    check(&element(json!({"uri": []})), NOBODY);
    check(&element(json!({"URI": [WEB]})), NOBODY);
    check(&element(json!({"by": [WEB]})), NOBODY);
    check(&element(json!({"uri": [ADMIN], "cert": pem})), CONTRADICTION);
    check(&element(json!({"cert": pem, "hash": "0".repeat(64)})), CONTRADICTION);
    check(
        &element(json!({"cert": encoded(&pem)})),
        Err("the client certificate cannot be read"),
    );
    for malformed in [
        element(json!({"uri": WEB})),
        element(json!({"uri": [1]})),
        element(json!({"uri": [WEB], "cert": [pem]})),
        element(json!({"uri": [WEB], "hash": 1})),
        element(json!([WEB])),
        element(json!(WEB)),
        format!(r#"[{{"uri":["{WEB}"],"uri":["{ADMIN}"]}}]"#),
        format!(r#"[{{"uri":["{WEB}"]}}"#),
        format!(r#"[{{"uri":["{WEB}"]}}],URI={ADMIN}"#),
        format!(r#"[{{"uri":["{WEB}"]}}],[{{"uri":["{ADMIN}"]}}]"#),
        "[".repeat(1000),
    ] {
        check(&malformed, MALFORMED);
    }
    check(
        "[]",
        Err("the forwarded client certificate's header has not gone through all trusted hops"),
    );
}

#[test]
fn the_last_element_is_the_hops_own_and_no_element_before_it_changes_that() {
    // All that a caller of the gateway wrote, in one field or in several, and what the gateway added.
    let own = format!("By={GATEWAY};Hash={};URI={WEB}", "0".repeat(64));
    for forged in [
        format!("URI={ADMIN}"),
        format!("By={EDGE};URI={ADMIN},By={EDGE};URI={ADMIN}"),
        format!("Subject=\"x\";URI={ADMIN}"),
    ] {
        check(&format!("{forged},{own}"), Ok(WEB));
        let fields = through_the_gateway().header(XFCC, &forged).one_more_header(XFCC, &own);
        assert_eq!(peer(&mut sidecar(XFCC, 1), &fields).as_deref(), Ok(WEB));
    }
    check(&json!([{"uri": [ADMIN]}, {"uri": [WEB]}]).to_string(), Ok(WEB));
    // What would swallow the gateway's element, or be continued by it.
    for forged in [
        "URI=\"",
        "Subject=\"a\\",
        "Subject=\"",
        "[",
        "[{\"uri\":[\"",
        "URI=spiffe://example.org/admin;",
    ] {
        check(&format!("{forged},{own}"), MALFORMED);
        check(&format!("URI={ADMIN};{forged},{own}"), MALFORMED);
    }
    let with_subject = format!("{own};Subject=\"CN=web\"");
    check(&format!("URI={ADMIN};Subject=\",{with_subject}"), MALFORMED);
    check(
        &format!("URI={ADMIN};Subject=\",By={GATEWAY};Subject=\"\";URI={WEB}"),
        MALFORMED,
    );
}

#[test]
fn behind_two_hops_the_element_counts_that_the_first_of_them_wrote() {
    let check = |value: &str, expected: Result<&str, &str>| {
        let got = peer(&mut sidecar(XFCC, 2), &through_the_gateway().header(XFCC, value));
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{value}");
    };
    let edge = encoded(&pem_of(EDGE));
    check(&format!("URI={WEB},URI={EDGE}"), Ok(WEB));
    check(&format!("URI={ADMIN},URI={WEB},Cert=\"{edge}\";URI={EDGE}"), Ok(WEB));
    check(&format!("URI={WEB},URI=spiffe://old.example/edge"), Ok(WEB));
    check(&json!([{"uri": [WEB]}, {"uri": [EDGE]}]).to_string(), Ok(WEB));
    let unknown = Err("the forwarded client certificate came through a peer that is no trusted hop");
    check(&format!("URI={ADMIN},URI={WEB}"), unknown);
    check(&format!("URI={EDGE},URI={ADMIN},URI={WEB}"), unknown);
    let too_few = Err("the forwarded client certificate's header has not gone through all trusted hops");
    check(&format!("URI={EDGE}"), too_few);
    check(&format!("URI={WEB}"), unknown);
    check(&format!("URI={WEB},By={EDGE}"), NOBODY);
    check(&format!("By={WEB},URI={EDGE}"), NOBODY);
}

#[test]
fn the_validity_is_that_of_every_certificate_on_the_way() {
    let day = |from, to| {
        certificate(|parameters| {
            parameters.not_before = rcgen::date_time_ymd(2027, 1, from);
            parameters.not_after = rcgen::date_time_ymd(2027, 1, to);
        })
        .pem()
    };
    let through = |pem: &str| through_the_gateway().header(XFCC, &format!("Cert=\"{}\"", encoded(pem)));
    assert_eq!(
        sidecar(XFCC, 1).refuses(&through(&day(1, 15))).reason,
        DenyReason::PeerExpired
    );
    assert_eq!(
        sidecar(XFCC, 1).refuses(&through(&day(16, 17))).reason,
        DenyReason::PeerNotYetValid
    );
    let mut sidecar = sidecar(XFCC, 1);
    let token = sidecar.token(&[("exp", (NOW_S + 86_400).into())]);
    let caller = through(&day(15, 16)).get("/orders/7").bearer(&token);
    // 16 hours are left, and one second.
    sidecar.later_ms(16 * 3_600_000);
    let (_, pending) = sidecar.asks(&caller);
    sidecar.later_ms(1000);
    let late = sidecar
        .answers(pending, Ok(decision(Effect::Permit, 1000)))
        .unwrap_err();
    assert_eq!(late.reason, DenyReason::PeerExpired);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::PeerExpired);
    let hop_ends = caller
        .peer_valid(0, NOW_S + 16 * 3600 + 2)
        .header(XFCC, &format!("URI={WEB}"));
    let (_, pending) = sidecar.asks(&hop_ends);
    sidecar.later_ms(1000);
    let late = sidecar
        .answers(pending, Ok(decision(Effect::Permit, 1000)))
        .unwrap_err();
    assert_eq!(late.reason, DenyReason::PeerExpired);
}

#[test]
fn a_client_cert_field_is_one_byte_sequence() {
    let certificate = certificate(|_| ());
    let field = format!(":{}:", STANDARD.encode(certificate.der()));
    let of = |caller: &Caller| peer(&mut sidecar("client-cert", 1), caller);
    let caller = through_the_gateway().header("client-cert", &field);
    assert_eq!(of(&caller).as_deref(), Ok(WEB));
    assert_eq!(
        of(&through_the_gateway().header("client-cert", &format!(" {field} "))).as_deref(),
        Ok(WEB)
    );
    let malformed = MALFORMED.map(str::to_owned).map_err(str::to_owned);
    assert_eq!(of(&caller.clone().one_more_header("client-cert", &field)), malformed);
    let inner = field.trim_matches(':');
    for bad in [
        "",
        ":",
        inner,
        &format!("{inner}:"),
        &format!("{field};a=b"),
        &format!("{field}, {field}"),
        &format!(":{inner}=:"),
        &format!(
            ":{}:",
            inner.trim_end_matches('=').replace('+', "-").replace('/', "_") + "-"
        ),
        &format!(": {inner}:"),
        &format!("\"{inner}\""),
    ] {
        assert_eq!(
            of(&through_the_gateway().header("client-cert", bad)),
            malformed,
            "{bad}"
        );
    }
    for (bytes, expected) in [
        ("::", "the client certificate cannot be read"),
        (":AA==:", "the client certificate cannot be read"),
    ] {
        let got = of(&through_the_gateway().header("client-cert", bytes));
        assert_eq!(got, Err(expected.to_owned()), "{bytes}");
    }
}
