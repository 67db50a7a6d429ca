//! The policy service's program: `picket-policy-service --config FILE`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use picket_policy_service::service;
use picket_service_configuration as configuration;

/// A decision makes and frees some hundred small values on several threads; the system's allocator
/// took an eighth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Picket's policy service: answers the sidecars' access requests and records every decision.
///
/// Each key of the file can be overridden by an environment variable: PICKET__SECTION__KEY=value.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let configuration = configuration::load(&arguments.config, std::env::vars_os())
        .with_context(|| format!("configuration `{}`", arguments.config.display()))?;
    service::run(&configuration)?;
    Ok(())
}
