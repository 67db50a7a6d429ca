//! The check of a request's credentials: found, verified, held by the sender, and accepted by the
//! route rule.

mod possession;
mod several;

use std::rc::Rc;

use picket_model::time::Timestamp;

use self::possession::{PossessionCheck, check_certificate};
use super::Notes;
use super::challenge::ChallengeSchemes;
use super::configuration::FilterConfiguration;
use super::identity::Identity;
use super::introspection::{Introspection, IntrospectionState};
use super::key_waits::{KeyWaitPlaces, PendingKeys};
use super::refusal::{Challenge, Refusal};
use super::rule::{CredentialRequirement, PreflightCredential, RouteRule};
use super::tokens::Tokens;
use crate::dpop::ProofChecker;
use crate::path::Delimiters;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::RequestHead;
use crate::token::credential::{Credential, CredentialError, CredentialScheme, SourceSet};
use crate::token::provider::ProviderIndex;
use crate::token::{TokenError, TokenVerifier, VerificationOutcome, VerifiedToken};

/// The check of one request's credential, or of several where the rule asks for them: that it is
/// there, verified, held by the sender, and taken by the rule.
pub(super) struct CredentialCheck<'e> {
    pub(super) configuration: &'e FilterConfiguration,
    pub(super) tokens: &'e mut TokenVerifier,
    pub(super) proofs: &'e mut ProofChecker,
    pub(super) rule: &'e RouteRule,
    pub(super) head: &'e RequestHead<'e>,
    pub(super) now: Timestamp,
    /// When the request arrived.
    pub(super) since: Timestamp,
    pub(super) key_waits: &'e KeyWaitPlaces,
    /// The wait that must end before the request is refused.
    pub(super) awaited: Option<PendingKeys>,
}

/// The result of a check that found no reason for a refusal.
pub(super) enum CredentialProgress {
    /// The identity has what the credential proves.
    Checked,
    /// The token's issuer must be asked first.
    NeedsIntrospection(Box<Introspection>),
    /// Newer keys must be awaited first.
    NeedsKeys(PendingKeys),
}

impl CredentialCheck<'_> {
    /// Writes what the credential proves into the identity.
    pub(super) fn run(
        mut self,
        identity: &mut Identity<'_>,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Result<CredentialProgress, Refusal> {
        if self.rule.credential != CredentialRequirement::NotRequired {
            let (sources, own) = (&self.configuration.credential_sources, self.rule.credential_sources);
            identity.unverified_sources = sources.occupied_beside(own, self.head);
            self.check_encoded_query()?;
        }
        let result = match &self.rule.credential {
            CredentialRequirement::All(providers) => self.run_all(providers, identity, introspection, notes),
            CredentialRequirement::NotRequired
            | CredentialRequirement::Required(_)
            | CredentialRequirement::Optional(_) => self.run_one(identity, introspection, notes),
        };
        match self.awaited {
            Some(pending) => Ok(CredentialProgress::NeedsKeys(pending)),
            None => result,
        }
    }

    fn run_one(
        &mut self,
        identity: &mut Identity<'_>,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Result<CredentialProgress, Refusal> {
        let found = find_credential(self.configuration, self.rule, self.head)
            .map_err(|refusal| self.misplaced(refusal, identity.unverified_sources));
        let scheme = found.as_ref().ok().and_then(|found| found.map(|found| found.scheme));
        let result = found.and_then(|found| match found {
            None => Ok(CredentialProgress::Checked),
            Some(credential) => self.check_one(&credential, identity, introspection, notes),
        });
        result.map_err(|refusal| self.challenged(refusal, scheme))
    }

    fn run_all(
        &mut self,
        providers: &[ProviderIndex],
        identity: &mut Identity<'_>,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Result<CredentialProgress, Refusal> {
        introspection.check_not_asked()?;
        let sources = &self.configuration.credential_sources;
        let found = sources.find_all(self.rule.credential_sources, self.head);
        let found = found.map_err(|error| self.challenged(error.into(), None))?;
        // Only one place knows schemes.
        let dpop = found
            .iter()
            .map(|found| found.scheme)
            .find(|scheme| *scheme == CredentialScheme::Dpop);
        match self.check_all(providers, &found, identity, notes) {
            Ok(()) => Ok(CredentialProgress::Checked),
            Err(refusal) => Err(self.challenged(self.misplaced(refusal, identity.unverified_sources), dpop)),
        }
    }

    /// Writes into the identity what the credentials prove, if there is one of each of these
    /// providers.
    fn check_all(
        &mut self,
        wanted: &[ProviderIndex],
        credentials: &[Credential<'_>],
        identity: &mut Identity<'_>,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        let sources = &self.configuration.credential_sources;
        // Counted first: too few or too many cost no signature.
        several::check_count(wanted.len(), credentials, sources)?;
        let mut verified = Vec::with_capacity(credentials.len());
        for credential in credentials {
            verified.push((credential, self.verify_with_keys(credential, notes)?));
        }
        let assigned = several::assign(wanted, &verified, sources)?;
        let mut others = Vec::with_capacity(wanted.len());
        for (credential, token) in assigned.others {
            check_certificate(token, identity)?;
            // RFC 9449 §4.3: a request has one proof, and that is about one token.
            if token.confirmation.key.is_some() {
                let detail = "a token that is bound to a key can only be one of the rule's first provider";
                return Err(several::malformed(detail));
            }
            self.possession().check(credential, token, notes)?;
            others.push(Rc::clone(token));
        }
        // Last, as a proof can be used once.
        let (credential, principal) = assigned.principal;
        check_certificate(principal, identity)?;
        identity.next_nonce = self.possession().check(credential, principal, notes)?;
        check_token(self.rule, principal)?;
        identity.credential_sources = several::sources_of(credentials);
        identity.tokens = Tokens::all(Rc::clone(principal), others);
        Ok(())
    }

    /// Verifies the token of a rule with several providers. None of these has an introspection
    /// endpoint.
    fn verify_with_keys(
        &mut self,
        credential: &Credential<'_>,
        notes: &mut Notes,
    ) -> Result<Rc<VerifiedToken>, Refusal> {
        match self.verify(credential, notes)? {
            VerificationOutcome::Verified(token) => check_provider(self.rule, token.provider).map(|()| token),
            VerificationOutcome::NeedsIntrospection(_) => {
                Err(Refusal::new(DenyReason::TokenProviderRefused, DecidedBy::Token))
            }
        }
    }

    /// Where the rule does not say that the upstream takes `%3F` for data, the upstream may find a
    /// query behind it.
    fn check_encoded_query(&self) -> Result<(), Refusal> {
        let delimiters = self.head.target.delimiters.without(self.rule.allow_in_path);
        if !delimiters.intersects(Delimiters::ENCODED_QUESTION_MARK) {
            return Ok(());
        }
        let sources = &self.configuration.credential_sources;
        match sources.behind_encoded_question_mark(self.head) {
            None => Ok(()),
            Some(place) => Err(CredentialError::Misread(place.clone()).into()),
        }
    }

    /// Where a credential is missing, and there is one that does not count, the caller is told so.
    fn misplaced(&self, refusal: Refusal, unverified: SourceSet) -> Refusal {
        if refusal.reason != DenyReason::CredentialMissing || unverified == SourceSet::default() {
            return refusal;
        }
        let places = self.configuration.credential_sources.names(unverified);
        refusal.with_detail(format_args!(
            "no token was sent in a place of the rule's providers, though in one of others: {places}"
        ))
    }

    fn check_one(
        &mut self,
        credential: &Credential<'_>,
        identity: &mut Identity<'_>,
        introspection: IntrospectionState,
        notes: &mut Notes,
    ) -> Result<CredentialProgress, Refusal> {
        identity.credential_sources = SourceSet::of(credential.source);
        let outcome = match introspection.result_for(credential)? {
            Some(result) => VerificationOutcome::Verified(result?),
            None => self.verify(credential, notes)?,
        };
        let token = match outcome {
            VerificationOutcome::Verified(token) => token,
            VerificationOutcome::NeedsIntrospection(lookup) => {
                // No introspection for a token that the rule refuses whatever its result is.
                check_provider(self.rule, lookup.provider)?;
                let introspection = Introspection::new(lookup, credential, self.now);
                return Ok(CredentialProgress::NeedsIntrospection(Box::new(introspection)));
            }
        };
        // Before the rule's requirements on the token: whoever stole it learns nothing about them.
        check_certificate(&token, identity)?;
        identity.next_nonce = self.possession().check(credential, &token, notes)?;
        check_token(self.rule, &token)?;
        identity.tokens = Tokens::one(token);
        Ok(CredentialProgress::Checked)
    }

    /// Adds the schemes by which the client can prove possession (RFC 9449 §7.1).
    fn challenged(&self, refusal: Refusal, used: Option<CredentialScheme>) -> Refusal {
        ChallengeSchemes::new(self.configuration, self.rule, self.proofs, self.now).add_to(refusal, used)
    }

    fn possession(&mut self) -> PossessionCheck<'_> {
        PossessionCheck {
            proofs: &mut *self.proofs,
            requirement: self.rule.possession,
            head: self.head,
            now: self.now,
        }
    }

    /// Verifies a credential's token. Where newer keys might verify it, the request is to wait for
    /// them.
    fn verify(&mut self, credential: &Credential<'_>, notes: &mut Notes) -> Result<VerificationOutcome, Refusal> {
        let mut how = None;
        let of = self.rule.credential.providers();
        let result = self.tokens.verify(credential, of, self.now, &mut how);
        let has_passed = matches!(result, Ok(VerificationOutcome::Verified(_)));
        notes.verifications.extend(how.map(|how| (how, has_passed)));
        result.map_err(|error| self.not_verified(error))
    }

    fn not_verified(&mut self, error: TokenError) -> Refusal {
        let mut first = None;
        for provider in error.newer_keys_of.iter() {
            // Nobody waits for the keys of a provider whose tokens the rule does not take.
            if check_provider(self.rule, provider).is_err() {
                continue;
            }
            // All of them are fetched again. The request waits for the first one's, and then for
            // the next.
            let wait = self.tokens.request_newer_keys(provider, self.since, self.now);
            first = first.or(wait.map(|wait| (provider, wait)));
        }
        let Some((provider, wait)) = first else {
            return error.into();
        };
        let Some(pending) = self.key_waits.reserve(provider, wait) else {
            let detail = "too many requests wait for the provider's keys";
            return Refusal::new(DenyReason::KeySetUnavailable, DecidedBy::Token).with_detail(detail);
        };
        self.awaited = Some(pending);
        error.into()
    }
}

/// The one credential that the rule requires. `None`: it requires none, or accepts requests without
/// one.
fn find_credential<'a>(
    configuration: &FilterConfiguration,
    rule: &RouteRule,
    head: &RequestHead<'a>,
) -> Result<Option<Credential<'a>>, Refusal> {
    let exempts_preflights = rule.preflights == PreflightCredential::NotRequired;
    if rule.credential == CredentialRequirement::NotRequired || (exempts_preflights && is_preflight(head)) {
        return Ok(None);
    }
    let found = configuration.credential_sources.find(rule.credential_sources, head)?;
    match (&rule.credential, found) {
        (CredentialRequirement::Required(_) | CredentialRequirement::All(_), None) => {
            Err(Refusal::from(TokenError::missing()))
        }
        (_, found) => Ok(found),
    }
}

/// The CORS-preflight request of the Fetch standard, as Envoy's JWT filter knows it.
fn is_preflight(head: &RequestHead<'_>) -> bool {
    let has = |wanted: &str| {
        head.headers
            .iter()
            .any(|(name, value)| *name == wanted && !value.is_empty())
    };
    head.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

/// Whether the rule accepts tokens of this provider.
fn check_provider(rule: &RouteRule, provider: ProviderIndex) -> Result<(), Refusal> {
    let of = rule.credential.providers();
    match of.is_none_or(|providers| providers.contains(&provider)) {
        true => Ok(()),
        false => Err(Refusal::new(DenyReason::TokenProviderRefused, DecidedBy::Token)),
    }
}

/// Whether the rule accepts the token: its provider, and its scopes.
fn check_token(rule: &RouteRule, token: &VerifiedToken) -> Result<(), Refusal> {
    check_provider(rule, token.provider)?;
    match rule.scopes.iter().all(|scope| token.principal.scopes.contains(scope)) {
        true => Ok(()),
        false => Err(Refusal {
            challenge: Some(Box::new(Challenge {
                scopes: rule.scopes.clone(),
                ..Challenge::default()
            })),
            ..Refusal::new(DenyReason::TokenScopeInsufficient, DecidedBy::Token)
        }
        .with_unread_claims(token)),
    }
}
