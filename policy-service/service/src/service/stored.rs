//! The parts whose state is stored: policies, sessions, devices and roles, each where it is
//! configured.

use std::sync::Arc;

use picket_policy::PolicyEngine;
use picket_risk::Levels;
use picket_state::StorageLocation;
use picket_state::devices::{DeviceSettings, Devices};
use picket_state::revisions::{ActivePolicies, EvaluationSettings, NO_REVISION, PolicyState, Revisions};
use picket_state::roles::Roles;
use picket_state::sessions::{SessionSettings, Sessions};
use picket_state::{CachedView, Freshness, StorageError, StorageState, StorageSync, Store, Subscribers};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::ServiceError;
use crate::metrics::Metrics;
use picket_service_configuration::{Configuration, PolicySource, RoleSource};

/// The parts, and the task that keeps their caches in step with the storage.
pub(super) struct StoredState {
    pub(super) policies: ActivePolicies,
    pub(super) sessions: Option<Arc<Sessions>>,
    pub(super) devices: Option<Arc<Devices>>,
    pub(super) roles: Option<Arc<Roles>>,
    /// `None`: nothing is stored.
    pub(super) sync: Option<StorageSync>,
}

/// A storage that was opened, before anything of it is cached.
struct Opened {
    store: Arc<dyn Store>,
    freshness: Arc<Freshness>,
    subscribers: Subscribers,
}

impl Opened {
    async fn open(location: &StorageLocation) -> Result<Self, StorageError> {
        let subscribers = Subscribers::default();
        Ok(Self {
            store: picket_storage::open(location, subscribers.observer()).await?,
            freshness: Arc::new(Freshness::new()),
            subscribers,
        })
    }

    /// For a part that caches what is stored.
    fn handles(&self) -> (Arc<dyn Store>, Arc<Freshness>) {
        (Arc::clone(&self.store), Arc::clone(&self.freshness))
    }
}

impl StoredState {
    /// Opens the storage, where there is one, and waits until every cache is filled. `folder` has
    /// the policies of a folder.
    pub(super) async fn open(
        configuration: &Configuration,
        folder: Option<PolicyEngine>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ServiceError> {
        let storage = match &configuration.storage {
            Some(location) => Some(Opened::open(location).await?),
            None => None,
        };
        let policies = match (folder, &storage) {
            (Some(policies), _) => ActivePolicies::Folder(policies),
            (None, Some(storage)) => ActivePolicies::Store(revisions_in(storage, configuration, metrics)),
            (None, None) => return Err(ServiceError::NoPolicies),
        };
        let Some(storage) = storage else {
            return Ok(Self {
                policies,
                sessions: None,
                devices: None,
                roles: None,
                sync: None,
            });
        };
        let sessions = configuration.sessions.as_ref();
        let sessions = sessions.map(|settings| sessions_in(&storage, settings, metrics));
        let sessions = sessions.transpose()?;
        let devices = configuration.devices.as_ref();
        let devices = devices.map(|settings| devices_in(&storage, settings, metrics));
        let devices = devices.transpose()?;
        let roles = match configuration.roles {
            RoleSource::Token => None,
            RoleSource::TokenAndStore => {
                let (store, freshness) = storage.handles();
                Some(Arc::new(Roles::new(store, freshness)))
            }
        };
        let views = [
            sessions.clone().map(|view| view as Arc<dyn CachedView>),
            devices.clone().map(|view| view as Arc<dyn CachedView>),
            roles.clone().map(|view| view as Arc<dyn CachedView>),
            policies.revisions().cloned().map(|view| view as Arc<dyn CachedView>),
        ];
        let views = views.into_iter().flatten().collect();
        let sync = StorageSync::start(storage.store, storage.freshness, &storage.subscribers, views).await?;
        Ok(Self {
            policies,
            sessions,
            devices,
            roles,
            sync: Some(sync),
        })
    }

    /// The state of the storage; `None`: nothing is stored.
    pub(super) fn storage_state(&self) -> Option<watch::Receiver<StorageState>> {
        self.sync.as_ref().map(StorageSync::state)
    }

    /// The state of the stored policies; `None`: they are those of a folder.
    pub(super) fn policy_state(&self) -> Option<watch::Receiver<PolicyState>> {
        self.policies.revisions().map(|revisions| revisions.state())
    }
}

/// The policies of the folder, where the configuration names one, and metrics that name them.
pub(super) fn load_folder(configuration: &Configuration) -> Result<(Option<PolicyEngine>, Arc<Metrics>), ServiceError> {
    let directory = match &configuration.policies.source {
        PolicySource::Folder(directory) => directory,
        PolicySource::Store => return Ok((None, Arc::new(Metrics::new(NO_REVISION, 0)))),
    };
    let policies = picket_policy::load(directory)
        .map_err(ServiceError::Policies)?
        .in_time_zone(configuration.policies.time_zone.clone());
    for warning in policies.warnings() {
        tracing::warn!(%warning, "policy warning");
    }
    let metrics = Metrics::new(policies.revision(), policies.policy_count());
    Ok((Some(policies), Arc::new(metrics)))
}

fn sessions_in(storage: &Opened, settings: &SessionSettings, metrics: &Metrics) -> Result<Arc<Sessions>, ServiceError> {
    let (store, freshness) = storage.handles();
    let metrics = metrics.sessions.clone();
    Ok(Arc::new(Sessions::new(
        store,
        freshness,
        seed()?,
        settings.clone(),
        metrics,
    )))
}

fn devices_in(storage: &Opened, settings: &DeviceSettings, metrics: &Metrics) -> Result<Arc<Devices>, ServiceError> {
    let (store, freshness) = storage.handles();
    let metrics = metrics.devices.clone();
    Ok(Arc::new(Devices::new(
        store,
        freshness,
        seed()?,
        settings.clone(),
        metrics,
    )))
}

/// A seed for a cache's hashes, so that clients cannot provoke collisions.
fn seed() -> Result<u64, ServiceError> {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed).map_err(|_| ServiceError::Random)?;
    Ok(u64::from_ne_bytes(seed))
}

fn revisions_in(storage: &Opened, configuration: &Configuration, metrics: &Metrics) -> Arc<Revisions> {
    let risk = configuration.risk.as_ref();
    let evaluation = EvaluationSettings {
        time_zone: configuration.policies.time_zone.clone(),
        levels: risk.map_or(Levels::DEFAULT, |risk| risk.settings.levels),
    };
    let (store, freshness) = storage.handles();
    Arc::new(Revisions::new(store, freshness, evaluation, metrics.policies.clone()))
}
