//! Fetching key sets through Envoy's clusters: core says when and where, this sends and hands back
//! what comes.

use std::cell::RefCell;
use std::time::Duration;

use log::{info, warn};
use picket_core::enforcement::{Enforcer, KeyFetch};
use picket_core::token::remote_keys::FetchProgress;
use picket_core::token::remote_keys::response::{FetchError, FetchResult, HttpResponse};
use picket_model::time::Timestamp;
use proxy_wasm::hostcalls;

use crate::clock;
use crate::http_response::with_http_response;
use crate::metrics::Metrics;
use crate::shared_keys::HostSharedMemory;

/// The fetches of one worker.
pub(crate) struct KeyFetches {
    memory: HostSharedMemory,
    /// By the host's number of the call; at most one of each provider.
    under_way: RefCell<Vec<(u32, KeyFetch)>>,
    /// The names of the providers whose keys are fetched, by their index.
    providers: Vec<(usize, String)>,
    metrics: &'static Metrics,
}

impl KeyFetches {
    /// `None`: no provider's keys are fetched. Reads the key sets that other workers have
    /// published. Nothing is sent here: the first VM of a configuration only validates it.
    pub(crate) fn start(enforcer: &mut Enforcer, random: u64, metrics: &'static Metrics) -> Option<Self> {
        let providers: Vec<_> = enforcer
            .remote_providers()
            .map(|(index, name)| (index, name.to_owned()))
            .collect();
        if providers.is_empty() {
            return None;
        }
        for (_, name) in &providers {
            metrics.define_key_set(name);
        }
        let memory = HostSharedMemory::new(random);
        enforcer.start_key_sets(clock::now(), &memory);
        Some(Self {
            memory,
            under_way: RefCell::default(),
            providers,
            metrics,
        })
    }

    /// Sends the fetches that are due.
    pub(crate) fn tick(&self, enforcer: &RefCell<Enforcer>) {
        let now = clock::now();
        let due = enforcer.borrow_mut().tick(now, &self.memory);
        for fetch in due {
            self.send(enforcer, fetch, now);
        }
        for (provider, age_ms) in enforcer.borrow().key_set_ages_ms(now) {
            self.metrics.record_key_set_age(self.name(provider), age_ms / 1000);
        }
    }

    /// Takes the answer to a call. Answers to calls that are no fetch, or one that was given up,
    /// are ignored.
    pub(crate) fn on_answer(&self, enforcer: &RefCell<Enforcer>, call: u32, headers: usize, body_bytes: usize) {
        let fetch = {
            let mut under_way = self.under_way.borrow_mut();
            let index = under_way.iter().position(|(number, _)| *number == call);
            index.map(|index| under_way.swap_remove(index).1)
        };
        let Some(fetch) = fetch else { return };
        let now = clock::now();
        let next = with_http_response(headers, body_bytes, |answer| {
            self.complete(enforcer, &fetch, answer, now)
        });
        if let Some(next) = next {
            self.send(enforcer, next, now);
        }
    }

    fn send(&self, enforcer: &RefCell<Enforcer>, fetch: KeyFetch, now: Timestamp) {
        match dispatch(&fetch) {
            Ok(call) => {
                let mut under_way = self.under_way.borrow_mut();
                under_way.retain(|(_, other)| other.provider != fetch.provider);
                under_way.push((call, fetch));
            }
            Err(error) => {
                let _ = self.complete(enforcer, &fetch, Err(error), now);
            }
        }
    }

    /// Passes an answer to core, and records the result in metrics and log. Returns the next fetch.
    fn complete(
        &self,
        enforcer: &RefCell<Enforcer>,
        fetch: &KeyFetch,
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
    ) -> Option<KeyFetch> {
        let progress = enforcer.borrow_mut().on_key_set(fetch, answer, now, &self.memory);
        let name = self.name(fetch.provider);
        match progress {
            FetchProgress::Next(next) => {
                return Some(KeyFetch {
                    provider: fetch.provider,
                    fetch: next,
                });
            }
            FetchProgress::Fetched { keys, left_out } => {
                self.metrics.count_key_set_fetch(name, FetchResult::Fetched);
                info!("picket: provider `{name}`: fetched a key set with {keys} usable keys");
                if !left_out.as_slice().is_empty() {
                    warn!("picket: provider `{name}`: keys left out of the key set: {left_out}");
                }
            }
            FetchProgress::Failed(error) => {
                self.metrics.count_key_set_fetch(name, error.result());
                warn!("picket: provider `{name}`: no key set fetched: {error}");
            }
            FetchProgress::Late => {}
        }
        None
    }

    fn name(&self, provider: usize) -> &str {
        let known = self.providers.iter().find(|(index, _)| *index == provider);
        known.map_or("", |(_, name)| name.as_str())
    }
}

/// A GET request. The host refuses an unknown cluster, and one without a healthy endpoint, which
/// the SDK gives as an error.
fn dispatch(fetch: &KeyFetch) -> Result<u32, FetchError> {
    let fetch = &fetch.fetch;
    let headers = vec![
        (":method", "GET"),
        (":path", fetch.location.path.as_str()),
        (":authority", fetch.location.authority.as_str()),
        // RFC 7517 §8.5.2; most issuers say the other.
        ("accept", "application/jwk-set+json, application/json"),
        ("user-agent", "picket"),
    ];
    let timeout = Duration::from_millis(u64::from(fetch.timeout_ms));
    hostcalls::dispatch_http_call(&fetch.cluster, headers, None, vec![], timeout).map_err(|_| FetchError::HostRefused)
}
