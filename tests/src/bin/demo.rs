//! `make demo`, `make up`, `make down`: Picket with real parts on this machine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use picket_tests::client::Answer;
use picket_tests::clock::Stopwatch;
use picket_tests::places::Places;
use picket_tests::report::Table;
use picket_tests::running::{self, Running, Up};
use picket_tests::scenario::{self, Outcome};
use picket_tests::stack::{Options, Stack};
use picket_tests::upstream::Upstream;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// How many of the last audit records the demo shows.
const RECORDS_SHOWN: &str = "6";

/// Picket with real parts on this machine: a policy service, an upstream, and two Envoys.
#[derive(Parser)]
#[command(name = "picket-demo", version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Start everything, send the scenario, print a table, verify the audit log, end everything
    Run,
    /// Start everything and leave it running
    Up,
    /// End what `up` started
    Down,
    /// Answer each request with what arrived
    Upstream {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Subcommands::Run => unless_ended(demo()).await,
            Subcommands::Up => unless_ended(up()).await,
            Subcommands::Down => down().await,
            Subcommands::Upstream { listen } => upstream(listen).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does something that starts processes, and gives it up at a signal that ends this one: what was started ends with it, also where
/// the terminal is closed.
async fn unless_ended(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = work => result,
        _ = hangup.recv() => bail!("ended by SIGHUP"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
        _ = terminate.recv() => bail!("ended by SIGTERM"),
    }
}

async fn demo() -> Result<()> {
    let steps = scenario::steps()?;
    println!("Starting the policy service, an echo upstream, and two Envoys: the caller's sidecar and the callee's.");
    let watch = Stopwatch::start();
    let mut stack = Stack::start(Options::default()).await?;
    println!(
        "Ready after {:.1} s. Sending {} requests.\n",
        watch.elapsed().as_secs_f64(),
        steps.len()
    );
    let outcomes = scenario::run(&mut stack, steps, |_| {}).await;
    let outcomes = outcomes.with_context(|| stack.tails())?;
    print!("{}", table(&outcomes).to_text());
    let differing: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| !outcome.differences.is_empty())
        .collect();
    if !differing.is_empty() {
        bail!("{}", differences(&differing));
    }
    println!("\nAll {} answers are as expected. The audit log:\n", outcomes.len());
    show_audit_log(&mut stack)?;
    stack.policy_service()?.stop().await?;
    println!("\nWhat to try next:");
    println!("  make up      leaves all of this running, and prints lines for curl");
    println!("  make test    the same and much more, as tests");
    println!("  tests/vectors/demo.json and policy-service/policies/orders.cedar    what was sent, and what decided");
    Ok(())
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["#", "sent", "decided by", "answer", "reason", "ms", ""]);
    for (number, outcome) in outcomes.iter().enumerate() {
        let answer = &outcome.answer;
        let status = match answer.grpc_status() {
            Some(grpc) => format!("{} grpc {grpc}", answer.status),
            None => answer.status.to_string(),
        };
        table.push(vec![
            (number + 1).to_string(),
            outcome.step.exchange.comment.clone(),
            answer.decided_by().unwrap_or_else(|| "envoy".to_owned()),
            status,
            reason(answer),
            format!("{:.1}", outcome.took.as_secs_f64() * 1_000.0),
            if outcome.differences.is_empty() {
                ""
            } else {
                "NOT AS EXPECTED"
            }
            .to_owned(),
        ]);
    }
    table
}

/// The reason's code, and what policy lets the caller know.
fn reason(answer: &Answer) -> String {
    let code = answer.reason().unwrap_or_else(|| "-".to_owned());
    let problem = answer.json().unwrap_or_default();
    let told: Vec<&str> = problem
        .get("reasons")
        .and_then(Value::as_array)
        .map(|reasons| reasons.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if told.is_empty() {
        code
    } else {
        format!("{code}: {}", told.join("; "))
    }
}

fn differences(outcomes: &[&Outcome]) -> String {
    let mut text = format!("{} answers are not as expected:", outcomes.len());
    for outcome in outcomes {
        for difference in &outcome.differences {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n  {} ({}): {difference}",
                outcome.step.exchange.id, outcome.step.exchange.comment
            );
        }
    }
    text
}

fn show_audit_log(stack: &mut Stack) -> Result<()> {
    picket_audit(stack.folder(), &["verify"])?;
    picket_audit(stack.folder(), &["tail", "-n", RECORDS_SHOWN])
}

/// Runs `picket audit` in the stack's folder, as an operator would.
fn picket_audit(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut line = vec!["audit"];
    line.extend(arguments);
    line.extend(["--database", "audit.sqlite3", "--key", "pki/audit-key"]);
    println!("$ picket {}", line.join(" "));
    let status = Command::new(Places::find()?.picket)
        .args(&line)
        .current_dir(folder)
        .status()
        .context("cannot start `picket`")?;
    ensure!(status.success(), "`picket {}` ended with {status}", line.join(" "));
    Ok(())
}

async fn up() -> Result<()> {
    match running::up().await? {
        Up::Already(running) => {
            println!("It is running already (`make down` ends it).\n");
            print!("{}", guide(&running));
        }
        Up::Started(running) => {
            println!("It is running, and stays so until `make down`.\n");
            print!("{}", guide(&running));
        }
    }
    Ok(())
}

async fn down() -> Result<()> {
    let ended = running::down().await?;
    if ended.is_empty() {
        println!("Nothing was running.");
    }
    for process in ended {
        println!("Ended {} (process {}).", process.name, process.pid);
    }
    Ok(())
}

async fn upstream(listen: SocketAddr) -> Result<()> {
    let upstream = Upstream::start(listen).await?;
    println!("{}", serde_json::json!({ "address": upstream.address() }));
    upstream.run().await
}

/// Where everything is, and lines to paste.
fn guide(running: &Running) -> String {
    let at = &running.addresses;
    let mut table = Table::new(&["what", "where"]);
    for (what, address) in [
        ("caller's sidecar (plain HTTP)", format!("http://{}", at.outbound)),
        (
            "callee's sidecar (mutual TLS, Picket)",
            format!("https://localhost:{}", at.inbound.port()),
        ),
        (
            "its administration and metrics",
            format!("http://{}/stats/prometheus", at.inbound_admin),
        ),
        (
            "policy service, health and metrics",
            format!("http://{}/readyz", at.policy_service_http),
        ),
        ("echo upstream", format!("http://{}", at.upstream)),
        (
            "keys, tokens, logs, audit log",
            "everything is named in .run/stack.json".to_owned(),
        ),
    ] {
        table.push(vec![what.to_owned(), address]);
    }
    let outbound = format!("http://{}", at.outbound);
    let host = "-H 'host: orders.example.org'";
    let bearer = |name: &str| format!("-H \"authorization: Bearer $(cat .run/tokens/{name}.jwt)\"");
    let lines = [
        (
            "permitted; again, and it comes from the cache (each worker of Envoy has its own, so perhaps not at once)",
            format!("curl -i {outbound}/orders/1 {host} {}", bearer("alice")),
        ),
        (
            "a role that may read may not write",
            format!("curl -i -X POST {outbound}/orders {host} {}", bearer("bob")),
        ),
        (
            "policy denies it, and says why",
            format!("curl -i {outbound}/salaries/1 {host} {}", bearer("alice")),
        ),
        (
            "no token, and one that has expired",
            format!("curl -i {outbound}/orders/1 {host}"),
        ),
        ("", format!("curl -i {outbound}/orders/1 {host} {}", bearer("expired"))),
        (
            "a workload that may not call, straight to the callee's sidecar",
            format!(
                "curl -i https://localhost:{}/orders/1 --cacert .run/pki/ca.pem --cert .run/pki/billing.pem \
                 --key .run/pki/billing-key.pem {host} {}",
                at.inbound.port(),
                bearer("alice")
            ),
        ),
        (
            "what Picket counted",
            format!("curl -s http://{}/stats/prometheus | grep '^picket_'", at.inbound_admin),
        ),
    ];
    let mut text = format!("{}\nTo paste, in the repository's folder:\n", table.to_text());
    for (comment, line) in lines {
        if !comment.is_empty() {
            let _ = write!(text, "\n# {comment}\n");
        }
        let _ = writeln!(text, "{line}");
    }
    text
}
