//! What holds in every store.

use picket_model::session::EndReason;
use std::sync::Arc;

use picket_state::StorageLocation;
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, LiveSince, Lockdown, Restrictions, Revocation, RevocationTarget, Session,
    SessionCounts, SessionCreation, SessionEnd,
};
use picket_state::{Fingerprint, ListFilter, NamedBy, PrincipalId, SessionId, Store, TenantId};

use crate::{Backend, confirm, open, reopen};

const NOW_US: i64 = 1_700_000_000_000_000;
const ISSUER: &str = "https://issuer.example";
const OPERATOR: &str = "spiffe://example.org/operator";

/// Counts all that were not ended.
const MANY: ConcurrencyLimit = ConcurrencyLimit {
    max: 100,
    first_seen_after_us: 0,
    last_seen_after_us: 0,
};

pub(crate) async fn run(backend: &impl Backend) {
    what_is_created_is_found(&*open(&backend.fresh().await).await).await;
    the_first_of_two_creations_counts(&*open(&backend.fresh().await).await).await;
    the_oldest_session_that_counts_is_ended_for_a_new_one(&*open(&backend.fresh().await).await).await;
    creations_at_once_leave_no_more_than_there_may_be(open(&backend.fresh().await).await).await;
    a_session_ends_once(&*open(&backend.fresh().await).await).await;
    a_session_that_was_used_since_does_not_end(&*open(&backend.fresh().await).await).await;
    uses_move_forward_alone(&*open(&backend.fresh().await).await).await;
    a_list_has_every_session_once(&*open(&backend.fresh().await).await).await;
    what_is_old_is_forgotten(&*open(&backend.fresh().await).await).await;
    each_principal_is_found_once(&*open(&backend.fresh().await).await).await;
    each_tenant_is_counted(&*open(&backend.fresh().await).await).await;
    what_was_ordered_stands(&*open(&backend.fresh().await).await).await;
    any_text_is_kept_as_it_is(&*open(&backend.fresh().await).await).await;
    what_was_acknowledged_is_there_after_a_restart(&backend.fresh().await).await;
}

fn id(name: &str) -> SessionId {
    SessionId::of(ISSUER, NamedBy::SessionId, name)
}

fn session(name: &str, subject: &str, first_seen_us: i64) -> Session {
    Session {
        id: id(name),
        principal: PrincipalId::of(ISSUER, subject),
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        tenant: Some(format!("{subject}'s")),
        named_by: NamedBy::SessionId,
        name: name.to_owned(),
        fingerprint: Fingerprint::of(&[("user_agent", Some("test"))]),
        first_seen_us,
        last_seen_us: first_seen_us,
        ended: None,
    }
}

fn ended(reason: EndReason) -> SessionEnd {
    SessionEnd {
        at_us: NOW_US + 5,
        reason,
        caller: Some(OPERATOR.to_owned()),
    }
}

async fn create(store: &dyn Store, name: &str, subject: &str, first_seen_us: i64) {
    let created = store.create(session(name, subject, first_seen_us), MANY).await.unwrap();
    assert_eq!(created, SessionCreation::Created { superseded: vec![] }, "{name}");
}

async fn reason(store: &dyn Store, name: &str) -> Option<EndReason> {
    let session = store.session(id(name)).await.unwrap().unwrap();
    session.ended.map(|ended| ended.reason)
}

async fn what_is_created_is_found(store: &dyn Store) {
    assert_eq!(store.session(id("1")).await.unwrap(), None);
    let without_tenant = Session {
        tenant: None,
        named_by: NamedBy::TokenId,
        ..session("2", "alice", NOW_US)
    };
    create(store, "1", "alice", NOW_US).await;
    store.create(without_tenant.clone(), MANY).await.unwrap();
    assert_eq!(
        store.session(id("1")).await.unwrap(),
        Some(session("1", "alice", NOW_US))
    );
    assert_eq!(store.session(id("2")).await.unwrap(), Some(without_tenant));
    assert_eq!(store.counts(10).await.unwrap().all, 2);
    confirm(store).await;
}

async fn the_first_of_two_creations_counts(store: &dyn Store) {
    create(store, "1", "alice", NOW_US).await;
    let second = store.create(session("1", "mallory", NOW_US + 1), MANY).await.unwrap();
    assert_eq!(
        second,
        SessionCreation::Existing(Box::new(session("1", "alice", NOW_US)))
    );
}

async fn the_oldest_session_that_counts_is_ended_for_a_new_one(store: &dyn Store) {
    for (name, first_seen_us) in [
        ("timed out", -100),
        ("ended", 1),
        ("idle", 2),
        ("first", 3),
        ("second", 4),
    ] {
        create(store, name, "alice", NOW_US + first_seen_us).await;
    }
    create(store, "bob's", "bob", NOW_US).await;
    for (name, _) in [("first", 3), ("second", 4)] {
        store.record_uses(vec![(id(name), NOW_US + 50)]).await.unwrap();
    }
    assert!(
        store
            .end(id("ended"), ended(EndReason::Revoked), i64::MAX)
            .await
            .unwrap()
    );
    let concurrency = ConcurrencyLimit {
        max: 2,
        first_seen_after_us: NOW_US,
        last_seen_after_us: NOW_US + 10,
    };
    let created = store
        .create(session("third", "alice", NOW_US + 60), concurrency)
        .await
        .unwrap();
    let superseded = vec![id("first")];
    assert_eq!(created, SessionCreation::Created { superseded });
    assert_eq!(reason(store, "first").await, Some(EndReason::Superseded));
    assert_eq!(reason(store, "ended").await, Some(EndReason::Revoked));
    for name in ["timed out", "idle", "second", "third", "bob's"] {
        assert_eq!(reason(store, name).await, None, "{name}");
    }
    // With one at most, the new one is the one, also where another seems to be younger.
    let one = ConcurrencyLimit { max: 1, ..MANY };
    store.create(session("fourth", "alice", NOW_US), one).await.unwrap();
    assert_eq!(reason(store, "fourth").await, None);
    for name in ["timed out", "idle", "second", "third"] {
        assert_eq!(reason(store, name).await, Some(EndReason::Superseded), "{name}");
    }
}

async fn creations_at_once_leave_no_more_than_there_may_be(store: Arc<dyn Store>) {
    let concurrency = ConcurrencyLimit { max: 3, ..MANY };
    let mut creations = tokio::task::JoinSet::new();
    for number in 0..24 {
        let store = Arc::clone(&store);
        let session = session(&number.to_string(), "alice", NOW_US + number);
        creations.spawn(async move { store.create(session, concurrency).await.unwrap() });
    }
    while let Some(created) = creations.join_next().await {
        created.unwrap();
    }
    let mut live = 0;
    for number in 0..24 {
        live += u32::from(reason(&*store, &number.to_string()).await.is_none());
    }
    assert_eq!(live, 3);
}

async fn a_session_ends_once(store: &dyn Store) {
    create(store, "1", "alice", NOW_US).await;
    let compromised = ended(EndReason::Compromised);
    assert!(store.end(id("1"), compromised.clone(), i64::MAX).await.unwrap());
    assert!(!store.end(id("1"), ended(EndReason::Revoked), i64::MAX).await.unwrap());
    assert!(
        !store
            .end(id("unknown"), ended(EndReason::Revoked), i64::MAX)
            .await
            .unwrap()
    );
    let found = store.session(id("1")).await.unwrap().unwrap();
    assert_eq!(found.ended, Some(compromised));
    // Neither a use nor a second creation revives it.
    store.record_uses(vec![(id("1"), NOW_US + 10)]).await.unwrap();
    store.create(session("1", "alice", NOW_US + 10), MANY).await.unwrap();
    assert_eq!(reason(store, "1").await, Some(EndReason::Compromised));
}

async fn a_session_that_was_used_since_does_not_end(store: &dyn Store) {
    create(store, "1", "alice", NOW_US).await;
    store.record_uses(vec![(id("1"), NOW_US + 10)]).await.unwrap();
    let idle = ended(EndReason::IdleTimeout);
    assert!(!store.end(id("1"), idle.clone(), NOW_US + 9).await.unwrap());
    assert_eq!(reason(store, "1").await, None);
    assert!(store.end(id("1"), idle, NOW_US + 10).await.unwrap());
}

async fn uses_move_forward_alone(store: &dyn Store) {
    create(store, "1", "alice", NOW_US).await;
    create(store, "2", "alice", NOW_US).await;
    let uses = vec![(id("2"), NOW_US - 5), (id("1"), NOW_US + 5), (id("unknown"), NOW_US)];
    store.record_uses(uses).await.unwrap();
    store.record_uses(vec![(id("1"), NOW_US + 3)]).await.unwrap();
    store.record_uses(vec![]).await.unwrap();
    let last_seen_us = async |name| store.session(id(name)).await.unwrap().unwrap().last_seen_us;
    assert_eq!((last_seen_us("1").await, last_seen_us("2").await), (NOW_US + 5, NOW_US));
    assert_eq!(store.session(id("unknown")).await.unwrap(), None);
}

async fn a_list_has_every_session_once(store: &dyn Store) {
    for number in 0..7 {
        let subject = if number < 3 { "alice" } else { "bob" };
        create(store, &number.to_string(), subject, NOW_US).await;
    }
    for (filter, expected) in [
        (ListFilter::All, 7),
        (ListFilter::Principal(PrincipalId::of(ISSUER, "alice")), 3),
        (ListFilter::Tenant("bob's".to_owned()), 4),
        (ListFilter::Tenant("nobody's".to_owned()), 0),
    ] {
        let mut found = Vec::new();
        loop {
            let page = store.sessions(filter.clone(), found.last().copied(), 2).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 2, "{filter:?}");
            found.extend(page.iter().map(|session| session.id));
        }
        assert!(found.is_sorted(), "{filter:?}");
        found.dedup();
        assert_eq!(found.len(), expected, "{filter:?}");
    }
}

async fn what_is_old_is_forgotten(store: &dyn Store) {
    for number in 0..5 {
        create(store, &number.to_string(), "alice", NOW_US + number).await;
    }
    revoke(
        store,
        RevocationTarget::Principal(PrincipalId::of(ISSUER, "old")),
        NOW_US,
    )
    .await;
    revoke(
        store,
        RevocationTarget::Principal(PrincipalId::of(ISSUER, "new")),
        NOW_US + 1,
    )
    .await;
    let first = store.delete_expired(NOW_US + 3, NOW_US + 1, 2).await.unwrap();
    let expected = DeletedRows {
        sessions: 2,
        revocations: 1,
    };
    assert_eq!(first, expected);
    let second = store.delete_expired(NOW_US + 3, NOW_US + 1, 2).await.unwrap();
    assert_eq!((second.sessions, second.revocations), (1, 0));
    assert_eq!(store.counts(10).await.unwrap().all, 2);
    assert_eq!(store.session(id("2")).await.unwrap(), None);
    assert!(store.session(id("3")).await.unwrap().is_some());
    assert_eq!(store.restrictions().await.unwrap().revocations.principals.len(), 1);
}

async fn each_principal_is_found_once(store: &dyn Store) {
    let since = LiveSince {
        first_seen_after_us: NOW_US,
        last_seen_after_us: NOW_US + 10,
    };
    assert_eq!(store.last_sessions(None, since, 10).await.unwrap(), []);
    let subjects = ["alice", "bob", "carol", "dave", "erin", "frank"];
    for (number, subject) in subjects.iter().enumerate() {
        for part in ["a", "b"] {
            create(store, &format!("{number}{part}"), subject, NOW_US + 1).await;
            store
                .record_uses(vec![(id(&format!("{number}{part}")), NOW_US + 20)])
                .await
                .unwrap();
        }
    }
    // The last use of one; one that has ended, one that is idle, and one that is too old do not
    // count.
    store.record_uses(vec![(id("0a"), NOW_US + 30)]).await.unwrap();
    for name in ["1a", "2a", "2b"] {
        assert!(store.end(id(name), ended(EndReason::Revoked), i64::MAX).await.unwrap());
    }
    create(store, "idle", "greta", NOW_US + 1).await;
    create(store, "old", "heidi", NOW_US).await;
    store.record_uses(vec![(id("old"), NOW_US + 20)]).await.unwrap();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|session: &Session| session.principal);
        let page = store.last_sessions(after, since, 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        found.extend(page);
    }
    assert!(found.is_sorted_by_key(|session| session.principal));
    let mut names: Vec<_> = found.iter().map(|session| session.subject.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alice", "bob", "dave", "erin", "frank"]);
    let of = |subject| found.iter().find(|session| session.subject == subject).unwrap().clone();
    let expected = Session {
        last_seen_us: NOW_US + 30,
        ..session("0a", "alice", NOW_US + 1)
    };
    assert_eq!(of("alice"), expected);
    assert_eq!(of("bob").name, "1b");
}

async fn each_tenant_is_counted(store: &dyn Store) {
    assert_eq!(store.counts(10).await.unwrap(), SessionCounts::default());
    for (number, subject) in ["alice", "bob", "bob", "carol", "bob", "carol"].into_iter().enumerate() {
        create(store, &number.to_string(), subject, NOW_US).await;
    }
    let without = Session {
        tenant: None,
        ..session("without", "alice", NOW_US)
    };
    store.create(without, MANY).await.unwrap();
    // Ended ones are held as well.
    assert!(store.end(id("1"), ended(EndReason::Revoked), i64::MAX).await.unwrap());
    let expected = SessionCounts {
        all: 7,
        without_tenant: 1,
        tenants: vec![("bob's".to_owned(), 3), ("carol's".to_owned(), 2)],
    };
    assert_eq!(store.counts(2).await.unwrap(), expected);
}

async fn revoke(store: &dyn Store, target: RevocationTarget, until_us: i64) {
    let revocation = Revocation {
        target,
        label: "label".to_owned(),
        until_us,
        caller: OPERATOR.to_owned(),
    };
    store.revoke(revocation).await.unwrap();
}

async fn what_was_ordered_stands(store: &dyn Store) {
    assert_eq!(store.restrictions().await.unwrap(), Restrictions::default());
    let (alice, acme) = (PrincipalId::of(ISSUER, "alice"), TenantId::of("acme"));
    for (target, until_us) in [
        (RevocationTarget::Principal(alice), 5),
        (RevocationTarget::Tenant(acme), 6),
        (RevocationTarget::Everything, 7),
        // An earlier one takes nothing back.
        (RevocationTarget::Everything, 3),
        (RevocationTarget::Principal(alice), 8),
    ] {
        revoke(store, target, NOW_US + until_us).await;
    }
    let lockdown = Lockdown {
        at_us: NOW_US,
        caller: OPERATOR.to_owned(),
    };
    let later = Lockdown {
        at_us: NOW_US + 1,
        ..lockdown.clone()
    };
    assert!(store.set_lockdown(Some(lockdown.clone())).await.unwrap());
    assert!(!store.set_lockdown(Some(later)).await.unwrap());
    let restrictions = store.restrictions().await.unwrap();
    let mut expected = Restrictions {
        lockdown: Some(lockdown),
        ..Restrictions::default()
    };
    expected.revocations.add(RevocationTarget::Principal(alice), NOW_US + 8);
    expected.revocations.add(RevocationTarget::Tenant(acme), NOW_US + 6);
    expected.revocations.add(RevocationTarget::Everything, NOW_US + 7);
    assert_eq!(restrictions, expected);
    assert!(store.set_lockdown(None).await.unwrap());
    assert!(!store.set_lockdown(None).await.unwrap());
    assert_eq!(store.restrictions().await.unwrap().lockdown, None);
}

async fn any_text_is_kept_as_it_is(store: &dyn Store) {
    let text = "'; DROP TABLE session; -- \u{202e} é 日本 $1 ?1 \\";
    let odd = Session {
        issuer: text.to_owned(),
        subject: text.to_owned(),
        tenant: Some(text.to_owned()),
        name: text.to_owned(),
        ..session("odd", "alice", NOW_US)
    };
    store.create(odd.clone(), MANY).await.unwrap();
    assert_eq!(store.session(odd.id).await.unwrap(), Some(odd.clone()));
    let found = store
        .sessions(ListFilter::Tenant(text.to_owned()), None, 10)
        .await
        .unwrap();
    assert_eq!(found, [odd]);
}

async fn what_was_acknowledged_is_there_after_a_restart(location: &StorageLocation) {
    let store = open(location).await;
    create(&*store, "1", "alice", NOW_US).await;
    assert!(store.end(id("1"), ended(EndReason::Revoked), i64::MAX).await.unwrap());
    revoke(&*store, RevocationTarget::Everything, NOW_US).await;
    drop(store);
    let store = reopen(location).await;
    assert_eq!(reason(&*store, "1").await, Some(EndReason::Revoked));
    assert_eq!(
        store.restrictions().await.unwrap().revocations.everything_us,
        Some(NOW_US)
    );
}
