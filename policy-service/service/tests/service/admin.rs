//! What operators do, through the real program.

use picket_audit::{Act, ActOutcome, AdministrationRecord, Event, KeyEncryptionKey};
use picket_proto::v1;
use picket_proto::v1::admin_client::AdminClient;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_state::{NamedBy, SessionId};
use rustls::version::TLS13;
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::harness::{KEY, Service, Setup};
use crate::sessions::{SQLITE, asked, client, reasons};

pub(crate) const OPERATOR: &str = "spiffe://example.org/operator";
pub(crate) const READER: &str = "spiffe://example.org/reader";
pub(crate) const CALLERS: &str = r#"
    [[grpc.callers]]
    spiffe_id = "spiffe://example.org/operator"
    roles = ["operator"]
    [[grpc.callers]]
    spiffe_id = "spiffe://example.org/reader"
    roles = ["reader"]
"#;

fn id(sid: &str) -> String {
    SessionId::of("https://issuer.example", NamedBy::SessionId, sid).to_string()
}

pub(crate) async fn channel(setup: &Setup, service: &Service, caller: &str) -> Channel {
    let identity = setup.authority.identity(caller);
    let config = setup.authority.client(Some(&identity), &TLS13);
    setup.channel(service, config).await.unwrap()
}

pub(crate) async fn admin(setup: &Setup, service: &Service, caller: &str) -> AdminClient<Channel> {
    AdminClient::new(channel(setup, service, caller).await)
}

fn alice() -> v1::RevokePrincipalRequest {
    v1::RevokePrincipalRequest {
        issuer: "https://issuer.example".to_owned(),
        subject: "a-private-subject".to_owned(),
    }
}

fn lockdown(mode: v1::LockdownMode) -> v1::SetLockdownRequest {
    v1::SetLockdownRequest { mode: mode.into() }
}

#[tokio::test]
async fn each_caller_may_do_what_its_role_allows_and_no_more() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    assert!(reasons(&mut decisions, asked("1")).await.is_empty());
    for (caller, roles, may_look, may_act) in [
        (ORDERS, "sidecar", false, false),
        (READER, "reader", true, false),
        (OPERATOR, "operator", true, true),
    ] {
        let mut admin = admin(&setup, &service, caller).await;
        let who = admin.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((who.spiffe_id.as_str(), who.roles.join(",").as_str()), (caller, roles));
        let one = || v1::ShowSessionRequest { id: id("1") };
        let looked = [
            admin.list_sessions(v1::ListSessionsRequest::default()).await.map(drop),
            admin.show_session(one()).await.map(drop),
            admin.show_lockdown(v1::ShowLockdownRequest {}).await.map(drop),
        ];
        let revoke = v1::RevokeSessionRequest { id: id("1") };
        let tenant = v1::RevokeTenantRequest {
            tenant: "acme".to_owned(),
        };
        let acted = [
            admin.set_lockdown(lockdown(v1::LockdownMode::Off)).await.map(drop),
            admin.revoke_session(revoke).await.map(drop),
            admin.revoke_principal(alice()).await.map(drop),
            admin.revoke_tenant(tenant).await.map(drop),
            admin.revoke_everything(v1::RevokeEverythingRequest {}).await.map(drop),
        ];
        for (done, may) in looked
            .map(|done| (done, may_look))
            .into_iter()
            .chain(acted.map(|done| (done, may_act)))
        {
            match done {
                Ok(()) => assert!(may, "{caller}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::PermissionDenied, "{caller}: {status:?}");
                    assert!(!may, "{caller}");
                }
            }
        }
        if caller != ORDERS {
            // It may look, or act, but not ask for decisions.
            let mut decisions = PolicyDecisionClient::new(channel(&setup, &service, caller).await);
            let refused = decisions.decide(asked("1")).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
        }
    }
    let mut stranger = admin(&setup, &service, "spiffe://example.org/stranger").await;
    let refused = stranger.who_am_i(v1::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_an_operator_does_holds_at_once_and_is_recorded() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = admin(&setup, &service, OPERATOR).await;
    for sid in ["1", "2"] {
        assert!(reasons(&mut decisions, asked(sid)).await.is_empty());
    }
    for changed in [true, false] {
        let request = v1::RevokeSessionRequest { id: id("1") };
        assert_eq!(
            admin.revoke_session(request).await.unwrap().into_inner().changed,
            changed
        );
    }
    assert_eq!(reasons(&mut decisions, asked("1")).await, ["session_revoked"]);
    assert!(reasons(&mut decisions, asked("2")).await.is_empty());
    for (mode, expected) in [
        (v1::LockdownMode::On, vec!["lockdown"]),
        (v1::LockdownMode::Off, vec![]),
    ] {
        assert!(admin.set_lockdown(lockdown(mode)).await.unwrap().into_inner().changed);
        assert_eq!(reasons(&mut decisions, asked("2")).await, expected);
        let shown = admin
            .show_lockdown(v1::ShowLockdownRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(shown.is_on, mode == v1::LockdownMode::On);
    }
    admin.revoke_principal(alice()).await.unwrap();
    assert_eq!(reasons(&mut decisions, asked("2")).await, ["session_revoked"]);

    let acts = recorded(&setup);
    let acts: Vec<_> = acts
        .iter()
        .map(|record| (record.act, record.target.as_str(), record.outcome))
        .collect();
    let (one, alice) = (id("1"), "https://issuer.example|a-private-subject");
    assert_eq!(
        acts,
        [
            (Act::RevokeSession, one.as_str(), ActOutcome::Done),
            (Act::RevokeSession, &one, ActOutcome::Unchanged),
            (Act::LockdownOn, "", ActOutcome::Done),
            (Act::LockdownOff, "", ActOutcome::Done),
            (Act::RevokePrincipal, alice, ActOutcome::Done),
        ]
    );
}

/// What the audit log has of operators' acts.
pub(crate) fn recorded(setup: &Setup) -> Vec<AdministrationRecord> {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let acts: Vec<AdministrationRecord> = records
        .into_iter()
        .filter_map(|record| match record.content {
            Event::Administration(record) => Some(*record),
            Event::Decision(_) | Event::Session(_) | Event::Search(_) => None,
        })
        .collect();
    assert!(acts.iter().all(|record| record.caller == OPERATOR), "{acts:?}");
    acts
}

#[tokio::test]
async fn sessions_are_listed_page_by_page_and_shown() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = admin(&setup, &service, OPERATOR).await;
    for sid in ["1", "2"] {
        assert!(reasons(&mut decisions, asked(sid)).await.is_empty());
    }
    let request = v1::RevokeSessionRequest { id: id("1") };
    admin.revoke_session(request).await.unwrap();
    // What a revocation covers is shown as revoked, though nobody ended it by itself.
    admin.revoke_principal(alice()).await.unwrap();
    let page = admin
        .list_sessions(v1::ListSessionsRequest {
            count_max: 1,
            ..Default::default()
        })
        .await;
    let page = page.unwrap().into_inner();
    assert_eq!(page.sessions.len(), 1);
    let rest = v1::ListSessionsRequest {
        after: page.next,
        ..Default::default()
    };
    let rest = admin.list_sessions(rest).await.unwrap().into_inner();
    assert_eq!((rest.sessions.len(), rest.next.as_str()), (1, ""));
    for session in page.sessions.iter().chain(&rest.sessions) {
        assert_eq!(session.status(), v1::SessionStatus::Revoked);
    }
    let shown = admin
        .show_session(v1::ShowSessionRequest { id: id("1") })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((shown.name.as_str(), shown.ended_by.as_str()), ("1", OPERATOR));
    let refused = [
        admin
            .show_session(v1::ShowSessionRequest { id: id("none") })
            .await
            .unwrap_err(),
        admin
            .show_session(v1::ShowSessionRequest { id: "x".to_owned() })
            .await
            .unwrap_err(),
        admin
            .set_lockdown(lockdown(v1::LockdownMode::Unspecified))
            .await
            .unwrap_err(),
    ];
    let codes = refused.map(|status| status.code());
    assert_eq!(codes, [Code::NotFound, Code::InvalidArgument, Code::InvalidArgument]);
}

#[tokio::test]
async fn a_service_without_sessions_says_so() {
    let setup = Setup::with(CALLERS);
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let refused = admin
        .revoke_everything(v1::RevokeEverythingRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("[sessions]"), "{}", refused.message());
}

#[tokio::test]
async fn what_is_recorded_of_a_principal_names_no_other_one() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    for (issuer, subject) in [("a|b", "c"), ("a", "b|c")] {
        let request = v1::RevokePrincipalRequest {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        admin.revoke_principal(request).await.unwrap();
    }
    let targets: Vec<_> = recorded(&setup).into_iter().map(|record| record.target).collect();
    assert_eq!(targets, ["a%7Cb|c", "a|b|c"]);
}

#[tokio::test]
async fn an_act_that_fails_is_told_without_the_words_of_the_database() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let database = rusqlite::Connection::open(setup.path("storage.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE revocation RENAME TO hidden")
        .unwrap();
    let refused = admin.revoke_principal(alice()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "storage: statement_failed")
    );
    let line = service.line("an operator's call failed");
    assert!(line["error"].as_str().unwrap().contains("revocation"), "{line}");
    let outcomes: Vec<_> = recorded(&setup).into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [ActOutcome::Failed]);
}

#[tokio::test]
async fn while_nothing_can_be_recorded_only_what_takes_something_away_is_done() {
    let setup = Setup::with(&format!("{CALLERS}{SQLITE}"));
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let (on, off) = (lockdown(v1::LockdownMode::On), lockdown(v1::LockdownMode::Off));
    admin.set_lockdown(on).await.unwrap();
    let database = rusqlite::Connection::open(setup.path("audit.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE audit_record RENAME TO hidden")
        .unwrap();
    let unrecorded = admin.revoke_principal(alice()).await.unwrap_err();
    assert_eq!(
        (unrecorded.code(), unrecorded.message()),
        (Code::Unavailable, "it was done, but could not be recorded")
    );
    let refused = admin.set_lockdown(off).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().starts_with("it was not done: "),
        "{}",
        refused.message()
    );
    let again = admin.set_lockdown(on).await.unwrap_err();
    assert_eq!(again.message(), "it was done, but could not be recorded");
    database
        .execute_batch("ALTER TABLE hidden RENAME TO audit_record")
        .unwrap();
    service.line("the audit log is written again");
    admin.set_lockdown(off).await.unwrap();
    let acts: Vec<_> = recorded(&setup)
        .into_iter()
        .map(|record| (record.act, record.outcome))
        .collect();
    assert_eq!(
        acts,
        [
            (Act::LockdownOn, ActOutcome::Done),
            (Act::LockdownOff, ActOutcome::Done)
        ]
    );
}
