//! Administrative acts of operators and reporters, whichever front a call comes through.
//!
//! [`Administration`] gives a front access to a part of the service, such as the sessions, only for
//! a caller with the role. The front then names the act as an [`AdminAction`], and
//! [`Administration::perform_audited`] runs it to its end, also when its caller goes away
//! meanwhile, and appends its record to the audit log.

mod error;
mod report_limits;

use std::sync::Arc;

use picket_audit::{Act, ActOutcome, AdministrationRecord, AuditLog, Event};
use picket_model::time::Timestamp;
use picket_state::devices::Devices;
use picket_state::revisions::Revisions;
use picket_state::roles::Roles;
use picket_state::sessions::Sessions;

use crate::assessor::Assessor;
use crate::clock;
use crate::transport::AdmittedCall;
pub(crate) use error::AdminError;
use picket_service_configuration::CallerRole;
use report_limits::ReportLimits;

/// The parts of the service that administrative acts read and change. A part that is not configured
/// is `None`.
pub(crate) struct Administration {
    pub(crate) audit: AuditLog,
    pub(crate) sessions: Option<Arc<Sessions>>,
    pub(crate) devices: Option<Arc<Devices>>,
    pub(crate) roles: Option<Arc<Roles>>,
    pub(crate) revisions: Option<Arc<Revisions>>,
    pub(crate) risk: Option<Arc<Assessor>>,
    pub(crate) report_limits: ReportLimitsByKind,
}

/// The rate limits of reporters. Reports of one kind do not count for the other.
#[derive(Default)]
pub(crate) struct ReportLimitsByKind {
    posture: ReportLimits,
    risk: ReportLimits,
}

/// The kinds of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// The posture of a device.
    Posture,
    /// Authentications and the handling of clients.
    Risk,
}

/// One act of one caller.
pub(crate) struct AdminAction {
    /// The caller's call, which occupies its slot until the act is done.
    pub(crate) call: AdmittedCall,
    pub(crate) act: Act,
    /// As in [`AdministrationRecord::target`].
    pub(crate) target: String,
}

/// The result of an act that was performed, or found to be impossible.
pub(crate) struct Performed<T> {
    outcome: ActOutcome,
    target: Option<String>,
    response: T,
}

impl<T> Performed<T> {
    pub(crate) fn new(outcome: ActOutcome, response: T) -> Self {
        Self {
            outcome,
            target: None,
            response,
        }
    }

    /// The target for the record where only the act itself has found it. `None`: that of the
    /// [`AdminAction`].
    pub(crate) fn with_target(self, target: Option<String>) -> Self {
        Self { target, ..self }
    }
}

impl Performed<bool> {
    /// Whether anything changed.
    pub(crate) fn changed(changed: bool) -> Self {
        let outcome = if changed {
            ActOutcome::Done
        } else {
            ActOutcome::Unchanged
        };
        Self::new(outcome, changed)
    }
}

impl Administration {
    /// The sessions, for a caller with the role.
    ///
    /// # Errors
    /// The caller lacks the role, or no sessions are kept.
    pub(crate) fn sessions(&self, call: &AdmittedCall, role: CallerRole) -> Result<Arc<Sessions>, AdminError> {
        authorize(call, role)?;
        self.sessions.clone().ok_or(AdminError::NoSessions)
    }

    /// The devices, for a caller with the role.
    ///
    /// # Errors
    /// The caller lacks the role, or no devices are kept.
    pub(crate) fn devices(&self, call: &AdmittedCall, role: CallerRole) -> Result<Arc<Devices>, AdminError> {
        authorize(call, role)?;
        self.devices.clone().ok_or(AdminError::NoDevices)
    }

    /// The assigned roles, for a caller with the role for that.
    ///
    /// # Errors
    /// The caller lacks the role, or no roles are assigned here.
    pub(crate) fn roles(&self, call: &AdmittedCall, role: CallerRole) -> Result<Arc<Roles>, AdminError> {
        authorize(call, role)?;
        self.roles.clone().ok_or(AdminError::NoRoles)
    }

    /// The policy revisions, for a caller with the role.
    ///
    /// # Errors
    /// The caller lacks the role, or the policies are those of a folder.
    pub(crate) fn revisions(&self, call: &AdmittedCall, role: CallerRole) -> Result<Arc<Revisions>, AdminError> {
        authorize(call, role)?;
        self.revisions.clone().ok_or(AdminError::NoRevisions)
    }

    /// The risk assessor, for a caller with the role.
    ///
    /// # Errors
    /// The caller lacks the role, or risk is not assessed.
    pub(crate) fn risk(&self, call: &AdmittedCall, role: CallerRole) -> Result<Arc<Assessor>, AdminError> {
        authorize(call, role)?;
        self.risk.clone().ok_or(AdminError::NoRisk)
    }

    /// Counts reports against the caller's rate limit: all of them, or none.
    ///
    /// # Errors
    /// The limit is reached.
    pub(crate) fn count_reports(&self, kind: ReportKind, call: &AdmittedCall, count: usize) -> Result<(), AdminError> {
        let limits = match kind {
            ReportKind::Posture => &self.report_limits.posture,
            ReportKind::Risk => &self.report_limits.risk,
        };
        match limits.try_acquire(call.caller(), count, clock::now()) {
            true => Ok(()),
            false => Err(AdminError::TooManyReports),
        }
    }

    /// Performs an act and records it, also when the caller goes away meanwhile. While the audit
    /// log cannot be written, only restrictive acts are performed.
    ///
    /// # Errors
    /// It was not done, or that is not known; or it was done and is not recorded.
    pub(crate) async fn perform_audited<T: Send + 'static>(
        &self,
        action: AdminAction,
        work: impl Future<Output = Result<Performed<T>, AdminError>> + Send + 'static,
    ) -> Result<T, AdminError> {
        perform_audited(self.audit.clone(), action, work).await
    }
}

fn authorize(call: &AdmittedCall, role: CallerRole) -> Result<(), AdminError> {
    match call.roles().allow(role) {
        true => Ok(()),
        false => Err(AdminError::Role(role)),
    }
}

async fn perform_audited<T: Send + 'static>(
    audit: AuditLog,
    action: AdminAction,
    work: impl Future<Output = Result<Performed<T>, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    if !action.act.is_restrictive() && audit.state().borrow().is_failing() {
        return Err(AdminError::AuditFails);
    }
    let task = tokio::spawn(async move {
        let performed = work.await;
        let now = clock::now();
        let target = performed.as_ref().ok().and_then(|performed| performed.target.clone());
        let record = AdministrationRecord {
            time_us: unix_us(now),
            caller: action.call.caller().to_owned(),
            act: action.act,
            target: target.unwrap_or(action.target),
            outcome: performed
                .as_ref()
                .map_or(ActOutcome::Failed, |performed| performed.outcome),
        };
        let recorded = audit.append(now, &Event::Administration(Box::new(record))).await;
        let performed = performed?;
        recorded?;
        Ok(performed.response)
    });
    task.await.unwrap_or(Err(AdminError::Interrupted))
}

/// The time of an act, in microseconds since the epoch.
pub(crate) fn now_us() -> i64 {
    unix_us(clock::now())
}

fn unix_us(time: Timestamp) -> i64 {
    i64::try_from(time.as_us()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::transport::{AdmissionControl, AdmissionError, Caller, TransportMetrics};
    use picket_audit::KeyEncryptionKey;
    use picket_service_configuration::CallerRoles;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[tokio::test]
    async fn an_act_holds_its_place_and_is_recorded_also_when_its_caller_goes_away() {
        let key = || KeyEncryptionKey::from_hex(KEY).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("audit.sqlite3");
        let (audit, _writer) = AuditLog::open(&database, key(), |_| {}).unwrap();
        let control = AdmissionControl::new(1, TransportMetrics::default());
        let operator = CallerRoles::of(&[CallerRole::Operator]);
        let caller = Caller::Allowed("spiffe://example.org/operator".into(), operator);
        let admit = || control.admit(&caller, &[CallerRole::Operator]);
        let call = admit().unwrap();
        authorize(&call, CallerRole::Operator).unwrap();
        let action = AdminAction {
            call,
            act: Act::LockdownOn,
            target: String::new(),
        };
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok(Performed::changed(true))
            }
        };
        tokio::select! {
            _ = perform_audited(audit.clone(), action, work) => panic!("it has ended before it was let"),
            () = begun.notified() => {}
        }
        assert_eq!(admit().unwrap_err(), AdmissionError::Overloaded);
        go_on.notify_one();
        while admit().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(picket_audit::verify(&database, &key(), None).unwrap().records, 1);
    }
}
