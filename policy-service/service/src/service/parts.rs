//! The parts behind the fronts: risk assessment, audit log, stored state, decisions and
//! administration.

use std::sync::Arc;

use picket_audit::{AuditLog, AuditWriter, KeyEncryptionKey};
use picket_policy::PolicyEngine;
use picket_state::revisions::{NO_REVISION, PolicyState};
use picket_state::{StorageState, StorageSync};
use tokio::sync::watch;

use super::ServiceError;
use super::stored::StoredState;
use crate::administration::{Administration, ReportLimitsByKind};
use crate::assessor::RiskMaintenance;
use crate::decision::Decider;
use crate::logging::Logging;
use crate::metrics::Metrics;
use picket_service_configuration::Configuration;

/// The parts, with what the service needs to observe and stop them.
pub(super) struct Parts {
    pub(super) decider: Arc<Decider>,
    pub(super) administration: Arc<Administration>,
    pub(super) audit: AuditLog,
    pub(super) audit_writer: AuditWriter,
    /// `None`: risk is not assessed.
    pub(super) risk: Option<RiskMaintenance>,
    /// `None`: nothing is stored.
    pub(super) sync: Option<StorageSync>,
    /// `None`: nothing is stored.
    pub(super) storage_state: Option<watch::Receiver<StorageState>>,
    /// `None`: the policies are those of a folder.
    pub(super) policy_state: Option<watch::Receiver<PolicyState>>,
    /// The revision that decides at the start.
    pub(super) policy_revision: String,
}

impl Parts {
    /// Opens all files and the storage. `folder` has the policies of a folder.
    pub(super) async fn open(
        configuration: &Configuration,
        folder: Option<PolicyEngine>,
        metrics: &Arc<Metrics>,
        logging: &Logging,
    ) -> Result<Self, ServiceError> {
        let risk = configuration
            .risk
            .as_ref()
            .map(|risk| RiskMaintenance::start(risk, metrics.risk.clone()));
        let risk = risk.transpose()?;
        let key = KeyEncryptionKey::read(&configuration.audit.key_encryption_key_file)?;
        let audit_metrics = metrics.audit.clone();
        let (audit, audit_writer) = AuditLog::open(&configuration.audit.database_file, key, move |commit| {
            audit_metrics.observe_commit(commit);
        })?;
        let stored = StoredState::open(configuration, folder, metrics).await?;
        let (storage_state, policy_state) = (stored.storage_state(), stored.policy_state());
        // Readiness reports a revision that cannot be loaded. The service starts all the same, so
        // that another one can be activated.
        let policies = stored.policies.current().ok().flatten();
        let policy_revision = policies.map_or(NO_REVISION.to_owned(), |policies| policies.revision().to_owned());
        let administration = Arc::new(Administration {
            audit: audit.clone(),
            sessions: stored.sessions.clone(),
            devices: stored.devices.clone(),
            roles: stored.roles.clone(),
            revisions: stored.policies.revisions().cloned(),
            risk: risk.as_ref().map(RiskMaintenance::assessor),
            report_limits: ReportLimitsByKind::default(),
        });
        let decider = Arc::new(Decider {
            policies: stored.policies,
            audit: audit.clone(),
            validity: configuration.decisions.clone(),
            lines: logging.decision_lines(),
            metrics: metrics.decisions.clone(),
            risk_metrics: metrics.risk.clone(),
            sessions: stored.sessions,
            devices: stored.devices,
            roles: stored.roles,
            risk: risk.as_ref().map(RiskMaintenance::assessor),
        });
        Ok(Self {
            decider,
            administration,
            audit,
            audit_writer,
            risk,
            sync: stored.sync,
            storage_state,
            policy_state,
            policy_revision,
        })
    }
}
