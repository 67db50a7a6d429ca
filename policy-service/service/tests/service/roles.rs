//! Roles that operators assign, through the real program.

use std::time::{Duration, Instant};

use picket_audit::{Act, ActOutcome, Event, KeyEncryptionKey};
use picket_policy_service::clock;
use picket_proto::v1;
use picket_proto::v1::Effect;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::role_admin_client::RoleAdminClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::admin::{CALLERS, OPERATOR, READER, channel, recorded};
use crate::harness::{KEY, Service, Setup, request};
use crate::postgres::Server;
use crate::sessions::client;

const ROLES: &str = "[roles]\nsource = \"token_and_store\"\n[storage]\n";
const DEADLINE: Duration = Duration::from_secs(60);

fn setup() -> Setup {
    Setup::with(&format!("{CALLERS}{ROLES}sqlite_file = \"storage.sqlite3\"\n"))
}

async fn roles(setup: &Setup, service: &Service, caller: &str) -> RoleAdminClient<Channel> {
    RoleAdminClient::new(channel(setup, service, caller).await)
}

/// The role that lets read, for the principal of [`request`].
fn reader(tenant: &str, until_us: Option<i64>) -> v1::AssignRoleRequest {
    v1::AssignRoleRequest {
        issuer: "https://issuer.example".to_owned(),
        subject: "a-private-subject".to_owned(),
        role: "reader".to_owned(),
        tenant: tenant.to_owned(),
        until_us,
    }
}

fn withdraw(tenant: &str) -> v1::WithdrawRoleRequest {
    let v1::AssignRoleRequest {
        issuer,
        subject,
        role,
        tenant,
        ..
    } = reader(tenant, None);
    v1::WithdrawRoleRequest {
        issuer,
        subject,
        role,
        tenant,
    }
}

/// Asked by a principal of this tenant, whose token has no role.
async fn decided(client: &mut PolicyDecisionClient<Channel>, tenant: &str) -> v1::Decision {
    let mut asked = request(&[], "GET", "orders-read", "");
    asked.principal.as_mut().unwrap().tenant = tenant.to_owned();
    client.decide(asked).await.unwrap().into_inner()
}

async fn effect(client: &mut PolicyDecisionClient<Channel>, tenant: &str) -> Effect {
    decided(client, tenant).await.effect()
}

fn from_now_us(seconds: i64) -> i64 {
    i64::try_from(clock::now_unix_us()).unwrap() + seconds * 1_000_000
}

#[tokio::test]
async fn an_assigned_role_counts_from_then_on_until_it_is_withdrawn_and_is_recorded() {
    let setup = setup();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = roles(&setup, &service, OPERATOR).await;
    assert_eq!(effect(&mut decisions, "").await, Effect::Deny);
    for changed in [true, false] {
        let answer = admin.assign_role(reader("", None)).await.unwrap().into_inner();
        assert_eq!(answer.changed, changed);
    }
    let permit = decided(&mut decisions, "").await;
    assert_eq!((permit.effect(), permit.valid_for_ms), (Effect::Permit, 60_000));
    for changed in [true, false] {
        let answer = admin.withdraw_role(withdraw("")).await.unwrap().into_inner();
        assert_eq!(answer.changed, changed);
    }
    assert_eq!(effect(&mut decisions, "").await, Effect::Deny);

    let acts: Vec<_> = recorded(&setup)
        .into_iter()
        .map(|record| (record.act, record.target, record.outcome))
        .collect();
    let target = "https://issuer.example|a-private-subject reader".to_owned();
    assert_eq!(
        acts,
        [
            (Act::AssignRole, target.clone(), ActOutcome::Done),
            (Act::AssignRole, target.clone(), ActOutcome::Unchanged),
            (Act::WithdrawRole, target.clone(), ActOutcome::Done),
            (Act::WithdrawRole, target, ActOutcome::Unchanged),
        ]
    );
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let recorded: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.content {
            Event::Decision(record) => Some((
                record.principal.as_ref().unwrap().roles.clone(),
                record.assigned_roles.clone(),
            )),
            Event::Session(_) | Event::Administration(_) | Event::Search(_) => None,
        })
        .collect();
    let (with, without) = ((vec!["reader".to_owned()], vec!["reader".to_owned()]), (vec![], vec![]));
    assert_eq!(recorded, [without.clone(), with, without]);
}

#[tokio::test]
async fn a_role_of_another_tenant_never_counts_and_its_end_bounds_the_answer() {
    let setup = setup();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = roles(&setup, &service, OPERATOR).await;
    admin.assign_role(reader("acme", None)).await.unwrap();
    for (tenant, expected) in [("acme", Effect::Permit), ("other", Effect::Deny), ("", Effect::Deny)] {
        assert_eq!(effect(&mut decisions, tenant).await, expected, "{tenant}");
    }
    let mut another = request(&[], "GET", "orders-read", "");
    let principal = another.principal.as_mut().unwrap();
    principal.tenant = "acme".to_owned();
    principal.issuer = "https://other.example".to_owned();
    let denied = decisions.decide(another).await.unwrap().into_inner();
    assert_eq!(denied.effect(), Effect::Deny);

    // Half a minute is less than a permit's own minute.
    admin.assign_role(reader("other", Some(from_now_us(30)))).await.unwrap();
    let bounded = decided(&mut decisions, "other").await;
    assert_eq!(bounded.effect(), Effect::Permit);
    assert!((1..=30_000).contains(&bounded.valid_for_ms), "{bounded:?}");
    assert_eq!(decided(&mut decisions, "acme").await.valid_for_ms, 60_000);
    // It ends by itself, and nothing that was said about it outlives it.
    admin.assign_role(reader("other", Some(from_now_us(1)))).await.unwrap();
    let begin = Instant::now();
    loop {
        let decision = decided(&mut decisions, "other").await;
        if decision.effect() == Effect::Deny {
            break;
        }
        assert!(decision.valid_for_ms <= 1_000, "{decision:?}");
        assert!(begin.elapsed() < DEADLINE);
    }
    assert!(begin.elapsed() > Duration::from_millis(500));
}

#[tokio::test]
async fn each_caller_does_what_its_role_allows_with_names_that_are_some() {
    let setup = setup();
    let service = setup.start();
    let mut operator = roles(&setup, &service, OPERATOR).await;
    operator.assign_role(reader("", None)).await.unwrap();
    for (caller, may_look) in [(READER, true), (ORDERS, false)] {
        let mut client = roles(&setup, &service, caller).await;
        let looked = client.list_roles(v1::ListRolesRequest::default()).await;
        let code = looked.as_ref().err().map(tonic::Status::code);
        assert_eq!(code, (!may_look).then_some(Code::PermissionDenied), "{caller}");
        let acted = [
            client.assign_role(reader("", None)).await,
            client.withdraw_role(withdraw("")).await,
        ];
        for acted in acted {
            assert_eq!(acted.unwrap_err().code(), Code::PermissionDenied, "{caller}");
        }
    }
    let text = str::to_owned;
    for request in [
        v1::AssignRoleRequest {
            issuer: String::new(),
            ..reader("", None)
        },
        v1::AssignRoleRequest {
            subject: "x".repeat(1025),
            ..reader("", None)
        },
        v1::AssignRoleRequest {
            role: text("a\0b"),
            ..reader("", None)
        },
        v1::AssignRoleRequest {
            role: "x".repeat(257),
            ..reader("", None)
        },
        reader("a\nb", None),
        reader("", Some(1)),
    ] {
        let refused = operator.assign_role(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    let page = operator
        .list_roles(v1::ListRolesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((page.assignments.len(), page.next), (1, 0));
    assert_eq!(page.assignments[0].author, OPERATOR);

    let without = Setup::with(CALLERS);
    let service = without.start();
    let mut operator = roles(&without, &service, OPERATOR).await;
    let refused = operator.assign_role(reader("", None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("roles.source"), "{refused:?}");
}

#[tokio::test]
async fn without_its_storage_nothing_is_decided_about_principals_after_a_while() {
    let setup = setup();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let database = rusqlite::Connection::open(setup.path("storage.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE probe RENAME TO hidden_probe")
        .unwrap();
    let begin = Instant::now();
    // A token's own role is no better: what was assigned could be what forbids.
    let refused = loop {
        match decisions.decide(request(&["reader"], "GET", "orders-read", "")).await {
            Ok(decision) => assert_eq!(decision.into_inner().effect(), Effect::Permit),
            Err(status) => break status,
        }
        assert!(begin.elapsed() < DEADLINE);
    };
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the roles could not be looked up")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_assigned_on_one_replica_counts_on_the_other() {
    let server = Server::start();
    let url = server.database().await;
    let start = || {
        let setup = Setup::with(&format!("{CALLERS}{ROLES}postgres_url_file = \"url\"\n"));
        std::fs::write(setup.path("url"), &url).unwrap();
        let service = setup.start();
        (setup, service)
    };
    let (first, second) = (start(), start());
    let mut admin = roles(&first.0, &first.1, OPERATOR).await;
    let mut decisions = client(&second.0, &second.1).await;
    assert_eq!(effect(&mut decisions, "").await, Effect::Deny);
    admin.assign_role(reader("", None)).await.unwrap();
    let begin = Instant::now();
    for expected in [Effect::Permit, Effect::Deny] {
        while effect(&mut decisions, "").await != expected {
            assert!(begin.elapsed() < DEADLINE, "a role does not arrive");
        }
        println!("it arrived after {:?}", begin.elapsed());
        admin.withdraw_role(withdraw("")).await.unwrap();
    }
}
