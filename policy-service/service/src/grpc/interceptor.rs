//! Admission of gRPC calls as a tonic interceptor, which runs before a body is read.

use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use super::GrpcMetrics;
use super::status::DecideError;
use crate::transport::{AdmissionControl, AdmissionError, AdmittedCall, Caller};
use picket_service_configuration::CallerRole;

/// Admits the calls of one service, and leaves the [`AdmittedCall`] in the request's extensions.
#[derive(Clone)]
pub(super) struct AdmissionInterceptor {
    /// A caller with one of them is admitted.
    roles: &'static [CallerRole],
    control: AdmissionControl,
    metrics: GrpcMetrics,
}

impl AdmissionInterceptor {
    pub(super) fn new(roles: &'static [CallerRole], control: AdmissionControl, metrics: GrpcMetrics) -> Self {
        Self {
            roles,
            control,
            metrics,
        }
    }

    fn admit(&self, extensions: &Extensions) -> Result<AdmittedCall, AdmissionError> {
        match extensions.get::<Caller>() {
            Some(caller) => self.control.admit(caller, self.roles),
            None => Err(self.control.refuse_unidentified()),
        }
    }
}

impl Interceptor for AdmissionInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.admit(request.extensions()) {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
                Ok(request)
            }
            Err(error) => {
                let status = DecideError::from(error).status();
                self.metrics.count_failure(status.code());
                Err(status)
            }
        }
    }
}

/// The admission of a call, which the interceptor has put into its request.
pub(super) fn admitted<T>(request: &Request<T>) -> Result<AdmittedCall, DecideError> {
    let admitted = request.extensions().get::<AdmittedCall>();
    admitted.cloned().ok_or(DecideError::CallerRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TransportMetrics;
    use picket_service_configuration::CallerRoles;

    #[test]
    fn a_refusal_is_a_status_and_an_admission_travels_with_the_request() {
        let control = AdmissionControl::new(1, TransportMetrics::default());
        let mut interceptor = AdmissionInterceptor::new(&[CallerRole::Sidecar], control, GrpcMetrics::default());
        let mut call = |roles: Option<&[CallerRole]>| {
            let mut request = Request::new(());
            if let Some(roles) = roles {
                let caller = Caller::Allowed("spiffe://example.org/orders".into(), CallerRoles::of(roles));
                request.extensions_mut().insert(caller);
            }
            interceptor.call(request)
        };
        let code = |called: Result<Request<()>, Status>| called.unwrap_err().code();
        assert_eq!(code(call(None)), tonic::Code::PermissionDenied);
        assert_eq!(code(call(Some(&[CallerRole::Reader]))), tonic::Code::PermissionDenied);
        let first = call(Some(&[CallerRole::Sidecar])).unwrap();
        assert_eq!(admitted(&first).unwrap().caller(), "spiffe://example.org/orders");
        assert_eq!(code(call(Some(&[CallerRole::Sidecar]))), tonic::Code::ResourceExhausted);
    }
}
