//! Child processes: their output is kept in a file, and they end with whoever started them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

use crate::wait;

/// Lines of a child's output that a failure shows.
const TAIL_LINES: usize = 25;

/// Whether a child belongs to its starter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// It is in the starter's process group: an interrupt from the terminal reaches it too.
    Attached,
    /// It is in a group of its own and may outlive the starter.
    Detached,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to the file `output`.
    ///
    /// # Errors
    /// When the file cannot be opened or the program not be started.
    pub fn start(name: &str, mut command: Command, output: &Path, bond: Bond) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(output)
            .with_context(|| format!("cannot open `{}`", output.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        if bond == Bond::Detached {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} (`{}`)", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child: Some(child),
            output: output.to_owned(),
        })
    }

    /// What the harness calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; `None` when it was stopped.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The file with everything that it wrote.
    pub fn output_file(&self) -> &Path {
        &self.output
    }

    /// Everything that it wrote so far.
    pub fn output(&self) -> String {
        fs::read(&self.output).map_or_else(
            |error| format!("(cannot read the output: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The last lines that it wrote, under a heading: for messages about failures.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let first = lines.len().saturating_sub(TAIL_LINES);
        let last = lines.get(first..).unwrap_or_default().join("\n");
        format!("--- the end of what {} wrote:\n{last}\n---", self.name)
    }

    /// Fails, showing what it wrote, when it is no longer running.
    ///
    /// # Errors
    /// When it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} has ended ({status})\n{}", self.name, self.tail())),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    ///
    /// # Errors
    /// When it does not end before the deadline; it is killed then.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let child = self.child.as_ref().context("it was stopped before")?;
        rustix::process::kill_process(Pid::from_child(child), Signal::TERM)
            .with_context(|| format!("cannot signal {}", self.name))?;
        let what = format!("{} ends when asked to", self.name);
        let waited = wait::until(&what, || std::future::ready(self.try_wait())).await;
        if waited.is_err() {
            self.kill();
        }
        self.child = None;
        waited
    }

    /// Lets it run on after this value is gone.
    pub fn leave_running(mut self) {
        self.child = None;
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("it was stopped")?;
        Ok(child.try_wait()?)
    }

    /// A child that was not waited for keeps its id, so this cannot reach another process.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way nothing is left afterwards.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
