//! What the figures were measured on, and with what.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::h2load;
use crate::places::Places;

/// The machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them this process may use.
    pub cores: usize,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The system's load, averaged over a minute, before the run: others were at work where it is not near zero.
    pub load_before: f64,
    /// And after it, the benchmark's own load included.
    pub load_after: f64,
}

/// What ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Versions {
    /// Envoy, as it says itself.
    pub envoy: String,
    /// h2load, as it says itself.
    pub h2load: String,
    /// This workspace.
    pub picket: String,
    /// The commit, and whether files differ from it.
    pub commit: String,
    /// The size of Picket's module.
    pub module_bytes: u64,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When `/proc` is not as expected.
    pub fn here() -> Result<Self> {
        let load = load()?;
        Ok(Self {
            processor: field(&fs::read_to_string("/proc/cpuinfo")?, "model name")
                .unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_kib: field(&fs::read_to_string("/proc/meminfo")?, "MemTotal")
                .and_then(|text| text.strip_suffix("kB")?.trim().parse().ok())
                .context("/proc/meminfo has no MemTotal")?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_before: load,
            load_after: load,
        })
    }

    /// Notes the load at the end.
    ///
    /// # Errors
    /// When `/proc` is not as expected.
    pub fn at_the_end(&mut self) -> Result<()> {
        self.load_after = load()?;
        Ok(())
    }
}

impl Versions {
    /// Of what is used here.
    ///
    /// # Errors
    /// When Envoy, h2load or the module is missing.
    pub async fn here(places: &Places) -> Result<Self> {
        let envoy = Command::new(&places.envoy).arg("--version").output()?;
        let envoy = String::from_utf8_lossy(&envoy.stdout).into_owned();
        Ok(Self {
            envoy: envoy.split("version:").last().unwrap_or_default().trim().to_owned(),
            h2load: h2load::version().await?,
            picket: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(&places.root),
            module_bytes: fs::metadata(&places.module)?.len(),
        })
    }
}

fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// A copy without git has no commit, and can be measured all the same.
fn commit(root: &Path) -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(root)
        .output();
    output.ok().filter(|output| output.status.success()).map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
