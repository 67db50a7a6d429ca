//! A configuration with a mistake is refused whole, with the path to each mistake and what was
//! expected.

use picket_core::enforcement::FilterConfiguration;
use serde_json::{Value, json};

use crate::support::configuration;

/// The problems after one change at a JSON pointer; `null` takes the field out.
fn problems(pointer: &str, value: Value) -> Vec<String> {
    let mut document = configuration();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(members), Value::Null) => drop(members.remove(field)),
        (Value::Object(members), value) => drop(members.insert(field.to_owned(), value)),
        (Value::Array(elements), value) => elements[field.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other} has no fields"),
    }
    match FilterConfiguration::parse(document.to_string().as_bytes()) {
        Ok(_) => vec![],
        Err(problems) => problems.as_slice().iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(pointer: &str, value: Value, expected: &str) {
    assert_eq!(problems(pointer, value), [expected], "{pointer}");
}

#[test]
fn the_example_has_no_mistake() {
    assert_eq!(problems("/forward_credential", true.into()), [""; 0]);
}

#[test]
fn a_cache_of_tokens_has_room_for_those_of_the_cached_decisions_by_default() {
    let entries = |tokens: Option<u32>, decisions: Option<u32>| {
        let mut document = configuration();
        document["token_cache_entries_max"] = json!(tokens);
        document["decision_cache_entries_max"] = json!(decisions);
        let read = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap();
        (
            read.token_cache_entries_max.get(),
            read.decision_cache_entries_max.get(),
        )
    };
    assert_eq!(entries(None, None), (10_000, 10_000));
    assert_eq!(entries(None, Some(50)), (50, 50));
    assert_eq!(entries(None, Some(1_000_000)), (100_000, 1_000_000));
    assert_eq!(entries(Some(50), None), (50, 10_000));
    assert_eq!(entries(Some(20_000), None), (20_000, 20_000));
    assert_eq!(entries(Some(1), Some(2)), (1, 2));
}

#[test]
fn each_mistake_is_told_with_its_path() {
    check(
        "/worklod",
        "x".into(),
        "worklod: unknown field, expected one of `workload`, `policy_service`, `trust_domains`, `trust_domain_aliases`, `forwarded_peer`, `forwarded_for_trusted_hops`, `providers`, `dpop`, `rules`, `further_methods`, `paths`, `access`, `forward_credential`, `identity_headers`, `transaction_token`, `explain_permits`, `token_limits`, `token_cache_entries_max`, `decision_cache_entries_max`",
    );
    check("/workload", Value::Null, "workload: is required");
    check(
        "/paths",
        json!({"double_encoding": "decode"}),
        "paths.double_encoding: unknown value `decode`, expected one of `allow`, `refuse`",
    );
    check(
        "/rules/0/allow_in_path",
        json!(["slash"]),
        "rules[0].allow_in_path[0]: unknown value `slash`, expected one of `encoded_slash`, `semicolon`, `encoded_question_mark`, `encoded_hash`",
    );
    check(
        "/rules/0/allow_in_path",
        json!([]),
        "rules[0].allow_in_path: expected at least one, or no field",
    );
    check(
        "/rules/1/paths",
        json!(["/local", "/queues/%2F/{name}"]),
        "rules[1].paths[1]: expected `allow_in_path` to name `encoded_slash`, as the path holds `%2F`",
    );
    check(
        "/workload",
        "a b".into(),
        "workload: expected visible ASCII characters without `\"`",
    );
    check(
        "/identity_headers",
        json!(["subject", "x-picket-roles"]),
        "identity_headers[1]: unknown value `x-picket-roles`, expected one of `issuer`, `subject`, `actor`, `tenant`, `roles`, `scopes`, `peer`, `route_rule`, `decision_id`",
    );
    check(
        "/policy_service",
        Value::Null,
        "policy_service: is required, as a rule leaves the decision to the policy service",
    );
    check(
        "/policy_service/cluster",
        "".into(),
        "policy_service.cluster: expected 1 to 125 visible ASCII characters",
    );
    check(
        "/policy_service/cluster",
        "c".repeat(126).into(),
        "policy_service.cluster: expected 1 to 125 visible ASCII characters",
    );
    check(
        "/policy_service/timeout_ms",
        0.into(),
        "policy_service.timeout_ms: expected 1 to 60000, found 0",
    );
    check(
        "/policy_service/timeout_ms",
        "500".into(),
        "policy_service.timeout_ms: expected an integer, found a string",
    );
    assert_eq!(
        problems("/trust_domains", Value::Null)[0],
        "trust_domains: is required, as a rule requires a peer"
    );
    check(
        "/providers",
        Value::Null,
        "providers: is required, as a rule requires a credential",
    );
    check(
        "/providers/0/audiences",
        json!([]),
        "providers[0].audiences: expected at least one audience, none of them empty",
    );
    check(
        "/providers/0/algorithms",
        json!(["ES256", "ES256K"]),
        "providers[0].algorithms[1]: unknown value `ES256K`, expected one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `HS256`, `HS384`, `HS512`",
    );
    check(
        "/providers/0/algorithms",
        json!(["RS256"]),
        "providers[0].algorithms[0]: expected a key for this algorithm in `keys`",
    );
    check(
        "/providers/0/clock_skew_s",
        301.into(),
        "providers[0].clock_skew_s: expected 0 to 300, found 301",
    );
    check("/rules", json!([]), "rules: expected 1 to 20000 rules");
    check(
        "/rules/0/id",
        "a b".into(),
        "rules[0].id: expected 1 to 64 of the characters `a-z A-Z 0-9 . - _`",
    );
    check(
        "/rules/1/id",
        "orders-read".into(),
        "rules[1].id: expected a name of its own, `orders-read` was used before",
    );
    check(
        "/rules/0/hosts",
        json!(["*", "Orders"]),
        "rules[0].hosts[1]: expected a host in lower case without port, `*.` before one, or `*`, found `Orders`",
    );
    check("/rules/0/paths", json!([]), "rules[0].paths: expected at least one");
    check(
        "/rules/0/paths",
        json!(["orders"]),
        "rules[0].paths[0]: expected an absolute path in normal form, such as `/orders/{id}` or `/files/{**}`, found `orders`",
    );
    check(
        "/rules/0/methods",
        json!(["get"]),
        "rules[0].methods[0]: expected a method in upper case",
    );
    check(
        "/rules/0/decision",
        "allow".into(),
        "rules[0].decision: unknown value `allow`, expected one of `policy_service`, `permit`, `deny`",
    );
    check(
        "/rules/0/peers/spiffe_ids",
        json!(["spiffe://example.org/"]),
        "rules[0].peers.spiffe_ids[0]: expected path segments of letters, digits, `.`, `-` and `_`, none of them empty, `.` or `..`, found `spiffe://example.org/`",
    );
    check(
        "/rules/0/peers/spiffe_ids",
        json!(["spiffe://other.org/a"]),
        "rules[0].peers.spiffe_ids[0]: expected a trust domain out of the filter's `trust_domains`",
    );
    check(
        "/rules/0/peers",
        json!({}),
        "rules[0].peers: expected at least one list of peers",
    );
    check(
        "/rules/0/peer",
        "none".into(),
        "rules[0].peers: expected no list of peers beside `peer: none`",
    );
    check(
        "/decision_cache_entries_max",
        0.into(),
        "decision_cache_entries_max: expected 1 to 1000000, found 0",
    );
    check(
        "/rules/1/paths",
        json!(["/forbidden"]),
        "rules[2].paths[0]: `/forbidden` ties with rule `local`: both match the same requests equally well",
    );
    check(
        "/rules/1/paths",
        json!(["/a", "/a"]),
        "rules[1].paths[1]: `/a` ties with rule `itself`: both match the same requests equally well",
    );
}

#[test]
fn providers_are_checked_field_by_field() {
    let sources = "expected one of `header` (with or without `prefix`), `cookie` and `query`, a name in visible ASCII";
    let header =
        "expected a header's name in lower case, none that begins with `x-picket-` or that HTTP itself needs, found";
    let claim =
        "expected a claim's name, or a JSON Pointer (RFC 6901) of at most 8 names such as `/realm_access/roles`, found";
    for (field, value, expected) in [
        (
            "subjects",
            json!([]),
            ": expected 1 to 64 elements, none of them empty".to_owned(),
        ),
        (
            "types",
            json!([""]),
            ": expected 1 to 64 elements, none of them empty".to_owned(),
        ),
        (
            "lifetime_s_max",
            json!(0),
            ": expected 1 to 315360000, found 0".to_owned(),
        ),
        ("sources", json!([]), ": expected at least one".to_owned()),
        ("sources", json!([{}]), format!("[0]: {sources}")),
        (
            "sources",
            json!([{"cookie": "a", "query": "b"}]),
            format!("[0]: {sources}"),
        ),
        (
            "sources",
            json!([{"cookie": "a", "prefix": "b"}]),
            format!("[0]: {sources}"),
        ),
        ("sources", json!([{"cookie": "a;b"}]), format!("[0]: {sources}")),
        (
            "sources",
            json!([{"header": "X-Token"}]),
            format!("[0].header: {header} `X-Token`"),
        ),
        (
            "sources",
            json!([{"header": ":path"}]),
            format!("[0].header: {header} `:path`"),
        ),
        (
            "sources",
            json!([{"header": "authorization", "prefix": "x"}]),
            "[0].prefix: expected none: `authorization` has the scheme `Bearer` or `DPoP`".to_owned(),
        ),
        ("roles_claim", json!("/a//b"), format!(": {claim} `/a//b`")),
        (
            "required_claims",
            json!([{"claim": ""}]),
            format!("[0].claim: {claim} ``"),
        ),
        (
            "required_claims",
            json!([{"claim": "a", "values": []}]),
            "[0].values: expected 1 to 64 elements, none of them empty".to_owned(),
        ),
        (
            "claim_headers",
            json!([{"claim": "a", "header": "x_picket-a"}]),
            format!("[0].header: {header} `x_picket-a`"),
        ),
        (
            "claim_headers",
            json!([{"claim": "a", "header": "x-a"}, {"claim": "b", "header": "x-a"}]),
            "[1].header: expected a header of its own, other than `authorization`".to_owned(),
        ),
        ("payload_header", json!("host"), format!(": {header} `host`")),
    ] {
        let expected = format!("providers[0].{field}{expected}");
        check(&format!("/providers/0/{field}"), value, &expected);
    }
    let mut document = configuration();
    document["providers"][0]["expiry"] = "none".into();
    document["providers"][0]["lifetime_s_max"] = 600.into();
    let mistakes = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    assert_eq!(
        mistakes.to_string(),
        "providers[0].lifetime_s_max: expected none beside `expiry: none`"
    );
}

#[test]
fn rules_name_providers_and_scopes_that_make_sense() {
    check(
        "/rules/0/providers",
        json!(["main", "other"]),
        "rules[0].providers[1]: expected the name of a provider, found `other`",
    );
    check(
        "/rules/0/providers",
        json!([]),
        "rules[0].providers: expected at least one",
    );
    check(
        "/rules/3/providers",
        json!(["main"]),
        "rules[3].providers: expected no list of providers beside `credential: none`",
    );
    check(
        "/rules/0/scopes",
        json!(["a\"b"]),
        "rules[0].scopes: expected 1 to 64 scopes of visible ASCII without `\"` and `\\`",
    );
    check(
        "/rules/3/scopes",
        json!(["a"]),
        "rules[3].scopes: expected no scopes where no credential is required",
    );
}

#[test]
fn preflights_are_exempt_from_a_credential_that_is_asked_for() {
    let expected = "rules[3].preflight_credential: expected `none` only beside `credential: required` or `optional`";
    check("/rules/3/preflight_credential", json!("none"), expected);
}

#[test]
fn lists_of_peers_and_networks_are_checked_entry_by_entry() {
    let peers = |name: &str, entries: Value| problems("/rules/0/peers", json!({name: entries}));
    let nothing = "expected 1 to 1000 entries, or no field";
    for name in [
        "spiffe_ids",
        "spiffe_id_patterns",
        "trust_domains",
        "namespaces",
        "service_accounts",
    ] {
        for name in [name.to_owned(), format!("not_{name}")] {
            let path = format!("rules[0].peers.{name}");
            assert_eq!(peers(&name, json!([])), [format!("{path}: {nothing}")]);
            assert_eq!(peers(&name, json!(vec!["x"; 1001])), [format!("{path}: {nothing}")]);
            let wrong = peers(&name, json!(["a b"]));
            assert!(
                wrong.len() == 1 && wrong[0].starts_with(&format!("{path}[0]: expected ")),
                "{wrong:?}"
            );
        }
    }
    for (name, entry) in [
        ("not_spiffe_ids", "spiffe://other.org/a"),
        ("spiffe_id_patterns", "spiffe://other.org/*"),
        ("not_spiffe_id_patterns", "spiffe://other.org/*"),
        ("trust_domains", "other.org"),
        ("not_trust_domains", "other.org"),
    ] {
        let expected = format!("rules[0].peers.{name}[0]: expected a trust domain out of the filter's `trust_domains`");
        assert_eq!(peers(name, json!([entry])), [expected]);
    }
    for (name, entry, expected) in [
        (
            "namespaces",
            "*",
            "expected the name of a Kubernetes namespace, found `*`",
        ),
        (
            "namespaces",
            "a/b",
            "expected the name of a Kubernetes namespace, found `a/b`",
        ),
        (
            "service_accounts",
            "web",
            "expected a Kubernetes service account as `NAMESPACE/SERVICE_ACCOUNT`, found `web`",
        ),
        (
            "service_accounts",
            "shop/*",
            "expected a Kubernetes service account as `NAMESPACE/SERVICE_ACCOUNT`, found `shop/*`",
        ),
        (
            "spiffe_id_patterns",
            "spiffe://*/web",
            "expected a SPIFFE ID with a path, in which `*` may be a whole segment and `**` the last one, found `spiffe://*/web`",
        ),
    ] {
        assert_eq!(
            peers(name, json!([entry])),
            [format!("rules[0].peers.{name}[0]: {expected}")]
        );
    }
    check(
        "/rules/0/source_addresses",
        json!(["10.0.0.0/8", "10.0.0.1/8"]),
        "rules[0].source_addresses[1]: expected no address bits behind the prefix, found `10.0.0.1/8`",
    );
    check(
        "/rules/0/not_source_addresses",
        json!(["localhost"]),
        "rules[0].not_source_addresses[0]: expected a network such as `10.0.0.0/8` or `2001:db8::/32`, or an address, found `localhost`",
    );
    check(
        "/rules/0/source_addresses",
        json!([]),
        &format!("rules[0].source_addresses: {nothing}"),
    );
    check(
        "/forwarded_for_trusted_hops",
        33.into(),
        "forwarded_for_trusted_hops: expected 0 to 32, found 33",
    );
}

#[test]
fn a_namespace_is_named_alone_where_there_is_one_trust_domain_only() {
    let mut document = configuration();
    document["trust_domains"] = json!(["example.org", "b.example"]);
    document["rules"][0]["peers"] = json!({"namespaces": ["a"], "service_accounts": ["a/b"], "not_namespaces": ["c"]});
    let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
    let expected = "expected `spiffe_id_patterns` or `spiffe_ids`, as the filter has several `trust_domains`";
    assert_eq!(
        problems.to_string(),
        format!("rules[0].peers.namespaces: {expected}; rules[0].peers.service_accounts: {expected}")
    );
}

#[test]
fn a_trusted_hop_is_named_and_its_header_chosen() {
    let hop = |change: (&str, Value)| {
        let mut hop = json!({"hop_spiffe_ids": ["spiffe://example.org/gateway"], "header": "client-cert"});
        hop[change.0] = change.1;
        problems("/forwarded_peer", hop)
    };
    assert_eq!(hop(("hops", 1.into())), [""; 0]);
    let xfcc = json!({"hop_spiffe_ids": ["spiffe://example.org/a"], "header": "x-forwarded-client-cert", "hops": 8});
    assert_eq!(problems("/forwarded_peer", xfcc), [""; 0]);
    for (field, value, expected) in [
        ("hops", json!(2), "hops: expected 1 to 1, found 2"),
        ("hops", json!(0), "hops: expected 1 to 1, found 0"),
        (
            "header",
            json!("forwarded"),
            "header: unknown value `forwarded`, expected one of `x-forwarded-client-cert`, `client-cert`",
        ),
        (
            "hop_spiffe_ids",
            json!([]),
            "hop_spiffe_ids: expected 1 to 1000 entries, or no field",
        ),
        (
            "hop_spiffe_ids",
            json!(["spiffe://other.org/a"]),
            "hop_spiffe_ids[0]: expected a trust domain out of the filter's `trust_domains`",
        ),
        (
            "from",
            json!([]),
            "from: unknown field, expected one of `hop_spiffe_ids`, `header`, `hops`",
        ),
    ] {
        assert_eq!(hop((field, value)), [format!("forwarded_peer.{expected}")]);
    }
    check(
        "/forwarded_peer",
        json!({"header": "client-cert"}),
        "forwarded_peer.hop_spiffe_ids: is required",
    );
}

#[test]
fn an_alias_is_another_name_of_a_trust_domain() {
    let path = "/trust_domain_aliases";
    assert_eq!(problems(path, json!({"old.example": "example.org"})), [""; 0]);
    check(
        path,
        json!({"old.example": "other.org"}),
        "trust_domain_aliases.old.example: expected one of the filter's `trust_domains`",
    );
    check(
        path,
        json!({"example.org": "example.org"}),
        "trust_domain_aliases.example.org: expected a name that is not one of the filter's `trust_domains`",
    );
    check(
        path,
        json!({"Old": "example.org"}),
        "trust_domain_aliases.Old: expected a trust domain of lower-case letters, digits, `.`, `-` and `_`",
    );
    check(
        path,
        json!({"old.example": 1}),
        "trust_domain_aliases.old.example: expected one of the filter's `trust_domains`",
    );
    check(
        path,
        json!(["a"]),
        "trust_domain_aliases: expected an object of strings",
    );
    let many: serde_json::Map<_, _> = (0..101).map(|n| (format!("d{n}"), json!("example.org"))).collect();
    check(path, Value::Object(many), "trust_domain_aliases: expected at most 100");
}

#[test]
fn keys_are_checked_one_by_one() {
    let key = |change: (&str, Value)| {
        let mut key = configuration()["providers"][0]["keys"]["keys"][0].clone();
        key[change.0] = change.1;
        json!({"keys": [key]})
    };
    let path = "/providers/0/keys";
    check(
        path,
        json!([]),
        "providers[0].keys: expected a JWK set, an object with the array `keys` (RFC 7517 §5)",
    );
    check(
        path,
        json!({"keys": []}),
        "providers[0].keys.keys: expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret",
    );
    check(
        path,
        key(("d", "AA".into())),
        "providers[0].keys.keys[0].d: expected a public key; this one holds a secret, which must be replaced now",
    );
    check(
        path,
        key(("x", "AA".into())),
        "providers[0].keys.keys[0].x: expected 32 bytes",
    );
    check(
        path,
        key(("y", "A".repeat(43).into())),
        "providers[0].keys.keys[0].x: expected a point on P-256",
    );
    check(
        path,
        key(("x", "a+b".into())),
        "providers[0].keys.keys[0].x: expected base64url without padding, found `a+b`",
    );
    check(
        path,
        key(("use", "enc".into())),
        "providers[0].keys.keys: expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret",
    );
    check(
        path,
        key(("key_ops", json!(["sign"]))),
        "providers[0].keys.keys: expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret",
    );
    check(
        path,
        key(("alg", "ES384".into())),
        "providers[0].keys.keys: expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret",
    );
    let rsa = |n: &str, e: &str| json!({"keys": [{"kty": "RSA", "n": n, "e": e}]});
    let modulus = format!("{}w", "_".repeat(341));
    check(
        path,
        rsa(&"_".repeat(341), "AQAB"),
        "providers[0].keys.keys[0].n: expected base64url without padding, found `________________________________________________________________________________…`",
    );
    check(
        path,
        rsa(&"_".repeat(170), "AQAB"),
        "providers[0].keys.keys[0].n: expected base64url without padding, found `________________________________________________________________________________…`",
    );
    check(
        path,
        rsa(&"A".repeat(172), "AQAB"),
        "providers[0].keys.keys[0].n: expected a modulus of 2048 to 4096 bits without leading zeros",
    );
    for exponent in ["AQ", "Ag", "AAEAAQ", "AQAAAAE", ""] {
        let found = problems(path, rsa(&modulus, exponent));
        assert_eq!(
            found,
            ["providers[0].keys.keys[0].e: expected an odd exponent above 1 of at most 32 bits"],
            "{exponent}"
        );
    }
}

#[test]
fn keys_of_other_types_are_checked_too() {
    let path = "/providers/0/keys";
    let keys = |key: Value| json!({"keys": [key]});
    for (key, expected) in [
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
            "x: expected 32 bytes",
        ),
        (
            // The neutral element: it verifies what nobody signed.
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}),
            "x: expected an Ed25519 public key of no small order",
        ),
        (
            json!({"kty": "EC", "crv": "P-521", "x": "A".repeat(88), "y": "A".repeat(88)}),
            "x: expected a point on P-521",
        ),
        (
            json!({"kty": "oct", "k": "A".repeat(42)}),
            "k: expected a secret of at least 32 bytes",
        ),
        // What was found is not told of a secret.
        (
            json!({"kty": "oct", "k": "not+base64url"}),
            "k: expected base64url without padding",
        ),
    ] {
        let expected = format!("providers[0].keys.keys[0].{expected}");
        check(path, keys(key), &expected);
    }
    for passed_over in [
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
    ] {
        check(
            path,
            keys(passed_over),
            "providers[0].keys.keys: expected at least one key for signatures: RSA, P-256, P-384, P-521, Ed25519, or a secret",
        );
    }
}

#[test]
fn what_is_not_json_or_says_things_twice_is_refused() {
    for (text, expected) in [
        ("", "expected JSON: EOF while parsing a value at line 1 column 0"),
        ("{", "expected JSON: EOF while parsing an object at line 1 column 1"),
        (
            r#"{"workload":"a","workload":"b"}"#,
            "expected JSON: repeated member `workload` at line 1 column 31",
        ),
        ("[]", "expected an object, found an array"),
    ] {
        assert_eq!(
            FilterConfiguration::parse(text.as_bytes()).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

/// The problems of a provider whose keys are fetched so.
fn remote_problems(remote: Value, changes: &[(&str, Value)]) -> Vec<String> {
    let mut document = configuration();
    let provider = document["providers"][0].as_object_mut().unwrap();
    provider.remove("keys");
    provider.insert("remote_keys".to_owned(), remote);
    for (field, value) in changes {
        provider.insert((*field).to_owned(), value.clone());
    }
    match FilterConfiguration::parse(document.to_string().as_bytes()) {
        Ok(_) => vec![],
        Err(problems) => problems.as_slice().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn fetched_keys_have_one_place_and_bounds_that_agree() {
    let at = |changes: &[(&str, Value)]| {
        let mut remote = json!({"uri": "https://issuer.example/jwks", "cluster": "issuer"});
        for (field, value) in changes {
            remote[*field] = value.clone();
        }
        remote_problems(remote, &[])
    };
    assert_eq!(at(&[]), [""; 0]);
    assert_eq!(at(&[("cache_s", 7200.into())]), [""; 0], "the other defaults follow");
    assert_eq!(at(&[("cache_s", 1.into())]), [""; 0], "the other defaults follow");
    let allowed = [
        ("uri", "http://issuer.example/jwks".into()),
        ("allow_http", true.into()),
    ];
    assert_eq!(at(&allowed), [""; 0]);
    for (field, value, expected) in [
        (
            "uri",
            "http://issuer.example/jwks".into(),
            "uri: expected an absolute https URI",
        ),
        (
            "cluster",
            "".into(),
            "cluster: expected 1 to 125 visible ASCII characters",
        ),
        ("timeout_ms", 0.into(), "timeout_ms: expected 1 to 60000, found 0"),
        ("cache_s", 86_401.into(), "cache_s: expected 1 to 86400, found 86401"),
        (
            "max_stale_s",
            599.into(),
            "max_stale_s: expected 600 to 604800, found 599",
        ),
        (
            "refetch_interval_s",
            601.into(),
            "refetch_interval_s: expected 1 to 600, found 601",
        ),
        (
            "refetch_interval_s",
            0.into(),
            "refetch_interval_s: expected 1 to 600, found 0",
        ),
        (
            "jwks_uri",
            "x".into(),
            "jwks_uri: unknown field, expected one of `uri`, `discovery`",
        ),
        (
            "discovery",
            "openid".into(),
            "discovery: unknown value `openid`, expected one of `openid-configuration`",
        ),
    ] {
        let problems = at(&[(field, value)]);
        let expected = format!("providers[0].remote_keys.{expected}");
        assert!(
            problems.len() == 1 && problems[0].starts_with(&expected),
            "{field}: {problems:?}"
        );
    }
    let both = at(&[("discovery", "openid-configuration".into())]);
    let one_place = "providers[0].remote_keys: expected exactly one of `uri`, `discovery`";
    assert_eq!(both, [one_place]);
    assert_eq!(remote_problems(json!({"cluster": "issuer"}), &[]), [one_place]);
}

#[test]
fn keys_are_either_there_or_fetched() {
    let remote = json!({"uri": "https://issuer.example/jwks", "cluster": "issuer"});
    let expected = ["providers[0]: expected exactly one of `keys`, `remote_keys`, `introspection`"];
    let inline = configuration()["providers"][0]["keys"].clone();
    assert_eq!(remote_problems(remote, &[("keys", inline)]), expected);
    assert_eq!(problems("/providers/0/keys", Value::Null), expected);
}

#[test]
fn what_is_discovered_is_an_https_issuer() {
    let discovered = |issuer: &str, allow_http: bool| {
        let remote = json!({"discovery": "openid-configuration", "cluster": "issuer", "allow_http": allow_http});
        remote_problems(remote, &[("issuer", issuer.into())])
    };
    assert_eq!(discovered("https://issuer.example/a", false), [""; 0]);
    assert_eq!(discovered("http://issuer.example/a", true), [""; 0]);
    for issuer in [
        "issuer.example",
        "http://issuer.example",
        "https://issuer.example/?a=1",
        "https://issuer.example/#a",
    ] {
        let problems = discovered(issuer, false);
        let expected = "providers[0].remote_keys.discovery: the provider's `issuer` cannot be discovered: expected";
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "{issuer}: {problems:?}"
        );
    }
}

#[test]
fn fetched_keys_verify_no_algorithm_with_a_secret() {
    let remote = json!({"uri": "https://issuer.example/jwks", "cluster": "issuer"});
    let problems = remote_problems(remote, &[("algorithms", json!(["EdDSA", "HS256", "PS512"]))]);
    assert_eq!(
        problems,
        ["providers[0].algorithms[1]: expected no algorithm with a secret beside `remote_keys`"]
    );
}

#[test]
fn proofs_of_possession_are_checked() {
    const ALGORITHMS: &str = "`RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`";
    let expect = |dpop: Value, expected: &str| check("/dpop", dpop, expected);
    assert_eq!(problems("/dpop", json!({})), [""; 0]);
    let whole = json!({
        "algorithms": ["ES256", "EdDSA"], "schemes": ["https", "http"], "proof_age_s_max": 300, "clock_skew_s": 0,
        "nonce": "required", "nonce_window_s": 3600, "ledger_entries_max": 1_048_576,
    });
    assert_eq!(problems("/dpop", whole), [""; 0]);
    expect(
        json!({"algorithms": []}),
        &format!("dpop.algorithms: expected at least one of {ALGORITHMS}"),
    );
    for name in ["HS256", "none", "es256"] {
        expect(
            json!({"algorithms": ["ES256", name]}),
            &format!("dpop.algorithms[1]: unknown value `{name}`, expected one of {ALGORITHMS}"),
        );
    }
    expect(
        json!({"schemes": []}),
        "dpop.schemes: expected at least one of `https`, `http`",
    );
    expect(
        json!({"schemes": ["HTTPS"]}),
        "dpop.schemes[0]: unknown value `HTTPS`, expected one of `https`, `http`",
    );
    expect(
        json!({"proof_age_s_max": 301}),
        "dpop.proof_age_s_max: expected 1 to 300, found 301",
    );
    expect(
        json!({"proof_age_s_max": 0}),
        "dpop.proof_age_s_max: expected 1 to 300, found 0",
    );
    expect(
        json!({"clock_skew_s": 61}),
        "dpop.clock_skew_s: expected 0 to 60, found 61",
    );
    expect(
        json!({"nonce": "required", "nonce_window_s": 0}),
        "dpop.nonce_window_s: expected 1 to 3600, found 0",
    );
    expect(
        json!({"nonce_window_s": 60}),
        "dpop.nonce_window_s: expected no window where `nonce` is not `required`",
    );
    expect(
        json!({"ledger_entries_max": 1023}),
        "dpop.ledger_entries_max: expected 1024 to 1048576, found 1023",
    );
    assert_eq!(problems("/rules/0/proof_of_possession", "required".into()), [""; 0]);
    check(
        "/rules/3/proof_of_possession",
        "when_bound".into(),
        "rules[3].proof_of_possession: expected none beside `credential: none`",
    );
    check(
        "/rules/0/proof_of_possession",
        "none".into(),
        "rules[0].proof_of_possession: unknown value `none`, expected one of `when_bound`, `required`",
    );
}
