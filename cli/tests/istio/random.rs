//! Random policies and requests: the imported configuration says what the reference says.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::reference;
use crate::sidecar::{Request, Sidecar, imported, jwks, workload};

const ISSUERS: [&str; 2] = ["https://a.example", "testing@secure.istio.io"];
const CASES: u32 = 2_000;
const REQUESTS: usize = 8;

const PRINCIPALS: &[&str] = &[
    "*",
    "cluster.local/ns/foo/sa/sleep",
    "cluster.local/ns/foo/*",
    "*/sa/sleep",
    "cluster.local/ns/bar/sa/x",
];
const NAMESPACES: &[&str] = &["foo", "bar", "f*", "*ar", "*"];
const ACCOUNTS: &[&str] = &["sleep", "foo/sleep", "bar/sleep", "bar/x"];
const REQUEST_PRINCIPALS: &[&str] = &[
    "*",
    "https://a.example/alice",
    "https://a.example/*",
    "https://a.example/al*",
    "*/bob",
    "*ice",
    "testing@secure.istio.io/*",
    "testing@secure.istio.io/testing@secure.istio.io",
];
const NETWORKS: &[&str] = &["10.0.0.1", "10.0.0.0/8", "10.1.2.3/16", "192.0.2.0/24", "0.0.0.0/0"];
const HOSTS: &[&str] = &[
    "httpbin.foo:8000",
    "HTTPBIN.foo:*",
    "*:8000",
    "httpbin.foo",
    "*",
    "other*",
];
const PORTS: &[&str] = &["80", "8000", "443"];
const METHODS: &[&str] = &["GET", "POST", "P*", "*T", "*"];
const PATHS: &[&str] = &[
    "/",
    "/info*",
    "/data",
    "*/x",
    "*",
    "/foo/{*}",
    "/foo/{*}/x/{**}",
    "/{**}",
    "/{*}/{*}",
    "/info/{**}",
];
const TEXTS: &[&str] = &["a", "ab", "a*", "*b", "*"];
/// A condition's key, and what its values are of.
const KEYS: &[(&str, &[&str])] = &[
    ("request.headers[X-A]", TEXTS),
    ("request.headers[x-b]", TEXTS),
    ("source.ip", NETWORKS),
    ("remote.ip", NETWORKS),
    ("source.namespace", NAMESPACES),
    ("source.principal", PRINCIPALS),
    ("request.auth.principal", REQUEST_PRINCIPALS),
    ("request.auth.audiences", TEXTS),
    ("request.auth.presenter", TEXTS),
    ("request.auth.claims[group]", TEXTS),
    ("request.auth.claims[scope]", TEXTS),
    ("request.auth.claims[realm][roles]", TEXTS),
    ("request.auth.claims[iss]", ISSUERS.as_slice()),
    ("destination.ip", NETWORKS),
    ("destination.port", PORTS),
    ("connection.sni", TEXTS),
];

fn texts(pool: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![4 => Just(vec![]), 3 => vec(select(pool), 1..3)]
}

/// An object of some of these fields, at least one.
fn object(fields: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let field = select(fields).prop_flat_map(|(name, pool)| (Just(name), vec(select(pool), 1..3)));
    vec(field, 1..4).prop_map(|fields| {
        let fields = fields
            .into_iter()
            .map(|(name, values)| (name.to_owned(), json!(values)));
        Value::Object(fields.collect::<Map<_, _>>())
    })
}

fn source() -> impl Strategy<Value = Value> {
    object(&[
        ("principals", PRINCIPALS),
        ("notPrincipals", PRINCIPALS),
        ("requestPrincipals", REQUEST_PRINCIPALS),
        ("notRequestPrincipals", REQUEST_PRINCIPALS),
        ("namespaces", NAMESPACES),
        ("notNamespaces", NAMESPACES),
        ("serviceAccounts", ACCOUNTS),
        ("notServiceAccounts", ACCOUNTS),
        ("ipBlocks", NETWORKS),
        ("notIpBlocks", NETWORKS),
        ("remoteIpBlocks", NETWORKS),
        ("notRemoteIpBlocks", NETWORKS),
    ])
    .prop_map(|source| json!({"source": source}))
}

fn operation() -> impl Strategy<Value = Value> {
    object(&[
        ("hosts", HOSTS),
        ("notHosts", HOSTS),
        ("ports", PORTS),
        ("notPorts", PORTS),
        ("methods", METHODS),
        ("notMethods", METHODS),
        ("paths", PATHS),
        ("notPaths", PATHS),
    ])
    .prop_map(|operation| json!({"operation": operation}))
}

fn when() -> impl Strategy<Value = Value> {
    let both = |pool| (texts(pool), texts(pool)).prop_filter("one of them", |(a, b)| !a.is_empty() || !b.is_empty());
    let lists = select(KEYS).prop_flat_map(move |(key, pool)| (Just(key), both(pool)));
    lists.prop_map(|(key, (values, not_values))| json!({"key": key, "values": values, "notValues": not_values}))
}

fn rule() -> impl Strategy<Value = Value> {
    (vec(source(), 0..3), vec(operation(), 0..3), vec(when(), 0..3)).prop_map(|(from, to, when)| {
        let mut rule = Map::new();
        for (name, list) in [("from", from), ("to", to), ("when", when)] {
            // An empty list and no list are the same.
            if !list.is_empty() || name == "when" {
                rule.insert(name.to_owned(), json!(list));
            }
        }
        Value::Object(rule)
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let action = select(&[None, Some("ALLOW"), Some("DENY"), Some("DENY"), Some("AUDIT")][..]);
    let place = (
        select(&["foo", "foo", "istio-system", "bar"][..]),
        select(&[None, None, Some("httpbin"), Some("other")][..]),
    );
    (action, place, any::<u8>(), option::weighted(0.9, vec(rule(), 0..3))).prop_map(|(action, (namespace, app), dry, rules)| {
        let mut spec = json!({});
        if let Some(action) = action {
            spec["action"] = json!(action);
        }
        if let Some(app) = app {
            spec["selector"] = json!({"matchLabels": {"app": app}});
        }
        if let Some(rules) = rules {
            spec["rules"] = json!(rules);
        }
        let mut metadata = json!({"namespace": namespace, "name": "p"});
        if dry < 20 {
            metadata["annotations"] = json!({"istio.io/dry-run": "true"});
        }
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec})
    })
}

fn claims() -> impl Strategy<Value = Value> {
    let values = select(vec![
        json!("a"),
        json!("ab"),
        json!("b a"),
        json!(["b", "ab"]),
        json!([]),
        json!(7),
        json!(["a", 1]),
    ]);
    let subject = select(&["alice", "bob", "testing@secure.istio.io"][..]);
    let names = select(&["group", "scope", "azp", "realm"][..]);
    (
        select(&ISSUERS[..]),
        subject,
        vec((names, values.clone()), 0..4),
        select(&["a", "b"][..]),
    )
        .prop_map(|(issuer, subject, more, aud)| {
            let mut claims = json!({"iss": issuer, "sub": subject, "aud": aud});
            for (name, value) in more {
                claims[name] = match name {
                    "realm" => json!({"roles": value}),
                    // A scope that is no text is refused with the token.
                    "scope" if !value.is_string() => json!("a b"),
                    _ => value,
                };
            }
            claims
        })
}

fn request() -> impl Strategy<Value = Request> {
    let peers = [
        None,
        Some("cluster.local/ns/foo/sa/sleep"),
        Some("cluster.local/ns/bar/sa/x"),
        Some("cluster.local/ns/bar/sa/sleep"),
    ];
    let paths = [
        "/",
        "/info",
        "/info/",
        "/information",
        "/data",
        "/foo/a",
        "/foo/a/x/",
        "/foo/a/x/b?q=/data",
        "/foo/",
        "/a/x",
    ];
    let header = (select(&["x-a", "x-b"][..]), select(&["a", "ab", "b", "xb", "a,b"][..]));
    (
        select(&["GET", "POST", "PUT"][..]),
        select(paths.to_vec()),
        select(&["httpbin.foo:8000", "HttpBin.Foo:8000", "httpbin.foo", "other.bar:80"][..]),
        vec(header, 0..3),
        select(peers.to_vec()),
        option::weighted(0.7, claims()),
        (
            select(&["10.0.0.1", "10.1.9.9", "192.0.2.7"][..]),
            select(&["10.0.0.1", "192.0.2.7"][..]),
        ),
        select(&[80_u16, 8000][..]),
        option::of(select(&["a", "ab", "x"][..])),
    )
        .prop_map(
            |(method, path, authority, headers, peer, claims, (address, destination), port, server_name)| Request {
                method: method.into(),
                path: path.into(),
                authority: authority.into(),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
                peer: peer.map(|peer| format!("spiffe://{peer}")),
                claims,
                address: address.parse().unwrap(),
                destination: destination.parse().unwrap(),
                port,
                server_name: server_name.map(str::to_owned),
            },
        )
}

fn authentication() -> Value {
    let rules = ISSUERS.map(|issuer| json!({"issuer": issuer, "jwks": jwks()}));
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"namespace": "foo", "name": "jwt"}, "spec": {"jwtRules": rules},
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_imported_configuration_says_what_istio_says(
        policies in vec(policy(), 0..4),
        requests in vec(request(), REQUESTS..=REQUESTS),
    ) {
        let mut documents = policies;
        documents.push(authentication());
        let import = imported(&documents, &workload("foo", &[("app", "httpbin"), ("version", "v1")]));
        prop_assert_eq!(&import.problems, &[]);
        let mut sidecar = Sidecar::new(&import.configuration.unwrap());
        for request in requests {
            let expected = reference::allows(&documents, "foo", &json!({"app": "httpbin", "version": "v1"}), &request);
            let (refused, _) = sidecar.refuses(&request);
            prop_assert_eq!(refused.is_none(), expected, "{:?} {:?}", refused, request);
        }
    }
}
