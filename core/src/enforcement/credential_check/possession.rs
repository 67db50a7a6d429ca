//! Proof of possession: a bound token is good only with a proof that its sender holds what it is
//! bound to.

use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use picket_model::time::Timestamp;

use crate::dpop::{AccessTokenHash, KeyBinding, ProofChecker};
use crate::enforcement::Notes;
use crate::enforcement::identity::Identity;
use crate::enforcement::refusal::Refusal;
use crate::enforcement::rule::PossessionRequirement;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::RequestHead;
use crate::token::VerifiedToken;
use crate::token::credential::{Credential, CredentialScheme};

/// The check of the proof of one request, under one rule.
pub(super) struct PossessionCheck<'e> {
    pub(super) proofs: &'e mut ProofChecker,
    pub(super) requirement: PossessionRequirement,
    pub(super) head: &'e RequestHead<'e>,
    pub(super) now: Timestamp,
}

impl PossessionCheck<'_> {
    /// Checks the key that a token is bound to, for each request, also where the token is cached.
    /// Returns the nonce for the client's next proof, where it needs another one.
    pub(super) fn check(
        &mut self,
        credential: &Credential<'_>,
        token: &VerifiedToken,
        notes: &mut Notes,
    ) -> Result<Option<String>, Refusal> {
        let refused = |reason| Err(Refusal::new(reason, DecidedBy::Token));
        let is_held = token.confirmation.certificate.is_some();
        match (credential.scheme, token.confirmation.key, self.requirement) {
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
}

/// RFC 8705 §3: a token that names a certificate is good only where the sender has proved to hold
/// its key, on this very connection, or on the one that a trusted hop speaks of.
pub(super) fn check_certificate(token: &VerifiedToken, identity: &Identity<'_>) -> Result<(), Refusal> {
    let Some(wanted) = token.confirmation.certificate else {
        return Ok(());
    };
    let refusal = Refusal::new(DenyReason::TokenCertificateMismatch, DecidedBy::Token);
    match identity.peer().as_ref() {
        Ok(peer) if peer.thumbprint == Some(CertificateThumbprint(wanted)) => Ok(()),
        Ok(_) => Err(refusal),
        Err(error) => Err(refusal.with_detail(error)),
    }
}
