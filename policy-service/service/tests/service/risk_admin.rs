//! What is told about principals, through the real program.

use picket_audit::{Act, ActOutcome, AdministrationRecord, Event, KeyEncryptionKey};
use picket_proto::v1;
use picket_proto::v1::dynamics_report::Session;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::risk_admin_client::RiskAdminClient;
use picket_proto::v1::{Effect, RiskLevel};
use rustls::version::TLS13;
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::admin::{CALLERS, OPERATOR};
use crate::harness::{KEY, Service, Setup, request};

const REPORTER: &str = "spiffe://example.org/idp";
const READER: &str = "spiffe://example.org/reader";
const ISSUER: &str = "https://issuer.example";
const ALICE: &str = "a-private-subject";
const REPORTERS: &str = r#"
    [[grpc.callers]]
    spiffe_id = "spiffe://example.org/idp"
    roles = ["reporter"]
"#;
const RISK: &str = r#"
    [risk]
    state_file = "risk.state"
    [risk.factors]
    medium_acr_values = ["mfa"]
    high_acr_values = ["hardware"]
"#;

fn setup(risk: &str) -> Setup {
    Setup::with(&format!("{CALLERS}{REPORTERS}{risk}"))
}

async fn channel(setup: &Setup, service: &Service, caller: &str) -> Channel {
    let identity = setup.authority.identity(caller);
    let config = setup.authority.client(Some(&identity), &TLS13);
    setup.channel(service, config).await.unwrap()
}

async fn risk(setup: &Setup, service: &Service, caller: &str) -> RiskAdminClient<Channel> {
    RiskAdminClient::new(channel(setup, service, caller).await)
}

fn authentication(subject: &str, outcome: v1::AuthenticationOutcome) -> v1::AuthenticationReport {
    v1::AuthenticationReport {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        outcome: outcome.into(),
        time_us: 0,
        source_address: "203.0.113.7".to_owned(),
    }
}

fn failures(subject: &str, count: usize) -> v1::ReportAuthenticationRequest {
    let failed = authentication(subject, v1::AuthenticationOutcome::Failed);
    v1::ReportAuthenticationRequest {
        reports: vec![failed; count],
    }
}

fn dynamics(subject: &str, keystroke_variance: f64) -> v1::DynamicsReport {
    v1::DynamicsReport {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        session: Some(Session::SessionId("s".to_owned())),
        keystroke_variance: Some(keystroke_variance),
        ..Default::default()
    }
}

fn dynamics_of(reports: Vec<v1::DynamicsReport>) -> v1::ReportDynamicsRequest {
    v1::ReportDynamicsRequest { reports }
}

fn of_alice() -> v1::ExplainRiskRequest {
    v1::ExplainRiskRequest {
        issuer: ISSUER.to_owned(),
        subject: ALICE.to_owned(),
        workload: String::new(),
    }
}

fn asked() -> v1::AccessRequest {
    let mut asked = request(&["reader"], "GET", "orders-read", "");
    asked.principal.as_mut().unwrap().session_id = "s".to_owned();
    asked
}

fn acts(setup: &Setup) -> Vec<AdministrationRecord> {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let acts = records.into_iter().filter_map(|record| match record.content {
        Event::Administration(record) => Some(*record),
        Event::Decision(_) | Event::Session(_) | Event::Search(_) => None,
    });
    acts.collect()
}

#[tokio::test]
async fn what_is_reported_raises_the_score_asks_for_factors_and_is_recorded() {
    let setup = setup(RISK);
    let service = setup.start();
    let mut decisions = PolicyDecisionClient::new(channel(&setup, &service, ORDERS).await);
    let mut reporter = risk(&setup, &service, REPORTER).await;
    let mut reader = risk(&setup, &service, READER).await;

    // Before the first request nothing is known of the principal, and its failures wait for it.
    let noted = reporter
        .report_authentication(failures(ALICE, 2))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((noted.remembered, noted.kept_aside, noted.dropped), (0, 2, 0));
    let unknown = reporter.report_dynamics(dynamics_of(vec![dynamics(ALICE, 0.5)])).await;
    assert_eq!(unknown.unwrap().into_inner().results[0].anomaly_score, None);
    assert!(!reader.explain_risk(of_alice()).await.unwrap().into_inner().remembered);

    let usual = decisions.decide(asked()).await.unwrap().into_inner();
    assert_eq!(usual.effect(), Effect::Permit);
    let noted = reporter
        .report_authentication(failures(ALICE, 3))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((noted.remembered, noted.kept_aside, noted.dropped), (3, 0, 0));
    let challenged = decisions.decide(asked()).await.unwrap().into_inner();
    assert_eq!(challenged.effect(), Effect::Deny);
    assert_eq!(
        challenged.risk.as_ref().map(|risk| (risk.score, risk.level())),
        Some((20, RiskLevel::Medium))
    );
    assert_eq!(challenged.caller_reasons, ["needs_password", "needs_one_time_code"]);
    assert_eq!(challenged.challenge.unwrap().acr_values, ["mfa"]);

    let explained = reader.explain_risk(of_alice()).await.unwrap().into_inner();
    assert!(explained.remembered);
    assert_eq!((explained.score, explained.level.as_str()), (Some(20), "medium"));
    assert_eq!(explained.factors, ["password", "one_time_code"]);
    assert_eq!(explained.signals, ["failed_authentications"]);
    assert_eq!(explained.permitted_requests, 1);
    let spells: Vec<(u32, u32)> = explained
        .history
        .iter()
        .map(|spell| (spell.score, spell.requests))
        .collect();
    assert_eq!(spells, [(20, 1), (0, 1)]);
    assert_eq!(explained.hours.len(), 24);

    check_dynamics(&mut reporter).await;
    let alice = format!("{ISSUER}|{ALICE}");
    let recorded: Vec<(Act, String, ActOutcome)> = acts(&setup)
        .into_iter()
        .map(|record| {
            assert_eq!(record.caller, REPORTER);
            (record.act, record.target, record.outcome)
        })
        .collect();
    use ActOutcome::{Done, Unchanged};
    let expected = [
        (Act::ReportAuthentication, format!("failed: {alice} ×2"), Done),
        (Act::ReportDynamics, "others: 1".to_owned(), Unchanged),
        (Act::ReportAuthentication, format!("failed: {alice} ×3"), Done),
        (Act::ReportDynamics, format!("off: {alice} (15); others: 2"), Done),
    ];
    assert_eq!(recorded, expected);
}

async fn check_dynamics(reporter: &mut RiskAdminClient<Channel>) {
    let scores = reporter
        .report_dynamics(dynamics_of(vec![
            dynamics(ALICE, 0.5),
            dynamics("nobody", 0.5),
            dynamics(ALICE, 0.1),
        ]))
        .await
        .unwrap()
        .into_inner();
    let scores: Vec<Option<u32>> = scores.results.iter().map(|result| result.anomaly_score).collect();
    assert_eq!(scores, [Some(15), None, Some(0)]);
}

#[tokio::test]
async fn each_caller_tells_or_looks_by_its_role() {
    let setup = setup(RISK);
    let service = setup.start();
    for (caller, may_tell, may_look) in [
        (REPORTER, true, false),
        (READER, false, true),
        (OPERATOR, false, true),
        (ORDERS, false, false),
        ("spiffe://example.org/stranger", false, false),
    ] {
        let mut risk = risk(&setup, &service, caller).await;
        let one = dynamics_of(vec![dynamics(ALICE, 0.5)]);
        for (done, may) in [
            (risk.report_authentication(failures(ALICE, 1)).await.map(drop), may_tell),
            (risk.report_dynamics(one).await.map(drop), may_tell),
            (risk.explain_risk(of_alice()).await.map(drop), may_look),
        ] {
            match done {
                Ok(()) => assert!(may, "{caller}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::PermissionDenied, "{caller}: {status:?}");
                    assert!(!may, "{caller}");
                }
            }
        }
    }
    // Nobody else has told anything.
    assert_eq!(acts(&setup).len(), 2);
}

#[tokio::test]
async fn a_report_with_a_mistake_names_it_and_nothing_of_its_call_is_taken() {
    let setup = setup(RISK);
    let service = setup.start();
    let mut reporter = risk(&setup, &service, REPORTER).await;
    let failed = authentication(ALICE, v1::AuthenticationOutcome::Failed);
    let with = |change: fn(&mut v1::AuthenticationReport)| {
        let mut changed = failed.clone();
        change(&mut changed);
        v1::ReportAuthenticationRequest {
            reports: vec![failed.clone(), changed],
        }
    };
    for (request, expected) in [
        (with(|report| report.issuer.clear()), "reports[1].issuer"),
        (with(|report| report.subject = "s".repeat(8193)), "reports[1].subject"),
        (with(|report| report.outcome = 0), "reports[1].outcome"),
        (with(|report| report.outcome = 9), "reports[1].outcome"),
        (with(|report| report.time_us = 1), "reports[1].time_us"),
        (with(|report| report.time_us = -1), "reports[1].time_us"),
        (with(|report| report.time_us = i64::MAX), "reports[1].time_us"),
        (
            with(|report| report.source_address = "here".to_owned()),
            "reports[1].source_address",
        ),
        (failures(ALICE, 0), "reports"),
        (failures(ALICE, 101), "reports"),
    ] {
        let refused = reporter.report_authentication(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(
            refused.message().starts_with(&format!("field `{expected}`: expected ")),
            "{refused:?}"
        );
    }
    assert_eq!(acts(&setup), []);
}

#[tokio::test]
async fn a_report_of_dynamics_with_a_mistake_names_it() {
    let setup = setup(RISK);
    let service = setup.start();
    let mut reporter = risk(&setup, &service, REPORTER).await;
    let changed = |change: fn(&mut v1::DynamicsReport)| {
        let mut changed = dynamics(ALICE, 0.5);
        change(&mut changed);
        dynamics_of(vec![changed])
    };
    for (request, expected) in [
        (
            changed(|report| report.keystroke_variance = None),
            "reports[0].mouse_velocity",
        ),
        (
            changed(|report| report.touch_area = Some(f64::NAN)),
            "reports[0].touch_area",
        ),
        (
            changed(|report| report.mouse_velocity = Some(-1.0)),
            "reports[0].mouse_velocity",
        ),
        (
            changed(|report| report.touch_pressure = Some(1e9)),
            "reports[0].touch_pressure",
        ),
        (changed(|report| report.session = None), "reports[0].session_id"),
        (
            changed(|report| report.session = Some(Session::TokenId(String::new()))),
            "reports[0].token_id",
        ),
        (changed(|report| report.subject.clear()), "reports[0].subject"),
        (dynamics_of(vec![]), "reports"),
    ] {
        let refused = reporter.report_dynamics(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(
            refused.message().starts_with(&format!("field `{expected}`: expected ")),
            "{refused:?}"
        );
    }
    assert_eq!(acts(&setup), []);
}

#[tokio::test]
async fn a_question_about_nobody_is_refused() {
    let setup = setup(RISK);
    let service = setup.start();
    let mut reader = risk(&setup, &service, READER).await;
    for (issuer, subject, workload, field) in [
        ("", "", "", "workload"),
        ("", "", "no-spiffe-id", "workload"),
        ("i", "", "", "subject"),
        ("", "s", "", "issuer"),
        ("i", "s", "spiffe://example.org/web", "workload"),
    ] {
        let (issuer, subject, workload) = (issuer.to_owned(), subject.to_owned(), workload.to_owned());
        let question = v1::ExplainRiskRequest {
            issuer,
            subject,
            workload,
        };
        let refused = reader.explain_risk(question).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().starts_with(&format!("field `{field}`: ")),
            "{refused:?}"
        );
    }
}

/// However fast it tells, a reporter gets no more than its share, and another one is not affected.
#[tokio::test]
async fn a_reporter_that_tells_too_much_is_refused_for_a_while() {
    let setup = setup(RISK);
    let service = setup.start();
    let mut reporter = risk(&setup, &service, REPORTER).await;
    let mut told = 0;
    let refused = loop {
        match reporter.report_authentication(failures("nobody", 100)).await {
            Ok(_) => told += 100,
            Err(status) => break status,
        }
        assert!(told < 1_000_000, "it is never refused");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(told >= 2_000, "{told}");
    assert_eq!(acts(&setup).len(), told / 100);
}

#[tokio::test]
async fn without_risk_there_is_nothing_to_tell() {
    let setup = setup("");
    let service = setup.start();
    let mut reporter = risk(&setup, &service, REPORTER).await;
    let refused = reporter.report_authentication(failures(ALICE, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("`[risk]`"), "{refused:?}");
}
