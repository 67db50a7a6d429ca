//! `make bench`, `make bench-quick`: what Picket costs in Envoy, beside what an operator would use instead.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use picket_tests::bench::authorization;
use picket_tests::bench::decide;
use picket_tests::bench::document;
use picket_tests::bench::machine::{Machine, Versions};
use picket_tests::bench::memory;
use picket_tests::bench::report::{FULL, PART, QUICK, Report};
use picket_tests::bench::rounds::{self, Plan};
use picket_tests::bench::scale;
use picket_tests::bench::scenario::{self, Scenario};
use picket_tests::bench::subject::Ground;
use picket_tests::clock::{self, Stopwatch};
use picket_tests::places::Places;
use tempfile::TempDir;

/// What Picket costs in Envoy, beside what an operator would use instead.
#[derive(Parser)]
#[command(name = "picket-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Measure, print tables, and write the report
    Run(Run),
    /// Measure `Decide` alone, and put it into the report
    Decide(Existing),
    /// Measure the memory of a worker's VM under load, and put it into the report
    Memory {
        #[command(flatten)]
        existing: Existing,
        /// How long each Envoy has its load
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Measure `Decide` with many sessions and devices kept, and put it into the report
    Scale {
        #[command(flatten)]
        existing: Existing,
        /// How many sessions
        #[arg(long, default_value_t = 1_000_000)]
        sessions: u64,
        /// How many devices
        #[arg(long, default_value_t = 200_000)]
        devices: u64,
    },
    /// Write the report's figures into `benchmarks.md`, and draw its plots
    Document {
        #[command(flatten)]
        existing: Existing,
        /// The folder of both
        #[arg(long, value_name = "FOLDER", default_value = "docs")]
        into: PathBuf,
    },
    /// Answer ext_authz over mutual TLS, and permit everything
    #[command(hide = true)]
    Authorization {
        /// The folder of keys and certificates
        keys: PathBuf,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Only what the first five ratios need, without latencies
    #[arg(long)]
    quick: bool,
    /// How often each scenario has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the scenarios whose id contains one of these, with what they are compared to
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    only: Vec<String>,
    /// Where the report goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/report.json")]
    report: PathBuf,
}

impl Run {
    fn kind(&self) -> &'static str {
        match (self.quick, self.only.is_empty()) {
            (_, false) => PART,
            (true, true) => QUICK,
            (false, true) => FULL,
        }
    }
}

#[derive(clap::Args)]
struct Existing {
    /// The report
    #[arg(long, value_name = "FILE", default_value = "target/bench/report.json")]
    report: PathBuf,
}

/// The numbers of policies with which `Decide` is measured.
const POLICIES: [usize; 3] = [10, 1_000, 10_000];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread makes the load, so that Envoy has another core for itself.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments.command {
                Subcommands::Run(run) => measure(&run).await,
                Subcommands::Decide(existing) => decide(&existing.report).await,
                Subcommands::Memory { existing, minutes } => memory(&existing.report, minutes).await,
                Subcommands::Scale {
                    existing,
                    sessions,
                    devices,
                } => scale(&existing.report, sessions, devices).await,
                Subcommands::Document { existing, into } => {
                    let places = Places::find()?;
                    document::write(&Report::read(&existing.report)?, &places.root, &into)
                }
                Subcommands::Authorization { keys } => authorization::serve(&keys).await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(run: &Run) -> Result<()> {
    ensure!(run.rounds > 0, "no rounds measure nothing");
    let (began_at_s, watch) = (clock::now_s(), Stopwatch::start());
    let folder = TempDir::with_prefix("picket-bench-")?;
    let ground = Ground::prepare(folder.path())?;
    let root = &ground.places.root;
    let mut machine = Machine::here()?;
    let versions = Versions::here(&ground.places).await?;
    println!(
        "{} cores of {}, load {:.2}; Envoy {}",
        machine.cores, machine.processor, machine.load_before, versions.envoy
    );
    let all = chosen(scenario::scenarios(root)?, run);
    let plan = Plan {
        rounds: run.rounds,
        latencies: !run.quick,
    };
    let measured = rounds::measure(&ground, &all, plan).await?;
    let wanted = scenario::ratios(root)?;
    machine.at_the_end()?;
    let report = Report {
        began_at_s,
        took_s: watch.elapsed().as_secs_f64(),
        kind: run.kind().to_owned(),
        rounds: run.rounds,
        machine,
        versions,
        decide: Vec::new(),
        // Its minutes are spent apart, and its figures carry their own date.
        memory: Report::read(&run.report).ok().and_then(|last| last.memory),
        scale: Report::read(&run.report).map(|last| last.scale).unwrap_or_default(),
        ratios: rounds::ratios(&wanted, &measured),
        scenarios: measured
            .into_iter()
            .map(|measured| (measured.id.clone(), measured))
            .collect(),
    };
    let ids: Vec<String> = all.into_iter().map(|scenario| scenario.id).collect();
    println!("\n{}\n{}", report.scenario_table(&ids), report.ratio_table(&wanted));
    write(&report, &run.report)
}

async fn memory(file: &Path, minutes: u32) -> Result<()> {
    ensure!(minutes > 0, "no minutes measure nothing");
    let mut report = Report::read(file)?;
    let folder = TempDir::with_prefix("picket-bench-")?;
    let ground = Ground::prepare(folder.path())?;
    let scenarios = scenario::memory(&ground.places.root)?;
    let memory = memory::measure(&ground, scenarios, minutes).await?;
    println!(
        "\n{}\nA worker's VM: {:.1} MiB",
        memory.table().to_text(),
        memory.worker_vm_mib()
    );
    report.memory = Some(memory);
    report.write(file)
}

async fn decide(file: &Path) -> Result<()> {
    let mut report = Report::read(file)?;
    let folder = TempDir::with_prefix("picket-bench-")?;
    let ground = Ground::prepare(folder.path())?;
    report.decide.clear();
    for policies in POLICIES {
        eprintln!("  Decide with {policies} policies");
        report.decide.push(decide::measure(&ground, policies).await?);
        // What was measured is kept whatever comes after it.
        report.write(file)?;
    }
    println!("\n{}", report.decide_table().to_text());
    Ok(())
}

async fn scale(file: &Path, sessions: u64, devices: u64) -> Result<()> {
    ensure!(
        sessions > 0 && devices > 0,
        "no sessions and no devices measure nothing"
    );
    let mut report = Report::read(file)?;
    let folder = TempDir::with_prefix("picket-bench-")?;
    let ground = Ground::prepare(folder.path())?;
    report.scale = scale::measure(&ground, sessions, devices).await?;
    println!("\n{}", scale::table(&report.scale).to_text());
    report.write(file)
}

fn write(report: &Report, file: &Path) -> Result<()> {
    report.write(file)?;
    println!("{:.0} s. The report is `{}`.", report.took_s, file.display());
    Ok(())
}

fn chosen(all: Vec<Scenario>, run: &Run) -> Vec<Scenario> {
    let is_wanted =
        |scenario: &Scenario| run.only.is_empty() || run.only.iter().any(|text| scenario.id.contains(text.as_str()));
    let baselines: Vec<String> = all
        .iter()
        .filter(|scenario| is_wanted(scenario))
        .filter_map(|scenario| scenario.baseline.clone())
        .collect();
    all.into_iter()
        .filter(|scenario| !run.quick || scenario.quick)
        .filter(|scenario| is_wanted(scenario) || baselines.contains(&scenario.id))
        .collect()
}
