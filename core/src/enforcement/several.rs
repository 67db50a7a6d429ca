//! Rules that ask for a token of each of several providers: each is there, in a place of its provider, good, and held by the
//! sender; and there is no other.

use std::cmp::Ordering;
use std::rc::Rc;

use super::identity::Identity;
use super::possession::{CredentialCheck, check_certificate};
use super::tokens::Tokens;
use super::{Notes, Refusal, check_provider, check_rule_takes, verify_token};
use crate::reason::{DecidedBy, DenyReason};
use crate::token::credential::{Credential, SourceSet};
use crate::token::provider::ProviderIndex;
use crate::token::{Sighting, VerifiedToken};

/// A credential that was found, and what it is.
type Found<'c, 'h> = (&'c Credential<'h>, Rc<VerifiedToken>);

impl CredentialCheck<'_> {
    /// Writes what the credentials prove into the identity, where there is one of each of these providers.
    pub(super) fn check_all(
        &mut self,
        wanted: &[ProviderIndex],
        credentials: &[Credential<'_>],
        identity: &mut Identity<'_>,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        // Counted first: what is too little or too much costs no signature.
        match credentials.len().cmp(&wanted.len()) {
            Ordering::Equal => {}
            Ordering::Less => return Err(missing()),
            Ordering::Greater => return Err(malformed("the request has more credentials than the rule asks for")),
        }
        let mut found = Vec::with_capacity(credentials.len());
        for credential in credentials {
            found.push((credential, self.verified(credential, notes)?));
        }
        let mut ordered = wanted.iter().map(|provider| one_of(*provider, &found));
        let (credential, principal) = ordered.next().ok_or_else(missing)??;
        let mut others = Vec::with_capacity(wanted.len());
        for other in ordered {
            let (credential, token) = other?;
            check_certificate(token, identity)?;
            // RFC 9449 §4.3: a request has one proof, and that is about one token.
            if token.confirmation.key.is_some() {
                let detail = "a token that is bound to a key can only be one of the rule's first provider";
                return Err(malformed(detail));
            }
            self.check_possession(credential, token, notes)?;
            others.push(Rc::clone(token));
        }
        // Last, as its proof is used up by that.
        check_certificate(principal, identity)?;
        identity.next_nonce = self.check_possession(credential, principal, notes)?;
        check_rule_takes(self.rule, principal)?;
        identity.credential_sources = credentials
            .iter()
            .fold(SourceSet::default(), |all, one| all.union(SourceSet::of(one.source)));
        identity.tokens = Tokens::all(Rc::clone(principal), others);
        Ok(())
    }

    fn verified(&mut self, credential: &Credential<'_>, notes: &mut Notes) -> Result<Rc<VerifiedToken>, Refusal> {
        match verify_token(self.tokens, credential, self.now, notes)? {
            Sighting::Verified(token) => check_provider(self.rule, token.provider).map(|()| token),
            // No provider of such a rule is asked about its tokens.
            Sighting::Unknown(_) => Err(Refusal::new(DenyReason::TokenProviderRefused, DecidedBy::Token)),
        }
    }
}

/// The provider's own. As there are as many credentials as providers, and none is of another one, a provider that has none
/// means that another has two.
fn one_of<'f, 'c, 'h>(
    provider: ProviderIndex,
    found: &'f [Found<'c, 'h>],
) -> Result<(&'c Credential<'h>, &'f Rc<VerifiedToken>), Refusal> {
    let mut own = found.iter().filter(|(_, token)| token.provider == provider);
    let (credential, token) = own
        .next()
        .ok_or_else(|| malformed("two of the credentials are one provider's"))?;
    Ok((credential, token))
}

fn missing() -> Refusal {
    let detail = "the request has fewer credentials than the rule asks for";
    Refusal::new(DenyReason::CredentialMissing, DecidedBy::Token).because(detail)
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(DenyReason::CredentialMalformed, DecidedBy::Token).because(detail)
}
