//! Keeps what this process caches in step with the storage.
//!
//! Cached values are trusted only while the storage is confirmed ([`super::STALE_MS_MAX`]). One
//! task probes the storage each second, refreshes views that are outdated, and then confirms; one
//! task per view refreshes it as soon as a change is announced; another one deletes what has
//! expired, once a minute.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use picket_clock::now_unix_us;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Change, ChangeObserver, Freshness, StorageError, StoreProbe};

/// How often the storage is asked; [`super::STALE_MS_MAX`] leaves room for some questions that
/// fail.
const INTERVAL: Duration = Duration::from_secs(1);
/// A first connection that listens is there within milliseconds.
const AT_START_ATTEMPTS: u32 = 50;
const AT_START_PAUSE: Duration = Duration::from_millis(100);
/// How long the service waits for the first purge.
const AT_START_PURGE_MAX: Duration = Duration::from_secs(10);
/// Why nothing is confirmed any more: the task is gone.
const ENDED: &str = "ended";
/// Between two purges.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// Whether the storage works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageState {
    /// It was heard from.
    Working,
    /// It was not, so no decision is given once what is remembered is too old. Why:
    /// [`StorageError::reason`].
    Failing(&'static str),
}

/// What this process caches of something that is stored.
#[async_trait]
pub trait CachedView: Send + Sync {
    /// Drops, or marks as outdated, what another replica has changed. It must not block.
    fn apply_change(&self, change: Change);

    /// Whether every change that was announced has been read.
    fn is_current(&self) -> bool;

    /// Reads what is cached as a whole. It may be called while another call runs.
    async fn refresh(&self) -> Result<(), StorageError>;

    /// Writes what waits to be written: each second, and when the service stops.
    async fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Deletes what has expired by `now_us`, in microseconds since the epoch: at start, and then
    /// each minute.
    async fn purge(&self, _now_us: i64) -> Result<(), StorageError> {
        Ok(())
    }
}

/// The cached views that a back end notifies of changes: none before [`StorageSync::start`], as
/// nothing is cached before.
#[derive(Clone, Default)]
pub struct Subscribers(Arc<OnceLock<Views>>);

type Views = Vec<Arc<dyn CachedView>>;

impl Subscribers {
    /// For the back end, which calls it with each change.
    pub fn observer(&self) -> ChangeObserver {
        let views = Arc::clone(&self.0);
        Arc::new(move |change| {
            views
                .get()
                .into_iter()
                .flatten()
                .for_each(|view| view.apply_change(change));
        })
    }
}

/// The tasks that keep cached views and storage in step. They end when this is dropped.
pub struct StorageSync {
    views: Views,
    state: watch::Receiver<StorageState>,
    tasks: Vec<JoinHandle<()>>,
}

impl StorageSync {
    /// Notifies `views` of changes from now on, fills them, and starts the tasks once the store is
    /// confirmed. `freshness` is that of the views; `subscribers` is whose observer the store was
    /// opened with.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub async fn start(
        store: Arc<dyn StoreProbe>,
        freshness: Arc<Freshness>,
        subscribers: &Subscribers,
        views: Views,
    ) -> Result<Self, StorageError> {
        let views = subscribers.0.get_or_init(|| views).clone();
        let changes = freshness.changes();
        let confirmation = Confirmation {
            store,
            freshness,
            views: views.clone(),
        };
        confirmation.refresh_all().await?;
        confirmation.confirm_at_start().await?;
        // What a purge counts is best known before the first request; a purge that takes longer is
        // repeated by its task.
        if tokio::time::timeout(AT_START_PURGE_MAX, purge(&views)).await.is_err() {
            tracing::warn!("deleting what has expired from the storage takes long");
        }
        let (sender, state) = watch::channel(StorageState::Working);
        let mut tasks = vec![
            tokio::spawn(confirmation.run(StateReporter(sender))),
            tokio::spawn(purge_periodically(views.clone())),
        ];
        for view in &views {
            tasks.push(tokio::spawn(refresh_on_change(Arc::clone(view), changes.clone())));
        }
        Ok(Self { views, state, tasks })
    }

    /// Whether the storage works, and its changes.
    pub fn state(&self) -> watch::Receiver<StorageState> {
        self.state.clone()
    }

    /// Writes what waits, and ends the tasks.
    pub async fn close(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        for view in &self.views {
            if let Err(error) = view.flush().await {
                tracing::warn!(%error, "something that waited to be stored is lost");
            }
        }
    }
}

impl Drop for StorageSync {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asks the storage once a second, and confirms the cached views.
struct Confirmation {
    store: Arc<dyn StoreProbe>,
    freshness: Arc<Freshness>,
    views: Views,
}

impl Confirmation {
    async fn run(self, state: StateReporter) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            state.report(self.confirm().await.err().as_ref());
        }
    }

    async fn confirm(&self) -> Result<(), StorageError> {
        let asked_ms = self.freshness.elapsed_ms();
        self.store.probe().await?;
        // A change that was announced and could not be read stays to be read: nothing is confirmed
        // without it.
        self.refresh_outdated().await?;
        self.freshness.confirm(asked_ms);
        for view in &self.views {
            view.flush().await?;
        }
        Ok(())
    }

    /// A listener may need a moment to connect; a store that answers is confirmed at once.
    async fn confirm_at_start(&self) -> Result<(), StorageError> {
        let mut last = StorageError::TimedOut;
        for _ in 0..AT_START_ATTEMPTS {
            match self.confirm().await {
                Ok(()) => return Ok(()),
                // Somebody has to change the database or how it is reached: waiting changes
                // nothing.
                Err(error @ (StorageError::Unheard | StorageError::Altered { .. })) => return Err(error),
                Err(error) => last = error,
            }
            tokio::time::sleep(AT_START_PAUSE).await;
        }
        Err(last)
    }

    async fn refresh_all(&self) -> Result<(), StorageError> {
        for view in &self.views {
            view.refresh().await?;
        }
        Ok(())
    }

    async fn refresh_outdated(&self) -> Result<(), StorageError> {
        for view in self.views.iter().filter(|view| !view.is_current()) {
            view.refresh().await?;
        }
        Ok(())
    }
}

/// Refreshes one view as soon as others have changed it, however long another view takes: what is
/// revoked while policies are loaded is revoked here too.
async fn refresh_on_change(view: Arc<dyn CachedView>, mut changes: watch::Receiver<()>) {
    while changes.changed().await.is_ok() {
        if view.is_current() {
            continue;
        }
        if let Err(error) = view.refresh().await {
            // The next confirmation tries again, and reports it.
            tracing::debug!(%error, "what was changed elsewhere could not be read");
        }
    }
}

async fn purge_periodically(views: Views) {
    loop {
        tokio::time::sleep(PURGE_INTERVAL).await;
        purge(&views).await;
    }
}

async fn purge(views: &Views) {
    for view in views {
        let now_us = i64::try_from(now_unix_us()).unwrap_or(i64::MAX);
        if let Err(error) = view.purge(now_us).await {
            tracing::warn!(%error, "what has expired was not deleted from the storage");
        }
    }
}

/// Publishes whether the storage works, and logs when that changes.
struct StateReporter(watch::Sender<StorageState>);

impl StateReporter {
    fn report(&self, error: Option<&StorageError>) {
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

impl Drop for StateReporter {
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
    use crate::Snapshot;

    struct Silent;

    #[async_trait]
    impl StoreProbe for Silent {
        async fn probe(&self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    async fn start(freshness: Arc<Freshness>, views: Views) -> StorageSync {
        StorageSync::start(Arc::new(Silent), freshness, &Subscribers::default(), views)
            .await
            .unwrap()
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
    impl CachedView for Reads {
        fn apply_change(&self, _: Change) {
            self.snapshot.changed_elsewhere();
        }

        fn is_current(&self) -> bool {
            self.snapshot.is_current()
        }

        async fn refresh(&self) -> Result<(), StorageError> {
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
        let views: Views = vec![Arc::<Reads>::clone(&first), Arc::<Reads>::clone(&second)];
        let store = Arc::new(Silent);
        let confirmation = Confirmation {
            store,
            freshness,
            views,
        };
        confirmation.refresh_all().await.unwrap();
        confirmation.confirm().await.unwrap();
        assert_eq!(
            (*first.snapshot.value().unwrap(), *second.snapshot.value().unwrap()),
            (0, 0)
        );
        second.apply_change(Change::Restrictions);
        second.fails.store(true, Ordering::Relaxed);
        assert!(confirmation.refresh_outdated().await.is_err());
        confirmation.confirm().await.unwrap();
        // Each is read for its own changes alone.
        assert_eq!(
            (*first.snapshot.value().unwrap(), *second.snapshot.value().unwrap()),
            (0, 1)
        );
    }

    #[tokio::test]
    async fn nothing_is_confirmed_while_one_view_cannot_be_read() {
        let freshness = Arc::new(Freshness::new());
        let (first, second) = (Reads::new(&freshness), Reads::new(&freshness));
        let views: Views = vec![Arc::<Reads>::clone(&first), Arc::<Reads>::clone(&second)];
        let store = Arc::new(Silent);
        let confirmation = Confirmation {
            store,
            freshness,
            views,
        };
        first.refresh().await.unwrap();
        second.fails.store(true, Ordering::Relaxed);
        assert!(confirmation.confirm().await.is_err());
        assert!(matches!(first.snapshot.value(), Err(StorageError::Stale(_))));
        confirmation.confirm().await.unwrap();
        assert!(first.snapshot.value().is_ok());
    }

    /// Purges for ever.
    struct Slow;

    #[async_trait]
    impl CachedView for Slow {
        fn apply_change(&self, _: Change) {}

        fn is_current(&self) -> bool {
            true
        }

        async fn refresh(&self) -> Result<(), StorageError> {
            Ok(())
        }

        async fn purge(&self, _now_us: i64) -> Result<(), StorageError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_slow_purge_delays_no_confirmation() {
        let freshness = Arc::new(Freshness::new());
        let reads = Reads::new(&freshness);
        let views: Views = vec![Arc::new(Slow), Arc::<Reads>::clone(&reads)];
        let purging = tokio::spawn({
            let views = views.clone();
            async move { purge(&views).await }
        });
        let confirmation = Confirmation {
            store: Arc::new(Silent),
            freshness,
            views,
        };
        for _ in 0..=120 {
            // A confirmation that waits for the purge would never end.
            let confirmed = tokio::time::timeout(Duration::from_secs(10), confirmation.confirm());
            confirmed.await.unwrap().unwrap();
        }
        assert!(reads.snapshot.value().is_ok());
        assert!(!purging.is_finished());
        purging.abort();
    }

    /// Is read once, and then for ever.
    #[derive(Default)]
    struct Stuck {
        is_changed: AtomicBool,
        begun: Notify,
    }

    #[async_trait]
    impl CachedView for Stuck {
        fn apply_change(&self, _: Change) {}

        fn is_current(&self) -> bool {
            !self.is_changed.load(Ordering::Relaxed)
        }

        async fn refresh(&self) -> Result<(), StorageError> {
            if self.is_current() {
                return Ok(());
            }
            self.begun.notify_one();
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_view_that_takes_long_to_be_read_holds_up_no_other() {
        let freshness = Arc::new(Freshness::new());
        let (stuck, reads) = (Arc::new(Stuck::default()), Reads::new(&freshness));
        let views: Views = vec![Arc::<Stuck>::clone(&stuck), Arc::<Reads>::clone(&reads)];
        let sync = start(freshness, views).await;
        stuck.is_changed.store(true, Ordering::Relaxed);
        // The next confirmation reads it, and never ends.
        stuck.begun.notified().await;
        for _ in 0..3 {
            reads.apply_change(Change::Restrictions);
            let is_current = async {
                while !reads.is_current() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), is_current).await.unwrap();
        }
        drop(sync);
    }

    #[tokio::test]
    async fn a_task_that_has_ended_confirms_nothing_and_says_so() {
        let sync = start(Arc::new(Freshness::new()), Vec::new()).await;
        let mut state = sync.state();
        assert_eq!(*state.borrow(), StorageState::Working);
        sync.tasks.first().unwrap().abort();
        state.changed().await.unwrap();
        assert_eq!(*state.borrow(), StorageState::Failing("ended"));
    }

    /// Cannot purge.
    struct Broken(AtomicU64);

    #[async_trait]
    impl CachedView for Broken {
        fn apply_change(&self, _: Change) {}

        fn is_current(&self) -> bool {
            true
        }

        async fn refresh(&self) -> Result<(), StorageError> {
            Ok(())
        }

        async fn purge(&self, _now_us: i64) -> Result<(), StorageError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(StorageError::TimedOut)
        }
    }

    #[tokio::test]
    async fn a_purge_that_fails_is_no_failure_of_the_storage() {
        let (first, second) = (Arc::new(Broken(0.into())), Arc::new(Broken(0.into())));
        let views: Views = vec![Arc::<Broken>::clone(&first), Arc::<Broken>::clone(&second)];
        let sync = start(Arc::new(Freshness::new()), views).await;
        // Each view was tried before anything is served.
        for view in [first, second] {
            assert_eq!(view.0.load(Ordering::Relaxed), 1);
        }
        assert_eq!(*sync.state().borrow(), StorageState::Working);
    }
}
