//! Proof of possession: a token that is bound is good only for who holds what it is bound to.

use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use picket_model::time::Timestamp;

use super::challenge::Schemes;
use super::identity::Identity;
use super::introspection::{Introspection, Knowledge};
use super::key_waits::{KeyWaitPlaces, PendingKeys};
use super::tokens::Tokens;
use super::{Notes, Refusal, check_provider, check_rule_takes, find_credential};
use crate::configuration::filter::{CredentialRequirement, FilterConfiguration, PossessionRequirement, RouteRule};
use crate::dpop::{AccessTokenHash, KeyBinding, ProofChecker, ProofError};
use crate::path::Delimiters;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::RequestHead;
use crate::token::credential::{Credential, CredentialError, CredentialScheme, SourceSet};
use crate::token::provider::ProviderIndex;
use crate::token::{Sighting, TokenVerifier, VerifiedToken};

/// The check of one request's credential, or of several where the rule asks for them: that it is there, verified, held by the
/// sender, and taken by the rule.
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
    /// What the request is to wait for before it is refused.
    pub(super) awaited: Option<PendingKeys>,
}

/// How far the check got.
pub(super) enum Progress {
    /// To its end: what the credential proves is in the identity.
    Done,
    /// The token's issuer is to be asked first.
    ToAsk(Box<Introspection>),
    /// Newer keys are to be awaited first.
    ToAwaitKeys(PendingKeys),
}

impl CredentialCheck<'_> {
    /// Writes what the credential proves into the identity.
    pub(super) fn run(
        mut self,
        identity: &mut Identity<'_>,
        knowledge: Knowledge,
        notes: &mut Notes,
    ) -> Result<Progress, Refusal> {
        if self.rule.credential != CredentialRequirement::NotRequired {
            let (sources, own) = (&self.configuration.credential_sources, self.rule.credential_sources);
            identity.unverified_sources = sources.occupied_beside(own, self.head);
            self.check_encoded_query()?;
        }
        let result = match &self.rule.credential {
            CredentialRequirement::All(providers) => self.run_all(providers, identity, knowledge, notes),
            CredentialRequirement::NotRequired
            | CredentialRequirement::Required(_)
            | CredentialRequirement::Optional(_) => self.run_one(identity, knowledge, notes),
        };
        match self.awaited {
            Some(pending) => Ok(Progress::ToAwaitKeys(pending)),
            None => result,
        }
    }

    fn run_one(
        &mut self,
        identity: &mut Identity<'_>,
        knowledge: Knowledge,
        notes: &mut Notes,
    ) -> Result<Progress, Refusal> {
        let found = find_credential(self.configuration, self.rule, self.head)
            .map_err(|refusal| self.misplaced(refusal, identity.unverified_sources));
        let scheme = found.as_ref().ok().and_then(|found| found.map(|found| found.scheme));
        let result = found.and_then(|found| match found {
            None => Ok(Progress::Done),
            Some(credential) => self.check(&credential, identity, knowledge, notes),
        });
        result.map_err(|refusal| self.challenged(refusal, scheme))
    }

    fn run_all(
        &mut self,
        providers: &[ProviderIndex],
        identity: &mut Identity<'_>,
        knowledge: Knowledge,
        notes: &mut Notes,
    ) -> Result<Progress, Refusal> {
        knowledge.check_own()?;
        let sources = &self.configuration.credential_sources;
        let found = sources.find_all(self.rule.credential_sources, self.head);
        let found = found.map_err(|error| self.challenged(error.into(), None))?;
        // Only one place knows schemes.
        let dpop = found
            .iter()
            .map(|found| found.scheme)
            .find(|scheme| *scheme == CredentialScheme::Dpop);
        match self.check_all(providers, &found, identity, notes) {
            Ok(()) => Ok(Progress::Done),
            Err(refusal) => Err(self.challenged(self.misplaced(refusal, identity.unverified_sources), dpop)),
        }
    }

    /// Where the rule does not say that the upstream takes `%3F` for data, the upstream may find a query behind it.
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
        refusal.because(format_args!(
            "no token was sent in a place of the rule's providers, though in one of others: {places}"
        ))
    }

    fn check(
        &mut self,
        credential: &Credential<'_>,
        identity: &mut Identity<'_>,
        knowledge: Knowledge,
        notes: &mut Notes,
    ) -> Result<Progress, Refusal> {
        identity.credential_sources = SourceSet::of(credential.source);
        let sighting = match knowledge.about(credential)? {
            Some(told) => Sighting::Verified(told?),
            None => self.verify(credential, notes)?,
        };
        let token = match sighting {
            Sighting::Verified(token) => token,
            Sighting::Unknown(lookup) => {
                // Nobody is asked about a token that would be refused whatever the answer is.
                check_provider(self.rule, lookup.provider)?;
                let introspection = Introspection::new(lookup, credential, self.now);
                return Ok(Progress::ToAsk(Box::new(introspection)));
            }
        };
        // Before the rule looks at what the token allows: that is nobody's business who does not hold it.
        check_certificate(&token, identity)?;
        identity.next_nonce = self.check_possession(credential, &token, notes)?;
        check_rule_takes(self.rule, &token)?;
        identity.tokens = Tokens::one(token);
        Ok(Progress::Done)
    }

    /// Asked for each request, however well the token is known. Returns the nonce for the client's next proof, where it needs
    /// another.
    pub(super) fn check_possession(
        &mut self,
        credential: &Credential<'_>,
        token: &VerifiedToken,
        notes: &mut Notes,
    ) -> Result<Option<String>, Refusal> {
        let refused = |reason| Err(Refusal::new(reason, DecidedBy::Token));
        let is_held = token.confirmation.certificate.is_some();
        match (credential.scheme, token.confirmation.key, self.rule.possession) {
            (CredentialScheme::Dpop, Some(key), _) => {
                let binding = KeyBinding {
                    thumbprint: KeyThumbprint(key),
                    access_token_hash: AccessTokenHash::of(credential.token),
                };
                let result = self.proofs.check(self.head, &binding, self.now);
                notes.proof_passed = Some(result.is_ok());
                Ok(result?.next_nonce)
            }
            // RFC 9449 §7.2: a thief would send it so.
            (CredentialScheme::Bearer, Some(_), _) => refused(DenyReason::TokenSentAsBearer),
            // RFC 9449 §7.1: the scheme promises what the token does not ask for.
            (CredentialScheme::Dpop, None, _) => refused(DenyReason::TokenNotBound),
            (CredentialScheme::Bearer, None, PossessionRequirement::Required) if !is_held => {
                refused(DenyReason::TokenNotBound)
            }
            (CredentialScheme::Bearer, None, PossessionRequirement::Required | PossessionRequirement::WhenBound) => {
                Ok(None)
            }
        }
    }

    /// Tells a client that has to prove possession how (RFC 9449 §7.1).
    fn challenged(&self, refusal: Refusal, used: Option<CredentialScheme>) -> Refusal {
        Schemes::new(self.configuration, self.rule, self.proofs, self.now).name_in(refusal, used)
    }
}

/// RFC 8705 §3: a token that names a certificate is good only where the sender has proved to hold its key, on this very
/// connection, or on the one that a trusted hop speaks of.
pub(super) fn check_certificate(token: &VerifiedToken, identity: &Identity<'_>) -> Result<(), Refusal> {
    let Some(wanted) = token.confirmation.certificate else {
        return Ok(());
    };
    let refusal = Refusal::new(DenyReason::TokenCertificateMismatch, DecidedBy::Token);
    match identity.peer().as_ref() {
        Ok(peer) if peer.thumbprint == Some(CertificateThumbprint(wanted)) => Ok(()),
        Ok(_) => Err(refusal),
        Err(error) => Err(refusal.because(error)),
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        let reason = match error {
            ProofError::Missing => DenyReason::DpopProofMissing,
            ProofError::Repeated
            | ProofError::NotJws
            | ProofError::Claim(_)
            | ProofError::Type
            | ProofError::Algorithm
            | ProofError::Key
            | ProofError::Signature
            | ProofError::Method
            | ProofError::Uri
            | ProofError::AccessTokenHash => DenyReason::DpopProofInvalid,
            ProofError::TooOld | ProofError::InTheFuture(_) | ProofError::Expired => DenyReason::DpopProofStale,
            ProofError::OtherKey => DenyReason::DpopKeyMismatch,
            ProofError::Nonce => DenyReason::DpopNonceRequired,
            ProofError::Replayed => DenyReason::DpopProofReplayed,
            ProofError::LedgerFull => DenyReason::DpopLedgerFull,
            ProofError::LedgerUnavailable => DenyReason::HostFailure,
        };
        Self::new(reason, DecidedBy::Token).because(error)
    }
}
