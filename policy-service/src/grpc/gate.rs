//! What is checked before a request's body is read: who calls, and whether there is room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use super::caller::{Caller, Refusal, record_role_refusal};
use super::status::{DecideError, label};
use crate::configuration::{Role, Roles};
use crate::metrics::Metrics;

/// Lets in as many calls as are served at once, of callers that may ask. The others are refused, not queued: their
/// sidecars answer 503 at once rather than late.
#[derive(Clone)]
pub(super) struct Gate {
    /// Whoever has one of them may pass.
    roles: &'static [Role],
    slots: Arc<Semaphore>,
    /// Places that operators alone take; `None`: they take those of everybody.
    operator_slots: Option<Arc<Semaphore>>,
    metrics: Arc<Metrics>,
}

/// A call that was let in; its slot is free again when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Admitted {
    caller: Arc<str>,
    roles: Roles,
    _slot: Arc<OwnedSemaphorePermit>,
}

impl Admitted {
    /// The admission that the gate has put into a call.
    pub(super) fn of(extensions: &Extensions) -> Result<Self, DecideError> {
        extensions.get::<Self>().cloned().ok_or(DecideError::CallerRefused)
    }

    /// The caller's SPIFFE ID.
    pub(super) fn caller(&self) -> &str {
        &self.caller
    }

    /// The same, to be kept.
    pub(super) fn shared_caller(&self) -> Arc<str> {
        Arc::clone(&self.caller)
    }

    /// What it may do.
    pub(super) fn roles(&self) -> Roles {
        self.roles
    }
}

impl Gate {
    pub(super) fn new(roles: &'static [Role], concurrency_max: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            roles,
            slots: slots(concurrency_max),
            operator_slots: None,
            metrics,
        }
    }

    /// The same, with as many places again for operators, who can revoke however many others call.
    pub(super) fn with_operator_slots(self, concurrency_max: u32) -> Self {
        Self {
            operator_slots: Some(slots(concurrency_max)),
            ..self
        }
    }

    /// Where a caller's call takes its place.
    fn slots_of(&self, roles: Roles) -> &Arc<Semaphore> {
        let of_operators = self.operator_slots.as_ref().filter(|_| roles.allow(Role::Operator));
        of_operators.unwrap_or(&self.slots)
    }

    fn admit(&self, extensions: &Extensions) -> Result<Admitted, DecideError> {
        match extensions.get::<Caller>() {
            Some(Caller::Allowed(caller, roles)) if !self.roles.iter().any(|role| roles.allow(*role)) => {
                record_role_refusal(caller, &self.metrics);
                Err(DecideError::CallerRefused)
            }
            Some(Caller::Allowed(caller, roles)) => {
                let slot = Arc::clone(self.slots_of(*roles)).try_acquire_owned();
                Ok(Admitted {
                    caller: Arc::clone(caller),
                    roles: *roles,
                    _slot: Arc::new(slot.map_err(|_| DecideError::Overloaded)?),
                })
            }
            Some(Caller::Refused(caller)) => {
                caller.record(&self.metrics);
                Err(DecideError::CallerRefused)
            }
            None => {
                self.metrics.refused(Refusal::NoSpiffeId.as_str());
                Err(DecideError::CallerRefused)
            }
        }
    }
}

fn slots(count: u32) -> Arc<Semaphore> {
    let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(count))
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.admit(request.extensions()) {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
                Ok(request)
            }
            Err(error) => {
                let status = error.status();
                self.metrics.failed(label(status.code()));
                Err(status)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::caller::Callers;
    use super::*;

    fn request(caller: Caller) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(caller);
        request
    }

    #[test]
    fn a_call_over_the_limit_is_refused_until_another_has_ended() {
        let mut gate = Gate::new(&[Role::Sidecar], 1, Arc::new(Metrics::new("", 0)));
        let allowed = || {
            request(Caller::Allowed(
                "spiffe://example.org/orders".into(),
                Roles::of(&[Role::Sidecar]),
            ))
        };
        let first = gate.call(allowed()).unwrap();
        assert_eq!(gate.call(allowed()).unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(gate.call(allowed()).is_ok());
    }

    #[test]
    fn a_caller_with_another_role_is_refused() {
        let mut gate = Gate::new(&[Role::Reader], 1, Arc::new(Metrics::new("", 0)));
        for (role, passes) in [(Role::Sidecar, false), (Role::Reader, true), (Role::Operator, true)] {
            let caller = Caller::Allowed("spiffe://example.org/orders".into(), Roles::of(&[role]));
            assert_eq!(gate.call(request(caller)).is_ok(), passes, "{role:?}");
        }
    }

    #[test]
    fn an_operator_has_a_place_however_many_others_call() {
        let mut gate = Gate::new(&Role::ALL, 1, Arc::new(Metrics::new("", 0))).with_operator_slots(1);
        let of = |role| request(Caller::Allowed("spiffe://example.org/a".into(), Roles::of(&[role])));
        let _sidecar = gate.call(of(Role::Sidecar)).unwrap();
        let refused = gate.call(of(Role::Reader)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let _operator = gate.call(of(Role::Operator)).unwrap();
        let refused = gate.call(of(Role::Operator)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn a_sidecar_that_is_an_operator_as_well_has_no_more_places_for_decisions() {
        let mut gate = Gate::new(&[Role::Sidecar], 1, Arc::new(Metrics::new("", 0)));
        let of = |roles: &[Role]| request(Caller::Allowed("spiffe://example.org/a".into(), Roles::of(roles)));
        let _first = gate.call(of(&[Role::Sidecar])).unwrap();
        let refused = gate.call(of(&[Role::Sidecar, Role::Operator])).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn a_caller_that_may_not_ask_takes_no_slot() {
        let mut gate = Gate::new(&[Role::Sidecar], 1, Arc::new(Metrics::new("", 0)));
        let unlisted = Callers::new(&[], &[]).identify(None, std::net::Ipv4Addr::LOCALHOST.into());
        let refused = gate.call(request(unlisted)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert_eq!(
            gate.call(Request::new(())).unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
        assert!(
            gate.call(request(Caller::Allowed(
                "spiffe://example.org/orders".into(),
                Roles::of(&[Role::Sidecar])
            )))
            .is_ok()
        );
    }
}
