//! The checks of the credentials that a route rule requires.

use std::collections::BTreeMap;

use picket_model::problems::{Problems, shortened};

use super::document::{CredentialDocument, NeedDocument, RuleDocument};
use crate::enforcement::rule::{CredentialRequirement, PreflightCredential};
use crate::token::credential::{CREDENTIALS_MAX, SOURCES_MAX, SourceSet};
use crate::token::provider::{Provider, ProviderIndex};

pub(super) fn check_credential(
    document: &RuleDocument,
    path: &str,
    providers: &[Provider],
    check: &mut Problems,
) -> CredentialRequirement {
    let path = format!("{path}.providers");
    let of = document.providers.as_deref().map(|names| {
        if names.is_empty() {
            check.add(path.clone(), "expected at least one");
        }
        find_each(names, &path, providers, check)
    });
    match document.credential {
        Some(CredentialDocument::Required) | None => CredentialRequirement::Required(of),
        Some(CredentialDocument::All) => {
            let of = of.unwrap_or_default();
            check_all(&of, document.providers.as_deref(), &path, providers, check);
            CredentialRequirement::All(of)
        }
        Some(CredentialDocument::Optional) => CredentialRequirement::Optional(of),
        Some(CredentialDocument::None) => {
            if of.is_some() {
                check.add(path, "expected no list of providers beside `credential: none`");
            }
            CredentialRequirement::NotRequired
        }
    }
}

/// Where the tokens that a rule takes may be sent.
pub(super) fn places_of(credential: &CredentialRequirement, providers: &[Provider]) -> SourceSet {
    match credential.providers() {
        None => SourceSet::ALL,
        Some(of) => of
            .iter()
            .filter_map(|provider| providers.get(*provider))
            .fold(SourceSet::default(), |all, provider| all.union(provider.sources)),
    }
}

/// `credential: all` has a check of its own, and with `credential: none` there is nothing to leave
/// out.
pub(super) fn check_preflights(document: &RuleDocument, path: &str, check: &mut Problems) -> PreflightCredential {
    match (document.preflight_credential, document.credential) {
        (None | Some(NeedDocument::Required), _) => PreflightCredential::AsRule,
        (Some(NeedDocument::None), Some(CredentialDocument::All | CredentialDocument::None)) => {
            let expected = "expected `none` only beside `credential: required` or `optional`";
            check.add(format!("{path}.preflight_credential"), expected);
            PreflightCredential::AsRule
        }
        (Some(NeedDocument::None), _) => PreflightCredential::NotRequired,
    }
}

/// The providers of these names, and a problem for each name that no provider has.
fn find_each(names: &[String], path: &str, providers: &[Provider], check: &mut Problems) -> Vec<ProviderIndex> {
    let mut indexes = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match providers.iter().position(|provider| provider.name == *name) {
            Some(provider) => indexes.push(provider),
            None => check.add(
                format!("{path}[{index}]"),
                format_args!("expected the name of a provider, found `{}`", shortened(name)),
            ),
        }
    }
    indexes
}

/// A rule that no request could fulfil is a mistake, and so is one that the upstream could read in
/// two ways.
fn check_all(of: &[ProviderIndex], names: Option<&[String]>, path: &str, providers: &[Provider], check: &mut Problems) {
    let names = names.unwrap_or_default();
    if !(2..=CREDENTIALS_MAX).contains(&names.len()) {
        let expected = format_args!("expected 2 to {CREDENTIALS_MAX} providers beside `credential: all`");
        return check.add(path, expected);
    }
    for (index, name) in names.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if names.iter().take(index).any(|earlier| earlier == name) {
            check.add(path.clone(), "expected each provider once beside `credential: all`");
        }
        let provider = providers.iter().find(|provider| provider.name == *name);
        if provider.is_some_and(|provider| provider.keys.introspection().is_some()) {
            let message =
                "expected a provider with keys beside `credential: all`: about opaque tokens issuers are asked";
            check.add(path, message);
        }
    }
    let of: Vec<&Provider> = of.iter().filter_map(|provider| providers.get(*provider)).collect();
    check_one_issuer(&of, path, check);
    let places: Vec<SourceSet> = of.iter().map(|provider| provider.sources).collect();
    if !each_has_a_place(&places, SourceSet::default()) {
        let message = "expected `sources` of the providers in which each one's token has a place of its own";
        check.add(path, message);
    }
    let mut makers = BTreeMap::new();
    for provider in of {
        for header in provider.headers() {
            let other = makers.insert(header.clone(), &provider.name);
            if let Some(other) = other.filter(|other| *other != &provider.name) {
                let both = format_args!("both `{other}` and `{}` make `{header}`", provider.name);
                check.add(
                    path,
                    format_args!("expected headers of claims of each provider's own: {both}"),
                );
            }
        }
    }
}

/// Of two providers with one issuer, the place alone says whose a token is.
fn check_one_issuer(of: &[&Provider], path: &str, check: &mut Problems) {
    for (index, provider) in of.iter().enumerate() {
        let is_confused = |other: &&&Provider| {
            other.name != provider.name && other.issuer == provider.issuer && other.sources.overlaps(provider.sources)
        };
        if let Some(other) = of.iter().take(index).find(is_confused) {
            let both = format_args!("`{}` and `{}` have one issuer", other.name, provider.name);
            let message =
                format_args!("expected `sources` that have no place in common beside `credential: all`: {both}");
            check.add(path, message);
        }
    }
}

/// Whether each can have one of its places that no other has.
fn each_has_a_place(of: &[SourceSet], taken: SourceSet) -> bool {
    let Some((first, others)) = of.split_first() else {
        return true;
    };
    let mut free = (0..SOURCES_MAX).filter(|place| first.contains(*place) && !taken.contains(*place));
    free.any(|place| each_has_a_place(others, taken.union(SourceSet::of(place))))
}
