//! SPIFFE IDs, trust domains and patterns: each has one spelling, and a pattern matches whole IDs
//! alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_model::spiffe::{SPIFFE_ID_BYTES_MAX, SpiffeId, SpiffeIdPattern, TRUST_DOMAIN_BYTES_MAX, TrustDomain};

/// Two lines: an ID, and a pattern that may match it.
fn check(id: &str, pattern: &str) {
    let id = id.parse::<SpiffeId>().inspect(|parsed| check_id(id, parsed));
    let pattern_text = pattern;
    let Ok(pattern) = pattern.parse::<SpiffeIdPattern>() else {
        return;
    };
    assert!(pattern.trust_domain().parse::<TrustDomain>().is_ok());
    let exact = pattern_text.parse::<SpiffeId>();
    if let Ok(exact) = &exact {
        assert!(pattern.matches(exact), "a pattern without stars is the ID itself");
    }
    let Ok(id) = id else { return };
    let matches = pattern.matches(&id);
    if let Ok(exact) = exact {
        assert_eq!(matches, exact == id);
    }
    assert!(!matches || id.trust_domain() == pattern.trust_domain());
    assert!(!matches || !id.path().is_empty(), "an authority is nobody's peer");
}

fn check_id(text: &str, id: &SpiffeId) {
    assert_eq!(id.as_str(), text);
    assert_eq!(id.to_string(), text);
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    assert!(text.len() <= SPIFFE_ID_BYTES_MAX && id.trust_domain().len() <= TRUST_DOMAIN_BYTES_MAX);
    // SPIFFE-ID §2: nothing that a URI parser, a log or a header could read in a second way.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:.-_".contains(&byte);
    assert!(text.bytes().all(is_plain));
    assert!(
        id.path()
            .split('/')
            .skip(1)
            .all(|segment| !matches!(segment, "" | "." | ".."))
    );
    let domain: TrustDomain = id.trust_domain().parse().expect("the ID's trust domain is one");
    assert_eq!(id.moved_to(&domain).as_ref(), Some(id));
    let other: TrustDomain = "other.example".parse().expect("a trust domain");
    if let Some(moved) = id.moved_to(&other) {
        assert_eq!((moved.trust_domain(), moved.path()), (other.as_str(), id.path()));
    }
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    let id: SpiffeId = "spiffe://example.org/ns/shop/sa/web".parse().expect("a SPIFFE ID");
    let pattern: SpiffeIdPattern = "spiffe://example.org/ns/*/sa/web".parse().expect("a pattern");
    assert!(pattern.matches(&id));
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (id, pattern) = text.split_once('\n').unwrap_or((text, text));
    check(id, pattern);
});
