//! What policies see of a risk, and what their answers then vary with.

use picket_model::decision::{Attribute as Varying, Vary};
use picket_model::device::DeviceFacts;
use picket_model::risk::{Risk, RiskLevel};
use picket_risk::{Assessment, Country, DetectedSignal, HypotheticalRisk, Levels, RiskMode, Signal};

use super::*;

fn risk(score: u8, level: RiskLevel, signals: &[Signal], mode: RiskMode) -> Assessment {
    let fired = |signal: &Signal| DetectedSignal {
        signal: *signal,
        explanation: "because".into(),
    };
    Assessment {
        risk: Risk { score, level },
        factors: &[],
        signals: signals.iter().map(fired).collect(),
        country: None,
        vary: Vary::NOTHING.with(Varying::SourceAddress),
        mode,
    }
}

fn decide(policy: &str, risk: Option<&Assessment>) -> (Effect, Vary) {
    let evaluation = engine(policy).evaluate(&request(user(&[]), "GET", "r"), &EvaluationContext { risk, ..at_now() });
    assert_eq!(evaluation.errors, Vec::<String>::new());
    (evaluation.effect, evaluation.vary)
}

#[test]
fn an_answer_about_a_risk_that_looked_at_the_device_ends_with_what_was_seen_of_it() {
    let device = DeviceFacts {
        same_for_ms: Some(7_000),
        ..DeviceFacts::trusted(None)
    };
    let same_for_ms = |policy: &str, read_attributes: Varying| {
        let assessment = Assessment {
            vary: Vary::NOTHING.with(read_attributes),
            ..risk(30, RiskLevel::Medium, &[], RiskMode::Effective)
        };
        let context = EvaluationContext {
            risk: Some(&assessment),
            device: Some(&device),
            ..at_now()
        };
        let evaluation = engine(policy).evaluate(&request(user(&[]), "GET", "r"), &context);
        (evaluation.vary, evaluation.same_for_ms)
    };
    let reads =
        r#"@id("p") permit (principal, action, resource) when { context has risk && context.risk.score < 50 };"#;
    let of_device = Vary::NOTHING.with(Varying::Device);
    assert_eq!(same_for_ms(reads, Varying::Device), (of_device, Some(7_000)));
    let of_address = Vary::NOTHING.with(Varying::SourceAddress);
    assert_eq!(same_for_ms(reads, Varying::SourceAddress), (of_address, None));
    let blind = r#"@id("p") permit (principal, action, resource);"#;
    assert_eq!(same_for_ms(blind, Varying::Device), (Vary::NOTHING, None));
}

#[test]
fn policies_see_score_level_and_signals() {
    let policy = r#"@id("p") permit (principal, action, resource) when { context has risk && context.risk.score == 55
        && context.risk.level == "high" && context.risk.signals == ["new_location", "new_device"] };"#;
    let signals = [Signal::NewDevice, Signal::NewLocation];
    let unusual = risk(55, RiskLevel::High, &signals, RiskMode::Effective);
    let address = Vary::NOTHING.with(Varying::SourceAddress);
    assert_eq!(decide(policy, Some(&unusual)), (Effect::Permit, address));
    let other = risk(54, RiskLevel::High, &signals, RiskMode::Effective);
    assert_eq!(decide(policy, Some(&other)), (Effect::Deny, address));
    // Not assessed: nothing was looked at.
    assert_eq!(decide(policy, None), (Effect::Deny, Vary::NOTHING));
}

#[test]
fn a_risk_that_is_only_learnt_is_seen_as_none_and_varies_as_it_will() {
    let policy = r#"@id("p") permit (principal, action, resource) when { context has risk && context.risk.score == 0
        && context.risk.level == "low" && context.risk.signals.isEmpty() };"#;
    let learnt = risk(80, RiskLevel::High, &[Signal::ListedAddress], RiskMode::Learning);
    let address = Vary::NOTHING.with(Varying::SourceAddress);
    assert_eq!(decide(policy, Some(&learnt)), (Effect::Permit, address));
}

#[test]
fn policies_see_the_country_also_while_risk_is_only_learnt() {
    let policy = r#"@id("p") permit (principal, action, resource)
        when { context has risk && context.risk has country && ["DE", "AT"].contains(context.risk.country) };"#;
    let from = |country: &str, mode| Assessment {
        country: Country::try_from(country.to_owned()).ok(),
        ..risk(0, RiskLevel::Low, &[], mode)
    };
    for mode in [RiskMode::Effective, RiskMode::Learning] {
        assert_eq!(decide(policy, Some(&from("AT", mode))).0, Effect::Permit);
        assert_eq!(decide(policy, Some(&from("FR", mode))).0, Effect::Deny);
        assert_eq!(decide(policy, Some(&from("", mode))).0, Effect::Deny);
    }
}

#[test]
fn only_an_answer_of_a_policy_that_reads_risk_varies_with_what_it_came_from() {
    let unusual = risk(55, RiskLevel::High, &[], RiskMode::Effective);
    let vary = |condition: &str| {
        let policy = format!(r#"@id("p") permit (principal, action, resource) when {{ {condition} }};"#);
        decide(&policy, Some(&unusual)).1.attributes().collect::<Vec<_>>()
    };
    assert_eq!(vary("true"), []);
    assert_eq!(vary(r#"resource.host == "h""#), [Varying::Host]);
    assert_eq!(vary("context has risk"), [Varying::SourceAddress]);
    assert_eq!(
        vary("context has risk && context.risk.score < 10"),
        [Varying::SourceAddress]
    );
    assert_eq!(vary("context == context"), Varying::ALL);
    // Also where the evaluation does not get that far.
    assert_eq!(vary("false && context has risk"), [Varying::SourceAddress]);
}

#[test]
fn a_stated_risk_has_the_level_that_the_service_gives_its_score() {
    let policy = |level: &str| {
        format!(
            r#"@id("p") permit (principal, action, resource)
            when {{ context has risk && context.risk.level == "{level}" && context.risk.signals == ["new_device"] }};"#
        )
    };
    let levels = Levels {
        medium_from: 30,
        high_from: 60,
    };
    for (score, by_default, with_levels) in [
        (0, "low", "low"),
        (19, "low", "low"),
        (20, "medium", "low"),
        (30, "medium", "medium"),
        (50, "high", "medium"),
        (60, "high", "high"),
    ] {
        let stated = HypotheticalRisk::new(score, vec![Signal::NewDevice]).unwrap();
        for (engine, level) in [
            (engine(&policy(by_default)), by_default),
            (engine(&policy(with_levels)).with_risk_levels(levels), with_levels),
        ] {
            let risk = engine.assessment(&stated);
            let context = EvaluationContext {
                risk: Some(&risk),
                ..at_now()
            };
            let evaluation = engine.evaluate(&request(user(&[]), "GET", "r"), &context);
            assert_eq!(evaluation.effect, Effect::Permit, "{score} {level}");
        }
    }
}
