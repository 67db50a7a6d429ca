//! The check of a request's sessions, over a real store.

#![expect(clippy::unwrap_used, reason = "tests: helpers outside #[test] functions fail loudly")]

use std::sync::{Arc, Mutex};

use picket_model::access::{AccessRequest, Action, Context, FurtherToken, Principal, Resource, Sidecar};
use picket_model::decision::{Attribute, StepUp};
use picket_model::session::EndReason;
use picket_state::StorageLocation;
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, FingerprintPart, LiveSince, Lockdown, QuotaLimits, Restrictions, Revocation,
    RevocationTarget, Session, SessionAccess, SessionChange, SessionCheck, SessionCounts, SessionCreation, SessionEnd,
    SessionEvent, SessionLimits, SessionMetrics, SessionRefusal, SessionSettings, SessionStore, Sessions, WithoutId,
};
use picket_state::{
    CachedView, Change, Freshness, ListFilter, NamedBy, PrincipalId, SessionId, StorageError, Store, TenantId,
};

const S: i64 = 1_000_000;
const START: i64 = 1_700_000_000 * S;
const OPERATOR: &str = "spiffe://example.org/operator";

const SETTINGS: SessionSettings = SessionSettings {
    limits: SessionLimits {
        idle_timeout_us: 600 * S,
        absolute_timeout_us: 3600 * S,
        reauthentication_interval_us: None,
        concurrent_max: 2,
        retention_us: 86_400 * S,
        clock_skew_us: 0,
    },
    fingerprint: Vec::new(),
    without_id: WithoutId::Deny,
    quota: QuotaLimits {
        sessions_max: 100,
        per_tenant_max: 100,
    },
    cache_entries_max: 10,
};

/// The sessions of one replica of the policy service.
struct Replica {
    sessions: Arc<Sessions>,
    store: Arc<dyn Store>,
}

impl Replica {
    async fn on(store: &Arc<dyn Store>, settings: SessionSettings) -> Self {
        Self::through(Arc::<dyn Store>::clone(store), store, settings).await
    }

    /// With a port that leads to the store.
    async fn through(port: Arc<dyn SessionStore>, store: &Arc<dyn Store>, settings: SessionSettings) -> Self {
        let freshness = Arc::new(Freshness::new());
        let metrics = SessionMetrics::default();
        let sessions = Arc::new(Sessions::new(port, Arc::clone(&freshness), 1, settings, metrics));
        sessions.refresh().await.unwrap();
        freshness.confirm(freshness.elapsed_ms());
        let store = Arc::<dyn Store>::clone(store);
        Self { sessions, store }
    }

    async fn check_as(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        at_s: i64,
    ) -> (Result<SessionCheck, StorageError>, Vec<SessionChange>) {
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let record = {
            let recorded = Arc::clone(&recorded);
            async move |events| {
                *recorded.lock().unwrap() = events;
                Ok(())
            }
        };
        let checked = self.sessions.check(request, access, START + at_s * S, record).await;
        let changes = recorded
            .lock()
            .unwrap()
            .iter()
            .map(|event: &SessionEvent| event.change)
            .collect();
        (checked, changes)
    }

    async fn check(
        &self,
        request: &AccessRequest,
        at_s: i64,
    ) -> (Result<SessionCheck, StorageError>, Vec<SessionChange>) {
        self.check_as(request, SessionAccess::Update, at_s).await
    }

    /// The refusal's code at this second, or `None` where the session is valid.
    async fn ask(&self, request: &AccessRequest, at_s: i64) -> Option<&'static str> {
        self.check(request, at_s)
            .await
            .0
            .unwrap()
            .refusal
            .map(SessionRefusal::code)
    }

    async fn changes(&self, request: &AccessRequest, at_s: i64) -> Vec<SessionChange> {
        self.check(request, at_s).await.1
    }

    async fn write_uses(&self) {
        self.sessions.flush().await.unwrap();
    }

    /// As if another replica had changed something.
    fn apply_change(&self, change: Change) {
        self.sessions.apply_change(change);
    }
}

async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let file = folder.path().join("storage.sqlite3");
    picket_storage::open(&StorageLocation::Sqlite { file }, Arc::new(|_| ()))
        .await
        .unwrap()
}

fn request(sid: &str) -> AccessRequest {
    let text = str::to_owned;
    AccessRequest {
        request_id: text("request"),
        sidecar: Sidecar {
            node_id: text("node"),
            workload: text("orders"),
        },
        route_rule: text("rule"),
        principal: Some(Principal {
            issuer: text("https://issuer.example"),
            subject: text("alice"),
            tenant: Some(text("acme")),
            session_id: Some(text(sid)),
            token_id: Some(text("token")),
            issued_at_s: Some(START / S),
            ..Principal::default()
        }),
        peer: Some("spiffe://example.org/web".parse().unwrap()),
        action: Action { method: text("GET") },
        resource: Resource {
            host: text("orders"),
            path: text("/"),
            ..Resource::default()
        },
        context: Context {
            user_agent: Some(text("browser")),
            ..Context::default()
        },
        ..AccessRequest::default()
    }
}

fn with(mut request: AccessRequest, edit: impl FnOnce(&mut Principal)) -> AccessRequest {
    edit(request.principal.as_mut().unwrap());
    request
}

fn id(sid: &str) -> SessionId {
    SessionId::of("https://issuer.example", NamedBy::SessionId, sid)
}

#[tokio::test]
async fn a_session_is_created_once_used_and_ended_once() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::on(&store(&folder).await, SETTINGS).await;
    assert_eq!(replica.changes(&request("1"), 0).await, [SessionChange::Created]);
    assert_eq!(replica.changes(&request("1"), 500).await, []);
    assert_eq!(replica.ask(&request("1"), 1099).await, None);
    let reason = EndReason::IdleTimeout;
    assert_eq!(
        replica.changes(&request("1"), 1699).await,
        [SessionChange::Ended { reason }]
    );
    // A later token of the same session revives nothing.
    let later = with(request("1"), |principal| principal.issued_at_s = Some(START / S + 1699));
    for at_s in [1700, 5000] {
        assert_eq!(replica.ask(&later, at_s).await, Some("session_ended"));
    }
    assert_eq!(replica.changes(&later, 5000).await, []);
    assert_eq!(replica.ask(&request("2"), 1700).await, None);
}

#[tokio::test]
async fn an_answer_does_not_outlive_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::on(&store(&folder).await, SETTINGS).await;
    for (at_s, expected_ms) in [
        (0, 300_000),
        (500, 300_000),
        (1000, 300_000),
        (1500, 300_000),
        (2000, 300_000),
        (2500, 300_000),
        (3000, 300_000),
        (3400, 200_000),
    ] {
        let check = replica.check(&request("1"), at_s).await.0.unwrap();
        assert_eq!((check.refusal, check.valid_for_ms_max), (None, expected_ms), "{at_s}");
    }
}

#[tokio::test]
async fn a_principal_that_authenticated_too_long_ago_is_told_how_long_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SETTINGS;
    settings.limits.reauthentication_interval_us = Some(300 * S);
    let replica = Replica::on(&store(&folder).await, settings).await;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    let check = replica.check(&request("1"), 300).await.0.unwrap();
    assert_eq!(check.refusal, Some(SessionRefusal::ReauthenticationRequired));
    assert_eq!(check.challenge, StepUp::new(vec![], Some(300), false, false));
    let again = with(request("1"), |principal| principal.auth_time_s = Some(START / S + 300));
    assert_eq!(replica.ask(&again, 300).await, None);
}

#[tokio::test]
async fn another_client_ends_the_session_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionSettings {
        fingerprint: vec![FingerprintPart::UserAgent, FingerprintPart::Peer],
        ..SETTINGS
    };
    let replica = Replica::on(&store(&folder).await, settings).await;
    for (sid, edit) in [
        (
            "1",
            (|request: &mut AccessRequest| request.context.user_agent = None) as fn(&mut AccessRequest),
        ),
        ("2", |request| {
            request.peer = Some("spiffe://example.org/other".parse().unwrap());
        }),
        ("3", |request| {
            request.principal.as_mut().unwrap().subject = "mallory".to_owned();
        }),
    ] {
        let check = replica.check(&request(sid), 0).await.0.unwrap();
        assert_eq!(check.refusal, None);
        // Another client's request must not be answered from the sidecar's cache.
        assert!(check.vary.contains(Attribute::UserAgent) && check.vary.contains(Attribute::Peer));
        let mut stolen = request(sid);
        edit(&mut stolen);
        let reason = EndReason::Compromised;
        assert_eq!(
            replica.changes(&stolen, 1).await,
            [SessionChange::Ended { reason }],
            "{sid}"
        );
        assert_eq!(replica.ask(&request(sid), 2).await, Some("session_compromised"));
    }
}

#[tokio::test]
async fn the_oldest_session_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::on(&store(&folder).await, SETTINGS).await;
    for (at_s, sid) in [(0, "1"), (1, "2")] {
        assert_eq!(replica.changes(&request(sid), at_s).await, [SessionChange::Created]);
    }
    let reason = EndReason::Superseded;
    assert_eq!(
        replica.changes(&request("3"), 2).await,
        [SessionChange::Created, SessionChange::Ended { reason }]
    );
    for (sid, expected) in [("1", Some("session_ended")), ("2", None), ("3", None)] {
        assert_eq!(replica.ask(&request(sid), 3).await, expected, "{sid}");
    }
}

#[tokio::test]
async fn no_more_sessions_are_held_than_there_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionSettings {
        quota: QuotaLimits {
            sessions_max: 1,
            per_tenant_max: 1,
        },
        ..SETTINGS
    };
    let replica = Replica::on(&store(&folder).await, settings).await;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    assert_eq!(replica.ask(&request("2"), 0).await, Some("session_limit_reached"));
    assert_eq!(replica.ask(&request("1"), 1).await, None);
}

#[tokio::test]
async fn a_token_without_sid_is_a_session_by_its_jti_and_without_both_as_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let replica = Replica::on(&store, SETTINGS).await;
    let by_token = with(request("1"), |principal| principal.session_id = None);
    assert_eq!(replica.ask(&by_token, 0).await, None);
    let token = SessionId::of("https://issuer.example", NamedBy::TokenId, "token");
    assert_eq!(store.session(token).await.unwrap().unwrap().named_by, NamedBy::TokenId);
    let nameless = with(by_token, |principal| principal.token_id = None);
    assert_eq!(replica.ask(&nameless, 0).await, Some("session_id_missing"));
    let settings = SessionSettings {
        without_id: WithoutId::Permit,
        ..SETTINGS
    };
    let replica = Replica::on(&store, settings).await;
    assert_eq!(replica.ask(&nameless, 0).await, None);
    revoke_alice(&replica, 1).await;
    assert_eq!(replica.ask(&nameless, 2).await, Some("session_revoked"));
}

async fn revoke_alice(replica: &Replica, at_s: i64) {
    let alice = RevocationTarget::Principal(PrincipalId::of("https://issuer.example", "alice"));
    let at_us = START + at_s * S;
    replica.sessions.revoke(alice, "alice", OPERATOR, at_us).await.unwrap();
}

#[tokio::test]
async fn what_was_revoked_is_refused_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let replica = Replica::on(&store, SETTINGS).await;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    assert_eq!(replica.ask(&request("2"), 0).await, None);
    let at_us = START + S;
    assert!(replica.sessions.revoke_session(id("1"), OPERATOR, at_us).await.unwrap());
    assert!(!replica.sessions.revoke_session(id("1"), OPERATOR, at_us).await.unwrap());
    assert_eq!(replica.ask(&request("1"), 2).await, Some("session_revoked"));
    assert_eq!(replica.ask(&request("2"), 2).await, None);
    revoke_alice(&replica, 10).await;
    let later = |sid| with(request(sid), |principal| principal.issued_at_s = Some(START / S + 11));
    // An older session with a newer token, and a newer session.
    assert_eq!(replica.ask(&later("2"), 12).await, Some("session_revoked"));
    assert_eq!(replica.ask(&later("3"), 12).await, None);
    assert_eq!(replica.ask(&request("3"), 12).await, Some("session_revoked"));
    // Another process on the same storage knows it all.
    let restarted = Replica::on(&store, SETTINGS).await;
    for (sid, expected) in [
        ("1", Some("session_revoked")),
        ("2", Some("session_revoked")),
        ("3", None),
    ] {
        assert_eq!(restarted.ask(&later(sid), 13).await, expected, "{sid}");
    }
}

#[tokio::test]
async fn a_session_does_not_begin_where_it_could_be_from_before_a_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let mut settings = SETTINGS;
    settings.limits.clock_skew_us = 60 * S;
    let replica = Replica::on(&store, settings).await;
    revoke_alice(&replica, 10).await;
    // An issuer whose clock is ahead.
    let issued = |at_s| with(request("1"), |principal| principal.issued_at_s = Some(START / S + at_s));
    for at_s in [12, 70] {
        let (checked, changes) = replica.check(&issued(71), at_s).await;
        let check = checked.unwrap();
        assert_eq!(check.refusal, Some(SessionRefusal::Revoked), "{at_s}");
        // The same token may be permitted later.
        assert_eq!((check.valid_for_ms_max, changes), (0, vec![]), "{at_s}");
    }
    assert_eq!(store.session(id("1")).await.unwrap(), None);
    assert_eq!(replica.changes(&issued(71), 71).await, [SessionChange::Created]);
    assert_eq!(replica.ask(&issued(75), 75).await, None);
    // One that began before the revocation stays refused.
    revoke_alice(&replica, 80).await;
    assert_eq!(replica.ask(&issued(141), 150).await, Some("session_revoked"));
}

#[tokio::test]
async fn lockdown_refuses_everybody_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::on(&store(&folder).await, SETTINGS).await;
    let mut workload = request("1");
    workload.principal = None;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    assert_eq!(replica.ask(&workload, 0).await, None);
    let lockdown = Lockdown {
        at_us: START,
        caller: OPERATOR.to_owned(),
    };
    assert!(replica.sessions.set_lockdown(Some(lockdown.clone())).await.unwrap());
    assert_eq!(replica.sessions.lockdown().unwrap(), Some(lockdown));
    for request in [&request("1"), &request("2"), &workload] {
        assert_eq!(replica.ask(request, 1).await, Some("lockdown"));
    }
    assert!(replica.sessions.set_lockdown(None).await.unwrap());
    assert_eq!(replica.ask(&request("1"), 2).await, None);
    assert_eq!(replica.ask(&workload, 2).await, None);
}

#[tokio::test]
async fn a_session_that_another_replica_sees_used_is_not_idle() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let (first, second) = (Replica::on(&store, SETTINGS).await, Replica::on(&store, SETTINGS).await);
    assert_eq!(first.ask(&request("1"), 0).await, None);
    assert_eq!(second.ask(&request("1"), 500).await, None);
    second.write_uses().await;
    assert_eq!(first.ask(&request("1"), 1000).await, None);
    assert_eq!(first.ask(&request("1"), 1600).await, Some("session_ended"));
}

#[tokio::test]
async fn a_process_that_dies_makes_a_session_end_earlier_by_a_tenth_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let killed = Replica::on(&store, SETTINGS).await;
    for at_s in [0, 59, 118] {
        assert_eq!(killed.ask(&request("1"), at_s).await, None);
        killed.write_uses().await;
    }
    drop(killed);
    let restarted = Replica::on(&store, SETTINGS).await;
    assert_eq!(restarted.ask(&request("1"), 118 + 599 - 60).await, None);
}

#[tokio::test]
async fn without_a_word_from_the_storage_there_is_no_decision() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::on(&store(&folder).await, SETTINGS).await;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    replica.apply_change(Change::Anything);
    let (unknown, _) = replica.check(&request("1"), 0).await;
    assert!(matches!(unknown, Err(StorageError::Stale(_))), "{unknown:?}");
    let mut workload = request("1");
    workload.principal = None;
    assert!(replica.check(&workload, 0).await.0.is_err());
}

#[tokio::test]
async fn a_session_that_is_refused_is_remembered_for_as_long_as_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let replica = Replica::on(&store, SETTINGS).await;
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    assert_eq!(replica.ask(&request("1"), 600).await, Some("session_ended"));
    assert_eq!(replica.ask(&request("1"), 90_000).await, Some("session_ended"));
    replica.write_uses().await;
    let seen_before_us = START + 80_000 * S;
    assert_eq!(store.delete_expired(seen_before_us, 0, 10).await.unwrap().sessions, 0);
    assert_eq!(replica.ask(&request("1"), 90_001).await, Some("session_ended"));
}

/// The token of a client beside the user's.
fn beside(sid: &str, jti: &str) -> FurtherToken {
    FurtherToken {
        issuer: "https://clients.example".to_owned(),
        subject: "shop".to_owned(),
        tenant: Some("shops".to_owned()),
        session_id: Some(sid.to_owned()),
        token_id: Some(jti.to_owned()),
        issued_at_s: Some(START / S),
    }
}

fn with_client(sid: &str, client_sid: &str) -> AccessRequest {
    AccessRequest {
        further_tokens: vec![beside(client_sid, "1")],
        ..request(sid)
    }
}

/// A request of the client for itself.
fn of_client(sid: &str) -> AccessRequest {
    with(request(sid), |principal| {
        principal.issuer = "https://clients.example".to_owned();
        principal.subject = "shop".to_owned();
        principal.tenant = Some("shops".to_owned());
    })
}

#[tokio::test]
async fn each_token_of_a_request_can_be_revoked() {
    let shop = PrincipalId::of("https://clients.example", "shop");
    for target in [
        RevocationTarget::Principal(shop),
        RevocationTarget::Tenant(TenantId::of("shops")),
        RevocationTarget::Everything,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::on(&store(&folder).await, SETTINGS).await;
        assert_eq!(replica.ask(&with_client("1", "a"), 0).await, None);
        let at_us = START + S;
        replica.sessions.revoke(target, "", OPERATOR, at_us).await.unwrap();
        assert_eq!(replica.ask(&with_client("1", "a"), 2).await, Some("session_revoked"));
        // The user's session was not begun anew for it.
        let mut later = with(with_client("2", "a"), |principal| {
            principal.issued_at_s = Some(START / S + 2);
        });
        assert_eq!(replica.ask(&later, 2).await, Some("session_revoked"));
        assert_eq!(replica.store.session(id("2")).await.unwrap(), None);
        later.further_tokens[0].issued_at_s = Some(START / S + 2);
        assert_eq!(replica.ask(&later, 2).await, None);
        let mut nobody = later;
        nobody.principal = None;
        nobody.further_tokens = vec![beside("a", "1")];
        assert_eq!(replica.ask(&nobody, 2).await, Some("session_revoked"));
    }
}

#[tokio::test]
async fn the_session_of_each_token_counts_and_only_the_principals_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionSettings {
        fingerprint: vec![FingerprintPart::UserAgent],
        ..SETTINGS
    };
    let replica = Replica::on(&store(&folder).await, settings).await;
    let shop = |sid| SessionId::of("https://clients.example", NamedBy::SessionId, sid);
    assert_eq!(replica.ask(&with_client("1", "a"), 0).await, None);
    assert_eq!(replica.store.session(shop("a")).await.unwrap(), None);
    // The client's own session is bound to its own user agent, and not to those of its users.
    let mut own = of_client("a");
    own.context.user_agent = Some("shop/1.0".to_owned());
    assert_eq!(replica.ask(&own, 0).await, None);
    // Its uses beside users keep it alive, and it is the same whether or not it is remembered.
    for at_s in [500, 1000, 1500] {
        replica.apply_change(Change::Session(shop("a")));
        for _ in 0..2 {
            assert_eq!(replica.ask(&with_client("1", "a"), at_s).await, None, "{at_s}");
        }
        replica.write_uses().await;
    }
    assert_eq!(replica.ask(&own, 2000).await, None);
    // An answer lasts no longer than any of them.
    for at_s in [2500, 3000] {
        assert_eq!(replica.ask(&own, at_s).await, None);
    }
    let both = with_client("2", "a");
    let (checked, _) = replica.check(&both, 3400).await;
    assert_eq!(checked.unwrap().valid_for_ms_max, 200_000);
    let revoked = replica.sessions.revoke_session(shop("a"), OPERATOR, START + 3401 * S);
    assert!(revoked.await.unwrap());
    // Read from the storage, and then from the cache.
    for _ in 0..3 {
        assert_eq!(replica.ask(&with_client("2", "a"), 3402).await, Some("session_revoked"));
    }
    assert_eq!(replica.ask(&request("2"), 3402).await, None);
}

#[tokio::test]
async fn who_tells_of_a_session_sees_what_became_of_it_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SessionSettings {
        fingerprint: vec![FingerprintPart::UserAgent, FingerprintPart::Peer],
        ..SETTINGS
    };
    let replica = Replica::on(&store(&folder).await, settings).await;
    // Neither the user agent nor the peer is known.
    let told = |sid| {
        let mut told = request(sid);
        (told.context.user_agent, told.peer) = (None, None);
        told
    };
    let tell = async |sid, at_s: i64| {
        let (checked, changes) = replica.check_as(&told(sid), SessionAccess::ReadOnly, at_s).await;
        assert_eq!(changes, []);
        checked.unwrap().refusal.map(SessionRefusal::code)
    };
    assert_eq!(tell("1", 0).await, None);
    assert_eq!(replica.store.session(id("1")).await.unwrap(), None);
    assert_eq!(replica.changes(&request("1"), 0).await, [SessionChange::Created]);
    for at_s in [1, 599] {
        assert_eq!(tell("1", at_s).await, None);
    }
    assert_eq!(replica.ask(&request("1"), 599).await, None);
    // Somebody else's, and one that is idle: told so, and left as it is.
    let mut other = told("1");
    other.principal.as_mut().unwrap().subject = "mallory".to_owned();
    let (checked, _) = replica.check_as(&other, SessionAccess::ReadOnly, 600).await;
    assert_eq!(
        checked.unwrap().refusal.map(SessionRefusal::code),
        Some("session_compromised")
    );
    assert_eq!(tell("1", 1198).await, None);
    assert_eq!(tell("1", 1199).await, Some("session_ended"));
    assert_eq!(replica.store.session(id("1")).await.unwrap().unwrap().ended, None);
    assert_eq!(replica.ask(&request("2"), 1199).await, None);
    let revoked = replica.sessions.revoke_session(id("2"), OPERATOR, START + 1200 * S);
    assert!(revoked.await.unwrap());
    assert_eq!(tell("2", 1201).await, Some("session_revoked"));
    revoke_alice(&replica, 1300).await;
    assert_eq!(tell("3", 1301).await, Some("session_revoked"));
}

#[tokio::test]
async fn a_tenant_that_holds_its_share_keeps_no_other_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let settings = SessionSettings {
        quota: QuotaLimits {
            sessions_max: 10,
            per_tenant_max: 2,
        },
        ..SETTINGS
    };
    let replica = Replica::on(&store, settings.clone()).await;
    let of = |tenant: Option<&str>, subject: &str, sid: &str| {
        with(request(sid), |principal| {
            principal.tenant = tenant.map(str::to_owned);
            principal.subject = subject.to_owned();
        })
    };
    let full = Some("session_limit_reached");
    for (tenant, name) in [(Some("acme"), "a"), (None, "n")] {
        for (number, expected) in [(0, None), (1, None), (2, full), (0, None)] {
            let sid = format!("{name}{number}");
            assert_eq!(replica.ask(&of(tenant, &sid, &sid), 0).await, expected, "{sid}");
        }
    }
    assert_eq!(replica.ask(&of(Some("other"), "o0", "o0"), 0).await, None);
    // Another replica counts what is stored.
    let restarted = Replica::on(&store, settings).await;
    restarted.sessions.purge(START).await.unwrap();
    for (tenant, sid, expected) in [
        (Some("acme"), "a3", full),
        (None, "n3", full),
        (Some("other"), "o1", None),
        (Some("other"), "o2", full),
    ] {
        assert_eq!(restarted.ask(&of(tenant, sid, sid), 0).await, expected, "{sid}");
    }
}

/// A store that, once, reads a session and says so only after it was told to go on.
struct Gated {
    store: Arc<dyn Store>,
    has_read: tokio::sync::Semaphore,
    may_answer: tokio::sync::Semaphore,
    /// Whose cache is dropped when a session was created.
    outdated_by_create: std::sync::OnceLock<Arc<Sessions>>,
}

#[async_trait::async_trait]
impl SessionStore for Gated {
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StorageError> {
        let session = self.store.session(id).await;
        self.has_read.add_permits(1);
        self.may_answer.acquire().await.unwrap().forget();
        session
    }

    async fn create(&self, session: Session, limit: ConcurrencyLimit) -> Result<SessionCreation, StorageError> {
        let creation = self.store.create(session, limit).await;
        if let Some(sessions) = self.outdated_by_create.get() {
            sessions.apply_change(Change::Anything);
        }
        creation
    }

    async fn end(&self, id: SessionId, end: SessionEnd, used_until_us: i64) -> Result<bool, StorageError> {
        self.store.end(id, end, used_until_us).await
    }

    async fn record_uses(&self, uses: Vec<(SessionId, i64)>) -> Result<(), StorageError> {
        self.store.record_uses(uses).await
    }

    async fn sessions(
        &self,
        filter: ListFilter,
        after: Option<SessionId>,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.store.sessions(filter, after, count_max).await
    }

    async fn last_sessions(
        &self,
        after: Option<PrincipalId>,
        live: LiveSince,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.store.last_sessions(after, live, count_max).await
    }

    async fn counts(&self, tenants_max: u32) -> Result<SessionCounts, StorageError> {
        self.store.counts(tenants_max).await
    }

    async fn delete_expired(&self, seen: i64, revoked: i64, count_max: u32) -> Result<DeletedRows, StorageError> {
        self.store.delete_expired(seen, revoked, count_max).await
    }

    async fn restrictions(&self) -> Result<Restrictions, StorageError> {
        self.store.restrictions().await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StorageError> {
        self.store.revoke(revocation).await
    }

    async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError> {
        self.store.set_lockdown(lockdown).await
    }
}

/// A replica whose reads of sessions wait until they are let go on.
async fn gated(folder: &tempfile::TempDir) -> (Arc<Replica>, Arc<Gated>) {
    let store = store(folder).await;
    let gate = Arc::new(Gated {
        store: Arc::<dyn Store>::clone(&store),
        has_read: tokio::sync::Semaphore::new(0),
        may_answer: tokio::sync::Semaphore::new(0),
        outdated_by_create: std::sync::OnceLock::new(),
    });
    let replica = Replica::through(Arc::<Gated>::clone(&gate), &store, SETTINGS).await;
    (Arc::new(replica), gate)
}

#[tokio::test]
async fn what_is_ordered_while_a_session_is_read_counts() {
    let alice = RevocationTarget::Principal(PrincipalId::of("https://issuer.example", "alice"));
    let shop = RevocationTarget::Principal(PrincipalId::of("https://clients.example", "shop"));
    // The session is there, or is about to begin; the token is the only one, or one of two; the
    // client is there, or told of.
    for (target, asked, is_there, access) in [
        (alice, request("1"), true, SessionAccess::Update),
        (alice, request("1"), false, SessionAccess::Update),
        (alice, request("1"), false, SessionAccess::ReadOnly),
        (shop, with_client("1", "a"), false, SessionAccess::Update),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (replica, gate) = gated(&folder).await;
        if is_there {
            gate.may_answer.add_permits(1);
            assert_eq!(replica.ask(&asked, 0).await, None);
            gate.has_read.acquire().await.unwrap().forget();
            replica.apply_change(Change::Session(id("1")));
        }
        let checking = tokio::spawn({
            let replica = Arc::clone(&replica);
            async move { replica.check_as(&asked, access, 2).await.0 }
        });
        gate.has_read.acquire().await.unwrap().forget();
        replica.sessions.revoke(target, "", OPERATOR, START + S).await.unwrap();
        gate.may_answer.add_permits(10);
        let refusal = checking.await.unwrap().unwrap().refusal.map(SessionRefusal::code);
        assert_eq!(refusal, Some("session_revoked"), "{target:?} {is_there} {access:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_ended_while_it_is_read_is_not_remembered_as_live() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, gate) = gated(&folder).await;
    gate.may_answer.add_permits(1);
    assert_eq!(replica.ask(&request("1"), 0).await, None);
    gate.has_read.acquire().await.unwrap().forget();
    replica.apply_change(Change::Session(id("1")));
    let checking = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { replica.ask(&request("1"), 2).await }
    });
    gate.has_read.acquire().await.unwrap().forget();
    let revoked = replica.sessions.revoke_session(id("1"), OPERATOR, START + S);
    assert!(revoked.await.unwrap());
    gate.may_answer.add_permits(10);
    // Whatever is said of the one that was under way, the next one knows.
    checking.await.unwrap();
    assert_eq!(replica.ask(&request("1"), 2).await, Some("session_revoked"));
}

#[tokio::test]
async fn what_was_done_to_a_session_is_told_also_where_nothing_can_be_decided_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, gate) = gated(&folder).await;
    gate.may_answer.add_permits(10);
    // The storage was silent for a while: what stands is to be read anew.
    gate.outdated_by_create.get_or_init(|| Arc::clone(&replica.sessions));
    let (checked, changes) = replica.check(&request("1"), 0).await;
    assert!(checked.is_err(), "{checked:?}");
    assert_eq!(changes, [SessionChange::Created]);
}

#[tokio::test]
async fn no_session_begins_while_what_stands_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, gate) = gated(&folder).await;
    let checking = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { replica.check(&request("1"), 0).await }
    });
    gate.has_read.acquire().await.unwrap().forget();
    replica.apply_change(Change::Anything);
    gate.may_answer.add_permits(10);
    let (checked, changes) = checking.await.unwrap();
    assert!(checked.is_err(), "{checked:?}");
    assert_eq!(changes, []);
}
