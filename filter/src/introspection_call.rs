//! The call to an issuer's introspection endpoint, through an Envoy cluster.

use std::time::Duration;

use picket_core::token::introspection::IntrospectionRequest;
use picket_core::token::remote_keys::response::FetchError;
use proxy_wasm::hostcalls;

/// Sends the question; the answer comes to the current request's context under the number returned.
/// The host refuses an unknown cluster, and one without a healthy endpoint, which the SDK gives as
/// an error.
pub(crate) fn send(request: &IntrospectionRequest) -> Result<u32, FetchError> {
    let timeout = Duration::from_millis(u64::from(request.timeout_ms()));
    let (headers, body) = (request.headers(), request.body());
    hostcalls::dispatch_http_call(request.cluster(), headers, Some(body), vec![], timeout)
        .map_err(|_| FetchError::HostRefused)
}
