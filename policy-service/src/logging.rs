//! The log: one JSON object a line on standard output.

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::util::SubscriberInitExt;

use crate::configuration::LogLevel;

/// How many lines wait for a slow reader. More are dropped and counted: the log must not hold up a decision, and the
/// audit log has every one of them.
const LINES_WAITING_MAX: usize = 16_384;

/// Keeps the log running; what waits is written when it is dropped.
pub(crate) struct Logging {
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("a log was set up before")]
pub struct LoggingError(#[source] tracing_subscriber::util::TryInitError);

impl Logging {
    /// Starts the log of the process.
    pub(crate) fn start(level: LogLevel) -> Result<Self, LoggingError> {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .finish(std::io::stdout());
        let dropped = writer.error_counter();
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_max_level(level_of(level))
            .with_writer(writer)
            .finish()
            .try_init()
            .map_err(LoggingError)?;
        Ok(Self { dropped, _guard: guard })
    }

    /// The counter of lines that were dropped.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
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
