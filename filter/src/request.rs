//! The host's callbacks for one request.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::exchange::Exchange;
use crate::host::{self, ContextId, HeaderMap, HostFailure};
use crate::root::Shared;

/// A request, as the host calls it.
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(
        clippy::large_enum_variant,
        reason = "nearly all requests are the larger one, and need no memory of their own so"
    )
)]
pub(crate) enum Request {
    /// Nobody else knows it.
    Own(Exchange),
    /// It waited for keys, which come to the plugin's own context.
    Shared(Rc<RefCell<Exchange>>),
}

impl Request {
    pub(crate) fn new(context: ContextId, shared: Option<Rc<Shared>>) -> Self {
        Self::Own(Exchange::new(context, shared))
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Exchange) -> T) -> T {
        match self {
            Self::Own(exchange) => act(exchange),
            Self::Shared(exchange) => act(&mut exchange.borrow_mut()),
        }
    }

    /// Lets the plugin's own context go on with the request when its keys are there.
    fn share(&mut self) {
        let Self::Own(exchange) = self else { return };
        let Some(shared) = exchange.shared() else { return };
        let context = exchange.context();
        // What takes its place is dropped in the next line.
        let exchange = std::mem::replace(exchange, Exchange::new(context, None));
        let exchange = Rc::new(RefCell::new(exchange));
        shared.waiting.add(context, &exchange);
        *self = Self::Shared(exchange);
    }
}

/// Continues the request where that is said: with a permit only.
pub(crate) fn resume(action: Option<Action>) {
    if action == Some(Action::Continue) {
        let _ = hostcalls::resume_http_request();
    }
}

impl Context for Request {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, body_bytes: usize) {
        resume(self.with(|exchange| exchange.policy_answered(call, status, body_bytes)));
    }

    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        resume(self.with(|exchange| exchange.issuer_answered(call, headers, body_bytes)));
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let map = HeaderMap::read(MapType::HttpRequestHeaders);
        let action = self.with(|exchange| exchange.arrived(map));
        if self.with(|exchange| exchange.awaits_keys()) {
            self.share();
        }
        action
    }

    fn on_http_request_body(&mut self, _body_bytes: usize, _end_of_stream: bool) -> Action {
        self.with(|exchange| exchange.held_or_forwarded())
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let shared = self.with(|exchange| exchange.shared());
        // RFC 9110 §6.5.1: some servers merge trailers into the headers, where a forged one would count.
        match shared.as_deref().map_or(Err(HostFailure), remove_forged_trailers) {
            Ok(()) => self.with(|exchange| exchange.held_or_forwarded()),
            // Held for good: the caller has its answer, or Envoy's limit on an idle stream ends it.
            Err(HostFailure) => Action::Pause,
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.with(|exchange| exchange.responds());
        Action::Continue
    }
}

fn remove_forged_trailers(shared: &Shared) -> Result<(), HostFailure> {
    let map = HeaderMap::read(MapType::HttpRequestTrailers)?;
    for (name, _) in map.headers()? {
        if shared.enforcer.borrow().configuration().removes_trailer(name) {
            host::remove_header(MapType::HttpRequestTrailers, name)?;
        }
    }
    Ok(())
}
