//! What a process used, from `/proc`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time that the living threads of a process used so far, in user and in kernel mode together.
///
/// From `/proc/<pid>/task/*/schedstat`, which counts nanoseconds where `/proc/<pid>/stat` counts ticks of 10 ms.
///
/// # Errors
/// When the process is gone, or the kernel keeps no such figures (`CONFIG_SCHED_INFO`).
pub fn used(pid: u32) -> Result<Duration> {
    let threads = format!("/proc/{pid}/task");
    let mut total_ns: u64 = 0;
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot read `{threads}`"))? {
        let file = thread?.path().join("schedstat");
        match fs::read_to_string(&file) {
            Ok(text) => total_ns = total_ns.saturating_add(running_ns(&file, &text)?),
            // The thread has ended since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }
    Ok(Duration::from_nanos(total_ns))
}

fn running_ns(file: &Path, text: &str) -> Result<u64> {
    text.split(' ')
        .next()
        .and_then(|field| field.parse().ok())
        .with_context(|| format!("`{}` has no running time", file.display()))
}

/// The resident memory of a process in KiB.
///
/// # Errors
/// When the process is gone.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .context("the process has no VmRSS")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{resident_kib, used};
    use crate::wait;

    /// A process of its own with one thread: those of a test come and go.
    #[tokio::test]
    async fn a_busy_process_uses_time_and_memory() {
        let mut busy = Command::new("yes").stdout(Stdio::null()).spawn().unwrap();
        let pid = busy.id();
        let enough = Duration::from_millis(10);
        let outcome = wait::until("the process has used 10 ms", || async {
            Ok(used(pid)?.checked_sub(enough).map(|_| resident_kib(pid)))
        })
        .await;
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(outcome.unwrap().unwrap() > 100);
        // Nothing is left of it to be read.
        used(pid).unwrap_err();
    }
}
