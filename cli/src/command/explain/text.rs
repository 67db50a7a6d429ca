//! An explanation as a text for people.

use std::fmt::Write as _;

use picket_audit::{ChallengeRecord, DeviceRecord, EffectRecord, RiskModeRecord, RiskRecord};
use picket_policy::ConditionValue;

use super::{Answer, ExplainedPolicy, Explanation, RequestLine, Traced};
use crate::output::{Output, Paint, printable};
use crate::time_text;

/// The whole answer.
pub(super) fn of(answer: &Answer<'_>, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &printable(&problem.to_string())));
    }
    if let Some(explanation) = answer.explanation {
        add_request(&mut text, explanation);
        if let Some(device) = &explanation.device {
            add_device(&mut text, device);
        }
        if let Some(risk) = &explanation.risk {
            add_risk(&mut text, risk);
        }
        if let Some(trace) = &explanation.trace {
            add_trace(&mut text, trace, output);
        }
        add_decision(&mut text, explanation, output);
    }
    text
}

fn add_request(text: &mut String, explanation: &Explanation) {
    let RequestLine {
        method,
        host,
        path,
        route_rule,
        time_us,
    } = &explanation.request;
    let time = time_text::of_us(i64::try_from(*time_us).unwrap_or(i64::MAX));
    let line = format!("{method} {host}{path}, route rule {route_rule}, at {time}");
    let _ = writeln!(text, "request    {}", printable(&line));
}

fn add_device(text: &mut String, device: &DeviceRecord) {
    let not = |is: bool| if is { "" } else { "not " };
    let line = format!(
        "{}, {}, {}trusted, score {}, {}compliant, {}the principal's own",
        device.id,
        device.state.as_str(),
        not(device.is_trusted),
        device.trust_score,
        not(device.is_compliant),
        not(device.is_owner),
    );
    let _ = writeln!(text, "device     {}", printable(&line));
}

fn add_risk(text: &mut String, risk: &RiskRecord) {
    let mode = match risk.mode {
        RiskModeRecord::Effective => "",
        RiskModeRecord::Learning => ", which was only learnt: policies see 0",
    };
    let country = risk.country.as_deref().map(|country| format!(", from {country}"));
    let line = format!("{} ({}){}{mode}", risk.score, risk.level, country.unwrap_or_default());
    let _ = writeln!(text, "risk       {}", printable(&line));
    for signal in &risk.signals {
        let line = format!("{}: {}", signal.signal, signal.explanation);
        let _ = writeln!(text, "  signal   {}", printable(&line));
    }
}

fn add_trace(text: &mut String, trace: &Traced, output: Output) {
    let _ = writeln!(text, "principal  {}", printable(&trace.principal));
    for parent in &trace.principal_in {
        let _ = writeln!(text, "  in       {}", printable(parent));
    }
    let _ = writeln!(text, "action     {}", printable(&trace.action));
    let _ = writeln!(text, "resource   {}", printable(&trace.resource));
    let (candidates, others): (Vec<_>, Vec<_>) = trace.policies.iter().partition(|policy| policy.trace.is_candidate);
    for explained in candidates {
        add_policy(text, explained, output);
    }
    if !others.is_empty() {
        let ids: Vec<&str> = others.iter().map(|explained| explained.policy.id.as_str()).collect();
        let line = format!(
            "not looked at, as they are about other route rules or tenants: {}",
            ids.join(", ")
        );
        let _ = writeln!(text, "{}", output.paint(Paint::Dim, &line));
    }
}

fn add_policy(text: &mut String, explained: &ExplainedPolicy, output: Output) {
    let ExplainedPolicy {
        policy,
        trace,
        is_determining,
    } = explained;
    let verdict = match (&trace.whole, is_determining) {
        (ConditionValue::True, true) => output.paint(Paint::Good, "applies, and decides"),
        (ConditionValue::True, false) => "applies".to_owned(),
        (ConditionValue::False, _) => "does not apply".to_owned(),
        (ConditionValue::Failed(_), _) if policy.is_observed => "fails".to_owned(),
        (ConditionValue::Failed(_), _) => output.paint(Paint::Bad, "fails, which is a deny"),
    };
    let place = format!("{}:{}", policy.place.file.display(), policy.place.line);
    let mode = if policy.is_observed { ", in observe mode" } else { "" };
    let _ = writeln!(text, "{place}: {} ({}{mode}) {verdict}", policy.id, policy.kind.word());
    let _ = writeln!(text, "  scope: {}", value(Some(&trace.scope)));
    for (clause, outcome) in policy.clauses.iter().zip(&trace.clauses) {
        let _ = writeln!(text, "  {}: {}", printable(&clause.text), value(outcome.as_ref()));
    }
}

fn value(outcome: Option<&ConditionValue>) -> String {
    match outcome {
        Some(ConditionValue::True) => "true".to_owned(),
        Some(ConditionValue::False) => "false".to_owned(),
        Some(ConditionValue::Failed(error)) => format!("fails: {}", printable(error)),
        None => "not reached".to_owned(),
    }
}

fn add_decision(text: &mut String, explanation: &Explanation, output: Output) {
    let by = |ids: &[String]| match ids {
        [] => "no policy".to_owned(),
        ids => ids.join(", "),
    };
    let paint = if explanation.effect == "permit" {
        Paint::Good
    } else {
        Paint::Bad
    };
    let effect = output.paint(paint, explanation.effect);
    let _ = writeln!(
        text,
        "decision   {effect} by {}, revision {}",
        by(&explanation.policy_ids),
        explanation.revision
    );
    for reason in &explanation.reasons {
        let _ = writeln!(text, "  reason   {}", printable(reason));
    }
    if let Some(challenge) = &explanation.challenge {
        let _ = writeln!(text, "  needs    {}", printable(&asked_for(challenge)));
    }
    for obligation in &explanation.obligations {
        let _ = writeln!(text, "  obliges  {}", printable(obligation));
    }
    for error in &explanation.errors {
        let _ = writeln!(text, "  error    {}", printable(error));
    }
    let vary = match explanation.vary.as_slice() {
        [] => String::new(),
        attributes => format!(", {}", attributes.join(", ")),
    };
    let _ = writeln!(text, "depends on route rule, token{vary}");
    let _ = writeln!(text, "valid      {}", validity(explanation));
    if let Some(observed) = &explanation.observed {
        let (effect, by) = (effect_word(observed.effect), by(&observed.policy_ids));
        let _ = writeln!(text, "observed   {effect} by {by}, if they were not in observe mode");
    }
    if let Some(recorded) = &explanation.recorded {
        let effect = effect_word(recorded.effect);
        let revision = match recorded.policy_revision == explanation.revision {
            true => "the same revision".to_owned(),
            false => format!("another revision, {}", printable(&recorded.policy_revision)),
        };
        let _ = writeln!(
            text,
            "recorded   {effect} by {}, {revision}",
            printable(&by(&recorded.policy_ids))
        );
    }
}

fn asked_for(challenge: &ChallengeRecord) -> String {
    let acr_values = (!challenge.acr_values.is_empty()).then(|| format!("acr {}", challenge.acr_values.join(" or ")));
    let max_age_s = challenge
        .max_age_s
        .map(|age_s| format!("an authentication of at most {age_s} s ago"));
    let bound_token = challenge.bound_token.then(|| "a token that is bound".to_owned());
    let trusted_device = challenge.trusted_device.then(|| "a trusted device".to_owned());
    let parts: Vec<String> = [acr_values, max_age_s, bound_token, trusted_device]
        .into_iter()
        .flatten()
        .collect();
    parts.join(" and ")
}

fn validity(explanation: &Explanation) -> String {
    let configured = "as `decisions` of the service's configuration says";
    match explanation.same_for_ms {
        _ if !explanation.errors.is_empty() => "not at all, as a failure is not repeated".to_owned(),
        Some(0) => "not at all, as the time changes it at any moment".to_owned(),
        Some(ms) => format!("{configured}, and no longer than {ms} ms, when the time can change it"),
        None => configured.to_owned(),
    }
}

fn effect_word(effect: EffectRecord) -> &'static str {
    match effect {
        EffectRecord::Permit => "permit",
        EffectRecord::Deny => "deny",
    }
}
