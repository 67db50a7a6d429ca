//! The schemes in the challenge of a refusal (RFC 9110 §11.6.1, RFC 9449 §7.2).

use std::rc::Rc;

use picket_model::time::Timestamp;

use super::FilterConfiguration;
use super::rule::{CredentialRequirement, PossessionRequirement, RouteRule};
use super::tokens::Tokens;
use super::{ChallengeScheme, Refusal};
use crate::dpop::ProofChecker;
use crate::reason::{DecidedBy, DenyReason};
use crate::token::credential::{CredentialScheme, CredentialSources};

/// What the schemes of a rule's challenges depend on.
pub(super) struct ChallengeSchemes<'e> {
    rule: &'e RouteRule,
    sources: &'e CredentialSources,
    proofs: &'e ProofChecker,
    now: Timestamp,
}

impl<'e> ChallengeSchemes<'e> {
    pub(super) fn new(
        configuration: &'e FilterConfiguration,
        rule: &'e RouteRule,
        proofs: &'e ProofChecker,
        now: Timestamp,
    ) -> Self {
        Self {
            rule,
            sources: &configuration.credential_sources,
            proofs,
            now,
        }
    }

    /// Adds the schemes to a refusal. `used` is the scheme of the request's credential.
    pub(super) fn add_to(&self, mut refusal: Refusal, used: Option<CredentialScheme>) -> Refusal {
        if self.rule.credential == CredentialRequirement::NotRequired {
            return refusal;
        }
        // A later step accepted the token as it was sent.
        let is_about_credential = refusal.decided_by == DecidedBy::Token;
        let needs_proof = used == Some(CredentialScheme::Dpop)
            || is_about_credential && self.rule.possession == PossessionRequirement::Required
            || refusal.reason == DenyReason::TokenSentAsBearer;
        let names_both = (is_about_credential && matches!(refusal.reason.status(), 400 | 401)
            || refusal.reason == DenyReason::TokenNotBound)
            // RFC 9449 §7.1: a token that is bound to a key comes in `authorization` alone.
            && self.sources.include_authorization(self.rule.credential_sources);
        let algorithms = Rc::clone(self.proofs.algorithm_names());
        let scheme = match () {
            () if needs_proof => ChallengeScheme::Dpop {
                algorithms,
                nonce: self.proofs.nonce(self.now),
            },
            () if names_both => ChallengeScheme::BearerOrDpop { algorithms },
            () => return refusal,
        };
        refusal.challenge.get_or_insert_default().scheme = scheme;
        refusal
    }
}

/// The scheme by which the principal's token was sent. A token that is bound to a key passes with
/// `DPoP` alone.
pub(super) fn scheme_of(tokens: &Tokens) -> Option<CredentialScheme> {
    tokens.principal().map(|token| match token.confirmation.key {
        Some(_) => CredentialScheme::Dpop,
        None => CredentialScheme::Bearer,
    })
}
