//! Load from h2load, for requests that are all the same.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::generator::CONNECTIONS;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// The listener.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}

/// Says which h2load there is.
///
/// # Errors
/// When there is none; the message says how to get it.
pub async fn version() -> Result<String> {
    let output = Command::new("h2load").arg("--version").output().await;
    let output = output.context("h2load is missing: `apt-get install nghttp2-client` (Debian) has it")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Sends `total` requests over kept-alive HTTP/1.1 connections as fast as answers come, and returns how long that took.
///
/// # Errors
/// When a request got no answer, or another than 2xx.
pub async fn run(load: &Load, total: u64) -> Result<Duration> {
    let mut command = Command::new("h2load");
    command.args(["--no-tls-proto", "http/1.1", "--threads", "1"]);
    command.args(["--clients", &CONNECTIONS.to_string(), "--requests", &total.to_string()]);
    for (name, value) in &load.headers {
        // A header `host` would be a second one beside h2load's own.
        let name = if name == "host" { ":authority" } else { name };
        command.arg("--header").arg(format!("{name}: {value}"));
    }
    command.arg(format!("http://{}{}", load.address, load.path));
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "h2load ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let good = format!("status codes: {total} 2xx, 0 3xx, 0 4xx, 0 5xx");
    if !text.contains(&good) {
        bail!("not all of {total} requests were answered with 2xx:\n{text}");
    }
    finished_in(&text).with_context(|| format!("h2load does not say how long it took:\n{text}"))
}

/// From `finished in 1.23s, 45678.90 req/s, ...`, where the unit is `s`, `ms` or `us`.
fn finished_in(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let (time, _) = line.split_once(',')?;
    let unit_at = time.find(|c: char| c.is_ascii_alphabetic())?;
    let (value, unit) = time.split_at_checked(unit_at)?;
    let value: f64 = value.parse().ok()?;
    let seconds = match unit {
        "s" => value,
        "ms" => value / 1e3,
        "us" => value / 1e6,
        _ => return None,
    };
    Some(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::finished_in;

    #[test]
    fn reads_how_long_it_took() {
        let read = |time: &str| finished_in(&format!("starting\n\nfinished in {time}, 12.30 req/s, 1MB/s\n"));
        assert_eq!(read("1.50s"), Some(Duration::from_millis(1500)));
        assert_eq!(read("20.00ms"), Some(Duration::from_millis(20)));
        assert_eq!(read("20.00h"), None);
    }
}
