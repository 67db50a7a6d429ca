use proptest::prelude::*;

use super::*;

const S: i64 = MICROSECONDS_PER_SECOND;
const START: i64 = 1_700_000_000 * S;

const LIMITS: SessionLimits = SessionLimits {
    idle_timeout_us: 600 * S,
    absolute_timeout_us: 3600 * S,
    reauthentication_interval_us: Some(1800 * S),
    concurrent_max: 2,
    retention_us: 86_400 * S,
    clock_skew_us: 0,
};

fn principal() -> PrincipalId {
    PrincipalId::of("https://issuer.example", "alice")
}

fn state() -> SessionState {
    SessionState {
        principal: principal(),
        fingerprint: Fingerprint::of(&[]),
        first_seen_us: START,
        last_seen_us: START,
        ended: None,
    }
}

fn token() -> PresentedToken {
    PresentedToken {
        session: None,
        principal: principal(),
        tenant: Some(TenantId::of("acme")),
        fingerprint: Fingerprint::of(&[]),
        issued_at_s: Some(START / S),
        auth_time_s: None,
    }
}

fn check(state: SessionState, token: PresentedToken, after_s: i64, expected: SessionValidity) {
    let validity = check_session(&state, &token, &Restrictions::default(), &LIMITS, START + after_s * S);
    assert_eq!(validity, expected, "after {after_s} s");
}

fn valid(valid_for_s: i64) -> SessionValidity {
    SessionValidity::Valid {
        for_us: valid_for_s * S,
    }
}

#[test]
fn a_session_ends_when_it_was_idle_for_the_timeout() {
    check(state(), token(), 599, valid(300));
    check(state(), token(), 600, SessionValidity::Ends(EndReason::IdleTimeout));
}

#[test]
fn a_session_ends_at_its_absolute_timeout_however_it_is_used() {
    let used = SessionState {
        last_seen_us: START + 3599 * S,
        ..state()
    };
    let fresh = PresentedToken {
        auth_time_s: Some(START / S + 3500),
        ..token()
    };
    check(used, fresh, 3599, valid(1));
    check(used, fresh, 3600, SessionValidity::Ends(EndReason::AbsoluteTimeout));
}

#[test]
fn authentication_is_asked_for_again_after_its_interval() {
    let used = SessionState {
        last_seen_us: START + 1799 * S,
        ..state()
    };
    let required = SessionValidity::Refused(SessionRefusal::ReauthenticationRequired);
    check(used, token(), 1799, valid(1));
    check(used, token(), 1800, required);
    // By `auth_time` where the token has it, in either direction.
    let at = |auth_time_s| PresentedToken {
        auth_time_s: Some(START / S + auth_time_s),
        ..token()
    };
    check(used, at(60), 1800, valid(60));
    check(used, at(-100), 1799, required);
    // One in the future does not put it off.
    check(state(), at(100_000), 10, valid(300));
    let in_an_hour = check_session(
        &used,
        &at(100_000),
        &Restrictions::default(),
        &SessionLimits {
            reauthentication_interval_us: Some(0),
            ..LIMITS
        },
        START + 1799 * S,
    );
    assert_eq!(in_an_hour, required);
}

#[test]
fn another_client_or_principal_ends_a_session() {
    let compromised = SessionValidity::Ends(EndReason::Compromised);
    let other_client = PresentedToken {
        fingerprint: Fingerprint::of(&[("user_agent", Some("curl"))]),
        ..token()
    };
    check(state(), other_client, 1, compromised);
    let other_principal = PresentedToken {
        principal: PrincipalId::of("https://issuer.example", "mallory"),
        ..token()
    };
    check(state(), other_principal, 1, compromised);
}

#[test]
fn what_has_ended_stays_ended_and_says_why() {
    for reason in EndReason::ALL {
        let ended = SessionState {
            ended: Some(reason),
            ..state()
        };
        check(
            ended,
            token(),
            1,
            SessionValidity::Refused(SessionRefusal::Ended(reason)),
        );
    }
}

fn restrictions(target: RevocationTarget, until_us: i64) -> Restrictions {
    let mut restrictions = Restrictions::default();
    restrictions.revocations.add(target, until_us);
    restrictions
}

#[test]
fn within_the_clock_skew_after_a_revocation_a_token_or_a_session_may_be_from_before_it() {
    let limits = SessionLimits {
        clock_skew_us: 300 * S,
        ..LIMITS
    };
    let restrictions = restrictions(RevocationTarget::Principal(principal()), START);
    let check = |issued_after_s: i64| {
        let token = PresentedToken {
            issued_at_s: Some(START / S + issued_after_s),
            ..token()
        };
        check_token(&token, &restrictions, &limits)
    };
    assert_eq!(check(1), Err(SessionRefusal::Revoked));
    assert_eq!(check(300), Err(SessionRefusal::Revoked));
    assert_eq!(check(301), Ok(()));
    let check = |began_after_us: i64| {
        let state = SessionState {
            first_seen_us: START + began_after_us,
            last_seen_us: START + began_after_us,
            ..state()
        };
        check_session(&state, &token(), &restrictions, &limits, START + 310 * S)
    };
    assert_eq!(check(300 * S), SessionValidity::Refused(SessionRefusal::Revoked));
    assert!(matches!(check(300 * S + 1), SessionValidity::Valid { .. }));
}

#[test]
fn a_revocation_covers_tokens_and_sessions_from_before_it_and_no_later_ones() {
    let at_us = START + 10 * S + S / 2;
    let acme = TenantId::of("acme");
    for restrictions in [
        restrictions(RevocationTarget::Everything, at_us),
        restrictions(RevocationTarget::Principal(principal()), at_us),
        restrictions(RevocationTarget::Tenant(acme), at_us),
    ] {
        let issued = |after_s: i64| PresentedToken {
            issued_at_s: Some(START / S + after_s),
            ..token()
        };
        assert_eq!(
            check_token(&issued(10), &restrictions, &LIMITS),
            Err(SessionRefusal::Revoked)
        );
        assert_eq!(check_token(&issued(11), &restrictions, &LIMITS), Ok(()));
        let unknown = PresentedToken {
            issued_at_s: None,
            ..token()
        };
        assert_eq!(
            check_token(&unknown, &restrictions, &LIMITS),
            Err(SessionRefusal::Revoked)
        );
        // A later token does not revive a session from before.
        let now_us = START + 20 * S;
        let validity = check_session(&state(), &issued(15), &restrictions, &LIMITS, now_us);
        assert_eq!(validity, SessionValidity::Refused(SessionRefusal::Revoked));
        let later = SessionState {
            first_seen_us: START + 15 * S,
            last_seen_us: START + 15 * S,
            ..state()
        };
        let validity = check_session(&later, &issued(15), &restrictions, &LIMITS, now_us);
        assert_eq!(validity, valid(300));
    }
}

#[test]
fn a_revocation_covers_its_target_alone() {
    let at_us = START + 10 * S;
    for restrictions in [
        restrictions(
            RevocationTarget::Principal(PrincipalId::of("https://issuer.example", "bob")),
            at_us,
        ),
        restrictions(
            RevocationTarget::Principal(PrincipalId::of("https://other.example", "alice")),
            at_us,
        ),
        restrictions(RevocationTarget::Tenant(TenantId::of("globex")), at_us),
    ] {
        assert_eq!(check_token(&token(), &restrictions, &LIMITS), Ok(()));
    }
}

#[test]
fn what_is_revoked_again_takes_no_further_place() {
    let (principal, tenant) = (
        RevocationTarget::Principal(principal()),
        RevocationTarget::Tenant(TenantId::of("acme")),
    );
    let others = (
        RevocationTarget::Principal(PrincipalId::of("issuer", "other")),
        RevocationTarget::Tenant(TenantId::of("other")),
    );
    let mut revocations = Revocations::default();
    assert!(
        !revocations.contains(principal)
            && !revocations.contains(tenant)
            && revocations.contains(RevocationTarget::Everything)
    );
    revocations.add(principal, 1);
    revocations.add(tenant, 1);
    assert!(revocations.contains(principal) && revocations.contains(tenant));
    assert!(!revocations.contains(others.0) && !revocations.contains(others.1));
}

#[test]
fn lockdown_refuses_whatever_the_token_is() {
    let restrictions = Restrictions {
        lockdown: Some(Lockdown {
            at_us: START,
            caller: "spiffe://example.org/operator".to_owned(),
        }),
        ..Restrictions::default()
    };
    assert_eq!(
        check_token(&token(), &restrictions, &LIMITS),
        Err(SessionRefusal::Lockdown)
    );
}

proptest! {
    /// An answer that is repeated to the end of its validity is still right then, and no time makes
    /// the rules fail.
    #[test]
    fn no_validity_outlives_the_next_timeout(
        first in 0..5000_i64, used in 0..5000_i64, now in -5000..10_000_i64, auth in proptest::option::of(-5000..10_000_i64),
    ) {
        let state = SessionState { first_seen_us: START + first * S, last_seen_us: START + (first + used) * S, ..state() };
        let token = PresentedToken { auth_time_s: auth.map(|auth| START / S + auth), ..token() };
        let now_us = START + now * S;
        if let SessionValidity::Valid { for_us } = check_session(&state, &token, &Restrictions::default(), &LIMITS, now_us) {
            prop_assert!(for_us > 0);
            // The request is a use.
            let used = SessionState { last_seen_us: state.last_seen_us.max(now_us), ..state };
            let last_us = now_us + for_us - 1;
            let then = check_session(&used, &token, &Restrictions::default(), &LIMITS, last_us);
            prop_assert!(matches!(then, SessionValidity::Valid { .. }), "{then:?}");
        }
    }

    #[test]
    fn no_number_is_too_large(first: i64, last: i64, now: i64, auth: Option<i64>, issued: Option<i64>, revoked: Option<i64>) {
        let state = SessionState { first_seen_us: first, last_seen_us: last, ..state() };
        let token = PresentedToken { auth_time_s: auth, issued_at_s: issued, ..token() };
        let mut restrictions = Restrictions::default();
        restrictions.revocations.everything_us = revoked;
        let validity = check_session(&state, &token, &restrictions, &LIMITS, now);
        let valid = matches!(validity, SessionValidity::Valid { for_us } if for_us > 0);
        prop_assert!(valid || !matches!(validity, SessionValidity::Valid { .. }), "{validity:?}");
        prop_assert!(check_token(&token, &restrictions, &LIMITS).is_ok() || revoked.is_some());
    }
}
