//! The plugin's root context, one in each worker: it reads the configuration and makes the request contexts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use log::{error, info};
use picket_core::enforcement::Enforcer;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::connection::{self, Connections};
use crate::failure_log::FailureLog;
use crate::host::{self, ContextId};
use crate::host_crypto::{self, ChosenVerifier};
use crate::key_fetch::KeyFetches;
use crate::metrics::{self, FLUSH_PERIOD, Metrics};
use crate::plugin_configuration;
use crate::policy_call::PolicyCall;
use crate::request::Request;
use crate::shared_proofs;
use crate::waiting::{Remaining, Waiting};

/// How often the host calls while there are requests to go on with.
const WAITING_PERIOD: Duration = Duration::from_millis(10);

/// What the requests of one worker share.
pub(crate) struct Shared {
    /// The plugin's own.
    context: ContextId,
    pub(crate) waiting: Waiting,
    pub(crate) call_failures: FailureLog,
    pub(crate) introspection_failures: FailureLog,
    pub(crate) enforcer: RefCell<Enforcer>,
    pub(crate) connections: Connections,
    pub(crate) policy_call: Option<PolicyCall>,
    /// `None`: all keys are in the configuration.
    key_fetches: Option<KeyFetches>,
    pub(crate) metrics: &'static Metrics,
    /// The workload's name, for challenges.
    pub(crate) realm: String,
    pub(crate) explain_permits: bool,
}

pub(crate) struct Root {
    context: ContextId,
    /// How often the host calls.
    tick_period: Cell<Duration>,
    /// `None` until a configuration was accepted; requests are refused until then.
    shared: Option<Rc<Shared>>,
}

impl Shared {
    /// The message of the policy call whose answer the host is at, for a request's context.
    pub(crate) fn call_message(&self, request: ContextId) -> String {
        host::in_context(self.context, request, host::call_message).unwrap_or_default()
    }
}

impl Root {
    pub(crate) fn new(context: ContextId) -> Self {
        Self {
            context,
            tick_period: Cell::new(FLUSH_PERIOD),
            shared: None,
        }
    }

    fn configure(&self, configuration_bytes: usize) -> Result<Shared, String> {
        if configuration_bytes == 0 {
            return Err("is empty, expected a JSON object".to_owned());
        }
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, configuration_bytes)
            .map_err(|status| format!("the host gave no configuration: {status:?}"))?
            .unwrap_or_default();
        let mut configuration = plugin_configuration::read(&bytes).map_err(|problems| problems.to_string())?;
        configuration
            .read_environment(|name| std::env::var(name).ok())
            .map_err(|problems| problems.to_string())?;
        let seed = random()?;
        hostcalls::set_tick_period(FLUSH_PERIOD).map_err(|status| format!("the host gives no ticks: {status:?}"))?;
        let proofs = shared_proofs::memory(&configuration.dpop)?;
        let (realm, explain_permits) = (configuration.workload.clone(), configuration.explain_permits);
        let policy_call = configuration.policy_service.as_ref().map(PolicyCall::new);
        let signatures = Rc::new(ChosenVerifier);
        let mut enforcer = Enforcer::new(configuration, connection::node_id(), seed, signatures, proofs);
        let metrics = Metrics::shared();
        Ok(Shared {
            context: self.context,
            waiting: Waiting::default(),
            call_failures: FailureLog::new(),
            introspection_failures: FailureLog::new(),
            // The seed protects the caches; this number is seen by whoever shares the host's memory.
            key_fetches: KeyFetches::start(&mut enforcer, random()?, metrics),
            policy_call,
            realm,
            explain_permits,
            connections: Connections::new(seed),
            metrics,
            enforcer: RefCell::new(enforcer),
        })
    }

    /// Goes on with requests whose wait for keys is over; the host calls soon again where some are
    /// left.
    fn go_on_with_waiting(&self, shared: &Shared) {
        let period = match shared.waiting.key_wait_over(self.context) {
            Remaining::None => FLUSH_PERIOD,
            Remaining::Some => WAITING_PERIOD,
        };
        if self.tick_period.replace(period) != period {
            // It was accepted with the configuration; without it the next call comes a little later.
            let _ = hostcalls::set_tick_period(period);
        }
    }

    fn fetching(&self) -> Option<(&Shared, &KeyFetches)> {
        let shared = self.shared.as_deref()?;
        Some((shared, shared.key_fetches.as_ref()?))
    }
}

fn random() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("the host gave no random bytes: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        if let Some((shared, fetches)) = self.fetching() {
            fetches.answered(&shared.enforcer, call, headers, body_bytes);
            self.go_on_with_waiting(shared);
        }
    }

    fn on_grpc_call_response(&mut self, call: u32, status: u32, body_bytes: usize) {
        if let Some(shared) = &self.shared {
            shared.waiting.policy_answered(self.context, call, status, body_bytes);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, configuration_bytes: usize) -> bool {
        let result = self.configure(configuration_bytes);
        metrics::count_configuration(result.is_ok());
        match result {
            Ok(shared) => {
                info!(
                    "picket: configured for workload `{}`, signatures checked by {}",
                    shared.realm,
                    host_crypto::summary()
                );
                self.shared = Some(Rc::new(shared));
                true
            }
            Err(problems) => {
                error!("picket: configuration refused: {problems}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(shared) = &self.shared {
            let evictions = shared.enforcer.borrow_mut().take_evictions();
            shared.metrics.count_evictions(evictions);
            shared.metrics.flush();
        }
        if let Some((shared, fetches)) = self.fetching() {
            fetches.tick(&shared.enforcer);
            self.go_on_with_waiting(shared);
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request::new(ContextId(context), self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
