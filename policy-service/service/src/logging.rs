//! The log: one JSON object a line on standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use serde::Serialize;
use tracing::Level;

use picket_service_configuration::LogLevel;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::util::SubscriberInitExt;

/// The lines that wait for a slow reader. More are dropped and counted: the log must not delay a
/// decision, and the audit log has every decision.
const LINES_WAITING_MAX: usize = 16_384;
/// The target of decision lines.
const DECISION_TARGET: &str = "picket_policy_service::grpc::decide";
/// Lines that wait together are written together, up to this much.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// The running log. Waiting lines are written when it is dropped.
pub(crate) struct Logging {
    writer: NonBlocking,
    _guard: WorkerGuard,
}

/// Why the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The process has a log already.
    #[error("a log was set up before")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    /// Standard output cannot be written to.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
}

/// Writes decision lines directly, without `tracing`: there is one for each call, and this takes a
/// fourth of the time. The output is the same.
#[derive(Clone)]
pub(crate) struct DecisionLines(NonBlocking);

/// The fields of a decision line.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionLine<'a> {
    pub(crate) decision_id: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) effect: &'a str,
    pub(crate) route_rule: &'a str,
    pub(crate) policy_ids: &'a str,
    pub(crate) policy_revision: &'a str,
    pub(crate) duration_us: u64,
    pub(crate) sidecar: &'a str,
}

/// The parts that every line of the log has, around those of one kind.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a DecisionLine<'a>,
    target: &'a str,
}

impl Logging {
    /// Starts the log of the process.
    pub(crate) fn start(level: LogLevel) -> Result<Self, LoggingError> {
        // Without the standard library's own buffer, which writes each line by itself.
        let output = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(LoggingError::Output)?;
        let output = File::from(output);
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .finish(BufWriter::with_capacity(WRITE_BYTES_MAX, output));
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_max_level(level_of(level))
            .with_writer(writer.clone())
            .finish()
            .try_init()
            .map_err(LoggingError::Twice)?;
        Ok(Self { writer, _guard: guard })
    }

    /// The counter of lines that were dropped.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.writer.error_counter()
    }

    /// A writer of decision lines.
    pub(crate) fn decision_lines(&self) -> DecisionLines {
        DecisionLines(self.writer.clone())
    }
}

impl DecisionLines {
    /// Writes one line, if lines of its level are written at all.
    pub(crate) fn write(&self, fields: &DecisionLine<'_>) {
        if !tracing::enabled!(Level::INFO) {
            return;
        }
        let mut timestamp = String::new();
        // Writing to a string does not fail.
        let _never = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let line = Line {
            timestamp: &timestamp,
            level: "INFO",
            message: "decision",
            fields,
            target: DECISION_TARGET,
        };
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            // It waits in memory; what finds no place is counted as dropped.
            let _dropped = self.0.clone().write_all(&line);
        }
    }
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Trace => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    }
}
