//! Risk in the real program: scored, recorded, seen by policies, and remembered across a restart.

use std::os::unix::fs::PermissionsExt;

use picket_audit::{DecisionRecord, Event, KeyEncryptionKey};
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::{AccessRequest, Attribute, Decision, Effect, RiskLevel};
use rustls::version::TLS13;
use tonic::transport::Channel;

use super::ORDERS;
use super::harness::{KEY, Service, Setup, request};

const RISK: &str = r#"
[risk]
state_file = "risk.state"
[[risk.threat_lists]]
name = "bad"
file = "bad.netset"
"#;

const POLICY: &str = r#"
@id("high-risk")
@reason("too unusual")
forbid (principal, action, resource)
when { resource.route_rule == "orders-read" }
unless { context has risk && context.risk.score < 50 && !context.risk.signals.contains("impossible_travel") };
"#;

fn setup(risk: &str, policy: &str) -> Setup {
    let setup = Setup::new();
    let text = std::fs::read_to_string(setup.path("service.toml")).unwrap();
    let text = text.replace("permit_valid_for_ms = 60000", "permit_valid_for_ms = 600000");
    std::fs::write(setup.path("service.toml"), text + risk).unwrap();
    std::fs::write(setup.path("bad.netset"), "203.0.113.0/24 # a scanner\n").unwrap();
    std::fs::write(setup.path("policies/risk.cedar"), policy).unwrap();
    setup
}

fn from(address: &str) -> AccessRequest {
    let mut request = request(&["reader"], "GET", "orders-read", "");
    request.context.as_mut().unwrap().source_address = address.into();
    request
}

async fn client(setup: &Setup, service: &Service) -> PolicyDecisionClient<Channel> {
    let orders = setup.authority.identity(ORDERS);
    let channel = setup
        .channel(service, setup.authority.client(Some(&orders), &TLS13))
        .await;
    PolicyDecisionClient::new(channel.unwrap())
}

async fn decide(client: &mut PolicyDecisionClient<Channel>, request: AccessRequest) -> Decision {
    client.decide(request).await.unwrap().into_inner()
}

fn score(decision: &Decision) -> (u32, RiskLevel) {
    let risk = decision.risk.as_ref().unwrap();
    (risk.score, risk.level())
}

fn last_record(setup: &Setup) -> DecisionRecord {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 1).unwrap();
    let decision = records.iter().find_map(|record| match &record.content {
        Event::Decision(record) => Some((**record).clone()),
        Event::Session(_) | Event::Administration(_) | Event::Search(_) => None,
    });
    decision.unwrap()
}

#[tokio::test]
async fn risk_is_scored_recorded_and_seen_by_policies_and_outlives_a_restart() {
    let setup = setup(RISK, POLICY);
    let mut service = setup.start();
    let mut asking = client(&setup, &service).await;

    let usual = decide(&mut asking, from("10.0.0.1")).await;
    assert_eq!((usual.effect(), usual.valid_for_ms), (Effect::Permit, 300_000));
    assert_eq!(score(&usual), (0, RiskLevel::Low));
    let looked_at: Vec<Attribute> = usual.vary.as_ref().unwrap().attributes().collect();
    for attribute in [
        Attribute::SourceAddress,
        Attribute::UserAgent,
        Attribute::Peer,
        Attribute::Method,
    ] {
        assert!(looked_at.contains(&attribute), "{attribute:?} {looked_at:?}");
    }
    assert_eq!(last_record(&setup).risk.unwrap().signals, []);

    let elsewhere = decide(&mut asking, from("10.9.9.9")).await;
    assert_eq!((elsewhere.effect(), elsewhere.valid_for_ms), (Effect::Permit, 60_000));
    assert_eq!(score(&elsewhere), (30, RiskLevel::Medium));
    let recorded = last_record(&setup).risk.unwrap();
    assert_eq!((recorded.score, recorded.level.as_str()), (30, "medium"));
    assert_eq!(recorded.factors, ["password", "one_time_code"]);
    assert_eq!(recorded.signals[0].signal, "new_location");
    assert_eq!(
        recorded.signals[0].explanation,
        "10.9.9.0/24 is none of the 1 locations that the principal has been seen at"
    );

    let listed = decide(&mut asking, from("203.0.113.7")).await;
    assert_eq!((listed.effect(), listed.valid_for_ms), (Effect::Deny, 0));
    assert_eq!(score(&listed), (80, RiskLevel::High));
    assert_eq!(listed.policy_ids, ["high-risk"]);
    assert_eq!(listed.caller_reasons, ["too unusual"]);
    let (_, page) = service.get("/metrics");
    for sample in [
        "picket_policy_service_risk_assessments_total{level=\"low\"} 1",
        "picket_policy_service_risk_assessments_total{level=\"medium\"} 1",
        "picket_policy_service_risk_assessments_total{level=\"high\"} 1",
        "picket_policy_service_threat_list_networks{list=\"bad\"} 1",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
    }
    drop(asking);
    service.terminate();
    assert!(
        tokio::task::spawn_blocking(move || service.wait())
            .await
            .unwrap()
            .success()
    );
    let mode = std::fs::metadata(setup.path("risk.state"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let service = setup.start();
    let mut asking = client(&setup, &service).await;
    assert_eq!(score(&decide(&mut asking, from("10.0.0.2")).await), (0, RiskLevel::Low));
    assert_eq!(
        score(&decide(&mut asking, from("10.9.9.9")).await),
        (30, RiskLevel::Medium)
    );
    assert_eq!(
        score(&decide(&mut asking, from("10.8.8.8")).await),
        (30, RiskLevel::Medium)
    );
}

#[tokio::test]
async fn while_it_learns_nothing_is_decided_by_it() {
    let setup = setup(&RISK.replace("[risk]", "[risk]\nmode = \"learning\""), POLICY);
    let service = setup.start();
    let mut asking = client(&setup, &service).await;
    decide(&mut asking, from("10.0.0.1")).await;
    let listed = decide(&mut asking, from("203.0.113.7")).await;
    assert_eq!((listed.effect(), listed.valid_for_ms), (Effect::Permit, 600_000));
    assert_eq!(listed.risk, None);
    let recorded = last_record(&setup).risk.unwrap();
    assert_eq!(
        (recorded.score, recorded.mode),
        (80, picket_audit::RiskModeRecord::Learning)
    );
}

#[tokio::test]
async fn where_no_policy_reads_risk_an_answer_varies_with_nothing_for_it() {
    let setup = setup(RISK, "");
    let service = setup.start();
    let mut asking = client(&setup, &service).await;
    let usual = decide(&mut asking, from("10.0.0.1")).await;
    let looked_at: Vec<Attribute> = usual.vary.as_ref().unwrap().attributes().collect();
    assert_eq!(looked_at, [Attribute::Method]);
    let elsewhere = decide(&mut asking, from("10.9.9.9")).await;
    assert_eq!((elsewhere.effect(), elsewhere.valid_for_ms), (Effect::Permit, 60_000));
}

/// The policies permit; what is missing of the level's factors is asked for all the same, and teaches nothing.
#[tokio::test]
async fn the_factors_of_a_level_are_asked_for_by_name() {
    let factors = "[risk.factors]\nmedium_acr_values = [\"mfa\"]\nhigh_acr_values = [\"hardware\"]\n";
    let setup = setup(&format!("{RISK}{factors}"), "");
    let service = setup.start();
    let mut asking = client(&setup, &service).await;
    let with = |address: &str, amr: &[&str], acr: &str| {
        let mut asked = from(address);
        let principal = asked.principal.as_mut().unwrap();
        principal.amr = amr.iter().map(|method| (*method).to_owned()).collect();
        principal.acr = acr.to_owned();
        asked
    };
    let usual = decide(&mut asking, with("10.0.0.1", &[], "")).await;
    assert_eq!(usual.effect(), Effect::Permit);
    // The answer is for this address alone: from another one more would be asked for.
    assert!(
        usual
            .vary
            .unwrap()
            .attributes()
            .any(|read| read == Attribute::SourceAddress)
    );

    for (address, amr, acr, needs, acr_values) in [
        ("10.9.9.9", &["pwd"][..], "", &["needs_one_time_code"][..], "mfa"),
        ("10.9.9.9", &[], "", &["needs_password", "needs_one_time_code"], "mfa"),
        (
            "203.0.113.7",
            &["pwd", "otp"],
            "mfa",
            &["needs_biometric_or_hardware_key"],
            "hardware",
        ),
    ] {
        let challenged = decide(&mut asking, with(address, amr, acr)).await;
        assert_eq!(challenged.effect(), Effect::Deny);
        assert_eq!(challenged.caller_reasons, needs);
        assert_eq!(challenged.challenge.unwrap().acr_values, [acr_values]);
        assert_eq!(challenged.policy_ids, [""; 0]);
        let record = last_record(&setup);
        assert_eq!(record.caller_reasons, needs);
        assert_eq!(record.challenge.unwrap().acr_values, [acr_values]);
    }
    for (address, amr, acr) in [
        ("10.9.9.9", &["pwd", "otp"][..], ""),
        ("10.8.8.8", &[], "mfa"),
        ("203.0.113.7", &["pwd", "hwk"], ""),
        ("203.0.113.7", &[], "hardware"),
    ] {
        let permitted = decide(&mut asking, with(address, amr, acr)).await;
        assert_eq!(permitted.effect(), Effect::Permit, "{address} {amr:?} {acr}");
    }
}

#[tokio::test]
async fn without_the_section_nothing_is_scored() {
    let setup = setup("", POLICY);
    let service = setup.start();
    let mut asking = client(&setup, &service).await;
    let denied = decide(&mut asking, from("10.0.0.1")).await;
    assert_eq!((denied.effect(), denied.risk), (Effect::Deny, None));
    assert_eq!(last_record(&setup).risk, None);
}

#[test]
fn a_state_file_that_is_damaged_ends_the_start_by_name() {
    let setup = setup(RISK, POLICY);
    std::fs::write(
        setup.path("risk.state"),
        "{\"format\":\"picket-risk-baselines\",\"version\":9}\n",
    )
    .unwrap();
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    assert!(said.contains("risk.state_file: `"), "{said}");
    assert!(
        said.contains("has version 9, and this program reads versions up to 2"),
        "{said}"
    );
}
