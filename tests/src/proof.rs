//! Proof that a stack is well: Envoy lives, no VM failed, and every worker still decides.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use crate::client::http1::Http1Connection;
use crate::client::tls::{Alpn, connect_tls};
use crate::exchange::RequestSpec;
use crate::stack::{Stack, WORKERS};
use crate::token::TokenSpec;
use crate::wait;

/// Connections that are opened until every worker got one. The kernel spreads them: that one of two gets none of 64 happens once
/// in 2^63.
const CONNECTIONS_MAX: u32 = 64;

/// What Envoy's log says about a VM that failed.
const SIGNS_OF_FAILURE: [&str; 5] = [
    "panicked at",
    "Uncaught RuntimeError",
    "Proxy-Wasm plugin in-VM backtrace",
    "wasm_fail_stream",
    "VM failed",
];

/// Checks that Envoy runs, that no VM failed so far, and that both workers answer: by a local rule, and by a decision.
///
/// # Errors
/// Names what is not well, with the end of Envoy's log.
pub async fn still_serves(stack: &mut Stack) -> Result<()> {
    let result = check(stack).await;
    result.with_context(|| format!("the stack is not well\n{}", stack.tails()))
}

async fn check(stack: &mut Stack) -> Result<()> {
    stack.inbound().process().ensure_running()?;
    every_worker_decides(stack).await?;
    no_vm_failed(stack).await
}

/// Sends requests on new connections until each worker has answered one.
async fn every_worker_decides(stack: &mut Stack) -> Result<()> {
    let before = connections_by_worker(stack).await?;
    ensure!(before.len() == WORKERS as usize, "Envoy has the workers {before:?}");
    for _ in 0..CONNECTIONS_MAX {
        decides(stack).await?;
        let now = connections_by_worker(stack).await?;
        if now.iter().zip(&before).all(|((_, now), (_, before))| now > before) {
            return Ok(());
        }
    }
    bail!("no connection reached some worker: {before:?}")
}

async fn decides(stack: &Stack) -> Result<()> {
    let identity = stack.keys().identity("web")?;
    let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http1, stack.inbound_address()).await?;
    let mut connection = Http1Connection::new(io);
    let local = RequestSpec {
        path: "/healthz".to_owned(),
        ..RequestSpec::default()
    };
    let answer = wait::within("a local answer", connection.exchange(&local.http1(None))).await?;
    ensure!(answer.status == 200, "`/healthz` was answered {answer:?}");
    let token = TokenSpec::of("alice").mint(stack.keys())?;
    let request = RequestSpec::default().http1(Some(&token));
    let answer = wait::within("a decision", connection.exchange(&request)).await?;
    ensure!(
        answer.status == 200 && answer.reason().as_deref() == Some("policy_permit"),
        "a good request was answered {answer:?}"
    );
    Ok(())
}

async fn connections_by_worker(stack: &mut Stack) -> Result<Vec<(String, u64)>> {
    stack
        .inbound()
        .stats(|name| {
            name.starts_with("listener.")
                && !name.starts_with("listener.admin.")
                && name.contains(".worker_")
                && name.ends_with(".downstream_cx_total")
        })
        .await
}

/// Fails when Envoy counted or logged the failure of a VM.
///
/// # Errors
/// Names the counter or the words.
pub async fn no_vm_failed(stack: &mut Stack) -> Result<()> {
    let failures = stack
        .inbound()
        .stats(|name| name.starts_with("wasm.picket.") && name.contains("vm_reload"))
        .await?;
    ensure!(
        !failures.is_empty(),
        "Envoy does not count the failures of VMs under the names known here"
    );
    for (name, count) in failures {
        ensure!(count == 0, "{name} is {count}");
    }
    let log = stack.inbound().process().output();
    let found: BTreeSet<&str> = SIGNS_OF_FAILURE.into_iter().filter(|sign| log.contains(sign)).collect();
    ensure!(found.is_empty(), "Envoy's log says {found:?}");
    Ok(())
}
