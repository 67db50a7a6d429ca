//! Waiting for a condition, never longer than a deadline.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::clock::Stopwatch;

/// How often a condition that cannot be awaited is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// The longest that anything in a test may take before it counts as hanging.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Looks at `condition` until it yields a value.
///
/// # Errors
/// The condition's own error at once; after [`DEADLINE`], one that says what was waited for.
pub async fn until<T, F, Fut>(what: &str, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = within(what, condition()).await? {
            return Ok(value);
        }
        if watch.elapsed() > DEADLINE {
            return Err(anyhow!("waited {DEADLINE:?} in vain: {what}"));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Awaits `future` for [`DEADLINE`] at most.
///
/// # Errors
/// The future's own error, or one that says what took too long.
pub async fn within<T>(what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .with_context(|| format!("took more than {DEADLINE:?}: {what}"))?
        .with_context(|| what.to_owned())
}
