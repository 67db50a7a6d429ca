//! The call to the policy service, through an Envoy cluster.

use std::time::Duration;

use picket_core::enforcement::CallFailure;
use picket_core::enforcement::PolicyServiceSettings;
use picket_model::access::AccessRequest;
use picket_model::decision::Decision;
use picket_proto::{DECIDE_METHOD, DECISION_SERVICE, v1};
use prost::Message;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

/// A larger answer is no decision.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How to reach the policy service.
pub(crate) struct PolicyCall {
    /// A serialized `envoy.config.core.v3.GrpcService`. A plain cluster name must never be passed:
    /// Envoy first tries to parse it as that message, and a name that happens to parse makes it
    /// abort.
    grpc_service: String,
    timeout: Duration,
}

impl PolicyCall {
    pub(crate) fn new(settings: &PolicyServiceSettings) -> Self {
        Self {
            grpc_service: grpc_service(&settings.cluster),
            timeout: Duration::from_millis(u64::from(settings.timeout_ms)),
        }
    }

    /// Sends the question; the answer comes to the current request's context under the token
    /// returned.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that passes a serialized GrpcService"
    )]
    pub(crate) fn send(&self, request: AccessRequest) -> Result<u32, CallFailure> {
        // Envoy traces no call of a Wasm filter by itself (NullSpan), so the caller's trace goes on
        // by hand.
        let traceparent = request.traceparent.clone();
        let metadata = traceparent
            .iter()
            .map(|value| ("traceparent", value.as_bytes()))
            .collect();
        let message = v1::AccessRequest::from(request).encode_to_vec();
        let sent = hostcalls::dispatch_grpc_call(
            &self.grpc_service,
            DECISION_SERVICE,
            DECIDE_METHOD,
            metadata,
            Some(&message),
            self.timeout,
        );
        sent.map_err(|_| CallFailure::ClusterUnusable)
    }
}

/// Reads an answer that arrived with gRPC status `status`; `failed` takes that where it is an
/// error.
pub(crate) fn read_answer(
    status: u32,
    body_bytes: usize,
    failed: impl FnOnce() -> CallFailure,
) -> Result<Decision, CallFailure> {
    const STATUS_OK: u32 = 0;
    if status != STATUS_OK {
        return Err(failed());
    }
    // An empty message has no effect, and no body to read.
    if body_bytes == 0 || body_bytes > ANSWER_BYTES_MAX {
        return Err(CallFailure::AnswerInvalid);
    }
    let body = hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, body_bytes);
    let body = body.ok().flatten().ok_or(CallFailure::AnswerInvalid)?;
    let message = v1::Decision::decode(body.as_slice()).map_err(|_| CallFailure::AnswerInvalid)?;
    Decision::try_from(message).map_err(|_| CallFailure::AnswerInvalid)
}

/// `GrpcService { envoy_grpc { cluster_name } }`: fields 1 and 1, each with a length below 128, so
/// all bytes are ASCII.
fn grpc_service(cluster: &str) -> String {
    const FIELD_1_LENGTH_DELIMITED: char = '\u{0a}';
    let length = |bytes: usize| u8::try_from(bytes).map(char::from).unwrap_or_default();
    let mut message = String::new();
    message.push(FIELD_1_LENGTH_DELIMITED);
    message.push(length(cluster.len() + 2));
    message.push(FIELD_1_LENGTH_DELIMITED);
    message.push(length(cluster.len()));
    message.push_str(cluster);
    message
}
