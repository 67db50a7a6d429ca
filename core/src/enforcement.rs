//! The enforcement state machine. Its input is a request or the response to a call that it asked
//! for; its output is the next [`Step`].
//!
//! A request begins with [`Enforcer::on_request`]. Where it has to wait, the step holds a pending
//! state, which the matching method consumes: [`PendingKeys`] by [`Enforcer::on_keys`],
//! [`PendingIntrospection`] by [`Enforcer::on_introspection`], [`PendingDecision`] by
//! [`Enforcer::on_decision`]. So no request is decided twice. Forwarding a request takes a
//! [`Permit`], so none is forwarded without a decision.

mod access;
mod call_failure;
mod challenge;
mod configuration;
mod credential_check;
mod decisions;
mod identity;
mod introspection;
mod key_sets;
mod key_waits;
mod path_readings;
mod permit;
mod refusal;
mod reply;
pub mod rule;
mod tokens;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use crate::dpop::{ProofChecker, ProofMemory};
use crate::jose::signature::SignatureVerifier;
use crate::path::{Delimiters, TargetError};
use crate::peer::requirement::PeerRequirement;
use crate::peer::{Peer, PeerError};
use crate::reason::{DecidedBy, DenyReason};
use crate::request::{self, Caller, Header, RequestError, RequestHead};
use crate::route::{RouteMatch, RuleIndex};
use crate::source_address::SourceRequirement;
use crate::token::TokenVerifier;
use crate::token::credential::CREDENTIALS_MAX;
use crate::token::introspection::IntrospectionResult;
use rule::{Decider, RouteRule};

pub use crate::token::Verification;
pub use access::ObservedAccess;
pub use call_failure::CallFailure;
use challenge::ChallengeSchemes;
pub use configuration::{FilterConfiguration, PolicyServiceSettings};
use credential_check::{CredentialCheck, CredentialProgress};
pub use decisions::CacheUse;
pub(crate) use decisions::DECISION_VALIDITY_MS_MAX;
use decisions::{DecisionCache, DecisionKey, PreparedDecision};
pub use identity::Connection;
use identity::Identity;
use introspection::IntrospectionState;
pub use introspection::{Introspection, PendingIntrospection};
pub use key_sets::KeyFetch;
pub(crate) use key_waits::KEY_WAITS_MAX;
use key_waits::KeyWaitPlaces;
pub use key_waits::PendingKeys;
use path_readings::PathReadings;
use permit::{Forwarding, Grounds};
pub use permit::{Permit, PermitReason};
use picket_model::access::{AccessRequest, Action, Context, FurtherToken, Resource, Sidecar};
use picket_model::decision::{Decision, Vary};
use picket_model::time::Timestamp;
pub use refusal::{Challenge, ChallengeScheme, Refusal};
pub use reply::{Reply, reply};

/// The peer that a connection proved, or why there is none.
pub type PeerResult = Result<Peer, PeerError>;

/// A request with its connection, as the proxy passes it.
pub struct Arrival<'a> {
    /// All request headers.
    pub headers: &'a [Header<'a>],
    /// The connection that it came on.
    pub connection: &'a dyn Connection,
    /// The time.
    pub now: Timestamp,
}

/// The next step of a request.
#[derive(Debug)]
pub enum Step {
    /// It is decided.
    Decided(Verdict),
    /// Pause the request, and ask the policy service.
    Ask(Box<PolicyQuery>),
    /// Pause the request, and ask the token's issuer about it.
    Introspect(Box<Introspection>),
    /// Pause the request until [`Enforcer::is_key_wait_over`]: its token needs a key that may be
    /// fetched in time.
    AwaitKeys(PendingKeys),
}

/// Forward the request as the permit says, or answer with [`reply()`].
pub type Verdict = Result<Permit, Refusal>;

/// What a step did, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// How each token was verified, and whether it passed.
    pub verifications: Verifications,
    /// The result of an introspection, where one was awaited.
    pub introspection: Option<IntrospectionResult>,
    /// Whether a proof of possession passed, where one was checked.
    pub proof_passed: Option<bool>,
    /// Whether the decision cache had the answer.
    pub cache: Option<CacheUse>,
    /// The matches of access rules that do not decide.
    pub access: ObservedAccess,
}

/// How many cache entries were evicted before they expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evictions {
    /// Evictions from the cache of verified tokens. Cached decisions about such a token are lost
    /// with it.
    pub tokens: u64,
    /// Evictions from the decision cache.
    pub decisions: u64,
}

/// How the tokens of a request were verified, and whether each passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verifications([Option<(Verification, bool)>; CREDENTIALS_MAX]);

/// The access request to send to the policy service, and the state to keep until its decision.
#[derive(Debug)]
pub struct PolicyQuery {
    /// The access request.
    pub request: AccessRequest,
    /// The request that waits.
    pub pending: PendingDecision,
}

/// A request that waits for the policy service.
#[derive(Debug)]
pub struct PendingDecision {
    rule: RuleIndex,
    /// With every attribute, as only the decision says which of them count.
    key: DecisionKey,
    asked_at: Timestamp,
    forwarding: Forwarding,
    caller: Caller,
}

/// The enforcement of one filter configuration, with its caches.
#[derive(Debug)]
pub struct Enforcer {
    configuration: FilterConfiguration,
    sidecar: Sidecar,
    tokens: TokenVerifier,
    proofs: ProofChecker,
    decisions: DecisionCache,
    key_waits: KeyWaitPlaces,
    seed: u64,
    requests_without_id: Cell<u64>,
}

impl Verifications {
    /// Adds one of a request, which has at most [`CREDENTIALS_MAX`].
    fn extend(&mut self, verification: Option<(Verification, bool)>) {
        if let Some(free) = self.0.iter_mut().find(|one| one.is_none()) {
            *free = verification;
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (Verification, bool)> {
        self.0.iter().copied().flatten()
    }
}

impl Enforcer {
    /// An enforcer with empty caches. `seed` is random: it protects the caches' hashes, and makes
    /// request ids unique that are generated here. `signatures` checks tokens and proofs; `proofs`
    /// records the proofs that were used.
    #[must_use]
    pub fn new(
        mut configuration: FilterConfiguration,
        node_id: String,
        seed: u64,
        signatures: Rc<dyn SignatureVerifier>,
        proofs: ProofMemory,
    ) -> Self {
        let providers = std::mem::take(&mut configuration.providers);
        Self {
            sidecar: Sidecar {
                node_id,
                workload: configuration.workload.clone(),
            },
            proofs: ProofChecker::new(configuration.dpop.clone(), proofs, Rc::clone(&signatures)),
            tokens: TokenVerifier::new(
                providers,
                configuration.identity_headers.clone(),
                configuration.access.claims.clone(),
                configuration.token_limits,
                configuration.token_cache_entries_max,
                seed,
                signatures,
            ),
            decisions: DecisionCache::new(
                configuration.decision_cache_entries_max,
                configuration.rules.len(),
                seed,
            ),
            configuration,
            key_waits: KeyWaitPlaces::default(),
            seed,
            requests_without_id: Cell::new(0),
        }
    }

    /// The configuration, without the providers: their keys stay inside the enforcer.
    #[must_use]
    pub fn configuration(&self) -> &FilterConfiguration {
        &self.configuration
    }

    /// The nonce that proofs of possession are to hold now (RFC 9449 §9); `None`: none are
    /// required.
    #[must_use]
    pub fn nonce(&self, now: Timestamp) -> Option<String> {
        self.proofs.nonce(now)
    }

    /// Decides about a request, or names the call that it has to wait for.
    pub fn on_request(&mut self, arrival: &Arrival<'_>) -> (Step, Notes) {
        let mut notes = Notes::default();
        let step = self.step(arrival, arrival.now, IntrospectionState::NotAsked, &mut notes);
        (step, notes)
    }

    /// The evictions since the last call.
    pub fn take_evictions(&mut self) -> Evictions {
        Evictions {
            tokens: self.tokens.take_evictions(),
            decisions: self.decisions.take_evictions(),
        }
    }

    /// Decides about a request that waited for the policy service.
    pub fn on_decision(
        &mut self,
        pending: PendingDecision,
        answer: Result<Decision, CallFailure>,
        now: Timestamp,
    ) -> Verdict {
        let PendingDecision {
            rule,
            key,
            asked_at,
            forwarding,
            caller,
        } = pending;
        let used = challenge::scheme_of(forwarding.tokens());
        let verdict = answer.map_err(Refusal::from).and_then(|decision| {
            forwarding.check_tokens(now)?;
            forwarding
                .tokens()
                .iter()
                .try_for_each(|token| self.tokens.check_key(token, now))?;
            forwarding.check_peer(now)?;
            let known = Rc::new(PreparedDecision::from(decision));
            self.decisions.put(rule, &key, &known, asked_at, forwarding.tokens());
            Permit::grant(Grounds::Decision(&known, DecidedBy::PolicyService), forwarding, now)
        });
        verdict.map_err(|refusal| {
            let refusal = Refusal { caller, ..refusal };
            match self.configuration.rules.get(rule) {
                Some(rule) => ChallengeSchemes::new(&self.configuration, rule, &self.proofs, now).add_to(refusal, used),
                None => refusal,
            }
        })
    }

    /// Decides, and completes a refusal with the caller. `since` is the arrival of the request.
    fn step(
        &mut self,
        arrival: &Arrival<'_>,
        since: Timestamp,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Step {
        self.decide(arrival, since, introspection, notes)
            .unwrap_or_else(|refusal| {
                Step::Decided(Err(Refusal {
                    caller: Caller::of(arrival.headers),
                    ..refusal
                }))
            })
    }

    fn decide(
        &mut self,
        arrival: &Arrival<'_>,
        since: Timestamp,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Result<Step, Refusal> {
        let head = RequestHead::parse(arrival.headers)?;
        check_method(head.method, &self.configuration)?;
        let (route, rule) = find_rule(&self.configuration, &head)?;
        let path_readings = PathReadings::check(&self.configuration.routes, &head, route.rule, rule)?;
        if rule.decider == Decider::PolicyService {
            head.check_user_agent()?;
        }
        let mut identity = Identity::of(arrival, &self.configuration);
        check_source(&rule.source, &identity)?;
        check_peer(&rule.peers, &identity)?;
        let credential_check = CredentialCheck {
            configuration: &self.configuration,
            tokens: &mut self.tokens,
            proofs: &mut self.proofs,
            rule,
            head: &head,
            now: arrival.now,
            since,
            key_waits: &self.key_waits,
            awaited: None,
        };
        match credential_check.run(&mut identity, introspection, notes)? {
            CredentialProgress::Checked => {}
            CredentialProgress::NeedsIntrospection(introspection) => return Ok(Step::Introspect(introspection)),
            CredentialProgress::NeedsKeys(pending) => return Ok(Step::AwaitKeys(pending)),
        }
        access::check(
            &self.configuration.access,
            arrival,
            &head,
            &path_readings,
            &identity,
            notes,
        )?;
        // Made once, and only where it is needed.
        let made = OnceCell::new();
        let id = || {
            made.get_or_init(|| request_id(&head, self.seed, &self.requests_without_id))
                .as_str()
        };
        let forwarding = Forwarding::new(&head, rule, &identity, &self.configuration, || id().to_owned());
        if rule.decider != Decider::PolicyService {
            return Permit::grant(Grounds::Rule(rule), forwarding, arrival.now).map(|permit| Step::Decided(Ok(permit)));
        }
        let key = DecisionKey::new(self.decisions.vary(route.rule), route.rule, &head, &identity)?;
        if let Some(known) = self.decisions.get(&key, arrival.now) {
            notes.cache = Some(CacheUse::Hit);
            let verdict = Permit::grant(Grounds::Decision(&known, DecidedBy::Cache), forwarding, arrival.now);
            let schemes = ChallengeSchemes::new(&self.configuration, rule, &self.proofs, arrival.now);
            let used = challenge::scheme_of(&identity.tokens);
            return verdict
                .map_err(|refusal| schemes.add_to(refusal, used))
                .map(|permit| Step::Decided(Ok(permit)));
        }
        let full_key = DecisionKey::new(Vary::EVERYTHING, route.rule, &head, &identity)?;
        notes.cache = Some(CacheUse::Miss);
        let request_id = id().to_owned();
        let pending = PendingDecision {
            rule: route.rule,
            key: full_key,
            asked_at: arrival.now,
            forwarding,
            caller: Caller {
                protocol: head.protocol,
                request_id: request_id.clone(),
            },
        };
        let request = access_request(request_id, &self.sidecar, rule, &route, &head, &identity);
        Ok(Step::Ask(Box::new(PolicyQuery { request, pending })))
    }
}

/// The route rule that a request falls under.
fn find_rule<'c, 'h>(
    configuration: &'c FilterConfiguration,
    head: &'h RequestHead<'_>,
) -> Result<(RouteMatch<'c, 'h>, &'c RouteRule), Refusal> {
    let target = &head.target;
    if configuration.refuses_double_encoding && target.is_double_encoded() {
        return Err(Refusal::malformed(TargetError::DoubleEncoding));
    }
    let route = configuration.routes.find(&head.host, head.method, &target.path);
    let found = route.and_then(|route| Some((configuration.rules.get(route.rule)?, route)));
    match found {
        Some((rule, route)) => Ok((route, rule)),
        None if target.delimiters.intersects(Delimiters::ENCODED_SLASH) => {
            Err(Refusal::malformed(TargetError::EncodedSlash))
        }
        None => Err(Refusal::new(DenyReason::NoRule, DecidedBy::Local)),
    }
}

/// Envoy's id of a request, or a new one.
fn request_id(head: &RequestHead<'_>, seed: u64, requests_without_id: &Cell<u64>) -> String {
    let made_up = || {
        requests_without_id.set(requests_without_id.get().wrapping_add(1));
        format!("picket-{seed:016x}-{}", requests_without_id.get())
    };
    head.request_id().map_or_else(made_up, str::to_owned)
}

/// Methods have a case (RFC 9110 §9.1), but not to every server.
fn check_method(method: &str, configuration: &FilterConfiguration) -> Result<(), Refusal> {
    match request::is_registered_method(method) || configuration.further_methods.contains(method) {
        true => Ok(()),
        false => Err(RequestError::UnknownMethod(method.into()).into()),
    }
}

fn check_source(required: &SourceRequirement, identity: &Identity<'_>) -> Result<(), Refusal> {
    if required.is_any() {
        return Ok(());
    }
    let refusal = Refusal::new(DenyReason::SourceNotAllowed, DecidedBy::Local);
    match identity.source_address() {
        Ok(address) if required.allows(address) => Ok(()),
        Ok(_) => Err(refusal),
        Err(error) => Err(refusal.with_detail(error)),
    }
}

fn check_peer(required: &PeerRequirement, identity: &Identity<'_>) -> Result<(), Refusal> {
    if *required == PeerRequirement::NotRequired {
        return Ok(());
    }
    match identity.peer().as_ref() {
        Ok(peer) if required.allows(&peer.id) => Ok(()),
        Ok(_) => Err(Refusal::new(DenyReason::PeerNotAllowed, DecidedBy::Peer)),
        Err(error) => Err((*error).into()),
    }
}

fn access_request(
    request_id: String,
    sidecar: &Sidecar,
    rule: &RouteRule,
    route: &RouteMatch<'_, '_>,
    head: &RequestHead<'_>,
    identity: &Identity<'_>,
) -> AccessRequest {
    AccessRequest {
        request_id,
        traceparent: head.traceparent().map(str::to_owned),
        sidecar: sidecar.clone(),
        route_rule: rule.id.to_string(),
        principal: identity.tokens.principal().map(|token| (*token.principal).clone()),
        further_tokens: identity
            .tokens
            .others()
            .map(|token| FurtherToken::from(&*token.principal))
            .collect(),
        peer: identity.peer_id().cloned(),
        action: Action {
            method: head.method.to_owned(),
        },
        resource: Resource {
            host: head.host.to_string(),
            path: head.target.path.to_string(),
            path_parameters: route
                .parameters()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            classification: rule.classification.clone(),
            security_zone: rule.security_zone.clone(),
            tenant: rule.tenant.clone(),
        },
        context: Context {
            source_address: identity.source_address().ok(),
            user_agent: head.user_agent().map(Cow::into_owned),
            possession: identity.possession(),
        },
    }
}
