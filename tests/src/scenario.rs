//! The demo's scenario, as data (`tests/vectors/demo.json`), and what carries it out.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::client::Answer;
use crate::clock;
use crate::exchange::Exchange;
use crate::session::Session;
use crate::stack::Stack;
use crate::wait;

/// `clock_skew_s` in the sidecar's configuration.
const CLOCK_SKEW_S: i64 = 60;

/// One step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What happens first.
    pub before: Option<Before>,
    /// The step whose token is sent again.
    pub token_of: Option<String>,
    /// What is sent, and what is expected.
    pub exchange: Exchange,
}

/// What happens before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// The policy service is stopped.
    StopPolicyService,
    /// It is started again.
    StartPolicyService,
    /// The token has expired, clock skew included.
    TokenExpires,
}

/// What came of a step.
#[derive(Debug)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// What came back.
    pub answer: Answer,
    /// How long it took.
    pub took: Duration,
    /// In what it differs from what was expected.
    pub differences: Vec<String>,
}

/// The demo's steps.
///
/// # Errors
/// When the file is not a scenario.
pub fn steps() -> Result<Vec<Step>> {
    serde_json::from_str(include_str!("../vectors/demo.json")).context("tests/vectors/demo.json")
}

/// Carries out the steps, one after the other.
///
/// # Errors
/// When a step gets no answer, or a part of the stack does not start or stop.
pub async fn run(stack: &mut Stack, steps: Vec<Step>, mut show: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut session = Session::new(stack.keys(), stack.entrances());
    let mut tokens = BTreeMap::new();
    let mut outcomes = Vec::new();
    for step in steps {
        let id = step.exchange.id.clone();
        let token = token(stack, &step, &tokens)?;
        prepare(stack, &step, token.as_deref()).await?;
        let sent = session.send_with(&step.exchange.request, token.as_deref()).await;
        let (answer, took) = sent.with_context(|| format!("the step `{id}`"))?;
        if let Some(token) = token {
            tokens.insert(id, token);
        }
        let differences = step.exchange.expected.differences(&answer);
        let outcome = Outcome {
            step,
            answer,
            took,
            differences,
        };
        show(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn token(stack: &Stack, step: &Step, tokens: &BTreeMap<String, String>) -> Result<Option<String>> {
    match (&step.token_of, &step.exchange.request.token) {
        (Some(id), _) => {
            let token = tokens.get(id).with_context(|| format!("no step `{id}` sent a token"))?;
            Ok(Some(token.clone()))
        }
        (None, Some(spec)) => Ok(Some(spec.mint(stack.keys())?)),
        (None, None) => Ok(None),
    }
}

async fn prepare(stack: &mut Stack, step: &Step, token: Option<&str>) -> Result<()> {
    match step.before {
        None => Ok(()),
        Some(Before::StopPolicyService) => stack.policy_service()?.stop().await,
        Some(Before::StartPolicyService) => stack.policy_service()?.start_again().await,
        Some(Before::TokenExpires) => {
            let expires_at_s = expiry_s(token.context("a step without a token waits for its end")?)?;
            wait::until("the token expires", || {
                let is_over = clock::now_s() > expires_at_s.saturating_add(CLOCK_SKEW_S);
                std::future::ready(Ok(is_over.then_some(())))
            })
            .await
        }
    }
}

fn expiry_s(token: &str) -> Result<i64> {
    let claims = token.split('.').nth(1).context("a token without claims")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    claims.get("exp").and_then(Value::as_i64).context("a token without exp")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::steps;

    #[test]
    fn the_scenario_has_at_least_fourteen_steps_with_names_of_their_own() {
        let steps = steps().unwrap();
        let ids: BTreeSet<&str> = steps.iter().map(|step| step.exchange.id.as_str()).collect();
        assert_eq!(ids.len(), steps.len());
        assert!(steps.len() >= 14, "{}", steps.len());
        assert!(
            steps.iter().all(|step| step.exchange.times == 1),
            "a step is one line of the table"
        );
    }

    #[test]
    fn a_step_that_sends_a_token_again_comes_after_the_one_that_sent_it() {
        let mut seen = BTreeSet::new();
        for step in steps().unwrap() {
            if let Some(id) = &step.token_of {
                assert!(seen.contains(id), "{id}");
            }
            seen.insert(step.exchange.id);
        }
    }
}
