//! What the requests of one worker have in common.

use std::cell::RefCell;

use picket_core::enforcement::Enforcer;

use crate::connection::Connections;
use crate::failure_log::FailureLog;
use crate::host::{self, ContextId};
use crate::key_fetch::KeyFetches;
use crate::metrics::Metrics;
use crate::policy_call::PolicyCall;
use crate::waiting::WaitingRequests;

/// The state of one worker, made of an accepted configuration.
pub(crate) struct Worker {
    /// The context of the plugin itself.
    pub(crate) context: ContextId,
    pub(crate) waiting: WaitingRequests,
    pub(crate) call_failures: FailureLog,
    pub(crate) introspection_failures: FailureLog,
    pub(crate) enforcer: RefCell<Enforcer>,
    pub(crate) connections: Connections,
    pub(crate) policy_call: Option<PolicyCall>,
    /// `None`: all keys are in the configuration.
    pub(crate) key_fetches: Option<KeyFetches>,
    pub(crate) metrics: &'static Metrics,
    /// The workload's name, for challenges.
    pub(crate) realm: String,
    pub(crate) explain_permits: bool,
}

impl Worker {
    /// The message of the policy call whose answer the host is at, for a request's context.
    pub(crate) fn call_message(&self, request: ContextId) -> String {
        host::in_context(self.context, request, host::call_message).unwrap_or_default()
    }
}
