//! Baselines as a file: one JSON document on each line, the first says what it is, the last that it
//! is whole.

use std::borrow::Borrow;
use std::io::{self, BufRead, Read, Write};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::keys::PrincipalKey;

/// The version that is written, and the newest that is read.
pub const STATE_VERSION: u32 = 2;
const FORMAT: &str = "picket-risk-baselines";
/// A baseline that is full has about 13 KiB.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Why baselines cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is some other file.
    #[error("holds no risk baselines")]
    Format,
    /// It was written by a newer version.
    #[error("has version {found}, and this program reads versions up to {STATE_VERSION}")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// Something in it was altered.
    #[error("is damaged at line {line}: {problem}")]
    Damaged {
        /// The line; the first is 1.
        line: u64,
        /// The mistake.
        problem: String,
    },
    /// It ends before its end.
    #[error("is cut off after line {line}")]
    Cut {
        /// The last line that is there.
        line: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<B> {
    principal: PrincipalKey,
    baseline: B,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    principals: u64,
    /// SHA-256 over all lines before this one.
    sha256: String,
}

/// A line after the first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(Box<Entry<Baseline>>),
    End(End),
}

/// Writes baselines. Nothing is flushed.
///
/// # Errors
/// The output does not take them.
pub fn write_state<B: Borrow<Baseline>>(
    output: &mut impl Write,
    baselines: impl IntoIterator<Item = (PrincipalKey, B)>,
) -> io::Result<()> {
    let mut writer = Lines {
        output,
        context: Context::new(&SHA256),
    };
    writer.write(&Head {
        format: FORMAT.to_owned(),
        version: STATE_VERSION,
    })?;
    let mut principals = 0;
    for (principal, baseline) in baselines {
        writer.write(&Entry {
            principal,
            baseline: baseline.borrow(),
        })?;
        principals += 1;
    }
    let sha256 = hex::encode(writer.context.clone().finish());
    writer.write(&End { principals, sha256 })
}

/// Reads baselines in the order in which they were written. What was taken before an error is not
/// to be used.
///
/// # Errors
/// The input is not whole, or is not what [`write_state`] writes.
pub fn read_state(input: &mut impl BufRead, mut take: impl FnMut(PrincipalKey, Baseline)) -> Result<(), StateError> {
    let mut reader = Reader {
        input,
        context: Context::new(&SHA256),
        line: 0,
    };
    let head = reader.next()?.ok_or(StateError::Format)?;
    let head: Head = serde_json::from_slice(&head).map_err(|_| StateError::Format)?;
    if head.format != FORMAT {
        return Err(StateError::Format);
    }
    if head.version > STATE_VERSION {
        return Err(StateError::Newer { found: head.version });
    }
    let mut principals: u64 = 0;
    loop {
        let before = reader.context.clone();
        let line = reader.next()?.ok_or(StateError::Cut { line: reader.line })?;
        let line: Line = serde_json::from_slice(&line).map_err(|error| reader.damaged(&error.to_string()))?;
        match line {
            Line::Entry(entry) => {
                principals = principals.saturating_add(1);
                take(entry.principal, entry.baseline);
            }
            Line::End(end) => {
                let is_whole = end.principals == principals && end.sha256 == hex::encode(before.finish());
                let is_last = reader.next()?.is_none();
                return match is_whole && is_last {
                    true => Ok(()),
                    false => Err(reader.damaged("the checksum is another")),
                };
            }
        }
    }
}

struct Lines<'a, W> {
    output: &'a mut W,
    context: Context,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.context.update(&line);
        self.output.write_all(&line)
    }
}

struct Reader<'a, R> {
    input: &'a mut R,
    context: Context,
    line: u64,
}

impl<R: BufRead> Reader<'_, R> {
    /// The next line; `None` at the end, and for a line without one, which was cut off.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        let mut line = Vec::new();
        (&mut *self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let is_long = u64::try_from(line.len()).is_ok_and(|length| length >= LINE_BYTES_MAX);
            // Another file may have any first line.
            return match is_long && self.line > 0 {
                true => Err(StateError::Damaged {
                    line: self.line.saturating_add(1),
                    problem: format!("longer than {LINE_BYTES_MAX} bytes"),
                }),
                false => Ok(None),
            };
        }
        self.line = self.line.saturating_add(1);
        self.context.update(&line);
        Ok(Some(line))
    }

    fn damaged(&self, problem: &str) -> StateError {
        StateError::Damaged {
            line: self.line,
            problem: problem.to_owned(),
        }
    }
}
