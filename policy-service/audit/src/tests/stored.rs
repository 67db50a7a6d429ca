//! The stored bytes of every kind of record, as known answers: a rename anywhere else must not
//! change what is stored.

use picket_model::decision::{Decision, StepUp, Vary};
use picket_model::device::{DeviceFacts, DeviceState};
use picket_model::risk::{Risk, RiskLevel};
use picket_model::session::EndReason;
use picket_risk::{Assessment, Country, DetectedSignal, Factor, RiskMode, Signal};

use super::*;

/// Checks that an event is stored as these bytes, and that they are read as the event.
#[track_caller]
fn check_stored(event: &Event, stored: &str) {
    assert_eq!(String::from_utf8(serde_json::to_vec(event).unwrap()).unwrap(), stored);
    assert_eq!(serde_json::from_str::<Event>(stored).unwrap(), *event, "{stored}");
}

fn principal_with_everything() -> PrincipalRecord {
    PrincipalRecord {
        issuer: "https://issuer.example".into(),
        subject: "alice".into(),
        tenant: Some("acme".into()),
        roles: vec!["clerk".into()],
        scopes: vec!["read".into()],
        acr: Some("mfa".into()),
        amr: vec!["pwd".into(), "otp".into()],
        auth_time_s: Some(1_699_999_000),
        session_id: Some("s1".into()),
        token_id: Some("t1".into()),
        issued_at_s: Some(1_699_999_001),
        expires_at_s: Some(1_700_003_600),
        actors: vec![ActorRecord {
            issuer: Some("https://other.example".into()),
            subject: "agent".into(),
        }],
        is_bound: true,
    }
}

fn risk_with_everything() -> RiskRecord {
    RiskRecord {
        score: 55,
        level: "high".into(),
        mode: RiskModeRecord::Effective,
        factors: vec!["password".into()],
        signals: vec![SignalRecord {
            signal: "new_location".into(),
            explanation: "x".into(),
        }],
        country: Some("DE".into()),
    }
}

fn decision_with_everything() -> DecisionRecord {
    DecisionRecord {
        decision_id: "d1".into(),
        time_us: 1_700_000_000_000_001,
        caller: "spiffe://example.org/sidecar".into(),
        sidecar: SidecarRecord {
            node_id: "node".into(),
            workload: "orders".into(),
        },
        request_id: "r1".into(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        route_rule: "orders-read".into(),
        principal: Some(principal_with_everything()),
        further_tokens: vec![FurtherTokenRecord {
            issuer: "https://further.example".into(),
            subject: "bob".into(),
            tenant: Some("globex".into()),
            session_id: Some("s2".into()),
            token_id: Some("t2".into()),
            issued_at_s: Some(3),
        }],
        peer: Some("spiffe://example.org/web".into()),
        action: ActionRecord { method: "GET".into() },
        resource: ResourceRecord {
            host: "orders.example".into(),
            path: "/orders/7".into(),
            path_parameters: BTreeMap::from([("order".into(), "7".into())]),
            classification: Some("internal".into()),
            security_zone: Some("inner".into()),
            tenant: Some("acme".into()),
        },
        context: ContextRecord {
            source_address: Some("192.0.2.7".into()),
            user_agent: Some("curl/8".into()),
            certificate_thumbprint: Some("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE".into()),
            key_thumbprint: Some("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI".into()),
        },
        effect: EffectRecord::Deny,
        policy_revision: "0123456789abcdef".into(),
        policy_ids: vec!["p1".into()],
        evaluation_errors: vec!["e".into()],
        caller_reasons: vec!["c".into()],
        risk: Some(risk_with_everything()),
        device: Some(DeviceRecord::from(DeviceFacts {
            id: "00000000-0000-7000-8000-000000000001".into(),
            state: DeviceState::Trusted,
            is_trusted: true,
            is_compliant: true,
            trust_score: 90,
            is_owner: true,
            same_for_ms: Some(5),
        })),
        assigned_roles: vec!["auditor".into()],
        obligations: vec!["log:full".into()],
        challenge: Some(ChallengeRecord {
            acr_values: vec!["urn:mfa".into()],
            max_age_s: Some(300),
            bound_token: true,
            trusted_device: true,
        }),
        observed: Some(ObservedRecord {
            effect: EffectRecord::Permit,
            policy_ids: vec!["p2".into()],
        }),
        valid_for_ms: 1000,
        evaluation_us: 42,
    }
}

const DECISION_WITH_EVERYTHING: &str = concat!(
    r#"{"event":"decision","decision_id":"d1","time_us":1700000000000001,"caller":"spiffe://example.org/sidecar","#,
    r#""sidecar":{"node_id":"node","workload":"orders"},"request_id":"r1","#,
    r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","route_rule":"orders-read","#,
    r#""principal":{"issuer":"https://issuer.example","subject":"alice","tenant":"acme","roles":["clerk"],"#,
    r#""scopes":["read"],"acr":"mfa","amr":["pwd","otp"],"auth_time_s":1699999000,"session_id":"s1","#,
    r#""token_id":"t1","issued_at_s":1699999001,"expires_at_s":1700003600,"#,
    r#""actors":[{"issuer":"https://other.example","subject":"agent"}],"is_bound":true},"#,
    r#""further_tokens":[{"issuer":"https://further.example","subject":"bob","tenant":"globex","#,
    r#""session_id":"s2","token_id":"t2","issued_at_s":3}],"peer":"spiffe://example.org/web","#,
    r#""action":{"method":"GET"},"resource":{"host":"orders.example","path":"/orders/7","#,
    r#""path_parameters":{"order":"7"},"classification":"internal","security_zone":"inner","tenant":"acme"},"#,
    r#""context":{"source_address":"192.0.2.7","user_agent":"curl/8","#,
    r#""certificate_thumbprint":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","#,
    r#""key_thumbprint":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"},"effect":"deny","#,
    r#""policy_revision":"0123456789abcdef","policy_ids":["p1"],"evaluation_errors":["e"],"caller_reasons":["c"],"#,
    r#""risk":{"score":55,"level":"high","mode":"effective","factors":["password"],"#,
    r#""signals":[{"signal":"new_location","explanation":"x"}],"country":"DE"},"#,
    r#""device":{"id":"00000000-0000-7000-8000-000000000001","state":"trusted","is_trusted":true,"#,
    r#""is_compliant":true,"trust_score":90,"is_owner":true},"assigned_roles":["auditor"],"#,
    r#""obligations":["log:full"],"challenge":{"acr_values":["urn:mfa"],"max_age_s":300,"bound_token":true,"#,
    r#""trusted_device":true},"observed":{"effect":"permit","policy_ids":["p2"]},"#,
    r#""valid_for_ms":1000,"evaluation_us":42}"#,
);

#[test]
fn a_decision_is_stored_as_these_bytes() {
    check_stored(
        &Event::Decision(Box::new(decision_with_everything())),
        DECISION_WITH_EVERYTHING,
    );
    check_stored(
        &event("d2"),
        concat!(
            r#"{"event":"decision","decision_id":"d2","time_us":1,"caller":"spiffe://example.org/orders","#,
            r#""sidecar":{"node_id":"","workload":"orders"},"request_id":"r","traceparent":null,"#,
            r#""route_rule":"orders-read","principal":null,"further_tokens":[],"peer":null,"action":{"method":"GET"},"#,
            r#""resource":{"host":"h","path":"/","path_parameters":{},"classification":null,"security_zone":null,"#,
            r#""tenant":null},"context":{"source_address":null,"user_agent":null,"certificate_thumbprint":null,"#,
            r#""key_thumbprint":null},"effect":"permit","policy_revision":"0","policy_ids":["p"],"#,
            r#""evaluation_errors":[],"caller_reasons":[],"risk":null,"device":null,"assigned_roles":[],"#,
            r#""obligations":[],"challenge":null,"observed":null,"valid_for_ms":1,"evaluation_us":1}"#,
        ),
    );
}

#[test]
fn the_request_of_a_stored_decision_comes_back_whole() {
    let request = decision_with_everything().request().unwrap();
    let decision = Decision {
        effect: Effect::Deny,
        decision_id: "d1".into(),
        policy_revision: "0123456789abcdef".into(),
        valid_for_ms: 1000,
        policy_ids: vec!["p1".into()],
        caller_reasons: vec!["c".into()],
        vary: Vary::NOTHING,
        risk: None,
        challenge: StepUp::new(vec!["urn:mfa".into()], Some(300), true, true).map(Box::new),
        is_token_revoked: false,
        obligations: vec!["log:full".into()],
    };
    let expected = decision_with_everything();
    let details = DecisionDetails {
        time: Timestamp::from_us(1_700_000_000_000_001),
        caller: "spiffe://example.org/sidecar".into(),
        evaluation_errors: vec!["e".into()],
        observed: Some(ObservedRecord::new(Effect::Permit, vec!["p2".into()])),
        risk: expected.risk.clone(),
        device: expected.device.clone(),
        assigned_roles: vec!["auditor".into()],
        evaluation_us: 42,
    };
    assert_eq!(DecisionRecord::new(request, &decision, details), expected);
}

#[test]
fn every_word_of_a_risk_is_stored_by_its_name() {
    let assessment = |level, mode| Assessment {
        risk: Risk { score: 7, level },
        factors: Factor::required_at(level),
        signals: Signal::ALL
            .iter()
            .map(|signal| DetectedSignal {
                signal: *signal,
                explanation: "x".into(),
            })
            .collect(),
        country: Country::try_from("DE".to_owned()).ok(),
        vary: Vary::EVERYTHING,
        mode,
    };
    let signals: Vec<String> = [
        "new_location",
        "impossible_travel",
        "new_device",
        "changed_device",
        "unusual_time",
        "unusual_rate",
        "new_method",
        "new_route_rule",
        "denial_burst",
        "listed_address",
        "failed_authentications",
        "shared_token",
        "unusual_dynamics",
        "low_device_trust",
        "noncompliant_device",
    ]
    .map(|signal| format!(r#"{{"signal":"{signal}","explanation":"x"}}"#))
    .into();
    let signals = signals.join(",");
    for (level, mode, stored) in [
        (
            RiskLevel::Low,
            RiskMode::Learning,
            r#""level":"low","mode":"learning","factors":["password"]"#,
        ),
        (
            RiskLevel::Medium,
            RiskMode::Effective,
            r#""level":"medium","mode":"effective","factors":["password","one_time_code"]"#,
        ),
        (
            RiskLevel::High,
            RiskMode::Effective,
            concat!(
                r#""level":"high","mode":"effective","#,
                r#""factors":["password","one_time_code","biometric_or_hardware_key"]"#,
            ),
        ),
    ] {
        let assessment = assessment(level, mode);
        let stored = format!(r#"{{"score":7,{stored},"signals":[{signals}],"country":"DE"}}"#);
        let record = RiskRecord::from(assessment.clone());
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
        let read: RiskRecord = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.assessment(), Some(assessment));
    }
}

#[test]
fn every_state_of_a_device_is_stored_by_its_name() {
    for (state, name) in [
        (DeviceState::Retired, "retired"),
        (DeviceState::Suspended, "suspended"),
        (DeviceState::Enrolled, "enrolled"),
        (DeviceState::Trusted, "trusted"),
    ] {
        let device = DeviceFacts {
            id: "i".into(),
            state,
            is_trusted: false,
            is_compliant: false,
            trust_score: 0,
            is_owner: false,
            same_for_ms: None,
        };
        let stored = format!(
            r#"{{"id":"i","state":"{name}","is_trusted":false,"is_compliant":false,"trust_score":0,"is_owner":false}}"#
        );
        let record = DeviceRecord::from(device.clone());
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
        let read: DeviceRecord = serde_json::from_str(&stored).unwrap();
        assert_eq!(DeviceFacts::from(read), device);
    }
}

#[test]
fn every_change_of_a_session_is_stored_as_these_bytes() {
    let session = |change| {
        Event::Session(Box::new(SessionRecord {
            session: "00ff".into(),
            time_us: 5,
            issuer: "i".into(),
            subject: "s".into(),
            tenant: None,
            change,
        }))
    };
    let ended = |reason| SessionChange::Ended { reason };
    for (change, stored) in [
        (SessionChange::Created, r#""change":"created""#),
        (
            ended(EndReason::IdleTimeout.into()),
            r#""change":"ended","reason":"idle_timeout""#,
        ),
        (
            ended(EndReason::AbsoluteTimeout.into()),
            r#""change":"ended","reason":"absolute_timeout""#,
        ),
        (
            ended(EndReason::Superseded.into()),
            r#""change":"ended","reason":"superseded""#,
        ),
        (
            ended(EndReason::Compromised.into()),
            r#""change":"ended","reason":"compromised""#,
        ),
        (
            ended(EndReason::Revoked.into()),
            r#""change":"ended","reason":"revoked""#,
        ),
    ] {
        let stored = format!(
            r#"{{"event":"session","session":"00ff","time_us":5,"issuer":"i","subject":"s","tenant":null,{stored}}}"#
        );
        check_stored(&session(change), &stored);
    }
}

#[test]
fn every_act_and_its_outcome_are_stored_as_these_bytes() {
    let outcomes = [
        (ActOutcome::Done, "done"),
        (ActOutcome::Unchanged, "unchanged"),
        (ActOutcome::Refused, "refused"),
        (ActOutcome::Failed, "failed"),
    ];
    let acts = [
        (Act::RevokeSession, "revoke_session"),
        (Act::RevokePrincipal, "revoke_principal"),
        (Act::RevokeTenant, "revoke_tenant"),
        (Act::RevokeEverything, "revoke_everything"),
        (Act::LockdownOn, "lockdown_on"),
        (Act::LockdownOff, "lockdown_off"),
        (Act::BeginEnrollment, "begin_enrollment"),
        (Act::EnrollDevice, "enroll_device"),
        (Act::TrustDevice, "trust_device"),
        (Act::SuspendDevice, "suspend_device"),
        (Act::RetireDevice, "retire_device"),
        (Act::ReinstateDevice, "reinstate_device"),
        (Act::AddDeviceThumbprint, "add_device_thumbprint"),
        (Act::RemoveDeviceThumbprint, "remove_device_thumbprint"),
        (Act::ReportPosture, "report_posture"),
        (Act::ReportAuthentication, "report_authentication"),
        (Act::ReportDynamics, "report_dynamics"),
        (Act::ActivatePolicies, "activate_policies"),
        (Act::RollBackPolicies, "roll_back_policies"),
        (Act::AssignRole, "assign_role"),
        (Act::WithdrawRole, "withdraw_role"),
    ];
    for (act, act_name) in acts {
        for (outcome, outcome_name) in outcomes {
            let event = Event::Administration(Box::new(AdministrationRecord {
                time_us: 6,
                caller: "c".into(),
                act,
                target: "t".into(),
                outcome,
            }));
            let stored = format!(
                r#"{{"event":"administration","time_us":6,"caller":"c","act":"{act_name}","target":"t","outcome":"{outcome_name}"}}"#
            );
            check_stored(&event, &stored);
        }
    }
}

#[test]
fn every_search_is_stored_as_these_bytes() {
    for (kind, name) in [
        (SearchKind::Subject, "subject"),
        (SearchKind::Resource, "resource"),
        (SearchKind::Action, "action"),
    ] {
        let event = Event::Search(Box::new(SearchRecord {
            search_id: "q".into(),
            time_us: 7,
            caller: "c".into(),
            request_id: "r".into(),
            kind,
            principal: None,
            peer: Some("spiffe://example.org/web".into()),
            action: Some(ActionRecord { method: "GET".into() }),
            route_rule: Some("rule".into()),
            resource: None,
            context: ContextRecord {
                source_address: None,
                user_agent: None,
                certificate_thumbprint: None,
                key_thumbprint: None,
            },
            policy_revision: "rev".into(),
            evaluated: 10,
            found: 3,
        }));
        let stored = format!(
            concat!(
                r#"{{"event":"search","search_id":"q","time_us":7,"caller":"c","request_id":"r","kind":"{}","#,
                r#""principal":null,"peer":"spiffe://example.org/web","action":{{"method":"GET"}},"#,
                r#""route_rule":"rule","resource":null,"context":{{"source_address":null,"user_agent":null,"#,
                r#""certificate_thumbprint":null,"key_thumbprint":null}},"policy_revision":"rev","#,
                r#""evaluated":10,"found":3}}"#,
            ),
            name
        );
        check_stored(&event, &stored);
    }
}
