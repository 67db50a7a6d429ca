//! The plugin's root context, one in each worker: it reads the configuration and makes the request
//! contexts.

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
use crate::host::ContextId;
use crate::host_crypto::{self, ChosenVerifier};
use crate::key_fetch::KeyFetches;
use crate::metrics::{self, FLUSH_PERIOD, Metrics};
use crate::plugin_configuration;
use crate::policy_call::PolicyCall;
use crate::request::Request;
use crate::shared_proofs;
use crate::waiting::{Remaining, WaitingRequests};
use crate::worker::Worker;

/// The period of ticks while requests wait to be resumed.
const WAITING_PERIOD: Duration = Duration::from_millis(10);

pub(crate) struct Root {
    context: ContextId,
    /// The period of ticks that the host was asked for.
    tick_period: Cell<Duration>,
    /// `None` until a configuration was accepted; requests are refused until then.
    worker: Option<Rc<Worker>>,
}

impl Root {
    pub(crate) fn new(context: ContextId) -> Self {
        Self {
            context,
            tick_period: Cell::new(FLUSH_PERIOD),
            worker: None,
        }
    }

    fn configure(&self, configuration_bytes: usize) -> Result<Worker, String> {
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
        Ok(Worker {
            context: self.context,
            waiting: WaitingRequests::default(),
            call_failures: FailureLog::new(),
            introspection_failures: FailureLog::new(),
            // Not the seed: that protects the caches, and all plugins of the host can read this
            // number.
            key_fetches: KeyFetches::start(&mut enforcer, random()?, metrics),
            policy_call,
            realm,
            explain_permits,
            connections: Connections::new(seed),
            metrics,
            enforcer: RefCell::new(enforcer),
        })
    }

    /// Resumes requests whose wait for keys is over. The next tick comes soon where some are left.
    fn resume_waiting(&self, worker: &Worker) {
        let period = match worker.waiting.resume_ready(self.context) {
            Remaining::None => FLUSH_PERIOD,
            Remaining::Some => WAITING_PERIOD,
        };
        if self.tick_period.replace(period) != period {
            // It was accepted with the configuration; without it the next call comes a little
            // later.
            let _ = hostcalls::set_tick_period(period);
        }
    }

    fn key_fetches(&self) -> Option<(&Worker, &KeyFetches)> {
        let worker = self.worker.as_deref()?;
        Some((worker, worker.key_fetches.as_ref()?))
    }
}

fn random() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("the host gave no random bytes: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _trailers: usize) {
        if let Some((worker, fetches)) = self.key_fetches() {
            fetches.on_answer(&worker.enforcer, call, headers, body_bytes);
            self.resume_waiting(worker);
        }
    }

    fn on_grpc_call_response(&mut self, call: u32, status: u32, body_bytes: usize) {
        if let Some(worker) = &self.worker {
            worker.waiting.on_policy_answer(self.context, call, status, body_bytes);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, configuration_bytes: usize) -> bool {
        let result = self.configure(configuration_bytes);
        metrics::count_configuration(result.is_ok());
        match result {
            Ok(worker) => {
                info!(
                    "picket: configured for workload `{}`, signatures checked by {}",
                    worker.realm,
                    host_crypto::summary()
                );
                self.worker = Some(Rc::new(worker));
                true
            }
            Err(problems) => {
                error!("picket: configuration refused: {problems}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = &self.worker {
            let evictions = worker.enforcer.borrow_mut().take_evictions();
            worker.metrics.count_evictions(evictions);
            worker.metrics.flush();
        }
        if let Some((worker, fetches)) = self.key_fetches() {
            fetches.tick(&worker.enforcer);
            self.resume_waiting(worker);
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request::new(ContextId(context), self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
