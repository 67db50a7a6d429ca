//! What policies see of a risk, and what their answers then vary with.

use picket_core::decision::{Attribute as Varying, Vary};
use picket_core::risk::{Risk, RiskLevel};

use super::*;
use crate::risk::{Assessment, Fired, Mode, Signal};

fn risk(score: u8, level: RiskLevel, signals: &[Signal], mode: Mode) -> Assessment {
    let fired = |signal: &Signal| Fired {
        signal: *signal,
        explanation: "because".into(),
    };
    Assessment {
        risk: Risk { score, level },
        factors: &[],
        signals: signals.iter().map(fired).collect(),
        vary: Vary::NOTHING.with(Varying::SourceAddress),
        mode,
    }
}

fn decide(policy: &str, risk: Option<&Assessment>) -> (Effect, Vary) {
    let evaluation = engine(policy).evaluate_at_risk(&request(user(&[]), "GET", "r"), NOW_US, risk);
    assert_eq!(evaluation.errors, Vec::<String>::new());
    (evaluation.effect, evaluation.vary)
}

#[test]
fn policies_see_score_level_and_signals() {
    let policy = r#"@id("p") permit (principal, action, resource) when { context has risk && context.risk.score == 55
        && context.risk.level == "high" && context.risk.signals == ["new_location", "new_device"] };"#;
    let signals = [Signal::NewDevice, Signal::NewLocation];
    let unusual = risk(55, RiskLevel::High, &signals, Mode::Effective);
    let address = Vary::NOTHING.with(Varying::SourceAddress);
    assert_eq!(decide(policy, Some(&unusual)), (Effect::Permit, address));
    let other = risk(54, RiskLevel::High, &signals, Mode::Effective);
    assert_eq!(decide(policy, Some(&other)), (Effect::Deny, address));
    // Not assessed: nothing was looked at.
    assert_eq!(decide(policy, None), (Effect::Deny, Vary::NOTHING));
}

#[test]
fn a_risk_that_is_only_learnt_is_seen_as_none_and_varies_as_it_will() {
    let policy = r#"@id("p") permit (principal, action, resource) when { context has risk && context.risk.score == 0
        && context.risk.level == "low" && context.risk.signals.isEmpty() };"#;
    let learnt = risk(80, RiskLevel::High, &[Signal::ListedAddress], Mode::Learning);
    let address = Vary::NOTHING.with(Varying::SourceAddress);
    assert_eq!(decide(policy, Some(&learnt)), (Effect::Permit, address));
}

#[test]
fn only_an_answer_of_a_policy_that_reads_risk_varies_with_what_it_came_from() {
    let unusual = risk(55, RiskLevel::High, &[], Mode::Effective);
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

/// The example policies beside one that permits everything.
fn examples() -> PolicyEngine {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("example-policies/risk.cedar");
    let examples = std::fs::read_to_string(file).unwrap();
    let all = r#"@id("all") permit (principal, action, resource);"#;
    let engine = load(folder(&[("all.cedar", all), ("risk.cedar", &examples)]).path()).unwrap();
    assert_eq!(engine.warnings(), []);
    engine
}

/// Who is refused what, as one word for each authentication: none, a second factor, a hardware key.
fn row(engine: &PolicyEngine, classification: Option<&str>, method: &str, risk: Option<&Assessment>) -> String {
    let words = [None, Some("urn:example:mfa"), Some("urn:example:hardware")].map(|acr| {
        let mut asked = request(user(&[]), method, "r");
        asked.principal.as_mut().unwrap().acr = acr.map(str::to_owned);
        asked.resource.classification = classification.map(str::to_owned);
        let evaluation = engine.evaluate_at_risk(&asked, NOW_US, risk);
        let asks_for = evaluation.challenge.map(|told| told.acr_values().join("|"));
        match (evaluation.effect, asks_for) {
            (Effect::Permit, _) => "permit".to_owned(),
            (Effect::Deny, None) => "deny".to_owned(),
            (Effect::Deny, Some(asks_for)) => asks_for.replace("urn:example:", "ask:"),
        }
    });
    words.join(" ")
}

/// A snapshot to be read: classification, method and score, and what becomes of users without, with a second factor, and
/// with a hardware key.
#[test]
fn the_example_policies_ask_for_more_as_risk_grows() {
    const EXPECTED: &str = "\
public     GET  -  : permit permit permit
public     GET  0  : permit permit permit
public     GET  19 : permit permit permit
public     GET  20 : ask:hardware|ask:mfa permit permit
public     GET  49 : ask:hardware|ask:mfa permit permit
public     GET  50 : ask:hardware ask:hardware permit
sensitive  GET  -  : permit permit permit
sensitive  GET  50 : ask:hardware ask:hardware permit
sensitive  POST -  : deny deny deny
sensitive  POST 0  : permit permit permit
sensitive  POST 49 : ask:hardware|ask:mfa permit permit
sensitive  POST 50 : deny deny deny
top-secret GET  -  : deny deny deny
top-secret GET  9  : permit permit permit
top-secret GET  10 : deny deny deny
";
    let engine = examples();
    let mut found = String::new();
    for line in EXPECTED.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let assessed = words[2].parse().ok().map(|score: u8| {
            let level = match score {
                0..20 => RiskLevel::Low,
                20..50 => RiskLevel::Medium,
                _ => RiskLevel::High,
            };
            risk(score, level, &[], Mode::Effective)
        });
        let classification = Some(words[0]).filter(|name| *name != "public");
        let became = row(&engine, classification, words[1], assessed.as_ref());
        found += &format!("{:10} {:4} {:3}: {became}\n", words[0], words[1], words[2]);
    }
    assert_eq!(found, EXPECTED);
}

#[test]
fn the_example_policies_refuse_listed_addresses() {
    let listed = risk(0, RiskLevel::Low, &[Signal::ListedAddress], Mode::Effective);
    assert_eq!(row(&examples(), None, "GET", Some(&listed)), "deny deny deny");
    let learnt = risk(100, RiskLevel::High, &[Signal::ListedAddress], Mode::Learning);
    assert_eq!(
        row(&examples(), Some("top-secret"), "GET", Some(&learnt)),
        "permit permit permit"
    );
}
