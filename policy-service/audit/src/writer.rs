//! The one thread that writes the log, and the handle through which everything else appends to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use picket_clock::Stopwatch;
use picket_model::time::Timestamp;
use tokio::sync::{oneshot, watch};

use super::errors::StoreError;
use super::key::KeyEncryptionKey;
use super::record::Event;
use super::store::{Entry, Store};

/// How many records may wait; more calls than this at once are refused.
pub const QUEUE_RECORDS_MAX: usize = 8192;
/// How many records share one commit: enough that one wait for the disk serves thousands of calls a
/// second, and few enough that none of them waits long.
pub const BATCH_RECORDS_MAX: usize = 512;
/// After a batch of this many, others are on their way: the next one waits for them.
const BUSY_RECORDS: usize = 8;
/// How long it waits. A commit costs the same for one record as for a hundred, so fewer of them
/// leave more of the processor to the calls; where there are few calls, none waits.
const GATHER: Duration = Duration::from_millis(1);
/// How often a log that cannot be written is tried again while nobody asks.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Why nothing is written any more: the thread is gone.
const ENDED: &str = "ended";

/// A handle to append records with. Clones append to the same log.
#[derive(Clone)]
pub struct AuditLog {
    sender: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    state: watch::Receiver<AuditState>,
}

/// The thread that writes.
pub struct AuditWriter {
    sender: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// Whether records can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditState {
    /// The last write succeeded.
    Working,
    /// The last write failed, so no decision is given. Why: [`StoreError::reason`].
    Failing(&'static str),
}

impl AuditState {
    /// Whether no record can be written.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        *self != Self::Working
    }
}

/// One transaction that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The number of records.
    pub records: usize,
    /// The duration.
    pub duration: Duration,
    /// Whether it is durable.
    pub succeeded: bool,
}

/// Why the log cannot be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database, or what is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no thread.
    #[error("cannot start the audit writer: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Too many records wait.
    #[error("the audit queue is full")]
    QueueFull,
    /// The record cannot be written as JSON.
    #[error("the record cannot be encoded: {0}")]
    Encoding(#[source] serde_json::Error),
    /// The write failed.
    #[error("the audit log cannot be written: {0}")]
    Failed(Arc<StoreError>),
    /// The writer has ended.
    #[error("the audit log is closed")]
    Closed,
}

enum Message {
    Append(Entry, oneshot::Sender<Result<(), Arc<StoreError>>>),
    Close,
}

impl AuditLog {
    /// Opens or creates a log, checks its end, and starts its writer. `observe` is told of each
    /// transaction.
    ///
    /// # Errors
    /// The database cannot be opened or locked, or its end does not verify.
    pub fn open(
        database: &Path,
        key: KeyEncryptionKey,
        observe: impl Fn(Commit) + Send + 'static,
    ) -> Result<(Self, AuditWriter), OpenError> {
        let store = Store::open(database, key, picket_clock::now())?;
        let (sender, receiver) = sync_channel(QUEUE_RECORDS_MAX);
        let (state_sender, state) = watch::channel(AuditState::Working);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            store,
            receiver,
            state: state_sender,
            waiting: Arc::clone(&waiting),
            observe: Box::new(observe),
        };
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(|| writer.run())
            .map_err(OpenError::Thread)?;
        let log = Self {
            sender: sender.clone(),
            waiting,
            state,
        };
        Ok((log, AuditWriter { sender, thread }))
    }

    /// Appends a record, and returns when it is durable.
    ///
    /// # Errors
    /// It was not written; then whatever it records must not happen.
    pub async fn append(&self, time: Timestamp, event: &Event) -> Result<(), AppendError> {
        let entry = Entry {
            time,
            content: serde_json::to_vec(event).map_err(AppendError::Encoding)?,
        };
        let (reply, replied) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(Message::Append(entry, reply)).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => AppendError::QueueFull,
                TrySendError::Disconnected(_) => AppendError::Closed,
            }
        })?;
        match replied.await {
            Ok(written) => written.map_err(AppendError::Failed),
            Err(_) => Err(AppendError::Closed),
        }
    }

    /// The number of records that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether records can be written, and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AuditState> {
        self.state.clone()
    }
}

impl AuditWriter {
    /// Writes what waits, closes the database and ends the thread. Blocks for as long as that
    /// takes.
    pub fn close(self) {
        // An error means that the thread has ended already.
        let _ended = self.sender.send(Message::Close);
        let _panicked = self.thread.join();
    }
}

struct Writer {
    store: Store,
    receiver: Receiver<Message>,
    state: watch::Sender<AuditState>,
    waiting: Arc<AtomicUsize>,
    observe: Box<dyn Fn(Commit) + Send>,
}

impl Drop for Writer {
    /// Whatever has ended it, nothing is written any more.
    fn drop(&mut self) {
        self.state.send_replace(AuditState::Failing(ENDED));
    }
}

/// The next work of the writer.
enum NextWork {
    Batch(Vec<Entry>, Vec<oneshot::Sender<Result<(), Arc<StoreError>>>>),
    Probe,
    End,
}

impl Writer {
    fn run(mut self) {
        self.serve();
        if let Err(error) = self.store.finish() {
            // Nothing is lost: the log stays open, and is verified with the file beside it.
            tracing::warn!(%error, "the audit log was not closed");
        }
    }

    fn serve(&mut self) {
        let (mut closing, mut busy) = (false, false);
        while !closing {
            match self.next(&mut closing, busy) {
                NextWork::Batch(entries, replies) => {
                    busy = entries.len() >= BUSY_RECORDS;
                    self.write(&entries, replies);
                }
                NextWork::Probe => self.probe(),
                NextWork::End => return,
            }
        }
    }

    /// Waits for one record and takes those behind it along.
    fn next(&self, closing: &mut bool, busy: bool) -> NextWork {
        let failing = self.state.borrow().is_failing();
        let first = if failing {
            self.receiver.recv_timeout(PROBE_INTERVAL)
        } else {
            self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let (entry, reply) = match first {
            Ok(Message::Append(entry, reply)) => (entry, reply),
            Err(RecvTimeoutError::Timeout) => return NextWork::Probe,
            Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return NextWork::End,
        };
        if busy {
            std::thread::sleep(GATHER);
        }
        let (mut entries, mut replies) = (vec![entry], vec![reply]);
        while entries.len() < BATCH_RECORDS_MAX {
            match self.receiver.try_recv() {
                Ok(Message::Append(entry, reply)) => {
                    entries.push(entry);
                    replies.push(reply);
                }
                Ok(Message::Close) | Err(TryRecvError::Disconnected) => {
                    *closing = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        NextWork::Batch(entries, replies)
    }

    fn write(&mut self, entries: &[Entry], replies: Vec<oneshot::Sender<Result<(), Arc<StoreError>>>>) {
        self.waiting.fetch_sub(entries.len(), Ordering::Relaxed);
        let stopwatch = Stopwatch::start();
        let written = self.store.append(entries).map_err(Arc::new);
        (self.observe)(Commit {
            records: entries.len(),
            duration: stopwatch.elapsed(),
            succeeded: written.is_ok(),
        });
        self.set_state(written.as_ref().err().map(Arc::as_ref));
        for reply in replies {
            // A caller that went away needs no answer; its record stands.
            let _gone = reply.send(written.clone());
        }
    }

    fn probe(&mut self) {
        let written = self.store.probe();
        self.set_state(written.as_ref().err());
    }

    fn set_state(&self, error: Option<&StoreError>) {
        let state = error.map_or(AuditState::Working, |error| AuditState::Failing(error.reason()));
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                match error {
                    None => tracing::info!("the audit log is written again"),
                    Some(error) => tracing::error!(%error, reason = error.reason(), "the audit log cannot be written"),
                }
                *current = state;
            }
            changed
        });
    }
}
