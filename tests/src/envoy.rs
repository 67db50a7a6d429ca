//! A real Envoy, with a bootstrap made from one of the files in `envoy/`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::client::http1::Http1Connection;
use crate::client::{Answer, tls};
use crate::process::{Bond, Process};
use crate::wait;

/// A running Envoy with one listener.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    listener: SocketAddr,
}

/// How to start one.
#[derive(Debug)]
pub struct EnvoySettings<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// What it is called in messages and file names.
    pub name: &'a str,
    /// Its bootstrap, in YAML.
    pub bootstrap: &'a str,
    /// Where its files go.
    pub folder: &'a Path,
    /// Worker threads.
    pub workers: u32,
    /// Whether it may outlive its starter.
    pub bond: Bond,
}

impl Envoy {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its output is shown.
    pub async fn start(settings: &EnvoySettings<'_>) -> Result<Self> {
        let bootstrap = write_bootstrap(settings)?;
        let admin_file = settings.folder.join(format!("{}.admin", settings.name));
        // Left from an earlier start in the same folder it would name a port that is gone.
        if admin_file.exists() {
            fs::remove_file(&admin_file)?;
        }
        let mut command = Command::new(settings.binary);
        command
            .arg("-c")
            .arg(&bootstrap)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", &settings.workers.to_string()])
            .args(["--disable-hot-restart", "--log-level", "info"])
            .args(["--file-flush-interval-msec", "100"]);
        let output = settings.folder.join(format!("{}.log", settings.name));
        let mut process = Process::start(settings.name, command, &output, settings.bond)?;
        match Self::addresses(&mut process, &admin_file).await {
            Ok((admin, listener)) => Ok(Self {
                process,
                admin,
                listener,
            }),
            Err(error) => Err(error.context(format!("{} did not start\n{}", settings.name, process.tail()))),
        }
    }

    async fn addresses(process: &mut Process, admin_file: &Path) -> Result<(SocketAddr, SocketAddr)> {
        let admin = wait::until("Envoy says where its administration is", || {
            let found = process.ensure_running().map(|()| read_address(admin_file));
            std::future::ready(found)
        })
        .await?;
        wait::until("Envoy is ready", || {
            let running = process.ensure_running();
            async move {
                running?;
                let answer = get(admin, "/ready").await.ok();
                Ok(answer.filter(|answer| answer.status == 200))
            }
        })
        .await?;
        Ok((admin, listener_address(admin).await?))
    }

    /// Where its listener listens.
    pub fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// Where its administration listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it run on.
    pub fn leave_running(self) {
        self.process.leave_running();
    }

    /// What its administration answers to a GET, when that is good.
    ///
    /// # Errors
    /// When it is not there, or answers something else than 200.
    pub async fn admin_text(&self, path: &str) -> Result<String> {
        let answer = wait::within("Envoy's administration answers", get(self.admin, path)).await?;
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Its counters and gauges whose name `matches`.
    ///
    /// # Errors
    /// As [`Envoy::admin_text`].
    pub async fn stats(&self, matches: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>> {
        let text = self.admin_text("/stats").await?;
        Ok(text
            .lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter(|(name, _)| matches(name))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }
}

/// Has Envoy check a bootstrap without starting it.
///
/// # Errors
/// When Envoy refuses it; what it says is shown.
pub fn validate(settings: &EnvoySettings<'_>) -> Result<()> {
    let bootstrap = write_bootstrap(settings)?;
    let output = Command::new(settings.binary)
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&bootstrap)
        .output()?;
    if !output.status.success() {
        bail!(
            "Envoy refuses the bootstrap {}: {}{}",
            settings.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn write_bootstrap(settings: &EnvoySettings<'_>) -> Result<PathBuf> {
    let file = settings.folder.join(format!("{}.yaml", settings.name));
    fs::write(&file, settings.bootstrap).with_context(|| format!("cannot write `{}`", file.display()))?;
    Ok(file)
}

fn read_address(file: &Path) -> Option<SocketAddr> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

async fn listener_address(admin: SocketAddr) -> Result<SocketAddr> {
    let answer = wait::within("Envoy lists its listeners", get(admin, "/listeners?format=json")).await?;
    let json = answer.json().context("the list of listeners is not JSON")?;
    let address = json
        .pointer("/listener_statuses/0/local_address/socket_address")
        .context("Envoy has no listener")?;
    let host = address
        .get("address")
        .and_then(Value::as_str)
        .context("a listener without an address")?;
    let port = address
        .get("port_value")
        .and_then(Value::as_u64)
        .context("a listener without a port")?;
    Ok(SocketAddr::new(host.parse()?, u16::try_from(port)?))
}

/// GET in the clear, on a connection of its own.
///
/// # Errors
/// When nothing answers.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut connection = Http1Connection::new(tls::connect_plain(address).await?);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.exchange(request.as_bytes()).await
}
