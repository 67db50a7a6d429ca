//! The filter's configuration, checked and prepared: what is here can be enforced as it is.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::rc::Rc;

use picket_model::problems::{self, Problems, shortened};
use picket_model::spiffe::TrustDomain;
use picket_model::strict_json;

use super::access::check_access;
use super::credentials::{check_credential, check_preflights, places_of};
use super::document::{
    CredentialDocument, DecisionDocument, DoubleEncodingDocument, FilterDocument, NeedDocument, PolicyServiceDocument,
    RuleDocument, TokenLimitsDocument, TransactionTokenDocument,
};
use super::dpop::{check_dpop, check_possession};
use super::introspection::read_secrets;
use super::limits::{
    CLUSTER_BYTES_MAX, DECISION_CACHE_ENTRIES_DEFAULT, DECISION_CACHE_ENTRIES_MAX, DOCUMENT_BYTES_MAX,
    FURTHER_METHODS_MAX, LABEL_BYTES_MAX, NAME_BYTES_MAX, POLICY_TIMEOUT_MS_DEFAULT, POLICY_TIMEOUT_MS_MAX, RULES_MAX,
    SCOPES_MAX, TOKEN_CACHE_ENTRIES_MAX, TRANSACTION_LIFETIME_S_DEFAULT, TRANSACTION_LIFETIME_S_MAX,
};
use super::peers::{self, check_peers, check_source};
use super::providers::{Providers, check_providers};
use crate::access_rules::AccessRules;
use crate::dpop::DpopSettings;
use crate::identity_headers::{self, IdentityHeaders};
use crate::jose::TokenLimits;
use crate::path::Delimiters;
use crate::peer::requirement::PeerRequirement;
use crate::peer::resolution::PeerResolution;
use crate::request::{self, AUTHORIZATION, COOKIE, RequestHead};
use crate::route::{HostPattern, PathTemplate, RouteTable};
use crate::source_address::SourceRequirement;
use crate::token::credential::{CredentialSources, SourceSet};
use crate::token::provider::{Provider, ProviderIndex};
use crate::transaction_token::{self, TransactionTokens};

/// A filter's configuration without a mistake.
#[derive(Debug)]
pub struct FilterConfiguration {
    /// The workload that the sidecar protects.
    pub workload: String,
    /// Where decisions are asked for; present if any rule asks.
    pub policy_service: Option<PolicyServiceSettings>,
    /// How a request's peer is found.
    pub peers: PeerResolution,
    /// Which address of X-Forwarded-For counts, from the right; 0: the connection's.
    pub forwarded_for_trusted_hops: u32,
    /// Whose tokens are accepted, by [`ProviderIndex`].
    pub providers: Vec<Provider>,
    /// Where tokens may be sent.
    pub credential_sources: CredentialSources,
    /// The headers beside [`IdentityHeaders`] of which no copy that came with the request reaches the upstream: those that
    /// providers make of claims, that of transaction tokens, and that of trusted hops.
    pub owned_headers: BTreeSet<Rc<str>>,
    /// What proofs of possession must be like.
    pub dpop: DpopSettings,
    /// The rules, by [`crate::route::RuleIndex`].
    pub rules: Vec<RouteRule>,
    /// Which rule a request falls under.
    pub routes: RouteTable,
    /// The methods that requests may have beside the registered ones.
    pub further_methods: BTreeSet<Box<str>>,
    /// Whether a path that is encoded twice is refused.
    pub refuses_double_encoding: bool,
    /// What is refused or accepted before a rule decides.
    pub access: AccessRules,
    /// Whether the credential and its proof reach the upstream.
    pub forward_credential: bool,
    /// What tells the upstream who calls.
    pub identity_headers: IdentityHeaders,
    /// The signed token that the upstream gets; `None`: it gets none.
    pub transaction_tokens: Option<Rc<TransactionTokens>>,
    /// Whether permitted responses tell the caller who decided.
    pub explain_permits: bool,
    /// How large a token may be.
    pub token_limits: TokenLimits,
    /// Bound of the token cache.
    pub token_cache_entries_max: NonZeroUsize,
    /// Bound of the decision cache.
    pub decision_cache_entries_max: NonZeroUsize,
}

/// Where decisions are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServiceSettings {
    /// An Envoy cluster's name, of 1 to 125 visible ASCII characters.
    pub cluster: String,
    /// How long to wait.
    pub timeout_ms: u32,
}

/// A route rule without the patterns, which are in the [`RouteTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// Its name.
    pub id: Rc<str>,
    /// The delimiters that are data in its paths.
    pub allow_in_path: Delimiters,
    /// From where requests may come.
    pub source: SourceRequirement,
    /// Who may call.
    pub peers: PeerRequirement,
    /// Whether a token is required, and whose.
    pub credential: CredentialRequirement,
    /// Where its providers' tokens may be sent; what stands in the places of others is no credential here.
    pub credential_sources: SourceSet,
    /// Whether CORS preflights are held to `credential`.
    pub preflights: PreflightCredential,
    /// The scopes that the token must all have.
    pub scopes: Vec<String>,
    /// Which tokens need a proof of possession.
    pub possession: PossessionRequirement,
    /// Who decides.
    pub decider: Decider,
    /// What policies know the resource as.
    pub classification: Option<String>,
    /// In which security zone policies see the resource.
    pub security_zone: Option<String>,
    /// Whose it is, to policies.
    pub tenant: Option<String>,
}

/// Whether a token is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialRequirement {
    /// Yes, one of these providers'; `None`: any provider's.
    Required(Option<Vec<ProviderIndex>>),
    /// Yes, and one of each of these providers, of which there are 2 to [`CREDENTIALS_MAX`], none of them twice. The first one's
    /// names the principal.
    ///
    /// [`CREDENTIALS_MAX`]: crate::token::credential::CREDENTIALS_MAX
    All(Vec<ProviderIndex>),
    /// No; but one that is sent must be good, and one of these providers'.
    Optional(Option<Vec<ProviderIndex>>),
    /// No; one that is sent is not looked at.
    NotRequired,
}

impl CredentialRequirement {
    /// Whose tokens are taken. `None`: any provider's.
    #[must_use]
    pub fn providers(&self) -> Option<&[ProviderIndex]> {
        match self {
            Self::Required(of) | Self::Optional(of) => of.as_deref(),
            Self::All(of) => Some(of),
            Self::NotRequired => None,
        }
    }
}

/// Whether a CORS preflight is held to a rule's credential requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightCredential {
    /// Like every other request.
    AsRule,
    /// A token in it is not looked at.
    NotRequired,
}

/// Which tokens need a proof that the caller holds what they are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PossessionRequirement {
    /// Those that are bound.
    WhenBound,
    /// All: one that is not bound is refused.
    Required,
}

/// Who decides about a request that got past peer and credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The policy service, or its cached decision.
    PolicyService,
    /// The rule permits.
    Permit,
    /// The rule denies.
    Deny,
}

impl FilterConfiguration {
    /// Reads what the environment holds of this configuration.
    ///
    /// # Errors
    /// The variable that is missing or of the wrong form, by the field that names it.
    pub fn read_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), Problems> {
        let mut problems = Problems::default();
        read_secrets(&mut self.providers, &variable, &mut problems);
        if let Some(tokens) = self.transaction_tokens.take() {
            let name = &tokens.key_variable;
            let key = variable(name)
                .ok_or_else(|| {
                    format!("the environment variable `{name}` is not set in `vm_config.environment_variables`")
                })
                .and_then(|text| {
                    transaction_token::read_key(&text)
                        .map_err(|error| format!("the environment variable `{name}`: {error}"))
                });
            let key = problems.take("transaction_token.key_variable", key);
            self.transaction_tokens = key.map(|key| Rc::new((*tokens).clone().with_key(key)));
        }
        problems.none_or(Some(()))
    }

    /// Whether a header or trailer of this name could pass for one that Picket sets.
    #[must_use]
    pub fn owns_header(&self, name: &str) -> bool {
        request::is_owned(name)
            || self
                .owned_headers
                .iter()
                .any(|wanted| request::is_spelling_of(name, wanted))
    }

    /// Whether a trailer of this name goes: one of Picket's own, or one that could pass for a credential to a server that takes
    /// trailers for headers. RFC 9110 §6.5.1: no sender may make such a trailer.
    #[must_use]
    pub fn removes_trailer(&self, name: &str) -> bool {
        let mut credentials = self
            .credential_sources
            .headers(SourceSet::ALL)
            .chain([AUTHORIZATION, COOKIE]);
        self.owns_header(name) || credentials.any(|wanted| request::is_spelling_of(name, wanted))
    }

    /// The names of a request's headers that could pass for one that a provider makes.
    pub fn forged_in<'h>(&self, head: &RequestHead<'h>) -> impl Iterator<Item = &'h str> {
        let names = &self.owned_headers;
        // Most configurations have none, and look at no header.
        let headers = if names.is_empty() { &[] } else { head.headers };
        let is_forged = |name: &&str| names.iter().any(|wanted| request::is_spelling_of(name, wanted));
        headers.iter().map(|(name, _)| *name).filter(is_forged)
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    /// Every mistake in it, each with the path to the field and what was expected.
    pub fn parse(json: &[u8]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        if json.len() > DOCUMENT_BYTES_MAX {
            problems.add("", format_args!("expected at most {DOCUMENT_BYTES_MAX} bytes"));
            return Err(problems);
        }
        let document = strict_json::parse(json).map_err(|error| {
            problems.add("", format_args!("expected JSON: {error}"));
            problems
        })?;
        Self::from_value(document)
    }

    /// Checks a document that has been read already.
    ///
    /// # Errors
    /// As [`FilterConfiguration::parse`].
    pub fn from_value(document: serde_json::Value) -> Result<Self, Problems> {
        Self::from_document(problems::read(document)?)
    }

    fn from_document(document: FilterDocument) -> Result<Self, Problems> {
        let mut check = Problems::default();
        check_needs(&document, &mut check);
        let policy_service = check_policy_service(document.policy_service, &mut check);
        let trust_domains = parse_all::<TrustDomain>(document.trust_domains.as_deref(), "trust_domains", &mut check);
        let peers = peers::check_resolution(
            document.trust_domain_aliases,
            document.forwarded_peer,
            &trust_domains,
            &mut check,
        );
        let further_methods = check_methods(document.further_methods, &document.rules, &mut check);
        let Providers { providers, sources } = check_providers(document.providers.unwrap_or_default(), &mut check);
        let (rules, routes) = check_rules(document.rules, &trust_domains, &providers, &mut check);
        let entries = |value, max, default, path, check: &mut Problems| {
            let entries = in_range(value, 1..=max, default, path, check);
            usize::try_from(entries)
                .ok()
                .and_then(NonZeroUsize::new)
                .unwrap_or(NonZeroUsize::MIN)
        };
        let (tokens, decisions) = (document.token_cache_entries_max, document.decision_cache_entries_max);
        let (token_default, decision_default) = cache_entries_defaults(tokens, decisions);
        let transaction_tokens = check_transaction_token(document.transaction_token, &document.workload, &mut check);
        let access = check_access(document.access, &trust_domains, &providers, &mut check);
        let configuration = Self {
            owned_headers: owned_headers(&providers, transaction_tokens.is_some(), &peers),
            transaction_tokens,
            workload: document.workload,
            policy_service,
            peers,
            forwarded_for_trusted_hops: peers::check_trusted_hops(document.forwarded_for_trusted_hops, &mut check),
            providers,
            credential_sources: sources,
            dpop: check_dpop(document.dpop, &mut check),
            rules,
            routes,
            further_methods,
            refuses_double_encoding: document.paths.and_then(|paths| paths.double_encoding)
                == Some(DoubleEncodingDocument::Refuse),
            access,
            forward_credential: document.forward_credential.unwrap_or(false),
            identity_headers: check_identity_headers(document.identity_headers.as_deref(), &mut check),
            explain_permits: document.explain_permits.unwrap_or(false),
            token_limits: check_token_limits(document.token_limits, &mut check),
            token_cache_entries_max: entries(
                tokens,
                TOKEN_CACHE_ENTRIES_MAX,
                token_default,
                "token_cache_entries_max",
                &mut check,
            ),
            decision_cache_entries_max: entries(
                decisions,
                DECISION_CACHE_ENTRIES_MAX,
                decision_default,
                "decision_cache_entries_max",
                &mut check,
            ),
        };
        check.none_or(Some(configuration))
    }
}

/// What a whole configuration must have for its rules.
fn check_needs(document: &FilterDocument, check: &mut Problems) {
    let asks_for = |need: fn(&RuleDocument) -> bool| document.rules.iter().any(need);
    if document.workload.is_empty() || !document.workload.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        check.add("workload", "expected visible ASCII characters without `\"`");
    }
    if document.policy_service.is_none() && asks_for(|rule| decider(rule) == Decider::PolicyService) {
        check.add(
            "policy_service",
            "is required, as a rule leaves the decision to the policy service",
        );
    }
    if document.trust_domains.is_none() && asks_for(|rule| rule.peer != Some(NeedDocument::None)) {
        check.add("trust_domains", "is required, as a rule requires a peer");
    }
    if document.providers.is_none() && asks_for(|rule| rule.credential != Some(CredentialDocument::None)) {
        check.add("providers", "is required, as a rule requires a credential");
    }
}

/// How many tokens and decisions are cached where the configuration does not say it.
///
/// A cached decision is found by its verified token, so a token that made room takes its decisions along: there is room for as
/// many tokens as decisions.
fn cache_entries_defaults(tokens: Option<u32>, decisions: Option<u32>) -> (u32, u32) {
    let token_default = decisions.unwrap_or(DECISION_CACHE_ENTRIES_DEFAULT);
    let decision_default = tokens.unwrap_or(DECISION_CACHE_ENTRIES_DEFAULT);
    (
        token_default.clamp(1, TOKEN_CACHE_ENTRIES_MAX),
        decision_default.clamp(DECISION_CACHE_ENTRIES_DEFAULT, DECISION_CACHE_ENTRIES_MAX),
    )
}

fn check_token_limits(document: Option<TokenLimitsDocument>, check: &mut Problems) -> TokenLimits {
    let TokenLimitsDocument {
        bytes_max,
        members_max,
        depth_max,
    } = document.unwrap_or_default();
    let (floor, ceiling, default) = (TokenLimits::FLOOR, TokenLimits::CEILING, TokenLimits::DEFAULT);
    let mut limit = |value: Option<u32>, of: fn(&TokenLimits) -> usize, name: &str| {
        let number = |limits: &TokenLimits| u32::try_from(of(limits)).unwrap_or(u32::MAX);
        let range = number(&floor)..=number(&ceiling);
        let limit = in_range(value, range, number(&default), &format!("token_limits.{name}"), check);
        usize::try_from(limit).unwrap_or(of(&default))
    };
    TokenLimits {
        bytes_max: limit(bytes_max, |limits| limits.bytes_max, "bytes_max"),
        members_max: limit(members_max, |limits| limits.members_max, "members_max"),
        depth_max: limit(depth_max, |limits| limits.depth_max, "depth_max"),
    }
}

/// The headers that are Picket's in this configuration, beside those that always are.
fn owned_headers(providers: &[Provider], has_transaction_tokens: bool, peers: &PeerResolution) -> BTreeSet<Rc<str>> {
    let hops = peers.forwarded_peer.iter().flat_map(|hops| hops.header.names());
    let transaction = has_transaction_tokens.then_some(&transaction_token::HEADER);
    let of_providers = providers.iter().flat_map(Provider::headers);
    of_providers
        .chain(hops.chain(transaction).map(|name| Rc::from(*name)))
        .collect()
}

fn check_transaction_token(
    document: Option<TransactionTokenDocument>,
    workload: &str,
    check: &mut Problems,
) -> Option<Rc<TransactionTokens>> {
    let TransactionTokenDocument {
        key_variable,
        lifetime_s,
        audience,
    } = document?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if key_variable.is_empty() || !key_variable.bytes().all(is_name) {
        let expected = "expected the name of an environment variable: letters, digits and `_`";
        check.add("transaction_token.key_variable", expected);
    }
    if audience.as_ref().is_some_and(String::is_empty) {
        check.add("transaction_token.audience", "expected a text that is not empty");
    }
    let (range, path) = (1..=TRANSACTION_LIFETIME_S_MAX, "transaction_token.lifetime_s");
    let lifetime_s = in_range(lifetime_s, range, TRANSACTION_LIFETIME_S_DEFAULT, path, check);
    let audience = audience.unwrap_or_else(|| workload.to_owned());
    let tokens = TransactionTokens::new(workload.to_owned(), audience, lifetime_s, key_variable);
    Some(Rc::new(tokens))
}

fn check_policy_service(
    document: Option<PolicyServiceDocument>,
    check: &mut Problems,
) -> Option<PolicyServiceSettings> {
    let PolicyServiceDocument { cluster, timeout_ms } = document?;
    check_cluster(&cluster, "policy_service.cluster", check);
    let (range, path) = (1..=POLICY_TIMEOUT_MS_MAX, "policy_service.timeout_ms");
    Some(PolicyServiceSettings {
        timeout_ms: in_range(timeout_ms, range, POLICY_TIMEOUT_MS_DEFAULT, path, check),
        cluster,
    })
}

fn check_identity_headers(names: Option<&[String]>, check: &mut Problems) -> IdentityHeaders {
    let Some(names) = names else {
        return IdentityHeaders::all();
    };
    let mut headers = IdentityHeaders::none();
    for (index, name) in names.iter().enumerate() {
        if !headers.add(name) {
            let known: Vec<_> = identity_headers::short_names()
                .map(|name| format!("`{name}`"))
                .collect();
            check.add(
                format!("identity_headers[{index}]"),
                format_args!(
                    "unknown value `{}`, expected one of {}",
                    shortened(name),
                    known.join(", ")
                ),
            );
        }
    }
    headers
}

/// Those that are listed, and those that route rules name, which [`add_routes`] checks.
fn check_methods(listed: Option<Vec<String>>, rules: &[RuleDocument], check: &mut Problems) -> BTreeSet<Box<str>> {
    let listed = listed.unwrap_or_default();
    if listed.len() > FURTHER_METHODS_MAX {
        check.add(
            "further_methods",
            format_args!("expected at most {FURTHER_METHODS_MAX} methods"),
        );
    }
    for (index, method) in listed.iter().enumerate() {
        if !request::is_upper_case_method(method) {
            let found = shortened(method);
            check.add(
                format!("further_methods[{index}]"),
                format_args!("expected a method in upper case, found `{found}`"),
            );
        }
    }
    let named = rules.iter().filter_map(|rule| rule.methods.as_ref()).flatten();
    let all = listed.iter().chain(named);
    all.filter(|method| !request::is_registered_method(method))
        .map(|method| Box::from(method.as_str()))
        .collect()
}

fn check_rules(
    documents: Vec<RuleDocument>,
    trust_domains: &BTreeSet<TrustDomain>,
    providers: &[Provider],
    check: &mut Problems,
) -> (Vec<RouteRule>, RouteTable) {
    let (mut rules, mut routes) = (Vec::new(), RouteTable::default());
    if documents.is_empty() || documents.len() > RULES_MAX {
        check.add("rules", format_args!("expected 1 to {RULES_MAX} rules"));
        return (rules, routes);
    }
    let mut ids = BTreeSet::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("rules[{index}]");
        check_name(&document.id, &mut ids, &format!("{path}.id"), check);
        let allow_in_path = check_allow_in_path(&document, &path, check);
        add_routes(&document, allow_in_path, &path, &rules, &mut routes, check);
        let credential = check_credential(&document, &path, providers, check);
        rules.push(RouteRule {
            allow_in_path,
            source: check_source(&document, &path, check),
            peers: check_peers(&document, &path, trust_domains, check),
            credential_sources: places_of(&credential, providers),
            credential,
            preflights: check_preflights(&document, &path, check),
            scopes: check_scopes(&document, &path, check),
            possession: check_possession(&document, &path, check),
            decider: decider(&document),
            id: Rc::from(document.id),
            classification: check_label(document.classification, || format!("{path}.classification"), check),
            security_zone: check_label(document.security_zone, || format!("{path}.security_zone"), check),
            tenant: check_label(document.tenant, || format!("{path}.tenant"), check),
        });
    }
    (rules, routes)
}

fn check_allow_in_path(document: &RuleDocument, path: &str, check: &mut Problems) -> Delimiters {
    let Some(names) = document.allow_in_path.as_deref() else {
        return Delimiters::NONE;
    };
    if names.is_empty() {
        check.add(format!("{path}.allow_in_path"), "expected at least one, or no field");
    }
    names
        .iter()
        .fold(Delimiters::NONE, |all, name| all.with(Delimiters::from(*name)))
}

/// What policies see of a rule. An empty text would be none to them.
fn check_label(label: Option<String>, path: impl FnOnce() -> String, check: &mut Problems) -> Option<String> {
    if label
        .as_ref()
        .is_some_and(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX)
    {
        check.add(path(), format_args!("expected 1 to {LABEL_BYTES_MAX} bytes"));
    }
    label
}

/// RFC 6749 §3.3: visible ASCII without `"` and `\\`.
fn check_scopes(document: &RuleDocument, path: &str, check: &mut Problems) -> Vec<String> {
    let Some(scopes) = document.scopes.as_deref() else {
        return Vec::new();
    };
    let is_scope = |scope: &String| {
        !scope.is_empty()
            && scope
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    if scopes.is_empty() || scopes.len() > SCOPES_MAX || !scopes.iter().all(is_scope) {
        let expected = "scopes of visible ASCII without `\"` and `\\`";
        check.add(
            format!("{path}.scopes"),
            format_args!("expected 1 to {SCOPES_MAX} {expected}"),
        );
    }
    if matches!(
        document.credential,
        Some(CredentialDocument::Optional | CredentialDocument::None)
    ) {
        check.add(
            format!("{path}.scopes"),
            "expected no scopes where no credential is required",
        );
    }
    scopes.to_vec()
}

/// Enters each host, method and path of a rule into the table; a rule that repeats itself is a mistake as well.
fn add_routes(
    document: &RuleDocument,
    allowed: Delimiters,
    path: &str,
    rules: &[RouteRule],
    routes: &mut RouteTable,
    check: &mut Problems,
) {
    for (name, list) in [("hosts", &document.hosts), ("paths", &document.paths)] {
        if list.is_empty() {
            check.add(format!("{path}.{name}"), "expected at least one");
        }
    }
    let methods: Vec<Option<&str>> = match document.methods.as_deref() {
        None => vec![None],
        Some(methods) => methods.iter().map(|method| Some(method.as_str())).collect(),
    };
    if methods.is_empty() {
        check.add(
            format!("{path}.methods"),
            "expected at least one, or no field for any method",
        );
    }
    for (index, method) in methods.iter().enumerate() {
        if method.is_some_and(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')) {
            check.add(format!("{path}.methods[{index}]"), "expected a method in upper case");
        }
    }
    let hosts: Vec<_> = parse_each::<HostPattern>(&document.hosts, &format!("{path}.hosts"), check);
    let paths: Vec<_> = parse_each::<PathTemplate>(&document.paths, &format!("{path}.paths"), check);
    for (index, template) in &paths {
        if template
            .delimiters()
            .without(allowed)
            .intersects(Delimiters::ENCODED_SLASH)
        {
            let expected = "expected `allow_in_path` to name `encoded_slash`, as the path holds `%2F`";
            check.add(format!("{path}.paths[{index}]"), expected);
        }
    }
    for (host, (index, template)) in hosts
        .iter()
        .flat_map(|(_, host)| paths.iter().map(move |path| (host, path)))
    {
        for method in &methods {
            if let Err(tie) = routes.insert(host, *method, template, rules.len()) {
                let other = rules.get(tie.with).map_or("itself", |rule| &*rule.id);
                let message =
                    format!("`{template}` ties with rule `{other}`: both match the same requests equally well");
                check.add(format!("{path}.paths[{index}]"), message);
            }
        }
    }
}

/// A name is short, goes into headers and metrics as it is, and is used once.
pub(super) fn check_name(name: &str, used: &mut BTreeSet<String>, path: &str, check: &mut Problems) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        check.add(path, "expected 1 to 64 of the characters `a-z A-Z 0-9 . - _`");
    } else if !used.insert(name.to_owned()) {
        check.add(
            path,
            format_args!("expected a name of its own, `{name}` was used before"),
        );
    }
}

pub(super) fn check_cluster(name: &str, path: &str, check: &mut Problems) {
    if name.is_empty() || name.len() > CLUSTER_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
        check.add(
            path,
            format_args!("expected 1 to {CLUSTER_BYTES_MAX} visible ASCII characters"),
        );
    }
}

fn decider(document: &RuleDocument) -> Decider {
    match document.decision {
        Some(DecisionDocument::PolicyService) | None => Decider::PolicyService,
        Some(DecisionDocument::Permit) => Decider::Permit,
        Some(DecisionDocument::Deny) => Decider::Deny,
    }
}

pub(super) fn in_range(
    value: Option<u32>,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    path: &str,
    check: &mut Problems,
) -> u32 {
    let value = value.unwrap_or(default);
    if !range.contains(&value) {
        check.add(
            path,
            format_args!("expected {} to {}, found {value}", range.start(), range.end()),
        );
    }
    value
}

/// The values of a list that parse, each with its index; a problem for each that does not.
pub(super) fn parse_each<T>(texts: &[String], path: &str, check: &mut Problems) -> Vec<(usize, T)>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    parse_each_with(texts, path, str::parse::<T>, check)
}

/// As [`parse_each`], for values that are read in another way.
pub(super) fn parse_each_with<T, E: std::fmt::Display>(
    texts: &[String],
    path: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    check: &mut Problems,
) -> Vec<(usize, T)> {
    let mut values = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let result = parse(text).map_err(|error| format!("{error}, found `{}`", shortened(text)));
        values.extend(
            check
                .take(&format!("{path}[{index}]"), result)
                .map(|value| (index, value)),
        );
    }
    values
}

fn parse_all<T>(texts: Option<&[String]>, path: &str, check: &mut Problems) -> BTreeSet<T>
where
    T: std::str::FromStr + Ord,
    T::Err: std::fmt::Display,
{
    if texts.is_some_and(<[String]>::is_empty) {
        check.add(path, "expected at least one");
    }
    parse_each(texts.unwrap_or_default(), path, check)
        .into_iter()
        .map(|(_, value)| value)
        .collect()
}
