use proptest::prelude::*;

use super::*;

const S: i64 = MICROSECONDS_PER_SECOND;
const START: i64 = 1_700_000_000 * S;

const LIMITS: Limits = Limits {
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

fn seen() -> Seen {
    Seen {
        id: None,
        principal: principal(),
        tenant: Some(TenantId::of("acme")),
        fingerprint: Fingerprint::of(&[]),
        issued_at_s: Some(START / S),
        auth_time_s: None,
    }
}

fn check(state: SessionState, seen: Seen, after_s: i64, expected: Verdict) {
    let verdict = judge(&state, &seen, &Standing::default(), &LIMITS, START + after_s * S);
    assert_eq!(verdict, expected, "after {after_s} s");
}

fn holds(valid_for_s: i64) -> Verdict {
    Verdict::Holds {
        valid_for_us: valid_for_s * S,
    }
}

#[test]
fn a_session_ends_when_it_was_idle_for_the_timeout() {
    check(state(), seen(), 599, holds(300));
    check(state(), seen(), 600, Verdict::Ends(EndReason::IdleTimeout));
}

#[test]
fn a_session_ends_at_its_absolute_timeout_however_it_is_used() {
    let used = SessionState {
        last_seen_us: START + 3599 * S,
        ..state()
    };
    let fresh = Seen {
        auth_time_s: Some(START / S + 3500),
        ..seen()
    };
    check(used, fresh, 3599, holds(1));
    check(used, fresh, 3600, Verdict::Ends(EndReason::AbsoluteTimeout));
}

#[test]
fn authentication_is_asked_for_again_after_its_interval() {
    let used = SessionState {
        last_seen_us: START + 1799 * S,
        ..state()
    };
    let required = Verdict::Refused(Refusal::ReauthenticationRequired);
    check(used, seen(), 1799, holds(1));
    check(used, seen(), 1800, required);
    // By `auth_time` where the token has it, in either direction.
    let at = |auth_time_s| Seen {
        auth_time_s: Some(START / S + auth_time_s),
        ..seen()
    };
    check(used, at(60), 1800, holds(60));
    check(used, at(-100), 1799, required);
    // One in the future does not put it off.
    check(state(), at(100_000), 10, holds(300));
    let in_an_hour = judge(
        &used,
        &at(100_000),
        &Standing::default(),
        &Limits {
            reauthentication_interval_us: Some(0),
            ..LIMITS
        },
        START + 1799 * S,
    );
    assert_eq!(in_an_hour, required);
}

#[test]
fn another_client_or_principal_ends_a_session() {
    let compromised = Verdict::Ends(EndReason::Compromised);
    let other_client = Seen {
        fingerprint: Fingerprint::of(&[("user_agent", Some("curl"))]),
        ..seen()
    };
    check(state(), other_client, 1, compromised);
    let other_principal = Seen {
        principal: PrincipalId::of("https://issuer.example", "mallory"),
        ..seen()
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
        check(ended, seen(), 1, Verdict::Refused(Refusal::Ended(reason)));
    }
}

fn standing(target: Target, until_us: i64) -> Standing {
    let mut standing = Standing::default();
    standing.revocations.add(target, until_us);
    standing
}

#[test]
fn within_the_clock_skew_after_a_revocation_a_token_or_a_session_may_be_from_before_it() {
    let limits = Limits {
        clock_skew_us: 300 * S,
        ..LIMITS
    };
    let standing = standing(Target::Principal(principal()), START);
    let check = |issued_after_s: i64| {
        let seen = Seen {
            issued_at_s: Some(START / S + issued_after_s),
            ..seen()
        };
        check_token(&seen, &standing, &limits)
    };
    assert_eq!(check(1), Err(Refusal::Revoked));
    assert_eq!(check(300), Err(Refusal::Revoked));
    assert_eq!(check(301), Ok(()));
    let check = |began_after_us: i64| {
        let state = SessionState {
            first_seen_us: START + began_after_us,
            last_seen_us: START + began_after_us,
            ..state()
        };
        judge(&state, &seen(), &standing, &limits, START + 310 * S)
    };
    assert_eq!(check(300 * S), Verdict::Refused(Refusal::Revoked));
    assert!(matches!(check(300 * S + 1), Verdict::Holds { .. }));
}

#[test]
fn a_revocation_covers_tokens_and_sessions_from_before_it_and_no_later_ones() {
    let at_us = START + 10 * S + S / 2;
    let acme = TenantId::of("acme");
    for standing in [
        standing(Target::Everything, at_us),
        standing(Target::Principal(principal()), at_us),
        standing(Target::Tenant(acme), at_us),
    ] {
        let issued = |after_s: i64| Seen {
            issued_at_s: Some(START / S + after_s),
            ..seen()
        };
        assert_eq!(check_token(&issued(10), &standing, &LIMITS), Err(Refusal::Revoked));
        assert_eq!(check_token(&issued(11), &standing, &LIMITS), Ok(()));
        let unknown = Seen {
            issued_at_s: None,
            ..seen()
        };
        assert_eq!(check_token(&unknown, &standing, &LIMITS), Err(Refusal::Revoked));
        // A later token does not revive a session from before.
        let now_us = START + 20 * S;
        let verdict = judge(&state(), &issued(15), &standing, &LIMITS, now_us);
        assert_eq!(verdict, Verdict::Refused(Refusal::Revoked));
        let later = SessionState {
            first_seen_us: START + 15 * S,
            last_seen_us: START + 15 * S,
            ..state()
        };
        let verdict = judge(&later, &issued(15), &standing, &LIMITS, now_us);
        assert_eq!(verdict, holds(300));
    }
}

#[test]
fn a_revocation_covers_its_target_alone() {
    let at_us = START + 10 * S;
    for standing in [
        standing(
            Target::Principal(PrincipalId::of("https://issuer.example", "bob")),
            at_us,
        ),
        standing(
            Target::Principal(PrincipalId::of("https://other.example", "alice")),
            at_us,
        ),
        standing(Target::Tenant(TenantId::of("globex")), at_us),
    ] {
        assert_eq!(check_token(&seen(), &standing, &LIMITS), Ok(()));
    }
}

#[test]
fn what_is_revoked_again_takes_no_further_place() {
    let (principal, tenant) = (Target::Principal(principal()), Target::Tenant(TenantId::of("acme")));
    let others = (
        Target::Principal(PrincipalId::of("issuer", "other")),
        Target::Tenant(TenantId::of("other")),
    );
    let mut revocations = Revocations::default();
    assert!(!revocations.hold(principal) && !revocations.hold(tenant) && revocations.hold(Target::Everything));
    revocations.add(principal, 1);
    revocations.add(tenant, 1);
    assert!(revocations.hold(principal) && revocations.hold(tenant));
    assert!(!revocations.hold(others.0) && !revocations.hold(others.1));
}

#[test]
fn lockdown_refuses_whatever_the_token_is() {
    let standing = Standing {
        lockdown: Some(Lockdown {
            at_us: START,
            caller: "spiffe://example.org/operator".to_owned(),
        }),
        ..Standing::default()
    };
    assert_eq!(check_token(&seen(), &standing, &LIMITS), Err(Refusal::Lockdown));
}

proptest! {
    /// An answer that is repeated to the end of its validity is still right then, and no time makes the rules fail.
    #[test]
    fn no_validity_outlives_the_next_timeout(
        first in 0..5000_i64, used in 0..5000_i64, now in -5000..10_000_i64, auth in proptest::option::of(-5000..10_000_i64),
    ) {
        let state = SessionState { first_seen_us: START + first * S, last_seen_us: START + (first + used) * S, ..state() };
        let seen = Seen { auth_time_s: auth.map(|auth| START / S + auth), ..seen() };
        let now_us = START + now * S;
        if let Verdict::Holds { valid_for_us } = judge(&state, &seen, &Standing::default(), &LIMITS, now_us) {
            prop_assert!(valid_for_us > 0);
            // The request is a use.
            let used = SessionState { last_seen_us: state.last_seen_us.max(now_us), ..state };
            let last_us = now_us + valid_for_us - 1;
            let then = judge(&used, &seen, &Standing::default(), &LIMITS, last_us);
            prop_assert!(matches!(then, Verdict::Holds { .. }), "{then:?}");
        }
    }

    #[test]
    fn no_number_is_too_large(first: i64, last: i64, now: i64, auth: Option<i64>, issued: Option<i64>, revoked: Option<i64>) {
        let state = SessionState { first_seen_us: first, last_seen_us: last, ..state() };
        let seen = Seen { auth_time_s: auth, issued_at_s: issued, ..seen() };
        let mut standing = Standing::default();
        standing.revocations.everything_us = revoked;
        let verdict = judge(&state, &seen, &standing, &LIMITS, now);
        let holds = matches!(verdict, Verdict::Holds { valid_for_us } if valid_for_us > 0);
        prop_assert!(holds || !matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
        prop_assert!(check_token(&seen, &standing, &LIMITS).is_ok() || revoked.is_some());
    }
}
