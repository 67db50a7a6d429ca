//! The background task of risk assessment: it saves baselines and reloads threat lists.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Assessor, AssessorMetrics, RiskError};
use picket_service_configuration::AssessorSettings;

/// The assessor and its background task.
pub(crate) struct RiskMaintenance {
    assessor: Arc<Assessor>,
    metrics: AssessorMetrics,
    task: JoinHandle<()>,
}

impl RiskMaintenance {
    /// Reads all files, and starts the task.
    pub(crate) fn start(configuration: &AssessorSettings, metrics: AssessorMetrics) -> Result<Self, RiskError> {
        let assessor = Arc::new(Assessor::open(configuration)?);
        let every = |seconds: u32| {
            let mut interval = tokio::time::interval(Duration::from_secs(seconds.into()));
            // A machine that slept has one save to catch up on, not a hundred.
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (save, reload) = (
            every(configuration.save_interval_s),
            every(configuration.threat_list_interval_s),
        );
        tracing::info!(
            principals = assessor.principals(),
            threat_lists = configuration.threat_lists.len(),
            "risk is assessed"
        );
        assessor.update_gauges(&metrics);
        let task = tokio::spawn(run(Arc::clone(&assessor), metrics.clone(), save, reload));
        Ok(Self {
            assessor,
            metrics,
            task,
        })
    }

    /// The assessor.
    pub(crate) fn assessor(&self) -> Arc<Assessor> {
        Arc::clone(&self.assessor)
    }

    /// Ends the task, and saves the baselines.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // A save that still runs is waited for by the next one.
        let _aborted = self.task.await;
        save(&self.assessor, &self.metrics).await;
    }
}

async fn run(assessor: Arc<Assessor>, metrics: AssessorMetrics, mut saving: Interval, mut reloading: Interval) {
    // The first tick of an interval is at once, when everything was just read.
    saving.tick().await;
    reloading.tick().await;
    loop {
        tokio::select! {
            _ = saving.tick() => save(&assessor, &metrics).await,
            _ = reloading.tick() => reload(&assessor, &metrics).await,
        }
    }
}

async fn save(assessor: &Arc<Assessor>, metrics: &AssessorMetrics) {
    let task = Arc::clone(assessor);
    match tokio::task::spawn_blocking(move || task.save()).await {
        Ok(Ok(())) => metrics.count_save(true),
        Ok(Err(error)) => {
            tracing::error!(%error, "risk baselines cannot be saved");
            metrics.count_save(false);
        }
        Err(error) => {
            tracing::error!(%error, "saving risk baselines ended");
            metrics.count_save(false);
        }
    }
    assessor.update_gauges(metrics);
}

async fn reload(assessor: &Arc<Assessor>, metrics: &AssessorMetrics) {
    let task = Arc::clone(assessor);
    let reloads = match tokio::task::spawn_blocking(move || task.reload_threat_lists()).await {
        Ok(reloads) => reloads,
        Err(error) => {
            tracing::error!(%error, "reading threat lists ended");
            return;
        }
    };
    for reload in &reloads {
        let list = reload.name.as_str();
        match &reload.networks {
            Ok(networks) => tracing::info!(list, networks, "threat list was read"),
            Err(error) => tracing::warn!(list, %error, "threat list is broken, the old one stays in place"),
        }
        metrics.count_threat_list_read(reload.networks.is_ok());
    }
    assessor.update_gauges(metrics);
}

impl Assessor {
    /// Updates the gauges of principals and threat lists.
    fn update_gauges(&self, metrics: &AssessorMetrics) {
        metrics.set_principals(self.principals());
        for list in &self.threats().0 {
            metrics.set_threat_list(&list.name, list.networks.len(), list.changed_at);
        }
    }
}
