//! Whether decisions are given, for the health service.

use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use crate::audit::AuditState;
use crate::grpc;
use crate::revisions::PolicyState;
use crate::state::StorageState;

/// What decisions need: the audit log, and where they are configured the storage and the policies in it.
pub(super) struct Watched {
    audit: watch::Receiver<AuditState>,
    storage: watch::Receiver<StorageState>,
    policies: watch::Receiver<PolicyState>,
    /// Channels that nobody sends on, and that are never closed, stand for what is not configured.
    _never: (watch::Sender<StorageState>, watch::Sender<PolicyState>),
}

impl Watched {
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

    /// Without one of them no decision is given, or not the right one.
    pub(super) fn all_work(&mut self) -> bool {
        let audit_works = *self.audit.borrow_and_update() == AuditState::Working;
        let storage_works = *self.storage.borrow_and_update() == StorageState::Working;
        let policies_work = *self.policies.borrow_and_update() == PolicyState::Working;
        audit_works && storage_works && policies_work
    }

    /// Tells each change until the service ends.
    pub(super) async fn tell(mut self, health: HealthReporter) {
        loop {
            let changed = tokio::select! {
                changed = self.audit.changed() => changed,
                changed = self.storage.changed() => changed,
                changed = self.policies.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            grpc::report_health(&health, self.all_work()).await;
        }
    }
}
