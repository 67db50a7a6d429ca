//! Which peers a rule lets call.

use std::collections::BTreeSet;

use picket_model::spiffe::{SpiffeId, SpiffeIdPattern, TrustDomain};

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequirement {
    /// Anybody, with or without a certificate.
    NotRequired,
    /// A peer of one set, unless it is in the other as well.
    OneOf {
        /// Who may call.
        allowed: PeerSet,
        /// Who may not: looked at first.
        refused: PeerSet,
    },
}

/// Peers by their names. What is in any of the lists is in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSet {
    /// Exact SPIFFE IDs.
    pub spiffe_ids: BTreeSet<SpiffeId>,
    /// Patterns of SPIFFE IDs.
    pub patterns: Vec<SpiffeIdPattern>,
    /// Whole trust domains.
    pub trust_domains: BTreeSet<TrustDomain>,
}

impl PeerRequirement {
    /// Whether this peer may call.
    #[must_use]
    pub fn allows(&self, peer: &SpiffeId) -> bool {
        match self {
            Self::NotRequired => true,
            Self::OneOf { allowed, refused } => !refused.contains(peer) && allowed.contains(peer),
        }
    }
}

impl PeerSet {
    /// Whether it names this peer.
    #[must_use]
    pub fn contains(&self, peer: &SpiffeId) -> bool {
        self.spiffe_ids.contains(peer)
            || self.trust_domains.contains(peer.trust_domain())
            || self.patterns.iter().any(|pattern| pattern.matches(peer))
    }

    /// Whether it names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spiffe_ids.is_empty() && self.trust_domains.is_empty() && self.patterns.is_empty()
    }
}
