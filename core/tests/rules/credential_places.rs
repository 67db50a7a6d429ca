//! Credentials that only some servers find, and the places of providers that a rule does not take.
//! More of them are in `tests/vectors/credentials.json`.

use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Refusal, reply};
use picket_core::reason::DenyReason;
use serde_json::{Value, json};

use crate::possession::{caller as with_dpop, proof, thumbprint};
use crate::support::{Caller, Sidecar, configuration};

const OTHERS: &str = "https://other.example";
/// Nobody's.
const FORGED: &str = "a.b.c";

/// `/local` takes tokens of `main` in `authorization`, a cookie, the query and a header with a
/// prefix; `/any` those of `other` too, in a cookie, the query and a header.
fn document(credential: &str) -> Value {
    let mut document = configuration();
    let mut other = document["providers"][0].clone();
    document["providers"][0]["sources"] = json!([
        {"header": "authorization"}, {"cookie": "session"}, {"query": "access_token"},
        {"header": "x-token", "prefix": "Bearer "},
    ]);
    other["name"] = "other".into();
    other["issuer"] = OTHERS.into();
    other["sources"] = json!([{"cookie": "other"}, {"query": "other"}, {"header": "x-other"}]);
    document["providers"].as_array_mut().unwrap().push(other);
    document["rules"] = json!([
        {"id": "local", "hosts": ["*"], "paths": ["/local"], "decision": "permit", "credential": credential, "providers": ["main"]},
        {"id": "any", "hosts": ["*"], "paths": ["/any"], "decision": "permit", "credential": credential},
        {"id": "open", "hosts": ["*"], "paths": ["/open"], "decision": "permit", "credential": "none"},
    ]);
    document
}

fn local() -> Caller {
    Caller::new().get("/local")
}

#[track_caller]
fn check_malformed(sidecar: &mut Sidecar, caller: &Caller, detail: &str) {
    let refusal = sidecar.refuses(caller);
    assert_eq!(refusal.reason, DenyReason::CredentialMalformed, "{caller:?}");
    assert_eq!(refusal.detail.as_deref(), Some(detail));
    assert_eq!(refusal.reason.status(), 400);
}

/// The ways in which a client can hide a token from a proxy that reads the first scheme alone.
fn hidden(token: &str) -> Vec<Caller> {
    let authorization = |values: &[&str]| {
        let fields = values.iter();
        fields.fold(local().no_bearer(), |caller, value| {
            caller.one_more_header("authorization", value)
        })
    };
    let bearer = format!("Bearer {token}");
    vec![
        authorization(&["Basic YTpi", &bearer]),
        authorization(&[&bearer, "Basic YTpi"]),
        authorization(&["Basic YTpi", "Negotiate YTpi", &bearer]),
        authorization(&[&format!("Basic YTpi, {bearer}")]),
        authorization(&[&format!("Basic YTpi,{bearer}")]),
        authorization(&[&format!("Basic YTpi, Basic YTpi, bearer\t{token}")]),
        authorization(&[&format!("Digest username=\"a\", {bearer}, realm=\"b\"")]),
        authorization(&[&format!("x{bearer}")]),
        authorization(&[&format!(",{bearer}")]),
        authorization(&[&format!("Basic YTpi, DPoP {token}")]),
        local().no_bearer().header("x-token", &format!("bearer {token}")),
        local().no_bearer().header("x-token", &format!("Basic YTpi, {bearer}")),
        local().no_bearer().header("x-token", &format!("Bearer\t{token}")),
        local()
            .no_bearer()
            .header("x-token", &bearer)
            .one_more_header("x-token", "x"),
        local().no_bearer().header("x_token", &bearer),
        local().no_bearer().get(&format!("/local?Access_Token={token}")),
        local().no_bearer().get(&format!("/local?access.token={token}")),
        local().no_bearer().get(&format!("/local?access%u005Ftoken={token}")),
        local().no_bearer().header("cookie", &format!("Session={token}")),
        local().no_bearer().header("cookie", &format!("a=1, session={token}")),
    ]
}

#[test]
fn a_principal_that_is_rejected_hides_its_token_nowhere() {
    let reject = json!({"reject": [{"id": "r", "from": [{"principals": ["https://issuer.example/alice"]}]}]});
    for credential in ["optional", "required"] {
        let mut document = document(credential);
        document["access"] = reject.clone();
        let mut sidecar = Sidecar::with(&document);
        assert_eq!(sidecar.refuses(&local()).reason, DenyReason::AccessRuleReject);
        let token = sidecar.token(&[]);
        for caller in hidden(&token).into_iter().chain(hidden(FORGED)) {
            let refusal = sidecar.refuses(&caller);
            assert_eq!(refusal.reason, DenyReason::CredentialMalformed, "{caller:?}");
            assert_eq!(reply(&refusal, "orders").status, 400);
        }
    }
    // A rule that looks at no credential rejects none.
    let mut document = document("optional");
    document["access"] = reject;
    let open = Caller::new()
        .get("/open")
        .no_bearer()
        .header("authorization", "Basic YTpi, Bearer a.b.c");
    Sidecar::with(&document).permits(&open);
}

#[test]
fn where_several_are_asked_for_none_is_hidden_either() {
    let mut document = document("optional");
    document["rules"][0]["credential"] = "all".into();
    document["rules"][0]["providers"] = json!(["main", "other"]);
    let mut sidecar = Sidecar::with(&document);
    let other = sidecar.token(&[("iss", OTHERS.into())]);
    sidecar.permits(&local().header("x-other", &other));
    let token = sidecar.token(&[]);
    for caller in hidden(&token) {
        let refusal = sidecar.refuses(&caller.header("x-other", &other));
        assert_eq!(refusal.reason, DenyReason::CredentialMalformed);
    }
}

#[test]
fn another_scheme_is_the_upstreams() {
    let mut sidecar = Sidecar::with(&document("optional"));
    for value in [
        "Basic YTpi",
        "Basic YmVhcmVyOmJlYXJlcg==",
        "Digest username=\"bearer\", realm=\"dpop\"",
        "Negotiate YmVhcmVy",
        "AWS4-HMAC-SHA256 Credential=AK/s3, SignedHeaders=host, Signature=fe5f",
        "",
    ] {
        let caller = local().no_bearer().header("authorization", value);
        let (permit, _) = sidecar.permits(&caller);
        assert_eq!(permit.headers_to_remove().count(), 0, "{value}");
    }
}

#[test]
fn the_detail_names_both_places() {
    let mut sidecar = Sidecar::with(&document("required"));
    let token = sidecar.token(&[]);
    let check = |sidecar: &mut Sidecar, caller: Caller, places: &str| {
        check_malformed(
            sidecar,
            &caller,
            &format!("the request has more than one credential: in {places}"),
        );
    };
    let cookie = format!("session={token}");
    check(
        &mut sidecar,
        local().header("cookie", &cookie),
        "the header `authorization` and in the cookie `session`",
    );
    check(
        &mut sidecar,
        local()
            .no_bearer()
            .header("cookie", &cookie)
            .get("/local?access_token=x"),
        "the cookie `session` and in the query parameter `access_token`",
    );
    check(
        &mut sidecar,
        local().header("x-token", "Bearer x"),
        "the header `authorization` and in the header `x-token`",
    );
    // The rule takes both providers.
    check(
        &mut sidecar,
        Caller::new().get("/any").header("cookie", "other=stale"),
        "the header `authorization` and in the cookie `other`",
    );
    check_malformed(
        &mut sidecar,
        &local().no_bearer().header("cookie", &format!("{cookie}; {cookie}")),
        "the cookie `session`, which holds the credential, was sent more than once",
    );
    check_malformed(
        &mut sidecar,
        &local().no_bearer().get("/local?Access_Token=x"),
        "the query parameter `access_token` does not hold one credential as it should: some servers find one there, and others none",
    );
}

#[test]
fn an_empty_or_quoted_cookie_is_what_it_holds() {
    let mut sidecar = Sidecar::with(&document("required"));
    let token = sidecar.token(&[]);
    for cookie in [
        "session=",
        "session=\"\"",
        "session",
        "SESSION=",
        "other=stale",
        "other=\"x\"",
        "Other=x",
    ] {
        sidecar.permits(&local().header("cookie", cookie));
        let refusal = sidecar.refuses(&local().no_bearer().header("cookie", cookie));
        assert_eq!(refusal.reason, DenyReason::CredentialMissing, "{cookie}");
    }
    for cookie in [
        format!("session=\"{token}\""),
        format!("session=; session={token}"),
        format!("$Version=1; session=\"{token}\"; $Path=/"),
        format!("session = {token}"),
    ] {
        sidecar.permits(&local().no_bearer().header("cookie", &cookie));
    }
    for cookie in [
        format!("session=\"{token}"),
        format!("session={token}\""),
        format!("session=\"\"{token}\"\""),
        format!("session='{token}'"),
        "session=\"".to_owned(),
    ] {
        let refusal = sidecar.refuses(&local().no_bearer().header("cookie", &cookie));
        assert_eq!(refusal.reason, DenyReason::CredentialMalformed, "{cookie}");
    }
    // What is no text is the upstream's affair, where no credential is beside it.
    sidecar.permits(&local().header_bytes("cookie", b"a=\xff"));
}

#[test]
fn the_places_of_other_providers_are_emptied_and_count_for_nothing() {
    for (forward, credential) in [
        (false, "required"),
        (true, "required"),
        (false, "optional"),
        (true, "optional"),
    ] {
        let mut document = document(credential);
        document["forward_credential"] = forward.into();
        let mut sidecar = Sidecar::with(&document);
        let other = sidecar.token(&[("iss", OTHERS.into())]);
        for token in [other.as_str(), FORGED, "two words"] {
            let caller = local()
                .get(&format!("/local?a=1&other={}&OTHER=x&b", token.replace(' ', "+")))
                .header("cookie", &format!("a=1; other={token}; Other=x; b=2, other=y"))
                .one_more_header("x-other", token)
                .one_more_header("x_other", token);
            let (permit, _) = sidecar.permits(&caller);
            let mut removed: Vec<_> = permit
                .headers_to_remove()
                .filter(|name| *name != "authorization")
                .collect();
            removed.sort_unstable();
            removed.dedup();
            assert_eq!(removed, ["cookie", "x-other", "x_other"]);
            assert_eq!(permit.headers_to_remove().any(|name| name == "authorization"), !forward);
            assert_eq!(permit.rewritten_path(), Some("/local?a=1&b"));
            let cookie = permit.headers_to_set().find(|(name, _)| *name == "cookie");
            assert_eq!(cookie, Some(("cookie", "a=1")));
            let subject = permit.headers_to_set().find(|(name, _)| *name == "x-picket-subject");
            assert_eq!(subject.map(|(_, subject)| subject), Some("alice"));
        }
    }
}

#[test]
fn a_credential_in_a_place_that_does_not_count_is_missing_or_not_needed() {
    let mut sidecar = Sidecar::with(&document("required"));
    let other = sidecar.token(&[("iss", OTHERS.into())]);
    let caller = local().no_bearer().header("x-other", &other);
    let refusal = sidecar.refuses(&caller);
    assert_eq!(refusal.reason, DenyReason::CredentialMissing);
    assert_eq!(
        refusal.detail.as_deref(),
        Some("no token was sent in a place of the rule's providers, though in one of others: the header `x-other`")
    );
    sidecar.permits(&caller.clone().get("/any"));
    let mut sidecar = Sidecar::with(&document("optional"));
    let (permit, _) = sidecar.permits(&caller);
    assert!(permit.headers_to_set().all(|(name, _)| name != "x-picket-subject"));
    assert_eq!(permit.headers_to_remove().collect::<Vec<_>>(), ["x-other"]);
    // In a place that counts it is refused as ever.
    let refusal = sidecar.refuses(&local().bearer(&other));
    assert_eq!(refusal.reason, DenyReason::CredentialMisplaced);
}

#[test]
fn places_that_a_server_takes_for_one_another_are_a_mistake() {
    for (one, other, expected) in [
        (
            json!({"cookie": "s"}),
            json!({"cookie": "S"}),
            Some("the cookie `s` and the cookie `S`"),
        ),
        (
            json!({"query": "a_b"}),
            json!({"query": "a.b"}),
            Some("the query parameter `a_b` and the query parameter `a.b`"),
        ),
        (
            json!({"header": "x-t"}),
            json!({"header": "x_t", "prefix": "v1 "}),
            Some("the header `x-t` and the header `x_t`"),
        ),
        (json!({"cookie": "s"}), json!({"query": "S"}), None),
        (json!({"cookie": "s"}), json!({"cookie": "t"}), None),
        (
            json!({"header": "x-t", "prefix": "v1 "}),
            json!({"header": "x-t", "prefix": "v2 "}),
            None,
        ),
    ] {
        let mut document = document("required");
        document["providers"][0]["sources"] = json!([one]);
        document["providers"][1]["sources"] = json!([other]);
        let found = FilterConfiguration::parse(document.to_string().as_bytes());
        let found = found.map(|_| ()).map_err(|problems| problems.to_string());
        let expected = expected.map(|places| {
            format!("providers: expected `sources` that no server takes for one another, found {places}")
        });
        assert_eq!(found.err(), expected);
    }
}

fn header(refusal: &Refusal, name: &str) -> Option<String> {
    let headers = reply(refusal, "orders").headers;
    headers
        .into_iter()
        .find(|(have, _)| *have == name)
        .map(|(_, value)| value)
}

/// RFC 9449 §7.2, figures 17 and 18.
#[test]
fn a_rule_that_takes_both_schemes_names_both() {
    const DPOP: &str = "DPoP realm=\"orders\", algs=\"RS256 RS384 RS512 ES256 ES384 ES512 EdDSA\"";
    let challenge = |refusal: &Refusal| header(refusal, "www-authenticate").unwrap_or_default();
    let mut document = document("required");
    document["dpop"] = json!({"nonce": "required"});
    let mut sidecar = Sidecar::with(&document);
    let missing = sidecar.refuses(&local().no_bearer());
    assert_eq!(challenge(&missing), format!("Bearer realm=\"orders\", {DPOP}"));
    // Not every client of such a rule makes proofs: the nonce comes when one does.
    assert_eq!(header(&missing, "dpop-nonce"), None);
    let invalid = sidecar.refuses(&local().bearer(FORGED));
    let expected = format!(
        "Bearer realm=\"orders\", error=\"invalid_token\", error_description=\"{}\", {DPOP}",
        DenyReason::TokenMalformed.title()
    );
    assert_eq!(challenge(&invalid), expected);
    let several = sidecar.refuses(&local().header("cookie", "session=x"));
    assert!(challenge(&several).starts_with("Bearer ") && challenge(&several).ends_with(DPOP));
    // The scheme that was used is the one that is told of.
    let bound = sidecar.token(&[("cnf", json!({"jkt": thumbprint()}))]);
    let without_nonce = with_dpop(&bound).header("dpop", &proof(&bound, &[]));
    let refusal = sidecar.refuses(&without_nonce);
    assert_eq!(refusal.reason, DenyReason::DpopNonceRequired);
    assert!(challenge(&refusal).starts_with("DPoP ") && !challenge(&refusal).contains("Bearer"));
    // Where no token comes in `authorization`, none comes with a proof.
    document["providers"][0]["sources"] = json!([{"cookie": "session"}]);
    let missing = Sidecar::with(&document).refuses(&local().no_bearer());
    assert_eq!(challenge(&missing), "Bearer realm=\"orders\"");
}

/// NGINX's `proxy_pass http://b$uri` makes a query of it, in which the upstream finds a token that
/// nobody has looked at.
#[test]
fn a_token_behind_an_encoded_question_mark_is_refused() {
    let mut document = document("optional");
    document["rules"][0]["paths"] = json!(["/local", "/files/{**}"]);
    let mut sidecar = Sidecar::with(&document);
    for query in [
        "access_token=a.b.c",
        "Access_Token=a.b.c",
        "x=1&access_token=a.b.c",
        "x=1%26access_token%3Da.b.c",
        "x%3Baccess_token=a.b.c",
        "x%3Faccess_token",
    ] {
        for mark in ["%3F", "%3f"] {
            let path = format!("/files/x{mark}{query}");
            for caller in [Caller::new().get(&path), Caller::new().get(&path).no_bearer()] {
                let refusal = sidecar.refuses(&caller);
                assert_eq!(refusal.reason, DenyReason::CredentialMalformed, "{path}");
            }
        }
    }
    sidecar.permits(&Caller::new().get("/files/x%3Fy=access_token").no_bearer());
    // Where the rule says that the upstream takes it for data.
    document["rules"][0]["allow_in_path"] = json!(["encoded_question_mark"]);
    Sidecar::with(&document).permits(&Caller::new().get("/files/x%3Faccess_token=a").no_bearer());
}

#[test]
fn a_trailer_that_could_pass_for_a_credential_is_removed() {
    let configuration = FilterConfiguration::parse(document("required").to_string().as_bytes()).unwrap();
    for name in [
        "authorization",
        "Authorization",
        "cookie",
        "x-token",
        "x_token",
        "x-other",
        "x-picket-subject",
    ] {
        assert!(configuration.removes_trailer(name), "{name}");
    }
    for name in ["grpc-status", "x-checksum", "x-tokens"] {
        assert!(!configuration.removes_trailer(name), "{name}");
    }
}
