//! The policy service itself, as its own process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{Bond, Process};
use crate::wait;

/// How to start one.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// The binary.
    pub binary: PathBuf,
    /// The folder of keys and certificates.
    pub keys: PathBuf,
    /// The folder of policies.
    pub policies: PathBuf,
    /// Where its files go.
    pub folder: PathBuf,
    /// The SPIFFE ID of the sidecar that may ask.
    pub allowed_caller: String,
    /// How long a permit may be remembered.
    pub permit_valid_for_ms: u32,
    /// How long a deny may be remembered.
    pub deny_valid_for_ms: u32,
    /// The filter's configuration, in JSON, where it answers Envoy's external authorization.
    pub filter_configuration: Option<PathBuf>,
    /// More sections of its configuration, in TOML.
    pub sections: String,
    /// Whether it may outlive its starter.
    pub bond: Bond,
}

/// A policy service that can be stopped, and started again on the same ports.
#[derive(Debug)]
pub struct PolicyService {
    settings: ServiceSettings,
    process: Option<Process>,
    grpc: SocketAddr,
    http: SocketAddr,
    starts: u32,
}

impl PolicyService {
    /// Starts it on ports that the system gives out, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its output is shown.
    pub async fn start(settings: ServiceSettings) -> Result<Self> {
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self {
            settings,
            process: None,
            grpc: unset,
            http: unset,
            starts: 0,
        };
        service.start_again().await?;
        Ok(service)
    }

    /// Starts it where it was before.
    ///
    /// # Errors
    /// As [`PolicyService::start`].
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the policy service runs");
        let file = self.settings.folder.join("policy-service.toml");
        fs::write(&file, self.configuration())?;
        self.starts = self.starts.saturating_add(1);
        let output = self.settings.folder.join(format!("policy-service-{}.log", self.starts));
        let mut command = Command::new(&self.settings.binary);
        command.arg("--config").arg(&file);
        let mut process = Process::start("policy-service", command, &output, self.settings.bond)?;
        let ready = wait::until("the policy service is ready", || {
            let found = process.ensure_running().map(|()| ready_addresses(&process.output()));
            std::future::ready(found)
        })
        .await;
        let (grpc, http) = ready.with_context(|| format!("it did not start\n{}", process.tail()))?;
        self.grpc = grpc;
        self.http = http;
        self.process = Some(process);
        Ok(())
    }

    /// Asks it to end, and waits until it did.
    ///
    /// # Errors
    /// When it does not end, or ends with an error.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the policy service does not run")?;
        let status = process.stop().await?;
        ensure!(
            status.success(),
            "the policy service ended with {status}\n{}",
            process.tail()
        );
        Ok(())
    }

    /// Where it answers gRPC.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where its health and metrics are.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The configuration file that it was started with.
    pub fn configuration_file(&self) -> PathBuf {
        self.settings.folder.join("policy-service.toml")
    }

    /// Its audit database.
    pub fn audit_file(&self) -> PathBuf {
        self.settings.folder.join("audit.sqlite3")
    }

    /// Its process, when it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Lets it run on.
    pub fn leave_running(mut self) {
        if let Some(process) = self.process.take() {
            process.leave_running();
        }
    }

    fn configuration(&self) -> String {
        let keys = &self.settings.keys;
        let key_file = |name: &str| quoted(&keys.join(name));
        let external = self.settings.filter_configuration.as_ref().map(|file| {
            format!(
                "[ext_authz]\nfilter_configuration_file = {}\npeer_ca_file = {}\n\n",
                quoted(file),
                key_file("ca.pem")
            )
        });
        format!(
            "{}[grpc]\nlisten = \"{}\"\ncertificate_file = {}\nkey_file = {}\nclient_ca_file = {}\n\
             allowed_callers = [\"{}\"]\n\n\
             [http]\nlisten = \"{}\"\n\n\
             [policies]\ndirectory = {}\n\n\
             [decisions]\npermit_valid_for_ms = {}\ndeny_valid_for_ms = {}\n\n\
             [audit]\ndatabase_file = \"audit.sqlite3\"\nkey_encryption_key_file = {}\n\n\
             {}[log]\nlevel = \"info\"\n",
            external.unwrap_or_default(),
            self.grpc,
            key_file("policy-service.pem"),
            key_file("policy-service-key.pem"),
            key_file("ca.pem"),
            self.settings.allowed_caller,
            self.http,
            quoted(&self.settings.policies),
            self.settings.permit_valid_for_ms,
            self.settings.deny_valid_for_ms,
            key_file("audit-key"),
            self.settings.sections,
        )
    }
}

/// A TOML basic string has the escapes of JSON that a path can need.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}

fn ready_addresses(output: &str) -> Option<(SocketAddr, SocketAddr)> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line.get("message").and_then(Value::as_str) == Some("ready"))
        .find_map(|line| {
            let address = |name: &str| line.get(name)?.as_str()?.parse().ok();
            Some((address("grpc_address")?, address("http_address")?))
        })
}

#[cfg(test)]
mod tests {
    use super::ready_addresses;

    #[test]
    fn finds_the_addresses_in_the_line_that_says_ready() {
        let output = "{\"message\":\"starting\"}\nnot json\n{\"message\":\"ready\",\"grpc_address\":\"127.0.0.1:1\",\"http_address\":\"127.0.0.1:2\"}";
        let (grpc, http) = ready_addresses(output).unwrap();
        assert_eq!((grpc.port(), http.port()), (1, 2));
        assert_eq!(ready_addresses("{\"message\":\"starting\"}"), None);
    }
}
