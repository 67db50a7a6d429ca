//! The host's callbacks for one request.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::exchange::Exchange;
use crate::host::{self, ContextId, HeaderMap, HostFailure};
use crate::waiting::WaitingExchange;
use crate::worker::Worker;

/// A request as the target of the host's callbacks.
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(
        clippy::large_enum_variant,
        reason = "nearly all requests are the larger one, and need no memory of their own so"
    )
)]
pub(crate) enum Request {
    /// Used by its own context alone.
    Own(Exchange),
    /// It waits or has waited for keys, which arrive in the plugin's context.
    Shared(Rc<RefCell<Exchange>>),
}

impl Request {
    pub(crate) fn new(context: ContextId, worker: Option<Rc<Worker>>) -> Self {
        Self::Own(Exchange::new(context, worker))
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Exchange) -> T) -> T {
        match self {
            Self::Own(exchange) => act(exchange),
            Self::Shared(exchange) => act(&mut exchange.borrow_mut()),
        }
    }

    /// Registers the request with the worker, which resumes it when its keys are there.
    fn share(&mut self) {
        let Self::Own(exchange) = self else { return };
        let Some(worker) = exchange.worker() else { return };
        let context = exchange.context();
        // What takes its place is dropped in the next line.
        let exchange = std::mem::replace(exchange, Exchange::new(context, None));
        let exchange = Rc::new(RefCell::new(exchange));
        let waiting: Rc<RefCell<dyn WaitingExchange>> = exchange.clone();
        worker.waiting.add(context, &waiting);
        *self = Self::Shared(exchange);
    }
}

impl Context for Request {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, body_bytes: usize) {
        host::resume_request(self.with(|exchange| exchange.on_policy_answer(call, status, body_bytes)));
    }

    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        host::resume_request(self.with(|exchange| exchange.on_issuer_answer(call, headers, body_bytes)));
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let map = HeaderMap::read(MapType::HttpRequestHeaders);
        let action = self.with(|exchange| exchange.on_request_headers(map));
        if self.with(|exchange| exchange.awaits_keys()) {
            self.share();
        }
        action
    }

    fn on_http_request_body(&mut self, _body_bytes: usize, _end_of_stream: bool) -> Action {
        self.with(|exchange| exchange.body_action())
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let worker = self.with(|exchange| exchange.worker());
        // RFC 9110 §6.5.1: some servers merge trailers into the headers, where a forged one would
        // count.
        match worker.as_deref().map_or(Err(HostFailure), remove_forged_trailers) {
            Ok(()) => self.with(|exchange| exchange.body_action()),
            // Never resumed: the caller has its answer, or Envoy's idle timeout ends the stream.
            Err(HostFailure) => Action::Pause,
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.with(|exchange| exchange.on_response_headers());
        Action::Continue
    }
}

fn remove_forged_trailers(worker: &Worker) -> Result<(), HostFailure> {
    let map = HeaderMap::read(MapType::HttpRequestTrailers)?;
    for (name, _) in map.headers()? {
        if worker.enforcer.borrow().configuration().removes_trailer(name) {
            host::remove_header(MapType::HttpRequestTrailers, name)?;
        }
    }
    Ok(())
}
