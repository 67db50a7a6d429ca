//! One request from its headers to its response: core's verdicts become host calls.

use std::rc::Rc;

use picket_core::enforcement::{
    self, Arrival, CallFailure, Enforcer, Introspection, Notes, PendingDecision, PendingIntrospection, PendingKeys,
    Permit, PolicyQuery, Refusal, Reply, Step, Verdict,
};
use picket_core::reason::DecidedBy;
use picket_core::request::Caller;
use picket_core::token::introspection::IntrospectionResult;
use picket_core::token::remote_keys::response::{FetchError, HttpResponse};
use picket_model::time::Timestamp;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, GrpcStatusCode, MapType};

use crate::host::{self, ContextId, HeaderMap, HostFailure};
use crate::http_response::with_http_response;
use crate::waiting::WaitingExchange;
use crate::worker::Worker;
use crate::{clock, failure_log, introspection_call, policy_call};

/// RFC 9449 §8.2.
const NONCE_HEADER: &str = "dpop-nonce";

/// One request and the state of its decision.
pub(crate) struct Exchange {
    context: ContextId,
    /// `None`: no configuration was accepted, so the request is refused.
    worker: Option<Rc<Worker>>,
    state: State,
}

enum State {
    /// Before the request's headers.
    New,
    /// Newer keys are awaited.
    AwaitingKeys {
        pending: PendingKeys,
        /// The request's, to decide about it once more.
        headers: HeaderMap,
    },
    /// The token's issuer has been asked.
    Introspecting {
        call: u32,
        asked_at: Timestamp,
        pending: PendingIntrospection,
        /// The request's, to decide about it once more.
        headers: HeaderMap,
    },
    /// The policy service has been asked.
    AskingPolicy {
        call: u32,
        asked_at: Timestamp,
        pending: PendingDecision,
    },
    /// Forwarded, with the values for the response's headers.
    Forwarded {
        reason: &'static str,
        decided_by: DecidedBy,
        next_nonce: Option<String>,
        owns_nonces: bool,
    },
    /// Refused, with the headers that a reply to callers of gRPC and gRPC-Web must have.
    Refused(Vec<(&'static str, String)>),
}

impl State {
    /// Refused, before the reply is written.
    const REFUSED: Self = Self::Refused(Vec::new());
}

impl Exchange {
    pub(crate) fn new(context: ContextId, worker: Option<Rc<Worker>>) -> Self {
        Self {
            context,
            worker,
            state: State::New,
        }
    }

    pub(crate) fn context(&self) -> ContextId {
        self.context
    }

    pub(crate) fn worker(&self) -> Option<Rc<Worker>> {
        self.worker.clone()
    }

    /// Takes the request's headers.
    pub(crate) fn on_request_headers(&mut self, map: Result<HeaderMap, HostFailure>) -> Action {
        match (self.worker.clone(), map) {
            (Some(worker), Ok(map)) => self.decide(&worker, map, Enforcer::on_request),
            (worker, map) => {
                let headers = map.as_ref().ok().and_then(|map| map.headers().ok());
                let caller = Caller::of(&headers.unwrap_or_default());
                self.refuse(worker.as_deref(), &Refusal::host_failure(caller))
            }
        }
    }

    /// Takes the policy service's answer. `None`: what was decided stands. Continuing takes a
    /// permit.
    pub(crate) fn on_policy_answer(&mut self, call: u32, status: u32, body_bytes: usize) -> Option<Action> {
        let worker = self.worker.clone()?;
        let state = std::mem::replace(&mut self.state, State::REFUSED);
        let State::AskingPolicy {
            call: asked,
            asked_at,
            pending,
        } = state
        else {
            self.state = state;
            return None;
        };
        let now = clock::now();
        // An answer to another call than ours is none.
        let answer = match asked == call {
            true => policy_call::read_answer(status, body_bytes, || self.log_call_failure(&worker, status, now)),
            false => Err(CallFailure::AnswerInvalid),
        };
        if let Err(failure @ CallFailure::AnswerInvalid) = answer {
            worker.call_failures.write(now, || format!("policy service: {failure}"));
        }
        let took_ms = now.as_ms().saturating_sub(asked_at.as_ms());
        worker.metrics.count_call(answer.as_ref().err().copied(), Some(took_ms));
        let verdict = worker.enforcer.borrow_mut().on_decision(pending, answer, now);
        Some(self.enforce(&worker, verdict))
    }

    /// Takes the answer of the token's issuer. `None`: what was decided, or waits for another
    /// answer, stands. Continuing takes a permit.
    pub(crate) fn on_issuer_answer(&mut self, call: u32, headers: usize, body_bytes: usize) -> Option<Action> {
        let worker = self.worker.clone()?;
        let state = std::mem::replace(&mut self.state, State::REFUSED);
        let State::Introspecting {
            call: asked,
            asked_at,
            pending,
            headers: map,
        } = state
        else {
            self.state = state;
            return None;
        };
        let took_ms = clock::now().as_ms().saturating_sub(asked_at.as_ms());
        worker.metrics.record_introspection(took_ms);
        Some(with_http_response(headers, body_bytes, |answer| {
            // An answer to another call than ours is none.
            let answer = answer.and_then(|answer| match asked == call {
                true => Ok(answer),
                false => Err(FetchError::EndpointUnreachable),
            });
            self.decide_with_introspection(&worker, pending, map, answer)
        }))
    }

    /// The action for body and trailers: paused until a permit, whatever the host does with a
    /// request whose headers are paused.
    pub(crate) fn body_action(&self) -> Action {
        match self.state {
            State::Forwarded { .. } => Action::Continue,
            State::New
            | State::AwaitingKeys { .. }
            | State::Introspecting { .. }
            | State::AskingPolicy { .. }
            | State::Refused(_) => Action::Pause,
        }
    }

    /// Sets the headers of the response: nonce, explanation of a permit, gRPC status of a refusal.
    pub(crate) fn on_response_headers(&self) {
        match &self.state {
            State::Forwarded {
                reason,
                decided_by,
                next_nonce,
                owns_nonces,
            } => {
                if let Some(nonce) = next_nonce {
                    // RFC 9449 §8.2: from a cache the nonce would be an old one.
                    set_response_headers([(NONCE_HEADER, nonce.as_str()), ("cache-control", "no-store")]);
                } else if *owns_nonces {
                    // With one of the upstream's the client's next proof would be refused, which is
                    // all that a failure here does.
                    let _ = host::remove_header(MapType::HttpResponseHeaders, NONCE_HEADER);
                }
                if self.worker.as_ref().is_some_and(|worker| worker.explain_permits) {
                    set_response_headers([
                        ("x-picket-reason", reason),
                        ("x-picket-decided-by", decided_by.as_str()),
                    ]);
                }
            }
            State::Refused(headers) => add_missing_headers(headers),
            State::New | State::AwaitingKeys { .. } | State::Introspecting { .. } | State::AskingPolicy { .. } => {}
        }
    }

    fn decide(
        &mut self,
        worker: &Worker,
        map: HeaderMap,
        decide: impl FnOnce(&mut Enforcer, &Arrival<'_>) -> (Step, Notes),
    ) -> Action {
        let now = clock::now();
        let Ok(headers) = map.headers() else {
            return self.refuse(Some(worker), &Refusal::host_failure(Caller::default()));
        };
        let arrival = Arrival {
            headers: &headers,
            connection: &worker.connections,
            now,
        };
        let (step, notes) = decide(&mut worker.enforcer.borrow_mut(), &arrival);
        worker.metrics.count_notes(notes);
        match step {
            Step::Decided(verdict) => self.enforce(worker, verdict),
            Step::Ask(question) => self.ask(worker, *question, now),
            Step::Introspect(introspection) => self.introspect(worker, *introspection, map, now),
            Step::AwaitKeys(pending) => {
                self.state = State::AwaitingKeys { pending, headers: map };
                Action::Pause
            }
        }
    }

    fn introspect(&mut self, worker: &Worker, introspection: Introspection, map: HeaderMap, now: Timestamp) -> Action {
        let Introspection { request, pending } = introspection;
        match introspection_call::send(&request) {
            Ok(call) => {
                self.state = State::Introspecting {
                    call,
                    asked_at: now,
                    pending,
                    headers: map,
                };
                Action::Pause
            }
            Err(error) => self.decide_with_introspection(worker, pending, map, Err(error)),
        }
    }

    /// Decides about the request again, with the answer of its token's issuer.
    fn decide_with_introspection(
        &mut self,
        worker: &Worker,
        pending: PendingIntrospection,
        map: HeaderMap,
        answer: Result<HttpResponse<'_>, FetchError>,
    ) -> Action {
        let failure = match &answer {
            Ok(answer) => answer.failure(),
            Err(error) => Some(error.clone()),
        };
        self.decide(worker, map, |enforcer, arrival| {
            let (step, notes) = enforcer.on_introspection(pending, answer, arrival);
            log_introspection_failure(worker, notes.introspection, failure, arrival.now);
            let step = match step {
                step @ (Step::Decided(_) | Step::Ask(_)) => step,
                // Core asks once for each request, and no keys are fetched for a token that its
                // issuer is asked about.
                Step::Introspect(_) | Step::AwaitKeys(_) => {
                    Step::Decided(Err(Refusal::host_failure(Caller::of(arrival.headers))))
                }
            };
            (step, notes)
        })
    }

    fn ask(&mut self, worker: &Worker, question: PolicyQuery, now: Timestamp) -> Action {
        let PolicyQuery { request, pending } = question;
        let sent = worker
            .policy_call
            .as_ref()
            .ok_or(CallFailure::Unavailable)
            .and_then(|call| call.send(request));
        match sent {
            Ok(call) => {
                self.state = State::AskingPolicy {
                    call,
                    asked_at: now,
                    pending,
                };
                Action::Pause
            }
            Err(failure) => {
                worker.metrics.count_call(Some(failure), None);
                worker.call_failures.write(now, || format!("policy service: {failure}"));
                let verdict = worker.enforcer.borrow_mut().on_decision(pending, Err(failure), now);
                self.enforce(worker, verdict)
            }
        }
    }

    /// Logs an answer of the policy service that is a gRPC error, and returns its kind.
    fn log_call_failure(&self, worker: &Worker, status: u32, now: Timestamp) -> CallFailure {
        let message = worker.call_message(self.context);
        let failure = CallFailure::of_grpc_status(status, &message);
        worker.call_failures.write(now, || {
            let message = failure_log::quoted(&message);
            format!("policy service: {failure} (gRPC status {status}: {message})")
        });
        failure
    }

    fn enforce(&mut self, worker: &Worker, verdict: Verdict) -> Action {
        match verdict {
            Ok(permit) => self.forward(worker, &permit),
            Err(refusal) => self.refuse(Some(worker), &refusal),
        }
    }

    /// Changes the request as the permit says. The only function that lets a request go on.
    fn forward(&mut self, worker: &Worker, permit: &Permit) -> Action {
        if apply_permit(permit).is_err() {
            return self.refuse(Some(worker), &Refusal::host_failure(Caller::default()));
        }
        worker.metrics.count_permit(permit.reason());
        self.state = State::Forwarded {
            reason: permit.reason().code(),
            decided_by: permit.decided_by(),
            next_nonce: permit.next_nonce().map(str::to_owned),
            owns_nonces: permit.owns_nonces(),
        };
        Action::Continue
    }

    fn refuse(&mut self, worker: Option<&Worker>, refusal: &Refusal) -> Action {
        let realm = worker.map_or("picket", |worker| worker.realm.as_str());
        if let Some(worker) = worker {
            worker.metrics.count_denial(refusal.reason);
        }
        let reply = enforcement::reply(refusal, realm);
        self.state = State::Refused(grpc_headers(&reply));
        let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
        // The host takes every reply while a request's headers are held; if it did not, the request
        // stays held.
        let _ = match reply.grpc_status {
            None => {
                hostcalls::send_http_response(u32::from(reply.status), headers.collect(), Some(reply.body.as_bytes()))
            }
            Some(code) => {
                let metadata = headers.map(|(name, value)| (name, value.as_bytes())).collect();
                hostcalls::send_grpc_response(grpc_status(code), None, metadata)
            }
        };
        Action::Pause
    }
}

impl WaitingExchange for Exchange {
    fn is_key_wait_over(&self) -> bool {
        match (&self.state, &self.worker) {
            (State::AwaitingKeys { pending, .. }, Some(worker)) => {
                worker.enforcer.borrow().is_key_wait_over(pending, clock::now())
            }
            (_, _) => false,
        }
    }

    fn on_keys(&mut self) -> Option<Action> {
        let worker = self.worker.clone()?;
        let state = std::mem::replace(&mut self.state, State::REFUSED);
        let State::AwaitingKeys { pending, headers } = state else {
            self.state = state;
            return None;
        };
        Some(self.decide(&worker, headers, |enforcer, arrival| enforcer.on_keys(pending, arrival)))
    }

    fn on_policy_answer(&mut self, call: u32, status: u32, body_bytes: usize) -> Option<Action> {
        Exchange::on_policy_answer(self, call, status, body_bytes)
    }

    fn awaits_keys(&self) -> bool {
        matches!(self.state, State::AwaitingKeys { .. })
    }

    fn policy_call(&self) -> Option<u32> {
        match &self.state {
            State::AskingPolicy { call, .. } => Some(*call),
            State::New
            | State::AwaitingKeys { .. }
            | State::Introspecting { .. }
            | State::Forwarded { .. }
            | State::Refused(_) => None,
        }
    }
}

/// Sets two headers of the response. A failure is ignored: the response is complete without them.
fn set_response_headers(headers: [(&str, &str); 2]) {
    for (name, value) in headers {
        let _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some(value));
    }
}

/// Logs an introspection that gave no valid answer.
fn log_introspection_failure(
    worker: &Worker,
    result: Option<IntrospectionResult>,
    failure: Option<FetchError>,
    now: Timestamp,
) {
    let what = match (result, failure) {
        (_, Some(failure)) => failure.to_string(),
        (Some(IntrospectionResult::Invalid), None) => "the answer is none by RFC 7662".to_owned(),
        (_, None) => return,
    };
    worker
        .introspection_failures
        .write(now, || format!("token introspection: {what}"));
}

/// The SDK's name for a code of core's table; it has no conversion of its own.
fn grpc_status(code: u32) -> GrpcStatusCode {
    match code {
        3 => GrpcStatusCode::InvalidArgument,
        7 => GrpcStatusCode::PermissionDenied,
        16 => GrpcStatusCode::Unauthenticated,
        _ => GrpcStatusCode::Unavailable,
    }
}

/// The headers by which callers of gRPC and gRPC-Web know a reply.
fn grpc_headers(reply: &Reply) -> Vec<(&'static str, String)> {
    let is_needed = |name: &str| matches!(name, "content-type" | "grpc-status");
    match (reply.grpc_status, reply.body.as_str()) {
        (Some(code), _) => vec![("grpc-status", code.to_string())],
        (None, "") => reply
            .headers
            .iter()
            .filter(|(name, _)| is_needed(name))
            .cloned()
            .collect(),
        (None, _) => Vec::new(),
    }
}

/// Adds what the host has left out of a reply without a body. It leaves out its content type; and
/// the status where Envoy's filter for gRPC-Web has made a request of gRPC of what the client sent,
/// as the host makes its replies for that.
fn add_missing_headers(headers: &[(&'static str, String)]) {
    if headers.is_empty() {
        return;
    }
    let map = HeaderMap::read(MapType::HttpResponseHeaders);
    let there = map.as_ref().ok().and_then(|map| map.headers().ok()).unwrap_or_default();
    for (name, value) in headers {
        if !there.iter().any(|(have, _)| have == name) {
            let _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some(value));
        }
    }
}

/// Changes path and headers of the request as a permit says.
fn apply_permit(permit: &Permit) -> Result<(), HostFailure> {
    if let Some(path) = permit.rewritten_path() {
        host::set_request_header(":path", path)?;
        // The route was chosen by the path as it was sent.
        hostcalls::call_foreign_function("clear_route_cache", None).map_err(|_| HostFailure)?;
    }
    permit
        .headers_to_remove()
        .try_for_each(|name| host::remove_header(MapType::HttpRequestHeaders, name))?;
    permit
        .headers_to_set()
        .try_for_each(|(name, value)| host::set_request_header(name, value))
}
