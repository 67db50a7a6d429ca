//! Log lines about failures that any request can cause: one in a second at most, and the others are
//! counted.

use std::cell::Cell;

use log::warn;
use picket_model::time::Timestamp;

const PERIOD_MS: u64 = 1_000;
/// What others say is cut short.
const MESSAGE_CHARS_MAX: usize = 500;

/// The lines of one kind, of one worker.
pub(crate) struct FailureLog {
    last_at: Cell<Timestamp>,
    left_out: Cell<u64>,
}

impl FailureLog {
    pub(crate) fn new() -> Self {
        Self {
            last_at: Cell::new(Timestamp::from_ms(0)),
            left_out: Cell::new(0),
        }
    }

    /// Writes the line that `what` makes, if it may.
    pub(crate) fn write(&self, now: Timestamp, what: impl FnOnce() -> String) {
        let last_at = self.last_at.get();
        // Also where the clock was set back.
        if (last_at..last_at.plus_ms(PERIOD_MS)).contains(&now) {
            self.left_out.set(self.left_out.get().saturating_add(1));
            return;
        }
        self.last_at.set(now);
        match self.left_out.replace(0) {
            0 => warn!("picket: {}", what()),
            left_out => warn!("picket: {} ({left_out} more of this kind since the last line)", what()),
        }
    }
}

/// A text of somebody else's, fit for a line of the log.
pub(crate) fn quoted(message: &str) -> String {
    let fit = message.chars().filter(|c| !c.is_control());
    fit.take(MESSAGE_CHARS_MAX).collect()
}
