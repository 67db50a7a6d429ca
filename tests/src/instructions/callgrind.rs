//! Counting instructions with valgrind's callgrind.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use super::hot_path::{HotPath, WAITING};

/// How often a path is run; and once more, twice as often: what both do before and after does not count.
const TIMES: u32 = WAITING / 2;

/// How many instructions `path` takes, in processes of `program` (`program run PATH TIMES`).
///
/// # Errors
/// When valgrind is missing, or a process fails.
pub fn instructions(program: &Path, path: HotPath) -> Result<u64> {
    let once = total(program, path, TIMES)?;
    let twice = total(program, path, TIMES * 2)?;
    let difference = twice
        .checked_sub(once)
        .with_context(|| format!("`{path}` took fewer instructions when it ran twice as often"))?;
    Ok(difference / u64::from(TIMES))
}

fn total(program: &Path, path: HotPath, times: u32) -> Result<u64> {
    let folder = TempDir::with_prefix("picket-instructions-")?;
    let file = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["run", &path.to_string(), &times.to_string()])
        .output()
        .map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                anyhow!("valgrind is missing: `apt-get install valgrind` (Debian) has it")
            } else {
                anyhow!(error).context("cannot start valgrind")
            }
        })?;
    ensure!(
        output.status.success(),
        "valgrind with `{path}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read_to_string(&file).context("callgrind wrote nothing")?;
    totals(&text).context("callgrind's file has no line `totals:`")
}

/// From `totals: 1234`, which stands at the end of callgrind's file.
fn totals(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::totals;

    #[test]
    fn reads_the_total() {
        assert_eq!(totals("events: Ir\nfn=(1)\n1 5\ntotals: 123456\n"), Some(123_456));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
