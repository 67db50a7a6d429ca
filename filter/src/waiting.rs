//! Requests that wait for keys. These come to the plugin's own context, which goes on with the
//! requests, and takes the answers to the calls that it has made for them.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use proxy_wasm::types::Action;

use crate::exchange::Exchange;
use crate::host::{self, ContextId};
use crate::request::resume;

/// How many requests are decided in one call of the host. It carries out what was decided after the
/// call, each within the one before, on one stack: some 400 make a stack that is too deep.
const DECIDED_AT_ONCE_MAX: usize = 32;

/// The requests of one worker that wait for keys, and those of them that wait for the policy
/// service by now.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Core bounds how many wait for keys; Envoy bounds how many calls there are.
    requests: RefCell<Vec<WaitingRequest>>,
}

/// Whether there are requests that could be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    None,
    Some,
}

struct WaitingRequest {
    context: ContextId,
    /// Gone with the request's context.
    exchange: Weak<RefCell<Exchange>>,
}

impl Waiting {
    pub(crate) fn add(&self, context: ContextId, exchange: &Rc<RefCell<Exchange>>) {
        let exchange = Rc::downgrade(exchange);
        self.requests.borrow_mut().push(WaitingRequest { context, exchange });
    }

    /// Goes on with those whose wait is over, the oldest first, and says whether some are left. The
    /// host has called the plugin's context, `own`.
    pub(crate) fn key_wait_over(&self, own: ContextId) -> Remaining {
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
            if request.act(own, Exchange::key_wait_over) == Progress::Waits {
                waiting.push(request);
            }
        }
        self.requests.borrow_mut().extend(waiting);
        remaining
    }

    /// Takes the answer to a call of the policy service that was made for one of them.
    pub(crate) fn policy_answered(&self, own: ContextId, call: u32, status: u32, body_bytes: usize) {
        let asked = {
            let mut requests = self.requests.borrow_mut();
            let index = requests.iter().position(|request| request.policy_call() == Some(call));
            index.map(|index| requests.swap_remove(index))
        };
        if let Some(request) = asked {
            request.act(own, |exchange| exchange.policy_answered(call, status, body_bytes));
        }
    }
}

/// Whether a request is still to be known here.
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

    /// Acts for the request's own context.
    fn act(&self, own: ContextId, act: impl FnOnce(&mut Exchange) -> Option<Action>) -> Progress {
        let Some(exchange) = self.exchange.upgrade() else {
            return Progress::Ended;
        };
        let mut exchange = exchange.borrow_mut();
        let acted = host::in_context(self.context, own, || resume(act(&mut exchange)));
        match acted {
            Ok(()) if exchange.awaits_keys() || exchange.policy_call().is_some() => Progress::Waits,
            Ok(()) | Err(host::HostFailure) => Progress::Ended,
        }
    }
}
