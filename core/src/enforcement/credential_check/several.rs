//! Rules that require a token of each of several providers: which credential is whose.

use std::cmp::Ordering;
use std::fmt::Display;
use std::rc::Rc;

use crate::enforcement::refusal::Refusal;
use crate::reason::{DecidedBy, DenyReason};
use crate::token::VerifiedToken;
use crate::token::credential::{Credential, CredentialSources, SourceSet};
use crate::token::provider::ProviderIndex;

/// A credential with its verified token.
pub(super) type VerifiedCredential<'c, 'h> = (&'c Credential<'h>, Rc<VerifiedToken>);

/// The same, borrowed.
type AssignedCredential<'f, 'c, 'h> = (&'c Credential<'h>, &'f Rc<VerifiedToken>);

/// The credentials of a request, in the order of the rule's providers.
pub(super) struct AssignedCredentials<'f, 'c, 'h> {
    /// The one of the first provider, which names the principal.
    pub(super) principal: AssignedCredential<'f, 'c, 'h>,
    /// Those of the other providers.
    pub(super) others: Vec<AssignedCredential<'f, 'c, 'h>>,
}

/// Checks that a request has as many credentials as the rule has providers.
pub(super) fn check_count(
    wanted: usize,
    credentials: &[Credential<'_>],
    sources: &CredentialSources,
) -> Result<(), Refusal> {
    match credentials.len().cmp(&wanted) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(missing()),
        Ordering::Greater => {
            let places = sources.names(sources_of(credentials));
            Err(malformed(format_args!(
                "the request has more credentials than the rule asks for: in {places}"
            )))
        }
    }
}

/// Finds the credential of each provider. `verified` has as many entries as there are providers.
pub(super) fn assign<'f, 'c, 'h>(
    wanted: &[ProviderIndex],
    verified: &'f [VerifiedCredential<'c, 'h>],
    sources: &CredentialSources,
) -> Result<AssignedCredentials<'f, 'c, 'h>, Refusal> {
    if let Some((first, second)) = of_one_provider(verified) {
        let places = sources.names(sources_of([first, second]));
        return Err(malformed(format_args!(
            "two of the credentials are one provider's: in {places}"
        )));
    }
    let mut ordered = wanted.iter().map(|provider| of_provider(*provider, verified));
    let principal = ordered.next().ok_or_else(missing)??;
    let others = ordered.collect::<Result<_, _>>()?;
    Ok(AssignedCredentials { principal, others })
}

/// The places of these credentials.
pub(super) fn sources_of<'c, 'h: 'c>(credentials: impl IntoIterator<Item = &'c Credential<'h>>) -> SourceSet {
    let places = credentials.into_iter().map(|one| SourceSet::of(one.source));
    places.fold(SourceSet::default(), SourceSet::union)
}

pub(super) fn malformed(detail: impl Display) -> Refusal {
    Refusal::new(DenyReason::CredentialMalformed, DecidedBy::Token).with_detail(detail)
}

/// The first two of one provider.
fn of_one_provider<'c, 'h>(
    verified: &[VerifiedCredential<'c, 'h>],
) -> Option<(&'c Credential<'h>, &'c Credential<'h>)> {
    verified.iter().enumerate().find_map(|(index, (credential, token))| {
        let earlier = verified.iter().take(index);
        let mut same = earlier.filter(|(_, other)| other.provider == token.provider);
        same.next().map(|(first, _)| (*first, *credential))
    })
}

/// The provider's own. As there are as many credentials as providers, none is of another one, and
/// no two are of the same, each has one.
fn of_provider<'f, 'c, 'h>(
    provider: ProviderIndex,
    verified: &'f [VerifiedCredential<'c, 'h>],
) -> Result<AssignedCredential<'f, 'c, 'h>, Refusal> {
    let mut own = verified.iter().filter(|(_, token)| token.provider == provider);
    let (credential, token) = own.next().ok_or_else(missing)?;
    Ok((credential, token))
}

fn missing() -> Refusal {
    let detail = "the request has fewer credentials than the rule asks for";
    Refusal::new(DenyReason::CredentialMissing, DecidedBy::Token).with_detail(detail)
}
