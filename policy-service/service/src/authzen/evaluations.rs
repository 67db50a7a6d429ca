//! Evaluations: one, or several in one call (AuthZEN 1.0 §6 and §7).

use std::collections::HashMap;
use std::sync::Arc;

use deserr::Deserr;
use picket_model::decision::{Decision, Effect, StepUp};
use picket_model::problems::{self, Problems};
use picket_state::sessions::SessionAccess;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::error::AuthzenError;
use super::{AuthzenService, CallContext, information};
use crate::decision::Decider;

/// The members that an evaluation inherits from the top level (AuthZEN 1.0 §7.1.1).
const DEFAULTS: [&str; 4] = ["subject", "action", "resource", "context"];
const EVALUATIONS: &str = "evaluations";

/// Which of several evaluations are made (AuthZEN 1.0 §7.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
enum EvaluationsSemantic {
    #[default]
    #[deserr(rename = "execute_all")]
    ExecuteAll,
    #[deserr(rename = "deny_on_first_deny")]
    DenyOnFirstDeny,
    #[deserr(rename = "permit_on_first_permit")]
    PermitOnFirstPermit,
}

#[derive(Debug, Default, Deserr)]
#[deserr(error = Problems)]
struct Options {
    #[deserr(default)]
    evaluations_semantic: Option<EvaluationsSemantic>,
}

/// The members of a call that are about all of its evaluations.
#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct SharedMembers {
    #[deserr(default)]
    options: Option<Options>,
}

/// `POST /access/v1/evaluation`.
pub(super) async fn evaluation(
    service: &AuthzenService,
    call: &CallContext,
    document: Map<String, Value>,
) -> Result<Value, AuthzenError> {
    evaluate(Arc::clone(&service.decider), call.clone(), document).await
}

/// `POST /access/v1/evaluations`. Without `evaluations` it is a single evaluation (§7.1).
pub(super) async fn evaluations(
    service: &AuthzenService,
    call: &CallContext,
    mut document: Map<String, Value>,
) -> Result<Value, AuthzenError> {
    let items = match document.remove(EVALUATIONS) {
        Some(Value::Array(items)) if !items.is_empty() => items,
        None | Some(Value::Array(_)) => return evaluation(service, call, document).await,
        Some(_) => return Err(AuthzenError::Malformed("evaluations: expected an array".to_owned())),
    };
    let items_max = usize::try_from(service.settings.evaluations_max).unwrap_or(usize::MAX);
    if items.len() > items_max {
        let message = format!(
            "evaluations: expected at most {items_max} elements, found {}",
            items.len()
        );
        return Err(AuthzenError::Malformed(message));
    }
    let shared = problems::read::<SharedMembers>(Value::Object(document.clone())).map_err(malformed)?;
    let semantic = shared
        .options
        .and_then(|options| options.evaluations_semantic)
        .unwrap_or_default();
    let items = items.into_iter().map(|item| with_defaults(item, &document));
    let results = match semantic {
        EvaluationsSemantic::ExecuteAll => evaluate_all(service, call, items).await,
        EvaluationsSemantic::DenyOnFirstDeny => evaluate_until(service, call, items, false).await,
        EvaluationsSemantic::PermitOnFirstPermit => evaluate_until(service, call, items, true).await,
    };
    Ok(json!({ EVALUATIONS: results }))
}

/// One evaluation, with the members that it inherits.
fn with_defaults(item: Value, defaults: &Map<String, Value>) -> Result<Map<String, Value>, AuthzenError> {
    let Value::Object(mut item) = item else {
        return Err(AuthzenError::Malformed("expected an object".to_owned()));
    };
    for name in DEFAULTS {
        if let (None, Some(default)) = (item.get(name), defaults.get(name)) {
            item.insert(name.to_owned(), default.clone());
        }
    }
    Ok(item)
}

/// Concurrent evaluations of one call: each has a copy of what it inherits, and their records share
/// a queue with those of others.
const CONCURRENT_EVALUATIONS_MAX: usize = 16;

/// Evaluates all items concurrently, so that their records share a transaction. The results have
/// the order of the items.
async fn evaluate_all(
    service: &AuthzenService,
    call: &CallContext,
    items: impl Iterator<Item = Result<Map<String, Value>, AuthzenError>>,
) -> Vec<Value> {
    let answers = items.map(|item| evaluate_item(Arc::clone(&service.decider), call.clone(), item));
    let answers = in_order(answers).await.into_iter();
    answers
        .map(|answer| answer.unwrap_or_else(|| AuthzenError::Interrupted.to_evaluation()))
        .collect()
}

/// The results of futures in their order, [`CONCURRENT_EVALUATIONS_MAX`] of which run at a time.
/// `None` is in the place of one that panicked, so that no other result is taken for its own.
async fn in_order<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<Option<T>> {
    let mut running = JoinSet::new();
    let (mut count, mut answered) = (0, Vec::new());
    for (place, call) in calls.enumerate() {
        if running.len() >= CONCURRENT_EVALUATIONS_MAX {
            answered.extend(running.join_next().await.and_then(Result::ok));
        }
        running.spawn(async move { (place, call.await) });
        count = place + 1;
    }
    while let Some(ended) = running.join_next().await {
        answered.extend(ended);
    }
    let mut answers: HashMap<usize, T> = answered.into_iter().collect();
    (0..count).map(|place| answers.remove(&place)).collect()
}

/// Evaluates the items one after the other, up to the first whose decision is `permit`.
async fn evaluate_until(
    service: &AuthzenService,
    call: &CallContext,
    items: impl Iterator<Item = Result<Map<String, Value>, AuthzenError>>,
    permit: bool,
) -> Vec<Value> {
    let mut results = Vec::new();
    for item in items {
        let result = evaluate_item(Arc::clone(&service.decider), call.clone(), item).await;
        let is_last = is_permit(&result) == permit;
        results.push(result);
        if is_last {
            break;
        }
    }
    results
}

/// The result of one item. Its failure is a deny, and does not affect the other items.
async fn evaluate_item(
    decider: Arc<Decider>,
    call: CallContext,
    item: Result<Map<String, Value>, AuthzenError>,
) -> Value {
    let result = match item {
        Ok(item) => evaluate(decider, call, item).await,
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| error.to_evaluation())
}

async fn evaluate(
    decider: Arc<Decider>,
    call: CallContext,
    document: Map<String, Value>,
) -> Result<Value, AuthzenError> {
    let request = information::access_request(document, &call).map_err(malformed)?;
    // The enforcement point may not know the whole client.
    let decided = decider.decide(request, SessionAccess::ReadOnly, &call.caller, call.stopwatch);
    let decision = decided.await?;
    Ok(decision_document(&decision))
}

/// The decision and its context, with what the caller may know (AuthZEN 1.0 §5.5).
fn decision_document(decision: &Decision) -> Value {
    let mut context = Map::new();
    context.insert("decision_id".to_owned(), json!(decision.decision_id));
    context.insert("policy_revision".to_owned(), json!(decision.policy_revision));
    for (name, texts) in [
        ("reasons", &decision.caller_reasons),
        ("obligations", &decision.obligations),
    ] {
        if !texts.is_empty() {
            context.insert(name.to_owned(), json!(texts));
        }
    }
    if let Some(step_up) = &decision.challenge {
        context.insert("challenge".to_owned(), challenge(step_up));
    }
    let is_permit = match decision.effect {
        Effect::Permit => true,
        Effect::Deny => false,
    };
    json!({ "decision": is_permit, "context": context })
}

/// The authentication that the same subject would be permitted with, in the terms of RFC 9470 §3.
fn challenge(step_up: &StepUp) -> Value {
    let mut challenge = Map::new();
    if !step_up.acr_values().is_empty() {
        challenge.insert("acr_values".to_owned(), json!(step_up.acr_values()));
    }
    if let Some(max_age_s) = step_up.max_age_s() {
        challenge.insert("max_age".to_owned(), json!(max_age_s));
    }
    if step_up.bound_token() {
        challenge.insert("bound_token".to_owned(), json!(true));
    }
    if step_up.trusted_device() {
        challenge.insert("trusted_device".to_owned(), json!(true));
    }
    Value::Object(challenge)
}

fn is_permit(result: &Value) -> bool {
    result.get("decision") == Some(&Value::Bool(true))
}

#[expect(clippy::needless_pass_by_value, reason = "it is mapped over errors")]
fn malformed(problems: Problems) -> AuthzenError {
    AuthzenError::Malformed(problems.to_string())
}

#[cfg(test)]
mod tests {
    use picket_model::decision::Vary;

    use super::*;

    #[test]
    fn a_decision_tells_what_the_caller_may_know_and_what_it_has_to_see_to() {
        let mut decision = Decision {
            effect: Effect::Deny,
            decision_id: "d".to_owned(),
            policy_revision: "p".to_owned(),
            valid_for_ms: 1000,
            policy_ids: vec!["secret".to_owned()],
            caller_reasons: vec!["because".to_owned()],
            vary: Vary::EVERYTHING,
            challenge: StepUp::new(vec!["mfa".to_owned()], Some(300), true, true).map(Box::new),
            obligations: Vec::new(),
            is_token_revoked: false,
            risk: None,
        };
        let challenge = json!({"acr_values": ["mfa"], "max_age": 300, "bound_token": true, "trusted_device": true});
        assert_eq!(
            decision_document(&decision),
            json!({"decision": false, "context": {
                "decision_id": "d", "policy_revision": "p", "reasons": ["because"], "challenge": challenge,
            }})
        );
        decision = Decision {
            effect: Effect::Permit,
            caller_reasons: Vec::new(),
            challenge: None,
            obligations: vec!["log".to_owned()],
            is_token_revoked: false,
            ..decision
        };
        assert_eq!(
            decision_document(&decision),
            json!({"decision": true, "context": {"decision_id": "d", "policy_revision": "p", "obligations": ["log"]}})
        );
    }

    #[test]
    fn what_an_evaluation_says_itself_counts() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let defaults = object(json!({"subject": 1, "action": 2, "evaluations": [], "options": {}}));
        let item = with_defaults(json!({"action": 3, "resource": 4}), &defaults).unwrap();
        assert_eq!(Value::Object(item), json!({"subject": 1, "action": 3, "resource": 4}));
    }

    #[tokio::test]
    async fn so_many_are_under_way_and_no_more_and_each_has_its_place() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls = (0..100_usize).map(|number| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                // The later ones end first.
                for _ in 0..200 - number {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                assert_ne!(number, 7, "it ends in the middle");
                number
            }
        });
        let answered = |number| (number != 7).then_some(number);
        assert_eq!(in_order(calls).await, (0..100).map(answered).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), 16);
    }
}
