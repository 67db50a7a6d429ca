//! Reports to the gRPC health service whether decisions are given.

use picket_audit::AuditState;
use picket_state::StorageState;
use picket_state::revisions::PolicyState;
use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use crate::grpc;

/// The parts that every decision needs: the audit log, and where they are configured the storage
/// and the policies in it.
pub(super) struct Dependencies {
    audit: watch::Receiver<AuditState>,
    storage: watch::Receiver<StorageState>,
    policies: watch::Receiver<PolicyState>,
    /// The senders of channels for parts that are not configured, which must stay open.
    _never: (watch::Sender<StorageState>, watch::Sender<PolicyState>),
}

impl Dependencies {
    pub(super) fn new(
        audit: watch::Receiver<AuditState>,
        storage: Option<watch::Receiver<StorageState>>,
        policies: Option<watch::Receiver<PolicyState>>,
    ) -> Self {
        let never = (
            watch::Sender::new(StorageState::Working),
            watch::Sender::new(PolicyState::Working),
        );
        Self {
            audit,
            storage: storage.unwrap_or_else(|| never.0.subscribe()),
            policies: policies.unwrap_or_else(|| never.1.subscribe()),
            _never: never,
        }
    }

    /// Whether all of them work. Otherwise decisions fail, or are made by the wrong policies.
    pub(super) fn are_working(&mut self) -> bool {
        let audit_works = *self.audit.borrow_and_update() == AuditState::Working;
        let storage_works = *self.storage.borrow_and_update() == StorageState::Working;
        let policies_work = *self.policies.borrow_and_update() == PolicyState::Working;
        audit_works && storage_works && policies_work
    }

    /// Reports each change until the service ends.
    pub(super) async fn report_changes(mut self, health: HealthReporter) {
        loop {
            let changed = tokio::select! {
                changed = self.audit.changed() => changed,
                changed = self.storage.changed() => changed,
                changed = self.policies.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            grpc::report_health(&health, self.are_working()).await;
        }
    }
}
