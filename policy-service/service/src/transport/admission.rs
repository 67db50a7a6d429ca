//! Admission of calls, before their bodies are read: the caller's roles, and the limit on
//! concurrent calls.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::TransportMetrics;
use super::caller::{Caller, CallerRefusal, record_missing_role};
use picket_service_configuration::{CallerRole, CallerRoles};

/// Admits calls of authorized callers up to the concurrency limit. Further calls are rejected, not
/// queued: their sidecars answer 503 at once rather than late.
#[derive(Clone)]
pub(crate) struct AdmissionControl {
    slots: Arc<Semaphore>,
    /// Slots that only operators use; `None`: operators use those of everybody.
    operator_slots: Option<Arc<Semaphore>>,
    metrics: TransportMetrics,
}

/// A call that was admitted. Its slot is free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct AdmittedCall {
    caller: Arc<str>,
    roles: CallerRoles,
    _slot: Arc<OwnedSemaphorePermit>,
}

/// Why a call is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// The caller is not known, or lacks the role.
    #[error("the caller is refused")]
    Refused(CallerRefusal),
    /// The concurrency limit is reached.
    #[error("too many calls at once")]
    Overloaded,
}

impl AdmissionControl {
    /// Admits `concurrency_max` calls at a time.
    pub(crate) fn new(concurrency_max: u32, metrics: TransportMetrics) -> Self {
        Self {
            slots: slots(concurrency_max),
            operator_slots: None,
            metrics,
        }
    }

    /// The same, with as many slots again for operators, who can revoke however many others call.
    pub(crate) fn with_operator_slots(self, concurrency_max: u32) -> Self {
        Self {
            operator_slots: Some(slots(concurrency_max)),
            ..self
        }
    }

    /// Admits a call of a caller that has one of these roles. A refusal is counted and logged.
    ///
    /// # Errors
    /// The caller may not call this, or too many calls are in flight.
    pub(crate) fn admit(&self, caller: &Caller, roles: &[CallerRole]) -> Result<AdmittedCall, AdmissionError> {
        let (spiffe_id, held) = match caller {
            Caller::Allowed(spiffe_id, held) => (spiffe_id, *held),
            Caller::Refused(refused) => {
                refused.record(&self.metrics);
                return Err(AdmissionError::Refused(refused.reason));
            }
        };
        if !roles.iter().any(|role| held.allow(*role)) {
            record_missing_role(spiffe_id, &self.metrics);
            return Err(AdmissionError::Refused(CallerRefusal::Role));
        }
        let slot = Arc::clone(self.slots_of(held)).try_acquire_owned();
        Ok(AdmittedCall {
            caller: Arc::clone(spiffe_id),
            roles: held,
            _slot: Arc::new(slot.map_err(|_| AdmissionError::Overloaded)?),
        })
    }

    /// The refusal of a call on a connection without an identified caller.
    pub(crate) fn refuse_unidentified(&self) -> AdmissionError {
        self.metrics.count_refused_caller(CallerRefusal::NoSpiffeId.as_str());
        AdmissionError::Refused(CallerRefusal::NoSpiffeId)
    }

    fn slots_of(&self, roles: CallerRoles) -> &Arc<Semaphore> {
        let of_operators = self
            .operator_slots
            .as_ref()
            .filter(|_| roles.allow(CallerRole::Operator));
        of_operators.unwrap_or(&self.slots)
    }
}

impl AdmittedCall {
    /// The caller's SPIFFE ID.
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    /// The same, to be kept.
    pub(crate) fn shared_caller(&self) -> Arc<str> {
        Arc::clone(&self.caller)
    }

    /// The caller's roles.
    pub(crate) fn roles(&self) -> CallerRoles {
        self.roles
    }
}

fn slots(count: u32) -> Arc<Semaphore> {
    let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(count))
}

#[cfg(test)]
mod tests {
    use super::super::caller::CallerDirectory;
    use super::*;

    fn control() -> AdmissionControl {
        AdmissionControl::new(1, TransportMetrics::default())
    }

    fn caller(roles: &[CallerRole]) -> Caller {
        Caller::Allowed("spiffe://example.org/orders".into(), CallerRoles::of(roles))
    }

    #[test]
    fn a_call_over_the_limit_is_refused_until_another_has_ended() {
        let control = control();
        let admit = || control.admit(&caller(&[CallerRole::Sidecar]), &[CallerRole::Sidecar]);
        let first = admit().unwrap();
        assert_eq!(admit().unwrap_err(), AdmissionError::Overloaded);
        drop(first);
        assert!(admit().is_ok());
    }

    #[test]
    fn a_caller_with_another_role_is_refused() {
        let control = control();
        for (role, passes) in [
            (CallerRole::Sidecar, false),
            (CallerRole::Reader, true),
            (CallerRole::Operator, true),
        ] {
            let admitted = control.admit(&caller(&[role]), &[CallerRole::Reader]);
            assert_eq!(admitted.is_ok(), passes, "{role:?}");
        }
    }

    #[test]
    fn an_operator_has_a_place_however_many_others_call() {
        let control = control().with_operator_slots(1);
        let admit = |role| control.admit(&caller(&[role]), &CallerRole::ALL);
        let _sidecar = admit(CallerRole::Sidecar).unwrap();
        assert_eq!(admit(CallerRole::Reader).unwrap_err(), AdmissionError::Overloaded);
        let _operator = admit(CallerRole::Operator).unwrap();
        assert_eq!(admit(CallerRole::Operator).unwrap_err(), AdmissionError::Overloaded);
    }

    #[test]
    fn a_sidecar_that_is_an_operator_as_well_has_no_more_places_for_decisions() {
        let control = control();
        let admit = |roles: &[CallerRole]| control.admit(&caller(roles), &[CallerRole::Sidecar]);
        let _first = admit(&[CallerRole::Sidecar]).unwrap();
        let refused = admit(&[CallerRole::Sidecar, CallerRole::Operator]).unwrap_err();
        assert_eq!(refused, AdmissionError::Overloaded);
    }

    #[test]
    fn a_caller_that_may_not_ask_takes_no_slot() {
        let control = control();
        let unlisted = CallerDirectory::new(&[], &[]).identify(None, std::net::Ipv4Addr::LOCALHOST.into());
        let refused = AdmissionError::Refused(CallerRefusal::NoSpiffeId);
        assert_eq!(control.admit(&unlisted, &[CallerRole::Sidecar]).unwrap_err(), refused);
        assert_eq!(control.refuse_unidentified(), refused);
        let admitted = control.admit(&caller(&[CallerRole::Sidecar]), &[CallerRole::Sidecar]);
        assert!(admitted.is_ok());
    }
}
