//! What a process used, from `/proc`.

use std::fs;
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
        total_ns = total_ns.saturating_add(running_ns(&file)?);
    }
    Ok(Duration::from_nanos(total_ns))
}

fn running_ns(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
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
    use std::time::Duration;

    use super::{resident_kib, used};

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let before = used(pid).unwrap();
        let watch = crate::clock::Stopwatch::start();
        let mut sum = 0_u64;
        while watch.elapsed() < Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(used(pid).unwrap() > before);
        assert!(resident_kib(pid).unwrap() > 100);
    }
}
