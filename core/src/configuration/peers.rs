//! Checking what a filter's configuration says about peers and where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use picket_model::network::Network;
use picket_model::problems::{Problems, shortened};
use picket_model::spiffe::{self, SpiffeId, SpiffeIdPattern, TrustDomain};
use serde_json::Value;

use super::document::{ForwardedHeaderDocument, ForwardedPeerDocument, NeedDocument, PeersDocument, RuleDocument};
use super::limits::{ALIASES_MAX, FORWARDED_FOR_HOPS_MAX, HOPS_MAX, PEER_ENTRIES_MAX};
use super::values::{in_range, parse_each};
use crate::peer::forwarded::{ForwardedHeader, ForwardedPeer};
use crate::peer::requirement::{PeerRequirement, PeerSet};
use crate::peer::resolution::PeerResolution;
use crate::source_address::SourceRequirement;

pub(super) fn check_resolution(
    aliases: Option<Value>,
    forwarded_peer: Option<ForwardedPeerDocument>,
    trusted: &BTreeSet<TrustDomain>,
    check: &mut Problems,
) -> PeerResolution {
    PeerResolution {
        trust_domain_aliases: check_aliases(aliases, trusted, check),
        forwarded_peer: forwarded_peer.map(|document| check_forwarded_peer(&document, trusted, check)),
    }
}

pub(super) fn check_trusted_hops(hops: Option<u32>, check: &mut Problems) -> u32 {
    in_range(hops, 0..=FORWARDED_FOR_HOPS_MAX, 0, "forwarded_for_trusted_hops", check)
}

fn check_forwarded_peer(
    document: &ForwardedPeerDocument,
    trusted: &BTreeSet<TrustDomain>,
    check: &mut Problems,
) -> ForwardedPeer {
    let ids = Some(document.hop_spiffe_ids.as_slice());
    let path = "forwarded_peer.hop_spiffe_ids";
    let (header, hops_max) = match document.header {
        ForwardedHeaderDocument::XForwardedClientCert => (ForwardedHeader::XForwardedClientCert, HOPS_MAX),
        // RFC 9440 §2.2: it is about one certificate.
        ForwardedHeaderDocument::ClientCert => (ForwardedHeader::ClientCert, 1),
    };
    ForwardedPeer {
        hop_spiffe_ids: trusted_entries(ids, path, SpiffeId::trust_domain, trusted, check)
            .into_iter()
            .collect(),
        header,
        hops: in_range(document.hops, 1..=hops_max, 1, "forwarded_peer.hops", check),
    }
}

fn check_aliases(
    document: Option<Value>,
    trusted: &BTreeSet<TrustDomain>,
    check: &mut Problems,
) -> BTreeMap<TrustDomain, TrustDomain> {
    // Not left to deserr, which passes over what is wrong inside of a map.
    let document = match document {
        None => return BTreeMap::new(),
        Some(Value::Object(members)) => members,
        Some(_) => {
            check.add("trust_domain_aliases", "expected an object of strings");
            return BTreeMap::new();
        }
    };
    if document.len() > ALIASES_MAX {
        check.add("trust_domain_aliases", format_args!("expected at most {ALIASES_MAX}"));
    }
    let mut aliases = BTreeMap::new();
    for (alias, name) in document {
        let path = format!("trust_domain_aliases.{}", shortened(&alias));
        if trusted.contains(alias.as_str()) {
            check.add(
                path.clone(),
                "expected a name that is not one of the filter's `trust_domains`",
            );
        }
        let name = name.as_str().and_then(|name| trusted.get(name));
        if name.is_none() {
            check.add(path.clone(), "expected one of the filter's `trust_domains`");
        }
        if let (Some(alias), Some(name)) = (check.take(&path, alias.parse()), name) {
            aliases.insert(alias, name.clone());
        }
    }
    aliases
}

pub(super) fn check_peers(
    document: &RuleDocument,
    path: &str,
    trusted: &BTreeSet<TrustDomain>,
    check: &mut Problems,
) -> PeerRequirement {
    let path = format!("{path}.peers");
    let peers = match (document.peer, &document.peers) {
        (Some(NeedDocument::None), None) => return PeerRequirement::NotRequired,
        (Some(NeedDocument::None), Some(_)) => {
            check.add(path, "expected no list of peers beside `peer: none`");
            return PeerRequirement::NotRequired;
        }
        (Some(NeedDocument::Required) | None, None) => {
            return PeerRequirement::OneOf {
                allowed: all_of(trusted),
                refused: PeerSet::default(),
            };
        }
        (Some(NeedDocument::Required) | None, Some(peers)) => peers,
    };
    let (named, excluded) = Lists::of(peers);
    if named.are_absent() && excluded.are_absent() {
        check.add(path.clone(), "expected at least one list of peers");
    }
    if trusted.len() > 1 {
        for (name, list) in [
            ("namespaces", named.namespaces),
            ("service_accounts", named.service_accounts),
        ] {
            if list.is_some() {
                // Whoever rules another trust domain gives names to namespaces there as well.
                let expected =
                    "expected `spiffe_id_patterns` or `spiffe_ids`, as the filter has several `trust_domains`";
                check.add(format!("{path}.{name}"), expected);
            }
        }
    }
    let refused = excluded.check(&path, trusted, check);
    let allowed = match named.are_absent() {
        true => all_of(trusted),
        false => named.check(&path, trusted, check),
    };
    PeerRequirement::OneOf { allowed, refused }
}

pub(super) fn check_source(document: &RuleDocument, path: &str, check: &mut Problems) -> SourceRequirement {
    let mut networks = |name: &str, list: &Option<Vec<String>>| {
        let path = format!("{path}.{name}");
        list.as_deref().map(|list| entries::<Network>(Some(list), &path, check))
    };
    SourceRequirement {
        allowed: networks("source_addresses", &document.source_addresses),
        refused: networks("not_source_addresses", &document.not_source_addresses).unwrap_or_default(),
    }
}

fn all_of(trusted: &BTreeSet<TrustDomain>) -> PeerSet {
    PeerSet {
        trust_domains: trusted.clone(),
        ..PeerSet::default()
    }
}

/// The lists that name peers, or those that exclude them.
struct Lists<'d> {
    kind: Kind,
    spiffe_ids: Option<&'d [String]>,
    spiffe_id_patterns: Option<&'d [String]>,
    trust_domains: Option<&'d [String]>,
    namespaces: Option<&'d [String]>,
    service_accounts: Option<&'d [String]>,
}

#[derive(Clone, Copy)]
enum Kind {
    Named,
    Excluded,
}

impl<'d> Lists<'d> {
    fn of(document: &'d PeersDocument) -> (Self, Self) {
        let named = Self {
            kind: Kind::Named,
            spiffe_ids: document.spiffe_ids.as_deref(),
            spiffe_id_patterns: document.spiffe_id_patterns.as_deref(),
            trust_domains: document.trust_domains.as_deref(),
            namespaces: document.namespaces.as_deref(),
            service_accounts: document.service_accounts.as_deref(),
        };
        let excluded = Self {
            kind: Kind::Excluded,
            spiffe_ids: document.not_spiffe_ids.as_deref(),
            spiffe_id_patterns: document.not_spiffe_id_patterns.as_deref(),
            trust_domains: document.not_trust_domains.as_deref(),
            namespaces: document.not_namespaces.as_deref(),
            service_accounts: document.not_service_accounts.as_deref(),
        };
        (named, excluded)
    }

    fn are_absent(&self) -> bool {
        let lists = [self.spiffe_ids, self.spiffe_id_patterns, self.trust_domains];
        lists.iter().all(Option::is_none) && self.namespaces.is_none() && self.service_accounts.is_none()
    }

    fn check(&self, path: &str, trusted: &BTreeSet<TrustDomain>, check: &mut Problems) -> PeerSet {
        let prefix = match self.kind {
            Kind::Named => "",
            Kind::Excluded => "not_",
        };
        let path = |name: &str| format!("{path}.{prefix}{name}");
        let (ids, patterns, domains) = (path("spiffe_ids"), path("spiffe_id_patterns"), path("trust_domains"));
        let ids = trusted_entries(self.spiffe_ids, &ids, SpiffeId::trust_domain, trusted, check);
        let patterns = trusted_entries(
            self.spiffe_id_patterns,
            &patterns,
            SpiffeIdPattern::trust_domain,
            trusted,
            check,
        );
        let domains = trusted_entries(self.trust_domains, &domains, TrustDomain::as_str, trusted, check);
        let mut set = PeerSet {
            spiffe_ids: ids.into_iter().collect(),
            patterns,
            trust_domains: domains.into_iter().collect(),
        };
        for Namespace(namespace) in entries(self.namespaces, &path("namespaces"), check) {
            // Who is excluded is so whatever else the names below the namespace look like.
            let below = match self.kind {
                Kind::Named => "sa/*",
                Kind::Excluded => "**",
            };
            let in_domain = |domain| format!("spiffe://{domain}/ns/{namespace}/{below}").parse().ok();
            set.patterns.extend(trusted.iter().filter_map(in_domain));
        }
        for ServiceAccount(namespace, name) in entries(self.service_accounts, &path("service_accounts"), check) {
            let in_domain = |domain| format!("spiffe://{domain}/ns/{namespace}/sa/{name}").parse().ok();
            set.spiffe_ids.extend(trusted.iter().filter_map(in_domain));
        }
        set
    }
}

/// A Kubernetes namespace, as a segment of SPIFFE IDs.
struct Namespace(String);

/// A Kubernetes service account: namespace and name.
struct ServiceAccount(String, String);

impl FromStr for Namespace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match spiffe::is_segment(text) {
            true => Ok(Self(text.to_owned())),
            false => Err("expected the name of a Kubernetes namespace"),
        }
    }
}

impl FromStr for ServiceAccount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if spiffe::is_segment(namespace) && spiffe::is_segment(name) => {
                Ok(Self(namespace.to_owned(), name.to_owned()))
            }
            Some(_) | None => Err("expected a Kubernetes service account as `NAMESPACE/SERVICE_ACCOUNT`"),
        }
    }
}

/// The entries of a list that parse. One that is there has at least one, for an empty list could
/// mean nobody or anybody.
fn entries<T>(list: Option<&[String]>, path: &str, check: &mut Problems) -> Vec<T>
where
    T: FromStr,
    T::Err: Display,
{
    indexed_entries(list, path, check)
        .into_iter()
        .map(|(_, value)| value)
        .collect()
}

/// The entries of a list that parse, all of which belong to the filter's trust domains.
fn trusted_entries<T>(
    list: Option<&[String]>,
    path: &str,
    trust_domain: fn(&T) -> &str,
    trusted: &BTreeSet<TrustDomain>,
    check: &mut Problems,
) -> Vec<T>
where
    T: FromStr,
    T::Err: Display,
{
    let entries = indexed_entries(list, path, check);
    let mut found = Vec::new();
    for (index, entry) in entries {
        if !trusted.contains(trust_domain(&entry)) {
            check.add(
                format!("{path}[{index}]"),
                "expected a trust domain out of the filter's `trust_domains`",
            );
        }
        found.push(entry);
    }
    found
}

fn indexed_entries<T>(list: Option<&[String]>, path: &str, check: &mut Problems) -> Vec<(usize, T)>
where
    T: FromStr,
    T::Err: Display,
{
    let Some(list) = list else {
        return Vec::new();
    };
    if list.is_empty() || list.len() > PEER_ENTRIES_MAX {
        check.add(
            path,
            format_args!("expected 1 to {PEER_ENTRIES_MAX} entries, or no field"),
        );
        return Vec::new();
    }
    parse_each(list, path, check)
}
