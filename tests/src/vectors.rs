//! The vectors end to end: each request through a real Envoy, and whatever differs from what is expected.

use anyhow::{Result, ensure};

use crate::exchange::Exchange;
use crate::session::Session;
use crate::stack::Stack;

/// Through the sidecars as they are shipped.
pub const SHIPPED: &str = include_str!("../vectors/requests.json");
/// To a callee's sidecar whose Envoy lets everything pass, so that Picket has to refuse.
pub const LENIENT: &str = include_str!("../vectors/requests-lenient.json");

/// Sends the vectors to a stack.
///
/// # Errors
/// Names whatever differs from what is expected, with the ends of the logs.
pub async fn check(stack: &mut Stack, vectors: &[Exchange]) -> Result<()> {
    let failures = differences(stack, vectors).await;
    ensure!(failures.is_empty(), "{}\n{}", failures.join("\n"), stack.tails());
    Ok(())
}

/// Sends the vectors to a stack, one after the other on connections that stay open, and returns the differences, a line each.
async fn differences(stack: &Stack, vectors: &[Exchange]) -> Vec<String> {
    let mut session = Session::new(stack.keys(), stack.entrances());
    let mut failures = Vec::new();
    for vector in vectors {
        let before = stack.upstream().requests();
        match session.run(vector).await {
            Ok((answer, _)) => {
                let found = vector.expected.differences(&answer);
                failures.extend(found.iter().map(|d| format!("{}: {d}", vector.id)));
                let permitted = answer.json().is_some_and(|echo| echo.get("target").is_some());
                // Of several, those before the last one may have been permitted.
                let reached = stack.upstream().requests().saturating_sub(before);
                if !permitted && reached >= vector.times.into() {
                    failures.push(format!("{}: refused, and yet it reached the upstream", vector.id));
                }
            }
            Err(error) => failures.push(format!("{}: {error:#}", vector.id)),
        }
    }
    failures
}
