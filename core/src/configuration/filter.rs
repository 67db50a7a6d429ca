//! The checks of a filter's configuration: a document becomes a [`FilterConfiguration`], which can
//! be enforced, or a list of every mistake in it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::rc::Rc;

use picket_model::problems::{self, Problems, shortened};
use picket_model::spiffe::TrustDomain;
use picket_model::strict_json;

use super::access::check_access;
use super::document::{
    CredentialDocument, DoubleEncodingDocument, FilterDocument, NeedDocument, PolicyServiceDocument, RuleDocument,
    TokenLimitsDocument, TransactionTokenDocument,
};
use super::dpop::check_dpop;
use super::introspection::read_secrets;
use super::limits::{
    DECISION_CACHE_ENTRIES_DEFAULT, DECISION_CACHE_ENTRIES_MAX, DOCUMENT_BYTES_MAX, FURTHER_METHODS_MAX,
    POLICY_TIMEOUT_MS_DEFAULT, POLICY_TIMEOUT_MS_MAX, TOKEN_CACHE_ENTRIES_MAX, TRANSACTION_LIFETIME_S_DEFAULT,
    TRANSACTION_LIFETIME_S_MAX,
};
use super::peers;
use super::providers::{Providers, check_providers};
use super::rules::{check_rules, decider};
use super::values::{check_cluster, in_range, parse_all};
use crate::enforcement::rule::Decider;
use crate::enforcement::{FilterConfiguration, PolicyServiceSettings};
use crate::identity_headers::{self, IdentityHeaders};
use crate::jose::TokenLimits;
use crate::peer::resolution::PeerResolution;
use crate::request;
use crate::token::provider::Provider;
use crate::transaction_token::{self, TransactionTokens};

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
/// A cached decision is found by its verified token, so a token that made room takes its decisions
/// along: there is room for as many tokens as decisions.
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

/// Those that are listed, and those that route rules name, which the rules' own check has read.
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
