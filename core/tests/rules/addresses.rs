//! Where a request comes from behind trusted hops, and what becomes of one whose address nobody can
//! read: on every reader of addresses.

use picket_core::enforcement::{Step, Verdict};
use picket_core::reason::{DecidedBy, DenyReason};
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration};

const HEADER: &str = "x-forwarded-for";
const UNREADABLE: &str = "not an IP address with or without a port";
const TOO_FEW: &str = "fewer than";

/// A sidecar whose rules let everybody through but for what is tested, behind two proxies of which
/// the last one is its own Envoy.
fn sidecar(access: &Value, route_rule: &Value) -> Sidecar {
    let mut document = configuration();
    document["forwarded_for_trusted_hops"] = json!(2);
    document["access"] = access.clone();
    let mut rule = json!({"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "none"});
    rule["decision"] = json!("permit");
    for (name, value) in route_rule.as_object().unwrap() {
        rule[name] = value.clone();
    }
    document["rules"] = json!([rule]);
    Sidecar::with(&document)
}

fn caller(fields: &[&[u8]]) -> Caller {
    let caller = Caller::new().get("/a").no_bearer().no_peer().from("127.0.0.1");
    let fields = fields.iter();
    fields.fold(caller, |caller, field| caller.header_bytes(HEADER, field))
}

/// A caller behind one proxy that wrote this entry, to which our own Envoy added the proxy's
/// address.
fn behind(entry: &[u8]) -> Caller {
    caller(&[&[entry, b", 192.0.2.1"].concat()])
}

fn verdict(sidecar: &mut Sidecar, caller: &Caller) -> Verdict {
    match sidecar.sends(caller).0 {
        Step::Decided(verdict) => verdict,
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
            panic!("expected a verdict, got {other:?}")
        }
    }
}

/// The address that the policy service is told, or why the request is refused before.
fn asked(caller: &Caller) -> Result<Option<String>, (DenyReason, String)> {
    let mut sidecar = sidecar(&json!({}), &json!({"decision": "policy_service"}));
    match sidecar.sends(caller).0 {
        Step::Ask(question) => Ok(question
            .request
            .context
            .source_address
            .map(|address| address.to_string())),
        Step::Decided(verdict) => {
            let refusal = verdict.unwrap_err();
            assert_eq!(refusal.decided_by, DecidedBy::Request);
            Err((refusal.reason, refusal.detail.unwrap()))
        }
        other @ (Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("{other:?}"),
    }
}

/// Entries of `x-forwarded-for`, and the addresses that they name.
const READABLE: &[(&str, &str)] = &[
    ("203.0.113.7", "203.0.113.7"),
    ("203.0.113.7:51342", "203.0.113.7"),
    ("203.0.113.7:1", "203.0.113.7"),
    ("203.0.113.7:65535", "203.0.113.7"),
    ("\t 203.0.113.7:51342 \t", "203.0.113.7"),
    ("2001:db8::7", "2001:db8::7"),
    ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
    ("[2001:db8::7]", "2001:db8::7"),
    ("[2001:db8::7]:443", "2001:db8::7"),
    ("[2001:DB8::0007]:51342", "2001:db8::7"),
    // Not an address and a port: in IPv6 without brackets all is the address.
    ("2001:db8::7:443", "2001:db8::7:443"),
    // RFC 4291 §2.5.5.2: IPv4.
    ("::ffff:203.0.113.7", "203.0.113.7"),
    ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
    ("[::ffff:cb00:7107]", "203.0.113.7"),
];

const NO_ADDRESS: &[&[u8]] = &[
    b"",
    b" ",
    b"\t",
    b"unknown",
    b"_hidden",
    b"_gazonk:80",
    b"-",
    b"localhost",
    b"203.0.113",
    b"203.0.113.7.1",
    b"203.0.113.256",
    // Octal for some readers, decimal for others.
    b"203.0.113.07",
    b"0203.0.113.7",
    b"0xcb.0.113.7",
    b"3405803783",
    b"203.0.113.7:",
    b"203.0.113.7:65536",
    b"203.0.113.7:99999999999999999999",
    b"203.0.113.7:+80",
    b"203.0.113.7:-1",
    b"203.0.113.7:80:90",
    b"203.0.113.7:http",
    b"203.0.113.7 :80",
    b"203.0.113.7: 80",
    b"203.0.113.7 80",
    b"203.0.113.7;80",
    b"203.0.113.7/32",
    b"[203.0.113.7]",
    b"[203.0.113.7]:80",
    b"[2001:db8::7",
    b"2001:db8::7]",
    b"[2001:db8::7]80",
    b"[2001:db8::7]:",
    b"[2001:db8::7]:65536",
    b"[2001:db8::7]:80x",
    b"[[2001:db8::7]]",
    b"[]",
    b"[]:80",
    b":80",
    b"2001:db8::7::1",
    b"2001:db8:::7",
    // A zone (RFC 4007 §11) names a link of the proxy's, which is nothing here.
    b"fe80::1%eth0",
    b"[fe80::1%1]:80",
    b"\"203.0.113.7\"",
    b"\"[2001:db8::7]:443\"",
    b"for=203.0.113.7",
    b"203.0.113.7\0",
    b"203.0.113.7\x0b",
    b"\xff",
    b"203.0.113.7\xc2\xa0",
];

#[test]
fn an_entry_is_an_address_with_or_without_a_port() {
    let (address, other) = (
        json!(["203.0.113.7", "2001:db8::/32"]),
        json!(["198.51.100.0/24", "fe80::/10"]),
    );
    let source = |lists: Value| json!([{"id": "r", "from": [lists]}]);
    let rejecting = |networks: &Value| json!({"reject": source(json!({"source_addresses": networks}))});
    let accepting = |networks: &Value| json!({"accept": source(json!({"source_addresses": networks}))});
    for (entry, expected) in READABLE {
        let caller = behind(entry.as_bytes());
        assert_eq!(asked(&caller), Ok(Some((*expected).to_owned())), "{entry:?}");
        let reason = |access: &Value, route_rule: &Value| {
            let verdict = verdict(&mut sidecar(access, route_rule), &caller);
            verdict.err().map(|refusal| (refusal.reason, refusal.detail))
        };
        let rejected = Some((DenyReason::AccessRuleReject, None));
        let not_accepted = Some((DenyReason::AccessRuleNoAccept, None));
        let not_allowed = Some((DenyReason::SourceNotAllowed, None));
        for (access, route_rule, expected) in [
            (rejecting(&address), json!({}), rejected),
            (rejecting(&other), json!({}), None),
            (accepting(&address), json!({}), None),
            (accepting(&other), json!({}), not_accepted),
            (json!({}), json!({"source_addresses": address}), None),
            (json!({}), json!({"source_addresses": other}), not_allowed.clone()),
            (json!({}), json!({"not_source_addresses": address}), not_allowed),
            (json!({}), json!({"not_source_addresses": other}), None),
        ] {
            assert_eq!(
                reason(&access, &route_rule),
                expected,
                "{entry:?} {access} {route_rule}"
            );
        }
    }
}

#[test]
fn an_entry_that_is_no_address_is_in_no_readers_favour() {
    for entry in NO_ADDRESS {
        check_unknown(&behind(entry), UNREADABLE);
        let (reason, detail) = asked(&behind(entry)).unwrap_err();
        assert_eq!(reason, DenyReason::RequestMalformed);
        assert!(detail.contains(UNREADABLE) && detail.contains("entry 2"), "{detail}");
    }
}

#[test]
fn an_entry_that_is_not_there_is_in_no_lists_favour() {
    for fields in [&[][..], &[b"192.0.2.1".as_slice()], &[b"203.0.113.7:51342"]] {
        check_unknown(&caller(fields), TOO_FEW);
        // A policy can ask whether there is one.
        assert_eq!(asked(&caller(fields)), Ok(None));
    }
}

/// Whatever a list of networks says, an address that nobody knows is not let through by it, and the
/// detail says why.
#[track_caller]
fn check_unknown(caller: &Caller, wanted: &str) {
    let everywhere = json!(["0.0.0.0/0", "::/0"]);
    let (nowhere, open) = (json!(["198.51.100.1"]), json!({}));
    let rejected = Some(DenyReason::AccessRuleReject);
    let not_accepted = Some(DenyReason::AccessRuleNoAccept);
    let not_allowed = Some(DenyReason::SourceNotAllowed);
    let source = |list: &str, networks: &Value| json!([{"id": "r", "from": [{list: networks}]}]);
    let when =
        |list: &str, networks: &Value| json!([{"id": "r", "when": [{"attribute": "source_address", list: networks}]}]);
    for (access, route_rule, expected) in [
        (json!({"reject": source("source_addresses", &nowhere)}), &open, rejected),
        (
            json!({"reject": source("not_source_addresses", &nowhere)}),
            &open,
            rejected,
        ),
        (
            json!({"reject": source("not_source_addresses", &everywhere)}),
            &open,
            rejected,
        ),
        (json!({"reject": when("values", &nowhere)}), &open, rejected),
        (json!({"reject": when("not_values", &everywhere)}), &open, rejected),
        (
            json!({"accept": source("source_addresses", &everywhere)}),
            &open,
            not_accepted,
        ),
        (
            json!({"accept": source("not_source_addresses", &nowhere)}),
            &open,
            not_accepted,
        ),
        (json!({"accept": when("values", &everywhere)}), &open, not_accepted),
        (json!({"accept": when("not_values", &nowhere)}), &open, not_accepted),
        (open.clone(), &json!({"source_addresses": everywhere}), not_allowed),
        (open.clone(), &json!({"not_source_addresses": nowhere}), not_allowed),
        (open.clone(), &open, None),
        // What else a rule asks for decides first.
        (
            json!({"reject": [{"id": "r", "from": [{"source_addresses": nowhere}], "to": [{"paths": ["/b"]}]}]}),
            &open,
            None,
        ),
        (
            json!({"accept": [{"id": "a", "from": [{"source_addresses": nowhere}]}, {"id": "b"}]}),
            &open,
            None,
        ),
    ] {
        let verdict = verdict(&mut sidecar(&access, route_rule), caller);
        let refusal = verdict.err();
        assert_eq!(
            refusal.as_ref().map(|refusal| refusal.reason),
            expected,
            "{caller:?} {access} {route_rule}"
        );
        if let Some(refusal) = refusal {
            let detail = refusal.detail.unwrap_or_default();
            assert!(
                detail.contains(HEADER) && detail.contains(wanted),
                "{caller:?} {access}: {detail}"
            );
        }
    }
}

#[test]
fn a_definite_rejection_comes_before_an_unknown_one() {
    let nowhere = json!(["198.51.100.1"]);
    let access = json!({"reject": [
        {"id": "unknown", "from": [{"source_addresses": nowhere}]},
        {"id": "definite", "to": [{"paths": ["/a"]}]},
    ]});
    let refusal = verdict(&mut sidecar(&access, &json!({})), &behind(b"unknown")).unwrap_err();
    assert_eq!((refusal.reason, refusal.detail), (DenyReason::AccessRuleReject, None));
}

#[test]
fn the_detail_repeats_a_short_and_visible_beginning_of_the_entry() {
    let detail = |entry: &[u8]| asked(&behind(entry)).unwrap_err().1;
    assert!(detail(b"203.0.113.7:99999").contains("`203.0.113.7:99999`"));
    assert!(detail(b"\x01\xff\xc3\xa9").contains("`????`"));
    let long = detail(&[b'a'; 1000]);
    assert!(long.contains("aaaa") && long.len() < 200, "{long}");
    assert!(detail(b"").contains("``"));
}

#[test]
fn entries_are_counted_from_the_right_over_all_fields_and_an_empty_one_counts() {
    let address = |fields: &[&[u8]]| asked(&caller(fields)).map_err(|(reason, _)| reason);
    let known = |text: &str| Ok(Some(text.to_owned()));
    let malformed = Err(DenyReason::RequestMalformed);
    for (fields, expected) in [
        (
            &[b"10.0.0.4:1,[2001:db8::3]:2,192.0.2.1".as_slice()][..],
            known("2001:db8::3"),
        ),
        (&[b"10.0.0.4:1", b"[2001:db8::3]:2", b"192.0.2.1"], known("2001:db8::3")),
        (&[b"10.0.0.4:1, 10.0.0.3:2", b"192.0.2.1:3"], known("10.0.0.3")),
        // What stands before the entry that counts is the caller's own word.
        (&[b"unknown,,\xff, 10.0.0.3:2, 192.0.2.1"], known("10.0.0.3")),
        (&[b"", b"10.0.0.3:2, 192.0.2.1"], known("10.0.0.3")),
        // An empty entry is one, as for Envoy: else the caller's own word would move to its place.
        (&[b"10.0.0.4, , 192.0.2.1"], malformed.clone()),
        (&[b"10.0.0.4,, 192.0.2.1"], malformed.clone()),
        (&[b"10.0.0.4", b"", b"192.0.2.1"], malformed.clone()),
        (&[b"10.0.0.4, 192.0.2.1,"], known("192.0.2.1")),
        (&[b"10.0.0.4, 192.0.2.1", b""], known("192.0.2.1")),
        (&[b","], malformed),
    ] {
        assert_eq!(address(fields), expected, "{fields:?}");
    }
}

#[test]
fn no_other_header_tells_of_an_address() {
    for (name, value) in [
        ("forwarded", "for=203.0.113.7, for=192.0.2.1"),
        ("x_forwarded_for", "203.0.113.7, 192.0.2.1"),
        ("x-real-ip", "203.0.113.7"),
        ("x-envoy-external-address", "203.0.113.7"),
    ] {
        assert_eq!(asked(&caller(&[]).header(name, value)), Ok(None), "{name}");
    }
}

#[test]
fn an_address_that_the_proxy_does_not_give_is_in_no_lists_favour() {
    let mut document = configuration();
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "none", "decision": "permit"},
    ]);
    let caller = Caller::new().get("/a").no_bearer().no_peer().from("").to("");
    let networks = json!(["0.0.0.0/0", "::/0"]);
    for (attribute, values) in [
        ("connection_address", &networks),
        ("source_address", &networks),
        ("destination_address", &networks),
        ("destination_port", &json!(["8080"])),
    ] {
        for list in ["values", "not_values"] {
            for (effect, expected) in [
                ("reject", DenyReason::AccessRuleReject),
                ("accept", DenyReason::AccessRuleNoAccept),
            ] {
                document["access"] = json!({effect: [{"id": "r", "when": [{"attribute": attribute, list: values}]}]});
                let refusal = Sidecar::with(&document).refuses(&caller);
                assert_eq!(refusal.reason, expected, "{attribute} {list}");
                let detail = refusal.detail.unwrap();
                assert!(detail.contains("the proxy gives no IP address"), "{detail}");
            }
        }
    }
}
