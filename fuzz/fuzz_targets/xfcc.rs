//! What trusted hops forward of their callers' certificates: a peer is one of the trust domain that
//! the header names, and a connection of anybody else is believed nothing.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Enforcer, Step};
use picket_core::request::Header;
use picket_fuzz::{FixedVerifier, From, NOW_S, enforcer, send};
use picket_model::time::Timestamp;
use serde_json::json;

const GATEWAY: &str = "spiffe://example.org/gateway";
const WEB: &str = "spiffe://example.org/web";
const HEADERS: [&str; 2] = ["x-forwarded-client-cert", "client-cert"];
const FIELDS_MAX: usize = 4;

struct Sidecar {
    header: &'static str,
    enforcer: Enforcer,
}

thread_local! {
    static SIDECARS: RefCell<Vec<Sidecar>> = RefCell::new(
        [(HEADERS[0], 1), (HEADERS[0], 2), (HEADERS[1], 1)].map(|(header, hops)| sidecar(header, hops)).into(),
    );
}

/// It leaves every peer of `example.org` in, and tells the upstream which one it was.
fn sidecar(header: &'static str, hops: u32) -> Sidecar {
    let document = json!({
        "workload": "orders",
        "trust_domains": ["example.org"],
        "trust_domain_aliases": {"old.example": "example.org"},
        "forwarded_peer": {"hop_spiffe_ids": [GATEWAY], "header": header, "hops": hops},
        "rules": [{"id": "all", "hosts": ["*"], "paths": ["/"], "credential": "none", "decision": "permit"}],
    });
    let configuration = FilterConfiguration::parse(document.to_string().as_bytes()).expect("a configuration");
    Sidecar {
        header,
        enforcer: enforcer(configuration, Rc::new(FixedVerifier::Never)),
    }
}

/// The peer that a request with these fields comes from.
fn peer(sidecar: &mut Sidecar, fields: &[&[u8]], direct: &str) -> Option<String> {
    let mut headers: Vec<Header<'_>> = vec![(":method", b"GET"), (":path", b"/"), (":authority", b"h")];
    headers.extend(fields.iter().map(|field| (sidecar.header, *field)));
    match send(
        &mut sidecar.enforcer,
        &headers,
        &From::peer(direct),
        Timestamp::from_s(NOW_S),
    ) {
        Step::Decided(Ok(permit)) => {
            let peer = permit.headers_to_set().find(|(name, _)| *name == "x-picket-peer");
            Some(peer.expect("a checked peer").1.to_owned())
        }
        Step::Decided(Err(_)) => None,
        Step::Ask(question) => panic!("the rule decides alone: {question:?}"),
        asked @ (Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("nobody is to be asked: {asked:?}"),
    }
}

/// Where nothing is escaped or encoded, the peer stands in the header as it is.
fn check_named(peer: &str, data: &[u8]) {
    let text = data.to_ascii_lowercase();
    if text.contains(&b'\\') || text.windows(4).any(|bytes| bytes == b"cert") {
        return;
    }
    let path = peer.strip_prefix("spiffe://example.org").expect("of the trust domain");
    let is_named = ["example.org", "old.example"].iter().any(|domain| {
        let id = format!("spiffe://{domain}{path}");
        data.windows(id.len()).any(|bytes| bytes == id.as_bytes())
    });
    assert!(is_named, "{peer} is not in the header");
}

/// Each line is a field of the header.
fn check(sidecar: &mut Sidecar, data: &[u8]) {
    let fields: Vec<&[u8]> = data.splitn(FIELDS_MAX, |byte| *byte == b'\n').collect();
    if let Some(peer) = peer(sidecar, &fields, GATEWAY) {
        let path = peer.strip_prefix("spiffe://example.org/");
        assert!(
            path.is_some_and(|path| !path.is_empty()),
            "{peer} is not of the trust domain"
        );
        if sidecar.header == HEADERS[0] {
            check_named(&peer, data);
        }
    }
    // Whoever is no hop is himself, whatever he writes.
    assert_eq!(
        self::peer(sidecar, &fields, "spiffe://old.example/web").as_deref(),
        Some(WEB)
    );
    assert_eq!(self::peer(sidecar, &fields, "spiffe://evil.example/gateway"), None);
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    SIDECARS.with_borrow_mut(|sidecars| {
        for (sidecar, text) in [
            (0, include_str!("../seeds/xfcc/uri.txt")),
            (0, include_str!("../seeds/xfcc/cert.txt")),
            (0, include_str!("../seeds/xfcc/json-cert.txt")),
            (1, include_str!("../seeds/xfcc/two-hops.txt")),
            (1, include_str!("../seeds/xfcc/json.txt")),
            (2, include_str!("../seeds/xfcc/client-cert.txt")),
        ] {
            assert_eq!(
                peer(&mut sidecars[sidecar], &[text.as_bytes()], GATEWAY).as_deref(),
                Some(WEB),
                "{text}"
            );
            assert_eq!(
                peer(&mut sidecars[sidecar], &[text.as_bytes()], WEB).as_deref(),
                Some(WEB)
            );
            assert_eq!(peer(&mut sidecars[sidecar], &[], GATEWAY), None);
        }
    });
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    SIDECARS.with_borrow_mut(|sidecars| sidecars.iter_mut().for_each(|sidecar| check(sidecar, data)));
});
