//! Rules that ask for a token of each of several providers: each is there, in a place of its provider, good, and held by the
//! sender; and there is no other.

use std::cmp::Ordering;
use std::fmt::Display;
use std::rc::Rc;

use super::identity::Identity;
use super::possession::{CredentialCheck, check_certificate};
use super::tokens::Tokens;
use super::{Notes, Refusal, check_provider, check_rule_takes};
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
            Ordering::Greater => {
                let places = self.configuration.credential_sources.names(sources(credentials));
                return Err(malformed(format_args!(
                    "the request has more credentials than the rule asks for: in {places}"
                )));
            }
        }
        let mut found = Vec::with_capacity(credentials.len());
        for credential in credentials {
            found.push((credential, self.verified(credential, notes)?));
        }
        if let Some((first, second)) = of_one_provider(&found) {
            let places = self.configuration.credential_sources.names(sources([first, second]));
            return Err(malformed(format_args!(
                "two of the credentials are one provider's: in {places}"
            )));
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
        identity.credential_sources = sources(credentials);
        identity.tokens = Tokens::all(Rc::clone(principal), others);
        Ok(())
    }

    fn verified(&mut self, credential: &Credential<'_>, notes: &mut Notes) -> Result<Rc<VerifiedToken>, Refusal> {
        match self.verify(credential, notes)? {
            Sighting::Verified(token) => check_provider(self.rule, token.provider).map(|()| token),
            // No provider of such a rule is asked about its tokens.
            Sighting::Unknown(_) => Err(Refusal::new(DenyReason::TokenProviderRefused, DecidedBy::Token)),
        }
    }
}

/// Where these credentials are.
fn sources<'c, 'h: 'c>(credentials: impl IntoIterator<Item = &'c Credential<'h>>) -> SourceSet {
    let places = credentials.into_iter().map(|one| SourceSet::of(one.source));
    places.fold(SourceSet::default(), SourceSet::union)
}

/// The first two of one provider.
fn of_one_provider<'c, 'h>(found: &[Found<'c, 'h>]) -> Option<(&'c Credential<'h>, &'c Credential<'h>)> {
    found.iter().enumerate().find_map(|(index, (credential, token))| {
        let earlier = found.iter().take(index);
        let mut same = earlier.filter(|(_, other)| other.provider == token.provider);
        same.next().map(|(first, _)| (*first, *credential))
    })
}

/// The provider's own. As there are as many credentials as providers, none is of another one, and no two are of the same, each
/// has one.
fn one_of<'f, 'c, 'h>(
    provider: ProviderIndex,
    found: &'f [Found<'c, 'h>],
) -> Result<(&'c Credential<'h>, &'f Rc<VerifiedToken>), Refusal> {
    let mut own = found.iter().filter(|(_, token)| token.provider == provider);
    let (credential, token) = own.next().ok_or_else(missing)?;
    Ok((credential, token))
}

fn missing() -> Refusal {
    let detail = "the request has fewer credentials than the rule asks for";
    Refusal::new(DenyReason::CredentialMissing, DecidedBy::Token).because(detail)
}

fn malformed(detail: impl Display) -> Refusal {
    Refusal::new(DenyReason::CredentialMalformed, DecidedBy::Token).because(detail)
}
