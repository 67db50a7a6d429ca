//! Rules that ask for a token of each of several providers.

use std::collections::BTreeMap;

use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{CacheUse, Notes, Refusal, Step, Verification, reply};
use picket_core::jose::TokenAlgorithm;
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::{Decision, Effect, Vary};
use serde_json::{Value, json};

use crate::possession::{proof, thumbprint};
use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const CLIENTS: &str = "https://clients.example";
const DEVICES: &str = "https://devices.example";

/// Users in `authorization` or a cookie, their clients in a header, and devices in a cookie or the
/// query. `/local` wants a user and a client and permits, `/orders/{id}` asks the policy service,
/// `/three` wants all; `/open-to-any` wants any one.
fn document() -> Value {
    let mut document = configuration();
    let user = document["providers"][0].clone();
    let provider = |name: &str, issuer: &str, sources: Value| {
        let mut provider = user.clone();
        provider["name"] = name.into();
        provider["issuer"] = issuer.into();
        provider["sources"] = sources;
        provider["claim_headers"] = json!([{"claim": "name", "header": format!("x-{name}-name")}]);
        provider
    };
    document["providers"] = json!([
        provider(
            "main",
            "https://issuer.example",
            json!([{"header": "authorization"}, {"cookie": "user"}])
        ),
        provider(
            "client",
            CLIENTS,
            json!([{"header": "x-client-token"}, {"cookie": "client"}])
        ),
        provider("device", DEVICES, json!([{"cookie": "device"}, {"query": "device"}])),
    ]);
    let rule = |id: &str, path: &str, providers: Value| {
        json!({
            "id": id, "hosts": ["*"], "paths": [path], "credential": "all", "providers": providers, "decision": "permit",
        })
    };
    let mut asked = rule("asked", "/orders/{id}", json!(["main", "client"]));
    asked["decision"] = "policy_service".into();
    document["rules"] = json!([
        asked,
        rule("two", "/local", json!(["main", "client"])),
        rule("three", "/three", json!(["client", "main", "device"])),
        {"id": "any", "hosts": ["*"], "paths": ["/open-to-any"], "decision": "permit"},
    ]);
    document
}

fn sidecar() -> Sidecar {
    Sidecar::with(&document())
}

/// The document with these members of the rule `two` changed.
fn with_rule(changes: &Value) -> Value {
    let mut document = document();
    let rule = document["rules"][1].as_object_mut().unwrap();
    rule.extend(changes.as_object().unwrap().clone());
    document
}

fn client(sidecar: &Sidecar, changes: &[(&str, Value)]) -> String {
    let claims = [("iss", json!(CLIENTS)), ("sub", json!("web-shop"))];
    sidecar.token(&[&claims, changes].concat())
}

fn device(sidecar: &Sidecar) -> String {
    sidecar.token(&[("iss", DEVICES.into()), ("sub", "phone".into())])
}

/// `GET /local` with the default token of a user and this of a client.
fn with_client(token: &str) -> Caller {
    Caller::new().get("/local").header("x-client-token", token)
}

fn upstream(permit: &picket_core::enforcement::Permit) -> BTreeMap<String, String> {
    let headers = permit.headers_to_set();
    headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[track_caller]
fn check_refused(sidecar: &mut Sidecar, caller: &Caller, expected: DenyReason) -> Refusal {
    // The second time the tokens may be known.
    let first = sidecar.refuses(caller);
    let second = sidecar.refuses(caller);
    assert_eq!(
        (first.reason, second.reason, second.decided_by),
        (expected, expected, DecidedBy::Token)
    );
    second
}

#[test]
fn one_of_each_is_taken_and_the_first_one_names_the_principal() {
    let mut sidecar = sidecar();
    let user = sidecar.token(&[("name", "Alice".into())]);
    let client = client(&sidecar, &[("name", "Shop".into()), ("roles", json!(["root"]))]);
    let caller = with_client(&client).bearer(&user);
    let (permit, notes) = sidecar.permits(&caller);
    let told = upstream(&permit);
    let value = |name: &str| told.get(name).map(String::as_str);
    assert_eq!(value("x-picket-subject"), Some("alice"));
    assert_eq!(value("x-picket-issuer"), Some("https://issuer.example"));
    // Claims of the others are told, but not who they name.
    assert_eq!(
        (value("x-main-name"), value("x-client-name")),
        (Some("Alice"), Some("Shop"))
    );
    assert_eq!(value("x-picket-roles"), None);
    assert_eq!(
        permit.headers_to_remove().collect::<Vec<_>>(),
        ["authorization", "x-client-token"]
    );
    let checked = (Verification::Checked(TokenAlgorithm::Es256), true);
    assert_eq!(notes.verifications.iter().collect::<Vec<_>>(), [checked, checked]);
    let (_, notes) = sidecar.permits(&caller);
    let cached = (Verification::Cached, true);
    assert_eq!(notes.verifications.iter().collect::<Vec<_>>(), [cached, cached]);
}

#[test]
fn the_order_is_the_rules_and_not_that_of_the_places() {
    let mut sidecar = sidecar();
    let (client, device) = (client(&sidecar, &[]), device(&sidecar));
    let caller = Caller::new()
        .get(&format!("/three?x=1&device={device}"))
        .header("x-client-token", &client);
    let (permit, _) = sidecar.permits(&caller);
    assert_eq!(
        upstream(&permit).get("x-picket-subject").map(String::as_str),
        Some("web-shop")
    );
    assert_eq!(permit.rewritten_path(), Some("/three?x=1"));
}

#[test]
fn each_place_is_cleared_and_nothing_else() {
    let mut sidecar = sidecar();
    let (user, client, device) = (sidecar.token(&[]), client(&sidecar, &[]), device(&sidecar));
    let cookies = format!("a=1; device={device}; client={client}; b=2; user={user}; c");
    let caller = Caller::new().get("/three").no_bearer().header("cookie", &cookies);
    let (permit, _) = sidecar.permits(&caller);
    assert_eq!(permit.headers_to_remove().collect::<Vec<_>>(), ["cookie"]);
    assert_eq!(upstream(&permit).get("cookie").map(String::as_str), Some("a=1; b=2; c"));
    let mut forwards = document();
    forwards["forward_credential"] = true.into();
    let (permit, _) = Sidecar::with(&forwards).permits(&caller);
    assert_eq!(permit.headers_to_remove().collect::<Vec<_>>(), [""; 0]);
    assert_eq!(upstream(&permit).get("cookie"), None);
}

#[test]
fn there_are_exactly_as_many_as_the_rule_names() {
    let mut sidecar = sidecar();
    let (user, client, device) = (sidecar.token(&[]), client(&sidecar, &[]), device(&sidecar));
    let missing = DenyReason::CredentialMissing;
    let malformed = DenyReason::CredentialMalformed;
    let none = Caller::new().get("/local").no_bearer();
    check_refused(&mut sidecar, &none, missing);
    let refusal = check_refused(&mut sidecar, &Caller::new().get("/local"), missing);
    assert_eq!(reply(&refusal, "orders").status, 401);
    check_refused(&mut sidecar, &with_client(&client).no_bearer(), missing);
    // One more, good as it is, of a provider that the rule names.
    let one_more = |cookie: String| with_client(&client).header("cookie", &cookie);
    let refusal = check_refused(&mut sidecar, &one_more(format!("user={user}")), malformed);
    assert_eq!(
        refusal.detail.as_deref(),
        Some(
            "the request has more credentials than the rule asks for: in the header `authorization`, the cookie `user`, the \
             header `x-client-token`"
        )
    );
    // One of a provider that it does not name is none here, and an empty one is none anywhere.
    for cookie in [format!("device={device}"), "device=stale".into(), "client=".into()] {
        sidecar.permits(&one_more(cookie));
    }
    let twice = with_client(&client).one_more_header("x-client-token", &client);
    check_refused(&mut sidecar, &twice, malformed);
}

#[test]
fn no_two_are_of_one_provider_and_none_of_another() {
    let mut sidecar = sidecar();
    let (user, client, device) = (sidecar.token(&[]), client(&sidecar, &[]), device(&sidecar));
    let local = || Caller::new().get("/local");
    let two_users = local().header("cookie", &format!("user={user}"));
    let refusal = check_refused(&mut sidecar, &two_users, DenyReason::CredentialMalformed);
    assert_eq!(
        refusal.detail.as_deref(),
        Some("two of the credentials are one provider's: in the header `authorization`, the cookie `user`")
    );
    let two_clients = with_client(&client)
        .no_bearer()
        .header("cookie", &format!("client={client}"));
    check_refused(&mut sidecar, &two_clients, DenyReason::CredentialMalformed);
    let other = local().header("cookie", &format!("device={device}"));
    check_refused(&mut sidecar, &other, DenyReason::CredentialMissing);
}

#[test]
fn each_comes_in_a_place_of_its_own_provider() {
    let mut sidecar = sidecar();
    let (user, client) = (sidecar.token(&[]), client(&sidecar, &[]));
    let exchanged = Caller::new()
        .get("/local")
        .bearer(&client)
        .header("x-client-token", &user);
    check_refused(&mut sidecar, &exchanged, DenyReason::CredentialMisplaced);
    // The token of the other, twice: known to be good, and yet no user's.
    sidecar.permits(&with_client(&client));
    let copied = with_client(&client).bearer(&client);
    check_refused(&mut sidecar, &copied, DenyReason::CredentialMisplaced);
}

#[test]
fn each_is_verified_as_if_it_were_alone() {
    for (claim, value, expected) in [
        ("exp", json!(NOW_S - 60), DenyReason::TokenExpired),
        ("nbf", json!(NOW_S + 61), DenyReason::TokenNotYetValid),
        ("aud", json!("somebody"), DenyReason::TokenAudienceMismatch),
        ("sub", Value::Null, DenyReason::TokenClaimMissing),
        ("iss", json!("https://nobody.example"), DenyReason::TokenIssuerUnknown),
        ("cnf", json!({"kid": "k1"}), DenyReason::TokenMalformed),
    ] {
        let mut sidecar = sidecar();
        let bad = client(&sidecar, &[(claim, value.clone())]);
        check_refused(&mut sidecar, &with_client(&bad), expected);
        let bad = sidecar.token(&[(claim, value)]);
        let good = client(&sidecar, &[]);
        check_refused(&mut sidecar, &with_client(&good).bearer(&bad), expected);
    }
    let mut sidecar = sidecar();
    let good = client(&sidecar, &[]);
    let mut altered = good.clone();
    altered.replace_range(
        good.len() - 4..good.len() - 3,
        if good.as_bytes()[good.len() - 4] == b'A' {
            "B"
        } else {
            "A"
        },
    );
    check_refused(&mut sidecar, &with_client(&altered), DenyReason::TokenSignatureInvalid);
    check_refused(&mut sidecar, &with_client("opaque"), DenyReason::TokenMalformed);
    sidecar.permits(&with_client(&good));
}

#[test]
fn a_certificate_that_any_of_them_names_is_that_of_the_connection() {
    let mut sidecar = sidecar();
    let bound_to = |digest: &str| json!({"x5t#S256": digest});
    let ones = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    let token = client(&sidecar, &[("cnf", bound_to(ones))]);
    let mismatch = DenyReason::TokenCertificateMismatch;
    sidecar.permits(&with_client(&token).certificate([1; 32]));
    check_refused(&mut sidecar, &with_client(&token).certificate([2; 32]), mismatch);
    check_refused(&mut sidecar, &with_client(&token), mismatch);
    // So is that of the first.
    let user = sidecar.token(&[("cnf", bound_to(ones))]);
    let good = client(&sidecar, &[]);
    sidecar.permits(&with_client(&good).bearer(&user).certificate([1; 32]));
    check_refused(&mut sidecar, &with_client(&good).bearer(&user), mismatch);
}

#[test]
fn where_possession_must_be_proved_it_is_for_each() {
    let mut sidecar = Sidecar::with(&with_rule(&json!({"proof_of_possession": "required"})));
    let bound = json!({"x5t#S256": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"});
    let cnf = [("cnf", bound)];
    let (user, bound_user) = (sidecar.token(&[]), sidecar.token(&cnf));
    let (client, bound_client) = (client(&sidecar, &[]), client(&sidecar, &cnf));
    let caller = |user: &str, client: &str| with_client(client).bearer(user).certificate([1; 32]);
    sidecar.permits(&caller(&bound_user, &bound_client));
    for (user, client) in [(&user, &bound_client), (&bound_user, &client)] {
        check_refused(&mut sidecar, &caller(user, client), DenyReason::TokenNotBound);
    }
}

/// A user's token with a proof, beside this one of a client.
fn with_proof(user: &str, client: &str, id: &str) -> Caller {
    with_client(client)
        .no_bearer()
        .header("authorization", &format!("DPoP {user}"))
        .header("dpop", &proof(user, &[("jti", id.into())]))
}

#[test]
fn a_proof_is_for_the_first_one() {
    let mut sidecar = sidecar();
    let bound = [("cnf", json!({"jkt": thumbprint()}))];
    let (user, client_token) = (sidecar.token(&bound), client(&sidecar, &[]));
    let caller = with_proof(&user, &client_token, "j-1");
    let (permit, notes) = sidecar.permits(&caller);
    assert_eq!(notes.proof_passed, Some(true));
    let removed: Vec<_> = permit.headers_to_remove().collect();
    assert_eq!(removed, ["authorization", "x-client-token", "dpop"]);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::DpopProofReplayed);
    let as_bearer = with_client(&client_token).bearer(&user);
    check_refused(&mut sidecar, &as_bearer, DenyReason::TokenSentAsBearer);
    // The scheme promises what a token that is not bound does not ask for.
    let plain = sidecar.token(&[]);
    let unbound = with_proof(&plain, &client_token, "j-2");
    let refusal = check_refused(&mut sidecar, &unbound, DenyReason::TokenNotBound);
    let reply = reply(&refusal, "orders");
    assert!(
        reply
            .headers
            .iter()
            .any(|(name, value)| *name == "www-authenticate" && value.starts_with("DPoP "))
    );
}

#[test]
fn a_proof_is_not_used_up_by_a_request_whose_other_token_is_refused() {
    let mut sidecar = sidecar();
    let user = sidecar.token(&[("cnf", json!({"jkt": thumbprint()}))]);
    let expired = client(&sidecar, &[("exp", (NOW_S - 60).into())]);
    let misbound = client(
        &sidecar,
        &[(
            "cnf",
            json!({"x5t#S256": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}),
        )],
    );
    let good = client(&sidecar, &[]);
    check_refused(
        &mut sidecar,
        &with_proof(&user, &expired, "j"),
        DenyReason::TokenExpired,
    );
    check_refused(
        &mut sidecar,
        &with_proof(&user, &misbound, "j"),
        DenyReason::TokenCertificateMismatch,
    );
    sidecar.permits(&with_proof(&user, &good, "j"));
}

/// RFC 9449 §4.3: one proof, about one token.
#[test]
fn another_than_the_first_is_not_bound_to_a_key() {
    let bound = [("cnf", json!({"jkt": thumbprint()}))];
    let mut sidecar = sidecar();
    let token = client(&sidecar, &bound);
    check_refused(&mut sidecar, &with_client(&token), DenyReason::CredentialMalformed);
    // Nor where its place has room for a scheme and the proof is its own.
    let mut document = with_rule(&json!({"providers": ["client", "main"]}));
    document["providers"][0]["sources"] = json!([{"header": "authorization"}]);
    let mut sidecar = Sidecar::with(&document);
    let (user, good) = (sidecar.token(&bound), client(&sidecar, &[]));
    let refusal = check_refused(
        &mut sidecar,
        &with_proof(&user, &good, "j"),
        DenyReason::CredentialMalformed,
    );
    let expected = "a token that is bound to a key can only be one of the rule's first provider";
    assert_eq!(refusal.detail.as_deref(), Some(expected));
}

#[test]
fn scopes_are_those_of_the_first() {
    let mut sidecar = Sidecar::with(&with_rule(&json!({"scopes": ["orders.read"]})));
    let scope = [("scope", json!("orders.read"))];
    let (user, scoped_user) = (sidecar.token(&[]), sidecar.token(&scope));
    let (client, scoped_client) = (client(&sidecar, &[]), client(&sidecar, &scope));
    sidecar.permits(&with_client(&client).bearer(&scoped_user));
    let caller = with_client(&scoped_client).bearer(&user);
    check_refused(&mut sidecar, &caller, DenyReason::TokenScopeInsufficient);
}

#[test]
fn a_decision_is_kept_for_these_very_tokens_and_until_the_first_of_them_ends() {
    let mut sidecar = sidecar();
    let user = sidecar.token(&[]);
    let soon = client(&sidecar, &[("exp", (NOW_S + 1).into())]);
    let other = client(&sidecar, &[("sub", "other".into())]);
    let caller = |client: &str| with_client(client).get("/orders/7").bearer(&user);
    let cacheable = || Decision {
        vary: Vary::NOTHING,
        ..decision(Effect::Permit, 3_600_000)
    };
    let (request, pending) = sidecar.asks(&caller(&soon));
    assert_eq!(request.principal.unwrap().subject, "alice");
    // The others can be revoked as well.
    let [further] = request.further_tokens.as_slice() else {
        panic!("one is beside the principal's: {:?}", request.further_tokens);
    };
    assert_eq!(
        (further.issuer.as_str(), further.subject.as_str()),
        (CLIENTS, "web-shop")
    );
    sidecar.answers(pending, Ok(cacheable())).unwrap();
    let cache = |notes: Notes| notes.cache;
    assert_eq!(cache(sidecar.permits(&caller(&soon)).1), Some(CacheUse::Hit));
    // With another one beside the user's the same question is another one.
    let (_, pending) = sidecar.asks(&caller(&other));
    sidecar.answers(pending, Ok(cacheable())).unwrap();
    // The default skew is 60 s.
    sidecar.later_ms(60_999);
    assert_eq!(cache(sidecar.permits(&caller(&soon)).1), Some(CacheUse::Hit));
    sidecar.later_ms(1);
    check_refused(&mut sidecar, &caller(&soon), DenyReason::TokenExpired);
    assert_eq!(cache(sidecar.permits(&caller(&other)).1), Some(CacheUse::Hit));
}

#[test]
fn an_answer_that_comes_after_any_of_them_has_ended_permits_nothing() {
    for is_first in [true, false] {
        let mut sidecar = sidecar();
        let ends = [("exp", json!(NOW_S + 1))];
        let (user, client) = match is_first {
            true => (sidecar.token(&ends), client(&sidecar, &[])),
            false => (sidecar.token(&[]), client(&sidecar, &ends)),
        };
        let caller = with_client(&client).get("/orders/7").bearer(&user);
        let (_, pending) = sidecar.asks(&caller);
        sidecar.later_ms(61_000);
        let refusal = sidecar
            .answers(pending, Ok(decision(Effect::Permit, 1000)))
            .unwrap_err();
        assert_eq!(refusal.reason, DenyReason::TokenExpired);
    }
}

#[test]
fn rules_that_ask_for_one_ask_for_one() {
    let mut sidecar = sidecar();
    let (client, device) = (client(&sidecar, &[]), device(&sidecar));
    let any = |caller: Caller| caller.get("/open-to-any");
    sidecar.permits(&any(Caller::new()));
    sidecar.permits(&any(with_client(&client).no_bearer()));
    check_refused(
        &mut sidecar,
        &any(with_client(&client)),
        DenyReason::CredentialMalformed,
    );
    let two = any(Caller::new()).header("cookie", &format!("device={device}"));
    check_refused(&mut sidecar, &two, DenyReason::CredentialMalformed);
}

#[test]
fn nobody_is_asked_about_an_opaque_token() {
    let mut document = document();
    let opaque = json!({
        "name": "opaque", "issuer": "https://as.example", "audiences": ["orders"], "sources": [{"header": "x-client-token"}],
        "introspection": {
            "uri": "https://as.example/introspect", "cluster": "as", "client_id": "orders", "secret_variable": "AS_SECRET",
        },
    });
    document["providers"].as_array_mut().unwrap().push(opaque);
    let mut sidecar = Sidecar::with_environment(&document, |_| Some("secret".to_owned()));
    // Elsewhere somebody is.
    let elsewhere = with_client("opaque").no_bearer().get("/open-to-any");
    assert!(matches!(sidecar.sends(&elsewhere).0, Step::Introspect(_)));
    check_refused(&mut sidecar, &with_client("opaque"), DenyReason::TokenProviderRefused);
    let good = client(&sidecar, &[]);
    sidecar.permits(&with_client(&good));
}

/// The one mistake in a configuration.
fn mistake(document: &Value) -> String {
    let parsed = FilterConfiguration::parse(document.to_string().as_bytes());
    parsed.unwrap_err().to_string()
}

#[test]
fn a_rule_that_could_not_be_fulfilled_is_a_mistake() {
    let providers = |names: Value| with_rule(&json!({"providers": names}));
    let count = "rules[1].providers: expected 2 to 4 providers beside `credential: all`";
    assert_eq!(mistake(&with_rule(&json!({"providers": null}))), count);
    assert_eq!(mistake(&providers(json!(["main"]))), count);
    assert_eq!(
        mistake(&providers(json!(["main", "client", "device", "main", "client"]))),
        count
    );
    assert_eq!(
        mistake(&providers(json!(["main", "client", "main"]))),
        "rules[1].providers[2]: expected each provider once beside `credential: all`"
    );
    assert_eq!(
        mistake(&providers(json!(["main", "nobody"]))),
        "rules[1].providers[1]: expected the name of a provider, found `nobody`"
    );

    let mut document = document();
    document["providers"][1]["claim_headers"][0]["header"] = "x-main-name".into();
    assert!(mistake(&document).contains(
        "rules[1].providers: expected headers of claims of each provider's own: both `main` and `client` make `x-main-name`"
    ));
}

#[test]
fn each_provider_of_a_rule_has_a_place_of_its_own() {
    let of_three = |sources: [Value; 3]| {
        let mut document = document();
        document["rules"] = json!([document["rules"][2]]);
        for (index, sources) in sources.into_iter().enumerate() {
            document["providers"][index]["sources"] = sources;
        }
        FilterConfiguration::parse(document.to_string().as_bytes())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let (a, b, c) = (json!({"cookie": "a"}), json!({"cookie": "b"}), json!({"cookie": "c"}));
    assert_eq!(of_three([json!([a, b, c]), json!([a, b]), json!([a])]), Ok(()));
    assert_eq!(of_three([json!([a, b]), json!([b, c]), json!([a, c])]), Ok(()));
    let none =
        "rules[0].providers: expected `sources` of the providers in which each one's token has a place of its own";
    for sources in [
        [json!([a]), json!([a]), json!([b])],
        [json!([a, b]), json!([a, b]), json!([b, a])],
        [json!([a, b, c]), json!([b]), json!([b])],
    ] {
        assert_eq!(of_three(sources), Err(none.to_owned()));
    }
}

#[test]
fn a_provider_without_keys_is_none_of_several() {
    let mut document = with_rule(&json!({"providers": ["main", "opaque"]}));
    let opaque = json!({
        "name": "opaque", "issuer": "https://as.example", "audiences": ["orders"], "sources": [{"header": "x-opaque"}],
        "introspection": {
            "uri": "https://as.example/introspect", "cluster": "as", "client_id": "orders", "secret_variable": "AS_SECRET",
        },
    });
    document["providers"].as_array_mut().unwrap().push(opaque);
    assert_eq!(
        mistake(&document),
        "rules[1].providers[1]: expected a provider with keys beside `credential: all`: about opaque tokens issuers are asked"
    );
}

/// Whatever comes in whichever places: the rule is fulfilled by one good user and one good client,
/// each in a place of its own, and by nothing else. What is in the places of devices, which the
/// rule does not name, counts for nothing and goes.
#[test]
fn nothing_but_one_of_each_is_taken() {
    let mut sidecar = sidecar();
    let kinds = [
        sidecar.token(&[]),
        sidecar.token(&[("exp", (NOW_S - 60).into())]),
        client(&sidecar, &[]),
        client(&sidecar, &[("aud", "somebody".into())]),
        device(&sidecar),
    ];
    const PLACES: u32 = 6;
    let choices = kinds.len() + 1;
    let mut taken = 0;
    for number in 0..choices.pow(PLACES) {
        // Of each place which kind is there; the last choice: none.
        let kind_in = |place: u32| Some(number / choices.pow(place) % choices).filter(|kind| *kind < kinds.len());
        let token_in = |place: u32| kind_in(place).map(|kind| &kinds[kind]);
        let mut caller = Caller::new().get("/local").no_bearer();
        if let Some(token) = token_in(0) {
            caller = caller.header("authorization", &format!("Bearer {token}"));
        }
        if let Some(token) = token_in(1) {
            caller = caller.header("x-client-token", token);
        }
        if let Some(token) = token_in(2) {
            caller = caller.get(&format!("/local?device={token}"));
        }
        for (place, name) in [(3, "user"), (4, "client"), (5, "device")] {
            if let Some(token) = token_in(place) {
                caller = caller.one_more_header("cookie", &format!("{name}={token}"));
            }
        }
        let present = [0, 1, 3, 4].iter().filter(|place| kind_in(**place).is_some()).count();
        let has_user = kind_in(0) == Some(0) || kind_in(3) == Some(0);
        let has_client = kind_in(1) == Some(2) || kind_in(4) == Some(2);
        let Step::Decided(verdict) = sidecar.sends(&caller).0 else {
            panic!("a local rule decides")
        };
        assert_eq!(verdict.is_ok(), present == 2 && has_user && has_client, "{number}");
        if let Ok(permit) = verdict {
            taken += 1;
            let told = upstream(&permit);
            assert_eq!(told.get("x-picket-subject").map(String::as_str), Some("alice"));
            assert_eq!(told.get("cookie"), None);
            assert!(permit.rewritten_path().is_none_or(|path| path == "/local"));
        }
    }
    assert_eq!(taken, 4 * choices.pow(2));
}
