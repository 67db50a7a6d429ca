//! The peer behind a trusted hop: who may say it, which element says it, and what is no saying at
//! all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::Effect;
use picket_model::thumbprint::CertificateThumbprint;
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
        other @ (picket_core::enforcement::Step::Ask(_)
        | picket_core::enforcement::Step::Introspect(_)
        | picket_core::enforcement::Step::AwaitKeys(_)) => {
            panic!("{other:?}")
        }
    }
}

/// Checks whom a header that the gateway forwards is about, where it is the one hop.
#[track_caller]
fn check(value: &str, expected: Result<&str, &str>) {
    check_peer(&mut sidecar(XFCC, 1), value, expected);
}

/// Of a detail the expected part must be there.
#[track_caller]
fn check_peer(sidecar: &mut Sidecar, value: &str, expected: Result<&str, &str>) {
    let got = peer(sidecar, &through_the_gateway().header(XFCC, value));
    match (&got, expected) {
        (Err(detail), Err(expected)) => assert!(detail.contains(expected), "{value}: {detail}, not {expected}"),
        (got, expected) => assert_eq!(got.as_deref().map_err(String::as_str), expected, "{value}"),
    }
}

const MALFORMED: Result<&str, &str> = Err("the header `x-forwarded-client-cert` is malformed at byte ");
const NOBODY: Result<&str, &str> = Err("it has neither `Cert` nor `URI`");
const NO_SPIFFE_ID: Result<&str, &str> = Err("`URI` is not a SPIFFE ID: ");
const TWO_URIS: Result<&str, &str> = Err("it has 2 times `URI`");
const HASH: Result<&str, &str> = Err("`Hash` is not 64 hexadecimal digits");
const ENCODING: Result<&str, &str> = Err("`Cert` is not percent-encoded");
const OTHER_URI: Result<&str, &str> = Err("`URI` is not the one in `Cert`");
const OTHER_HASH: Result<&str, &str> = Err("`Hash` is not the one of `Cert`");

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
    // The cached permit is the forwarded peer's: not the hop's, and not another one's behind the
    // same hop.
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
        let expected = match value {
            "URI=" => NOBODY,
            value if value.starts_with("Hash") => HASH,
            value if value.starts_with("Cert") => ENCODING,
            _ => MALFORMED,
        };
        check(value, expected);
    }
    let twice = format!("Hash={hash};Hash={hash};URI={WEB}");
    check(
        &twice,
        Err("element 1 of the header `x-forwarded-client-cert`: `Hash` is there more than once"),
    );
    let many = vec![format!("URI={WEB}"); 33].join(",");
    check(&many, Err("has more than 32 elements"));
    check(many.split_once(',').unwrap().1, Ok(WEB));
    check(
        &format!("Subject=\"{}\";URI={WEB}", "a".repeat(64 * 1024)),
        Err("the header `x-forwarded-client-cert` is longer than 65536 bytes"),
    );
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
    check(&format!("Cert=\"{cert}\";URI={ADMIN}"), OTHER_URI);
    check(&format!("Cert=\"{cert}\";Hash={other_hash}"), OTHER_HASH);
    check(&format!("Cert=\"{cert}\";URI={WEB};URI={ADMIN}"), TWO_URIS);
    check(
        &format!("Cert=\"{cert}\";Cert=\"{cert}\""),
        Err("`Cert` is there more than once"),
    );
    check(&format!("URI={WEB};URI={WEB}"), TWO_URIS);
    check("By=spiffe://example.org/web", NOBODY);
    check("DNS=spiffe://example.org/web", NOBODY);
    check("URI=https://example.org/web", NO_SPIFFE_ID);
    check("URI=spiffe://example.org", Err("the SPIFFE ID in `URI` has no path"));
    check("URI=spiffe://example.org/web%2F", NO_SPIFFE_ID);
    check("Cert=\"\"", Err("is not exactly one PEM block"));
    let two = certificate(|parameters| parameters.subject_alt_names.push(uri(ADMIN))).pem();
    let no_svid = Err("the client certificate has 2 URIs in `subjectAltName`");
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
    check(&element(json!({"uri": [WEB, ADMIN]})), TWO_URIS);
    check(&element(json!({"uri": []})), NOBODY);
    check(&element(json!({"URI": [WEB]})), NOBODY);
    check(&element(json!({"by": [WEB]})), NOBODY);
    check(&element(json!({"uri": [ADMIN], "cert": pem})), OTHER_URI);
    check(&element(json!({"cert": pem, "hash": "0".repeat(64)})), OTHER_HASH);
    check(
        &element(json!({"cert": encoded(&pem)})),
        Err("is not exactly one PEM block"),
    );
    let of_strings = "element 1 of the header `x-forwarded-client-cert`: expected `uri` to be an array of strings";
    check(&element(json!({"uri": WEB})), Err(of_strings));
    check(&element(json!({"uri": [1]})), Err(of_strings));
    check(
        &element(json!({"uri": [WEB], "cert": [pem]})),
        Err("expected `cert` to be a string"),
    );
    check(
        &element(json!({"uri": [WEB], "hash": 1})),
        Err("expected `hash` to be a string"),
    );
    check(
        &element(json!([WEB])),
        Err("element 1 of the header `x-forwarded-client-cert`: expected an object"),
    );
    check(
        &json!([{"uri": [ADMIN]}, WEB]).to_string(),
        Err("element 2 of the header"),
    );
    for malformed in [
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
    // All that a caller of the gateway wrote, in one field or in several, and what the gateway
    // added.
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
    let check = |value: &str, expected: Result<&str, &str>| check_peer(&mut sidecar(XFCC, 2), value, expected);
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
    check(
        &format!("By={WEB},URI={EDGE}"),
        Err("element 1 of the header `x-forwarded-client-cert`: it has neither"),
    );
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
    let no_sequence = "the header `client-cert` is not one byte sequence between colons";
    let no_base64 = "the byte sequence of the header `client-cert` is not base64 with its padding";
    let twice = of(&caller.clone().one_more_header("client-cert", &field));
    assert_eq!(twice, Err(no_sequence.to_owned()));
    let inner = field.trim_matches(':');
    let no_certificate = "the client certificate is not an X.509 certificate in DER";
    for (bad, expected) in [
        ("", no_sequence),
        (":", no_sequence),
        (inner, no_sequence),
        (&format!("{inner}:"), no_sequence),
        (&format!("{field};a=b"), no_sequence),
        (&format!("{field}, {field}"), no_sequence),
        (&format!("\"{inner}\""), no_sequence),
        (&format!(":{inner}=:"), no_base64),
        (&format!(":{}:", "A".repeat(5)), no_base64),
        (":AA:", no_base64),
        (":AB==:", no_base64),
        (&format!(": {inner}:"), no_base64),
        (&format!(":{}-:", inner.trim_end_matches('=')), no_base64),
        ("::", no_certificate),
        (":AA==:", no_certificate),
        // RFC 9651 §4.2: spaces alone are discarded.
        (&format!("\t{field}"), no_sequence),
        (&format!("{field}\t"), no_sequence),
        (&format!(" \t{field} "), no_sequence),
        (&format!("\x0c{field}"), no_sequence),
        (&format!("{field} \x0c"), no_sequence),
        (&format!("\r\n{field}"), no_sequence),
    ] {
        let got = of(&through_the_gateway().header("client-cert", bad));
        assert_eq!(got, Err(expected.to_owned()), "{bad}");
    }
}

#[test]
fn the_detail_says_where_the_header_is_malformed() {
    for (value, at, expected) in [
        ("", 0, "a key"),
        ("  ", 2, "a key"),
        (";", 0, "a key"),
        ("=x", 0, "a key"),
        ("URI", 3, "`=` after a key"),
        ("URI =a", 3, "`=` after a key"),
        ("By=a;URI", 8, "`=` after a key"),
        ("By=a;", 5, "a key"),
        ("By=a;;URI=b", 5, "a key"),
        ("By=a, ,URI=b", 6, "a key"),
        ("Subject=\"a", 10, "the closing quote of a value"),
        ("Subject=\"a\\", 11, "the closing quote of a value"),
        (
            "By=a,Subject=\"a\" b",
            17,
            "`;`, `,` or the end after a value in quotes",
        ),
        ("By=ab\"c", 5, "no quote within a value without quotes"),
    ] {
        let detail = format!("the header `x-forwarded-client-cert` is malformed at byte {at}: expected {expected}");
        let got = peer(&mut sidecar(XFCC, 1), &through_the_gateway().header(XFCC, value));
        assert_eq!(got, Err(detail), "{value}");
    }
    // All fields are one text, joined by commas.
    let fields = through_the_gateway()
        .header(XFCC, "By=a")
        .one_more_header(XFCC, "By=b;URI");
    let detail = peer(&mut sidecar(XFCC, 1), &fields).unwrap_err();
    assert!(detail.contains("at byte 13: expected `=` after a key"), "{detail}");
    for (value, at) in [("[", 0), ("[{\"uri\":1,}]", 10), (" [1", 2), ("[]x", 2)] {
        let got = peer(&mut sidecar(XFCC, 1), &through_the_gateway().header(XFCC, value));
        let detail = format!("is malformed at byte {at}: expected JSON without repeated members");
        assert!(got.as_ref().is_err_and(|got| got.contains(&detail)), "{value}: {got:?}");
    }
    check(
        &format!("URI={ADMIN},URI=a;URI=b"),
        Err("element 2 of the header `x-forwarded-client-cert`: it has 2"),
    );
}
