//! Requests that wait for keys. Keys arrive in the plugin's context, which resumes the requests and
//! receives the answers to the calls that it has made for them.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use proxy_wasm::types::Action;

use crate::host::{self, ContextId};

/// How many requests are decided in one callback. The host resumes them after the callback, each
/// within the one before: some 400 overflow its stack.
const DECIDED_AT_ONCE_MAX: usize = 32;

/// The requests of one worker that wait for keys, or have waited for keys and wait for the policy
/// service now.
#[derive(Default)]
pub(crate) struct WaitingRequests {
    /// Core bounds how many wait for keys; Envoy bounds how many calls there are.
    requests: RefCell<Vec<WaitingRequest>>,
}

/// A request that can be decided outside of its own callbacks.
pub(crate) trait WaitingExchange {
    /// Whether it waits for keys.
    fn awaits_keys(&self) -> bool;

    /// Whether it waits for keys, and need not wait longer.
    fn is_key_wait_over(&self) -> bool;

    /// Decides about the request if it waits for keys. Continuing takes a permit.
    fn on_keys(&mut self) -> Option<Action>;

    /// The policy call whose answer decides about it.
    fn policy_call(&self) -> Option<u32>;

    /// Takes the policy service's answer. `None`: the call is not awaited. Continuing takes a
    /// permit.
    fn on_policy_answer(&mut self, call: u32, status: u32, body_bytes: usize) -> Option<Action>;
}

/// Whether requests are left whose wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    None,
    Some,
}

struct WaitingRequest {
    context: ContextId,
    /// Dropped with the request's context.
    exchange: Weak<RefCell<dyn WaitingExchange>>,
}

impl WaitingRequests {
    pub(crate) fn add(&self, context: ContextId, exchange: &Rc<RefCell<dyn WaitingExchange>>) {
        let exchange = Rc::downgrade(exchange);
        self.requests.borrow_mut().push(WaitingRequest { context, exchange });
    }

    /// Decides those whose wait is over, the oldest first, up to a limit. `own` is the plugin's
    /// context, which the host has called.
    pub(crate) fn resume_ready(&self, own: ContextId) -> Remaining {
        if self.requests.borrow().is_empty() {
            return Remaining::None;
        }
        let (mut decided, mut remaining) = (0, Remaining::None);
        let mut waiting = Vec::new();
        for request in self.requests.take() {
            let is_over = request.is_key_wait_over();
            if is_over && decided >= DECIDED_AT_ONCE_MAX {
                remaining = Remaining::Some;
            }
            if !is_over || decided >= DECIDED_AT_ONCE_MAX {
                waiting.extend(request.exists().then_some(request));
                continue;
            }
            decided += 1;
            if request.resume_with(own, |exchange| exchange.on_keys()) == Progress::Waits {
                waiting.push(request);
            }
        }
        self.requests.borrow_mut().extend(waiting);
        remaining
    }

    /// Takes the answer to a call of the policy service that was made for one of them.
    pub(crate) fn on_policy_answer(&self, own: ContextId, call: u32, status: u32, body_bytes: usize) {
        let asked = {
            let mut requests = self.requests.borrow_mut();
            let index = requests.iter().position(|request| request.policy_call() == Some(call));
            index.map(|index| requests.swap_remove(index))
        };
        if let Some(request) = asked {
            request.resume_with(own, |exchange| exchange.on_policy_answer(call, status, body_bytes));
        }
    }
}

/// Whether a request must stay registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It waits, for keys or for the policy service.
    Waits,
    /// It is decided, or gone.
    Ended,
}

impl WaitingRequest {
    fn exists(&self) -> bool {
        self.exchange.strong_count() > 0
    }

    fn is_key_wait_over(&self) -> bool {
        self.exchange
            .upgrade()
            .is_some_and(|exchange| exchange.borrow().is_key_wait_over())
    }

    fn policy_call(&self) -> Option<u32> {
        self.exchange.upgrade()?.borrow().policy_call()
    }

    /// Calls the request in its own context, and resumes it if it is permitted.
    fn resume_with(&self, own: ContextId, decide: impl FnOnce(&mut dyn WaitingExchange) -> Option<Action>) -> Progress {
        let Some(exchange) = self.exchange.upgrade() else {
            return Progress::Ended;
        };
        let mut exchange = exchange.borrow_mut();
        let resumed = host::in_context(self.context, own, || host::resume_request(decide(&mut *exchange)));
        match resumed {
            Ok(()) if exchange.awaits_keys() || exchange.policy_call().is_some() => Progress::Waits,
            Ok(()) | Err(host::HostFailure) => Progress::Ended,
        }
    }
}
