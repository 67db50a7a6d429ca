//! The exit codes, in one place.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked, and a check found nothing.
    Done,
    /// The check itself worked, and found a mistake.
    MistakeFound,
    /// The command line was wrong; nothing was done.
    Usage,
    /// It could not be carried out: a file, a key, the system.
    Failed,
}

/// What `--help` says of them.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done; a check found no mistake
  1  a check found a mistake
  2  the command line is wrong
  3  it could not be carried out (a file cannot be read or written, a key is unfit)";

impl Exit {
    /// How a check ended that found these mistakes.
    pub(crate) fn of_check<T>(mistakes: &[T]) -> Self {
        if mistakes.is_empty() {
            Self::Done
        } else {
            Self::MistakeFound
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::from(0),
            Exit::MistakeFound => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Failed => Self::from(3),
        }
    }
}
