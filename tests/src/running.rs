//! `make up` and `make down`: a stack that outlives the command that started it, and its exact end.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envoy::Envoy;
use crate::keys::{Keys, TokenKey};
use crate::places::Places;
use crate::policy_service::PolicyService;
use crate::process::{Bond, Process};
use crate::stack::{self, InboundSites, Options};
use crate::token::TokenSpec;
use crate::wait;

/// The folder of everything that runs, in the repository and ignored by git. `PICKET_RUN_DIR` names another.
const FOLDER: &str = ".run";
const STATE_FILE: &str = "stack.json";
/// How long the tokens are good for: a working day.
const TOKEN_VALID_FOR_S: i64 = 8 * 60 * 60;

/// Everything that somebody who wants to try the running stack has to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    /// What runs.
    pub processes: Vec<Started>,
    /// Where it listens.
    pub addresses: Addresses,
    /// Where its files are.
    pub files: Files,
    /// Bearer tokens to try, with the files that hold them.
    pub tokens: Vec<Token>,
}

/// A process, told from a later one with the same number by the moment of its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What it is.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// When it was started, as the system says it.
    pub started: String,
}

/// Where things listen, all on loopback.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// The caller's sidecar: plain HTTP.
    pub outbound: SocketAddr,
    /// The callee's sidecar: mutual TLS.
    pub inbound: SocketAddr,
    /// Administration of the caller's sidecar.
    pub outbound_admin: SocketAddr,
    /// Administration of the callee's sidecar: metrics are there.
    pub inbound_admin: SocketAddr,
    /// The policy service's gRPC.
    pub policy_service_grpc: SocketAddr,
    /// The policy service's health and metrics.
    pub policy_service_http: SocketAddr,
    /// The echo upstream.
    pub upstream: SocketAddr,
}

/// Where files are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Files {
    /// Keys and certificates.
    pub pki: PathBuf,
    /// What each process writes, and what it was configured with.
    pub logs: PathBuf,
    /// The audit database.
    pub audit_database: PathBuf,
    /// Its key-encryption key.
    pub audit_key: PathBuf,
    /// The policies.
    pub policies: PathBuf,
}

/// A token to try.
#[derive(Debug, Serialize, Deserialize)]
pub struct Token {
    /// What it is for.
    pub name: String,
    /// The file that holds it.
    pub file: PathBuf,
    /// The token itself.
    pub token: String,
}

/// What `up` found or did.
#[derive(Debug)]
pub enum Up {
    /// It was running already.
    Already(Running),
    /// It was started.
    Started(Running),
}

/// Starts a stack and leaves it running, unless it runs already.
///
/// # Errors
/// When a part is missing or does not start; then nothing is left running.
pub async fn up() -> Result<Up> {
    let places = Places::find()?;
    let folder = run_folder();
    if let Some(running) = read(&folder)? {
        let (alive, ended): (Vec<&Started>, Vec<&Started>) = running.processes.iter().partition(|part| part.is_alive());
        match (alive.is_empty(), ended.first()) {
            (false, None) => return Ok(Up::Already(running)),
            (false, Some(part)) => bail!(
                "`{}` runs no longer, while other parts do: make down, then make up",
                part.name
            ),
            (true, _) => {}
        }
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    start(&places, &folder).await.map(Up::Started)
}

/// Ends what `up` started, and nothing else. Does nothing when nothing runs.
///
/// # Errors
/// When a process does not end, or the folder cannot be removed.
pub async fn down() -> Result<Vec<Started>> {
    let folder = run_folder();
    let Some(running) = read(&folder)? else {
        return Ok(Vec::new());
    };
    let mut ended = Vec::new();
    for process in running.processes {
        if process.end().await? {
            ended.push(process);
        }
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    Ok(ended)
}

fn run_folder() -> PathBuf {
    std::env::var_os("PICKET_RUN_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER),
        PathBuf::from,
    )
}

async fn start(places: &Places, folder: &Path) -> Result<Running> {
    let keys = Keys::make(&folder.join("pki"))?;
    let (upstream_process, upstream) = start_upstream(folder).await?;
    let options = Options::default();
    let settings = stack::policy_service_settings(places, &keys, folder, Bond::Detached, &options);
    let service = PolicyService::start(settings).await?;
    let sites = InboundSites {
        keys: &keys,
        module: &places.module,
        policy_service: service.grpc(),
        upstream,
    };
    let bootstrap = stack::inbound_bootstrap(&places.root, &sites, &options.edits())?;
    let mut inbound = Envoy::start(&stack::sidecar(places, "inbound", &bootstrap, folder, Bond::Detached)).await?;
    let bootstrap = stack::outbound_bootstrap(&places.root, &keys, inbound.listener())?;
    let mut outbound = Envoy::start(&stack::sidecar(places, "outbound", &bootstrap, folder, Bond::Detached)).await?;
    let service_process = service.process().context("the policy service does not run")?;
    let processes = vec![
        Started::of(outbound.process())?,
        Started::of(inbound.process())?,
        Started::of(service_process)?,
        Started::of(&upstream_process)?,
    ];
    let running = Running {
        processes,
        addresses: Addresses {
            outbound: outbound.listener(),
            inbound: inbound.listener(),
            outbound_admin: outbound.admin(),
            inbound_admin: inbound.admin(),
            policy_service_grpc: service.grpc(),
            policy_service_http: service.http(),
            upstream,
        },
        files: files(places, &keys, folder, &service),
        tokens: tokens(&keys, folder)?,
    };
    // From here on `down` finds them, so they may go on without this process.
    write_private(&folder.join(STATE_FILE), &serde_json::to_string_pretty(&running)?)?;
    outbound.leave_running();
    inbound.leave_running();
    service.leave_running();
    upstream_process.leave_running();
    Ok(running)
}

/// The echo upstream as a process of its own: this program, with the command `upstream`.
async fn start_upstream(folder: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["upstream", "--listen", "127.0.0.1:0"]);
    let mut process = Process::start("upstream", command, &folder.join("upstream.log"), Bond::Detached)?;
    let address = wait::until("the upstream says where it listens", || {
        let found = process.ensure_running().map(|()| upstream_address(&process.output()));
        std::future::ready(found)
    })
    .await?;
    Ok((process, address))
}

fn upstream_address(output: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(output.lines().next()?).ok()?;
    line.get("address")?.as_str()?.parse().ok()
}

fn files(places: &Places, keys: &Keys, folder: &Path, service: &PolicyService) -> Files {
    Files {
        pki: keys.folder().to_owned(),
        logs: folder.to_owned(),
        audit_database: service.audit_file(),
        audit_key: keys.folder().join(picket::pki::AUDIT_KEY_FILE),
        policies: places.policies.clone(),
    }
}

fn tokens(keys: &Keys, folder: &Path) -> Result<Vec<Token>> {
    let folder = folder.join("tokens");
    fs::create_dir_all(&folder)?;
    let clerk = TokenSpec::of("alice");
    let mut reader = TokenSpec::of("bob");
    reader.claims.insert("roles".to_owned(), Value::from(vec!["reader"]));
    reader.key = TokenKey::Es256;
    let specs = [
        ("alice", clerk, TOKEN_VALID_FOR_S),
        ("bob", reader, TOKEN_VALID_FOR_S),
        ("expired", TokenSpec::of("alice"), -3_600),
    ];
    specs
        .into_iter()
        .map(|(name, mut spec, expires_in_s)| {
            spec.expires_in_s = expires_in_s;
            spec.issued_in_s = expires_in_s.min(0).saturating_mul(2);
            let token = spec.mint(keys)?;
            let file = folder.join(format!("{name}.jwt"));
            write_private(&file, &token)?;
            Ok(Token {
                name: name.to_owned(),
                file,
                token,
            })
        })
        .collect()
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let mut options = fs::File::options();
    let mut opened = options.create_new(true).write(true).mode(0o600).open(file)?;
    opened.write_all(text.as_bytes())?;
    Ok(())
}

fn read(folder: &Path) -> Result<Option<Running>> {
    let file = folder.join(STATE_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let running = serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", file.display()))?;
    Ok(Some(running))
}

impl Started {
    fn of(process: &Process) -> Result<Self> {
        let pid = process
            .id()
            .with_context(|| format!("{} does not run", process.name()))?;
        let started = start_time(pid).with_context(|| format!("{} has ended\n{}", process.name(), process.tail()))?;
        Ok(Self {
            name: process.name().to_owned(),
            pid,
            started,
        })
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid).as_deref() == Some(self.started.as_str())
    }

    /// Ends it; `false`: it had ended already.
    async fn end(&self) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        let asked = self.signal_and_wait(Signal::TERM).await;
        if asked.is_err() {
            self.signal_and_wait(Signal::KILL).await?;
        }
        Ok(true)
    }

    async fn signal_and_wait(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.context("not a process id")?;
        ensure!(self.is_alive(), "{} has ended", self.name);
        rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        wait::until("it ends", || std::future::ready(Ok((!self.is_alive()).then_some(())))).await
    }
}

/// When a process was started, in words that no other process with its number has; `None`: there is none, or it has ended
/// and nobody asked how.
fn start_time(pid: u32) -> Option<String> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => linux_start_time(&stat),
        Err(_) if Path::new("/proc/self/stat").exists() => None,
        Err(_) => ps_start_time(pid),
    }
}

/// proc_pid_stat(5): after the name in parentheses come the state (field 3) and, as field 22, the start in ticks since boot.
fn linux_start_time(stat: &str) -> Option<String> {
    const STATE: usize = 0;
    const START: usize = 19;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if *fields.get(STATE)? == "Z" {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{} ticks after boot {}", fields.get(START)?, boot.trim()))
}

fn ps_start_time(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Started, linux_start_time, start_time, upstream_address};

    #[test]
    fn reads_the_start_behind_a_name_with_parentheses() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert!(linux_start_time(stat).unwrap().starts_with("4711 ticks"));
        assert_eq!(linux_start_time(&stat.replace(" S ", " Z ")), None);
    }

    #[tokio::test]
    async fn ends_the_process_that_was_started_and_spares_another_with_its_number() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let ours = Started {
            name: "cat".to_owned(),
            pid,
            started: start_time(pid).unwrap(),
        };
        let earlier = Started {
            started: "earlier".to_owned(),
            ..ours.clone()
        };
        assert!(!earlier.end().await.unwrap());
        assert!(child.try_wait().unwrap().is_none(), "another process was ended");
        assert!(ours.end().await.unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(!ours.end().await.unwrap());
    }

    #[test]
    fn finds_the_upstreams_address() {
        assert_eq!(upstream_address("{\"address\":\"127.0.0.1:5\"}\n").unwrap().port(), 5);
        assert_eq!(upstream_address(""), None);
    }
}
