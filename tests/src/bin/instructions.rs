//! `make instructions`: counts the instructions of `core`'s hot functions, and fails where one takes more than its limit.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use picket_tests::instructions::hot_path::HotPath;
use picket_tests::instructions::{self, Counted, Verdict, callgrind};

/// How many instructions the hot functions of `core` take.
#[derive(Parser)]
#[command(name = "picket-instructions", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run one path, for callgrind to count
    #[command(hide = true)]
    Run {
        /// Which
        path: HotPath,
        /// How often
        times: u32,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Some(Subcommands::Run { path, times }) => path.run(times).map(|()| ExitCode::SUCCESS),
        None => check(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn check() -> Result<ExitCode> {
    let program = std::env::current_exe().context("this program does not know where it is")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let mut all = Vec::new();
    for limit in instructions::limits(root.context("the crate has no parent folder")?)? {
        eprintln!("  counting {}", limit.id);
        let instructions = callgrind::instructions(&program, limit.id)?;
        all.push(Counted { limit, instructions });
    }
    println!("\n{}", instructions::table(&all).to_text());
    let mut code = ExitCode::SUCCESS;
    for counted in all.iter().filter(|counted| counted.verdict() == Verdict::Over) {
        eprintln!(
            "error: `{}` takes {} instructions, and its limit is {}",
            counted.limit.id, counted.instructions, counted.limit.limit
        );
        code = ExitCode::FAILURE;
    }
    Ok(code)
}
