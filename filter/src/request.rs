//! One request: Envoy's callbacks in, core's verdicts out.

use std::rc::Rc;

use picket_core::enforcement::{
    self, Arrival, CallFailure, Introspection, Pending, PendingIntrospection, Permit, Question, Refusal, Step, Verdict,
};
use picket_core::reason::DecidedBy;
use picket_core::request::Caller;
use picket_core::time::Timestamp;
use picket_core::token::remote_keys::answer::{Answer, FetchError};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, GrpcStatusCode, MapType};

use crate::host::{self, HeaderMap, HostFailure};
use crate::http_answer::with_answer;
use crate::root::Shared;
use crate::{clock, introspection_call, policy_call};

/// RFC 9449 §8.2.
const NONCE_HEADER: &str = "dpop-nonce";

pub(crate) struct Request {
    /// `None`: no configuration was accepted, so the request is refused.
    shared: Option<Rc<Shared>>,
    state: State,
}

enum State {
    /// Before the request's headers.
    New,
    /// The token's issuer has been asked.
    Introspecting {
        call: u32,
        asked_at: Timestamp,
        pending: PendingIntrospection,
        /// The request's, to decide about it once more.
        headers: HeaderMap,
    },
    /// The policy service has been asked.
    Waiting {
        call: u32,
        asked_at: Timestamp,
        pending: Pending,
    },
    /// Forwarded, with what the caller is told.
    Forwarded {
        reason: &'static str,
        decided_by: DecidedBy,
        next_nonce: Option<String>,
        owns_nonces: bool,
    },
    /// Refused.
    Refused,
}

impl Request {
    pub(crate) fn new(shared: Option<Rc<Shared>>) -> Self {
        Self {
            shared,
            state: State::New,
        }
    }

    fn arrived(&mut self, shared: &Shared, map: HeaderMap) -> Action {
        let now = clock::now();
        let Ok(headers) = map.headers() else {
            return self.refuse(Some(shared), &Refusal::host_failure(Caller::default()));
        };
        let arrival = Arrival {
            headers: &headers,
            connection: &shared.connections,
            now,
        };
        let (step, notes) = shared.enforcer.borrow_mut().request_arrived(&arrival);
        shared.metrics.count_notes(notes);
        match step {
            Step::Decided(verdict) => self.enforce(shared, verdict),
            Step::Ask(question) => self.ask(shared, *question, now),
            Step::Introspect(introspection) => self.introspect(shared, *introspection, map, now),
        }
    }

    fn introspect(&mut self, shared: &Shared, introspection: Introspection, map: HeaderMap, now: Timestamp) -> Action {
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
            Err(error) => self.introspected(shared, pending, &map, Err(error)),
        }
    }

    /// Decides about the request anew, with what its token's issuer says.
    fn introspected(
        &mut self,
        shared: &Shared,
        pending: PendingIntrospection,
        map: &HeaderMap,
        answer: Result<Answer<'_>, FetchError>,
    ) -> Action {
        let now = clock::now();
        let Ok(headers) = map.headers() else {
            return self.refuse(Some(shared), &Refusal::host_failure(Caller::default()));
        };
        let arrival = Arrival {
            headers: &headers,
            connection: &shared.connections,
            now,
        };
        let answered = shared
            .enforcer
            .borrow_mut()
            .introspection_answered(pending, answer, &arrival);
        let (step, notes) = answered;
        shared.metrics.count_notes(notes);
        match step {
            Step::Decided(verdict) => self.enforce(shared, verdict),
            Step::Ask(question) => self.ask(shared, *question, now),
            // Core asks once for each request.
            Step::Introspect(_) => self.refuse(Some(shared), &Refusal::host_failure(Caller::of(&headers))),
        }
    }

    fn ask(&mut self, shared: &Shared, question: Question, now: Timestamp) -> Action {
        let Question { request, pending } = question;
        let sent = shared
            .policy_call
            .as_ref()
            .ok_or(CallFailure::Unavailable)
            .and_then(|call| call.send(request));
        match sent {
            Ok(call) => {
                self.state = State::Waiting {
                    call,
                    asked_at: now,
                    pending,
                };
                Action::Pause
            }
            Err(failure) => {
                shared.metrics.count_call(Some(failure), None);
                let verdict = shared.enforcer.borrow_mut().answer_arrived(pending, Err(failure), now);
                self.enforce(shared, verdict)
            }
        }
    }

    fn enforce(&mut self, shared: &Shared, verdict: Verdict) -> Action {
        match verdict {
            Ok(permit) => self.forward(shared, &permit),
            Err(refusal) => self.refuse(Some(shared), &refusal),
        }
    }

    /// Changes the request as the permit says. The only function that lets a request go on.
    fn forward(&mut self, shared: &Shared, permit: &Permit) -> Action {
        if change(permit).is_err() {
            return self.refuse(Some(shared), &Refusal::host_failure(Caller::default()));
        }
        shared.metrics.count_permit(permit.reason());
        self.state = State::Forwarded {
            reason: permit.reason().code(),
            decided_by: permit.decided_by(),
            next_nonce: permit.next_nonce().map(str::to_owned),
            owns_nonces: permit.owns_nonces(),
        };
        Action::Continue
    }

    fn refuse(&mut self, shared: Option<&Shared>, refusal: &Refusal) -> Action {
        self.state = State::Refused;
        let realm = shared.map_or("picket", |shared| shared.realm.as_str());
        if let Some(shared) = shared {
            shared.metrics.count_denial(refusal.reason);
        }
        let reply = enforcement::reply(refusal, realm);
        let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
        // The host takes every reply while a request's headers are held; if it did not, the request stays held.
        let _ = match reply.grpc_status {
            None => {
                hostcalls::send_http_response(u32::from(reply.status), headers.collect(), Some(reply.body.as_bytes()))
            }
            Some(code) => {
                let metadata = headers.map(|(name, value)| (name, value.as_bytes())).collect();
                hostcalls::send_grpc_response(grpc_status(code), Some(&reply.body), metadata)
            }
        };
        Action::Pause
    }
}

impl Context for Request {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, body_bytes: usize) {
        let Some(shared) = self.shared.clone() else { return };
        let (asked, asked_at, pending) = match std::mem::replace(&mut self.state, State::Refused) {
            State::Waiting {
                call,
                asked_at,
                pending,
            } => (call, asked_at, pending),
            // What was decided stands.
            decided @ (State::New | State::Introspecting { .. } | State::Forwarded { .. } | State::Refused) => {
                self.state = decided;
                return;
            }
        };
        let now = clock::now();
        // An answer to another call than ours is none.
        let answer = match asked == call {
            true => policy_call::read_answer(status, body_bytes),
            false => Err(CallFailure::AnswerInvalid),
        };
        let took_ms = now.as_ms().saturating_sub(asked_at.as_ms());
        shared.metrics.count_call(answer.as_ref().err().copied(), Some(took_ms));
        let verdict = shared.enforcer.borrow_mut().answer_arrived(pending, answer, now);
        if self.enforce(&shared, verdict) == Action::Continue {
            // `enforce` continues with a permit only.
            let _ = hostcalls::resume_http_request();
        }
    }

    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        let Some(shared) = self.shared.clone() else { return };
        let (asked, asked_at, pending, map) = match std::mem::replace(&mut self.state, State::Refused) {
            State::Introspecting {
                call,
                asked_at,
                pending,
                headers,
            } => (call, asked_at, pending, headers),
            // What was decided, or waits for another answer, stands.
            other @ (State::New | State::Waiting { .. } | State::Forwarded { .. } | State::Refused) => {
                self.state = other;
                return;
            }
        };
        let took_ms = clock::now().as_ms().saturating_sub(asked_at.as_ms());
        shared.metrics.record_introspection(took_ms);
        let action = with_answer(headers, body_bytes, |answer| {
            // An answer to another call than ours is none.
            let answer = answer.and_then(|answer| match asked == call {
                true => Ok(answer),
                false => Err(FetchError::EndpointUnreachable),
            });
            self.introspected(&shared, pending, &map, answer)
        });
        if action == Action::Continue {
            // `introspected` continues with a permit only.
            let _ = hostcalls::resume_http_request();
        }
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let map = HeaderMap::read(MapType::HttpRequestHeaders);
        match (self.shared.clone(), map) {
            (Some(shared), Ok(map)) => self.arrived(&shared, map),
            (shared, map) => {
                let headers = map.as_ref().ok().and_then(|map| map.headers().ok());
                let caller = Caller::of(&headers.unwrap_or_default());
                self.refuse(shared.as_deref(), &Refusal::host_failure(caller))
            }
        }
    }

    fn on_http_request_body(&mut self, _body_bytes: usize, _end_of_stream: bool) -> Action {
        self.held_or_forwarded()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        // RFC 9110 §6.5.1: some servers merge trailers into the headers, where a forged one would count.
        match self.shared.as_deref().map_or(Err(HostFailure), remove_forged_trailers) {
            Ok(()) => self.held_or_forwarded(),
            // Held for good: the caller has its answer, or Envoy's limit on an idle stream ends it.
            Err(HostFailure) => Action::Pause,
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let State::Forwarded {
            reason,
            decided_by,
            next_nonce,
            owns_nonces,
        } = &self.state
        else {
            return Action::Continue;
        };
        if let Some(nonce) = next_nonce {
            // RFC 9449 §8.2: from a cache the nonce would be an old one.
            set_response_headers([(NONCE_HEADER, nonce.as_str()), ("cache-control", "no-store")]);
        } else if *owns_nonces {
            // With one of the upstream's the client's next proof would be refused, which is all that a failure here does.
            let _ = host::remove_header(MapType::HttpResponseHeaders, NONCE_HEADER);
        }
        if self.shared.as_ref().is_some_and(|shared| shared.explain_permits) {
            set_response_headers([
                ("x-picket-reason", reason),
                ("x-picket-decided-by", decided_by.as_str()),
            ]);
        }
        Action::Continue
    }
}

impl Request {
    /// Body and trailers follow the headers: held until a permit, whatever the host's setting for pausing is.
    fn held_or_forwarded(&self) -> Action {
        match self.state {
            State::Forwarded { .. } => Action::Continue,
            State::New | State::Introspecting { .. } | State::Waiting { .. } | State::Refused => Action::Pause,
        }
    }
}

/// What the client is told beside the response; without it the response is no worse.
fn set_response_headers(headers: [(&str, &str); 2]) {
    for (name, value) in headers {
        let _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some(value));
    }
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

/// Makes the changes that come with a permit.
fn change(permit: &Permit) -> Result<(), HostFailure> {
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

fn remove_forged_trailers(shared: &Shared) -> Result<(), HostFailure> {
    let map = HeaderMap::read(MapType::HttpRequestTrailers)?;
    for (name, _) in map.headers()? {
        if shared.enforcer.borrow().configuration().owns_header(name) {
            host::remove_header(MapType::HttpRequestTrailers, name)?;
        }
    }
    Ok(())
}
