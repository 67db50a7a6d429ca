//! The tasks beside the decisions: one asks whether the storage is well, and has what was changed read before
//! anything is believed, one for each part has it read as soon as it is changed, and another has cleaned up what is over.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Change, Freshness, Location, Probe, StorageError, Store};

/// How often the storage is asked; [`super::STALE_MS_MAX`] leaves room for some questions that fail.
const INTERVAL: Duration = Duration::from_secs(1);
/// A first connection that listens is there within milliseconds.
const AT_START_ATTEMPTS: u32 = 50;
const AT_START_PAUSE: Duration = Duration::from_millis(100);
/// How long the service waits for the first cleaning.
const AT_START_CLEANING_MAX: Duration = Duration::from_secs(10);
/// Why nothing is confirmed any more: the task is gone.
const ENDED: &str = "ended";
/// Between two cleanings.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);

/// Whether the storage works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// It was heard from.
    Working,
    /// It was not, so no decision is given once what is remembered is too old. Why: [`StorageError::reason`].
    Failing(&'static str),
}

/// A part of the service that remembers what is stored.
#[async_trait]
pub(crate) trait Part: Send + Sync {
    /// Takes in what the storage says that others have changed. It must not block.
    fn changed(&self, change: Change);

    /// Whether everything that was heard of has been read.
    fn is_current(&self) -> bool;

    /// Reads what has to be known as a whole. It may be called while it is under way.
    async fn read(&self) -> Result<(), StorageError>;

    /// What else there is to do once in a while; the turns are counted from 0, and are a second apart.
    async fn upkeep(&self, _turn: u64) -> Result<(), StorageError> {
        Ok(())
    }

    /// What may take long and is done once a minute, beside everything else: where it fails nothing but it has failed.
    async fn clean(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Writes what waits, before the service ends.
    async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

type Parts = Vec<Arc<dyn Part>>;

/// A storage that was opened. Parts may be made for it, and read nothing before it is kept.
pub(crate) struct Storage {
    store: Arc<dyn Store>,
    freshness: Arc<Freshness>,
    /// Whom the store tells of changes; nobody before there is something to forget.
    told: Arc<OnceLock<Parts>>,
}

impl Storage {
    /// Opens a store, or creates it.
    ///
    /// # Errors
    /// It cannot be opened, is another program's, or is of a later version.
    pub(crate) async fn open(location: &Location) -> Result<Self, StorageError> {
        let told = Arc::new(OnceLock::<Parts>::new());
        let parts = Arc::clone(&told);
        let tell = move |change| parts.get().into_iter().flatten().for_each(|part| part.changed(change));
        Ok(Self {
            store: super::open(location, Arc::new(tell)).await?,
            freshness: Arc::new(Freshness::new()),
            told,
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn freshness(&self) -> Arc<Freshness> {
        Arc::clone(&self.freshness)
    }

    /// Tells these parts of changes from now on, and keeps what they remember, once all of it is known.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub(crate) async fn keep(self, parts: Parts) -> Result<Keeper, StorageError> {
        let parts = self.told.get_or_init(|| parts).clone();
        let changes = self.freshness.changes();
        let turns = Turns {
            store: self.store,
            freshness: self.freshness,
            parts: parts.clone(),
        };
        turns.read_all().await?;
        turns.confirm_at_start().await?;
        // What it counts is best known before the first request; where it takes longer the task does it again.
        if tokio::time::timeout(AT_START_CLEANING_MAX, clean(&parts))
            .await
            .is_err()
        {
            tracing::warn!("cleaning the storage takes long");
        }
        let (sender, state) = watch::channel(StorageState::Working);
        let mut tasks = vec![
            tokio::spawn(turns.run(Teller(sender))),
            tokio::spawn(clean_by_and_by(parts.clone())),
        ];
        for part in &parts {
            tasks.push(tokio::spawn(read_when_changed(Arc::clone(part), changes.clone())));
        }
        Ok(Keeper { parts, state, tasks })
    }
}

/// The tasks. They end when this is dropped.
pub(crate) struct Keeper {
    parts: Parts,
    state: watch::Receiver<StorageState>,
    tasks: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// Whether the storage works, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<StorageState> {
        self.state.clone()
    }

    /// Writes what waits, and ends the tasks.
    pub(crate) async fn close(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        for part in &self.parts {
            if let Err(error) = part.close().await {
                tracing::warn!(%error, "something that waited to be stored is lost");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Turns {
    store: Arc<dyn Probe>,
    freshness: Arc<Freshness>,
    parts: Parts,
}

impl Turns {
    async fn run(self, state: Teller) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn: u64 = 0;
        loop {
            ticks.tick().await;
            turn = turn.wrapping_add(1);
            state.tell(self.turn(turn).await.err().as_ref());
        }
    }

    async fn turn(&self, turn: u64) -> Result<(), StorageError> {
        let asked_ms = self.freshness.elapsed_ms();
        self.store.probe().await?;
        // Whatever was heard of and could not be read stays to be read: nothing is confirmed without it.
        self.read_changed().await?;
        self.freshness.confirm(asked_ms);
        for part in &self.parts {
            part.upkeep(turn).await?;
        }
        Ok(())
    }

    /// A listener may need a moment to be there; a store that is not asked in vain is confirmed at once.
    async fn confirm_at_start(&self) -> Result<(), StorageError> {
        let mut last = StorageError::TimedOut;
        for _ in 0..AT_START_ATTEMPTS {
            match self.turn(0).await {
                Ok(()) => return Ok(()),
                // Somebody has to change the database or how it is reached: waiting changes nothing.
                Err(error @ (StorageError::Unheard | StorageError::Altered { .. })) => return Err(error),
                Err(error) => last = error,
            }
            tokio::time::sleep(AT_START_PAUSE).await;
        }
        Err(last)
    }

    async fn read_all(&self) -> Result<(), StorageError> {
        for part in &self.parts {
            part.read().await?;
        }
        Ok(())
    }

    async fn read_changed(&self) -> Result<(), StorageError> {
        for part in self.parts.iter().filter(|part| !part.is_current()) {
            part.read().await?;
        }
        Ok(())
    }
}

/// What others have changed of a part is read at once, however long the reading of another part takes: what is revoked while
/// policies are loaded is revoked here too.
async fn read_when_changed(part: Arc<dyn Part>, mut changes: watch::Receiver<()>) {
    while changes.changed().await.is_ok() {
        if part.is_current() {
            continue;
        }
        if let Err(error) = part.read().await {
            // The next turn tries again, and tells it.
            tracing::debug!(%error, "what was changed elsewhere could not be read");
        }
    }
}

async fn clean_by_and_by(parts: Parts) {
    loop {
        tokio::time::sleep(CLEANING_INTERVAL).await;
        clean(&parts).await;
    }
}

async fn clean(parts: &Parts) {
    for part in parts {
        if let Err(error) = part.clean().await {
            tracing::warn!(%error, "the storage was not cleaned");
        }
    }
}

/// Tells whether the storage works.
struct Teller(watch::Sender<StorageState>);

impl Teller {
    fn tell(&self, error: Option<&StorageError>) {
        let new = error.map_or(StorageState::Working, |error| StorageState::Failing(error.reason()));
        self.0.send_if_modified(|current| {
            let changed = *current != new;
            if changed {
                match error {
                    None => tracing::info!("the storage works again"),
                    Some(error) => tracing::error!(%error, reason = error.reason(), "the storage fails"),
                }
                *current = new;
            }
            changed
        });
    }
}

impl Drop for Teller {
    /// Whatever has ended the task, nothing is confirmed any more.
    fn drop(&mut self) {
        self.0.send_replace(StorageState::Failing(ENDED));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::storage::Snapshot;

    struct Silent;

    #[async_trait]
    impl Probe for Silent {
        async fn probe(&self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    /// Remembers how often it was read, which fails once it is told to.
    struct Reads {
        snapshot: Snapshot<u64>,
        count: AtomicU64,
        fails: AtomicBool,
    }

    impl Reads {
        fn new(freshness: &Arc<Freshness>) -> Arc<Self> {
            Arc::new(Self {
                snapshot: Snapshot::new(Arc::clone(freshness)),
                count: AtomicU64::new(0),
                fails: AtomicBool::new(false),
            })
        }
    }

    #[async_trait]
    impl Part for Reads {
        fn changed(&self, _: Change) {
            self.snapshot.changed_elsewhere();
        }

        fn is_current(&self) -> bool {
            self.snapshot.is_current()
        }

        async fn read(&self) -> Result<(), StorageError> {
            let read = async || match self.fails.swap(false, Ordering::Relaxed) {
                true => Err(StorageError::TimedOut),
                false => Ok(self.count.fetch_add(1, Ordering::Relaxed)),
            };
            self.snapshot.read(read).await
        }
    }

    #[tokio::test]
    async fn what_was_heard_of_and_could_not_be_read_is_read_before_anything_is_confirmed() {
        let freshness = Arc::new(Freshness::new());
        let (first, second) = (Reads::new(&freshness), Reads::new(&freshness));
        let parts: Parts = vec![Arc::<Reads>::clone(&first), Arc::<Reads>::clone(&second)];
        let store = Arc::new(Silent);
        let turns = Turns {
            store,
            freshness,
            parts,
        };
        turns.read_all().await.unwrap();
        turns.turn(0).await.unwrap();
        assert_eq!(
            (*first.snapshot.value().unwrap(), *second.snapshot.value().unwrap()),
            (0, 0)
        );
        second.changed(Change::Standing);
        second.fails.store(true, Ordering::Relaxed);
        assert!(turns.read_changed().await.is_err());
        turns.turn(1).await.unwrap();
        // Each is read for its own changes alone.
        assert_eq!(
            (*first.snapshot.value().unwrap(), *second.snapshot.value().unwrap()),
            (0, 1)
        );
    }

    #[tokio::test]
    async fn nothing_is_confirmed_while_one_part_cannot_be_read() {
        let freshness = Arc::new(Freshness::new());
        let (first, second) = (Reads::new(&freshness), Reads::new(&freshness));
        let parts: Parts = vec![Arc::<Reads>::clone(&first), Arc::<Reads>::clone(&second)];
        let store = Arc::new(Silent);
        let turns = Turns {
            store,
            freshness,
            parts,
        };
        first.read().await.unwrap();
        second.fails.store(true, Ordering::Relaxed);
        assert!(turns.turn(0).await.is_err());
        assert!(matches!(first.snapshot.value(), Err(StorageError::Stale(_))));
        turns.turn(1).await.unwrap();
        assert!(first.snapshot.value().is_ok());
    }

    /// Cleans for ever.
    struct Slow;

    #[async_trait]
    impl Part for Slow {
        fn changed(&self, _: Change) {}

        fn is_current(&self) -> bool {
            true
        }

        async fn read(&self) -> Result<(), StorageError> {
            Ok(())
        }

        async fn clean(&self) -> Result<(), StorageError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_slow_cleaning_delays_no_confirmation() {
        let freshness = Arc::new(Freshness::new());
        let reads = Reads::new(&freshness);
        let parts: Parts = vec![Arc::new(Slow), Arc::<Reads>::clone(&reads)];
        let cleaning = tokio::spawn({
            let parts = parts.clone();
            async move { clean(&parts).await }
        });
        let turns = Turns {
            store: Arc::new(Silent),
            freshness,
            parts,
        };
        for turn in 0..=120 {
            // A turn that waits for the cleaning would never end.
            let turn = tokio::time::timeout(Duration::from_secs(10), turns.turn(turn));
            turn.await.unwrap().unwrap();
        }
        assert!(reads.snapshot.value().is_ok());
        assert!(!cleaning.is_finished());
        cleaning.abort();
    }

    /// Is read once, and then for ever.
    #[derive(Default)]
    struct Stuck {
        is_changed: AtomicBool,
        begun: Notify,
    }

    #[async_trait]
    impl Part for Stuck {
        fn changed(&self, _: Change) {}

        fn is_current(&self) -> bool {
            !self.is_changed.load(Ordering::Relaxed)
        }

        async fn read(&self) -> Result<(), StorageError> {
            if self.is_current() {
                return Ok(());
            }
            self.begun.notify_one();
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_part_that_takes_long_to_be_read_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.sqlite3");
        let storage = Storage::open(&Location::Sqlite { file }).await.unwrap();
        let (stuck, reads) = (Arc::new(Stuck::default()), Reads::new(&storage.freshness()));
        let parts: Parts = vec![Arc::<Stuck>::clone(&stuck), Arc::<Reads>::clone(&reads)];
        let keeper = storage.keep(parts).await.unwrap();
        stuck.is_changed.store(true, Ordering::Relaxed);
        // The next turn reads it, and never ends.
        stuck.begun.notified().await;
        for _ in 0..3 {
            reads.changed(Change::Standing);
            let is_current = async {
                while !reads.is_current() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), is_current).await.unwrap();
        }
        drop(keeper);
    }

    #[tokio::test]
    async fn a_task_that_has_ended_confirms_nothing_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.sqlite3");
        let storage = Storage::open(&Location::Sqlite { file }).await.unwrap();
        let keeper = storage.keep(Vec::new()).await.unwrap();
        let mut state = keeper.state();
        assert_eq!(*state.borrow(), StorageState::Working);
        keeper.tasks.first().unwrap().abort();
        state.changed().await.unwrap();
        assert_eq!(*state.borrow(), StorageState::Failing("ended"));
    }

    /// Cannot clean.
    struct Broken(AtomicU64);

    #[async_trait]
    impl Part for Broken {
        fn changed(&self, _: Change) {}

        fn is_current(&self) -> bool {
            true
        }

        async fn read(&self) -> Result<(), StorageError> {
            Ok(())
        }

        async fn clean(&self) -> Result<(), StorageError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(StorageError::TimedOut)
        }
    }

    #[tokio::test]
    async fn a_cleaning_that_fails_is_no_failure_of_the_storage() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.sqlite3");
        let storage = Storage::open(&Location::Sqlite { file }).await.unwrap();
        let (first, second) = (Arc::new(Broken(0.into())), Arc::new(Broken(0.into())));
        let parts: Parts = vec![Arc::<Broken>::clone(&first), Arc::<Broken>::clone(&second)];
        let keeper = storage.keep(parts).await.unwrap();
        // Each part was tried before anything is served.
        for part in [first, second] {
            assert_eq!(part.0.load(Ordering::Relaxed), 1);
        }
        assert_eq!(*keeper.state().borrow(), StorageState::Working);
    }
}
