//! Runs the real command and keeps what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of `picket` left behind.
pub(crate) struct Answer {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Answer {
    /// Standard output as JSON; the command must have exited with 0.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.expect(0);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Fails unless the command exited with this code.
    pub(crate) fn expect(&self, code: i32) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
    }
}

/// The command with a clean environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs `picket` to its end.
pub(crate) fn picket(arguments: &[&str]) -> Answer {
    picket_with(arguments, &[])
}

/// Runs `picket` with these environment variables.
pub(crate) fn picket_with(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let output = command(arguments).envs(variables.iter().copied()).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A new PKI for the workloads `web` and `orders` of `example.org`, in a folder that is removed at the end.
pub(crate) fn keys() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("keys");
    picket(&[
        "pki",
        "init",
        text(&directory),
        "--trust-domain",
        "example.org",
        "--workload",
        "web",
        "--workload",
        "orders",
    ])
    .expect(0);
    (folder, directory)
}
