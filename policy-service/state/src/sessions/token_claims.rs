//! The claims of each principal's last token, for searches: a stored session has no roles.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use picket_core::cache::Cache;
use picket_model::access::Principal;
use picket_model::time::Timestamp;
use picket_policy::{ROLES_MAX, SCOPES_MAX};

use crate::PrincipalId;

/// Principals whose claims are cached. A principal with more roles or scopes than are evaluated
/// is none of them: nothing else limits what callers other than the filter send.
const PRINCIPALS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The claims of a token that a policy can read, besides issuer, subject and tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenClaims {
    /// The roles of the token alone.
    pub roles: Vec<String>,
    /// `scope` or `scp`.
    pub scopes: Vec<String>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Vec<String>,
    /// `auth_time`, in seconds since the epoch.
    pub auth_time_s: Option<i64>,
}

/// The claims of the last token of each principal that this process has checked.
pub(super) struct ClaimsCache(Mutex<Cache<PrincipalId, Arc<TokenClaims>>>);

impl TokenClaims {
    fn are_of(&self, principal: &Principal) -> bool {
        self.roles == principal.roles
            && self.scopes == principal.scopes
            && self.acr == principal.acr
            && self.amr == principal.amr
            && self.auth_time_s == principal.auth_time_s
    }
}

impl From<&Principal> for TokenClaims {
    fn from(principal: &Principal) -> Self {
        Self {
            roles: principal.roles.clone(),
            scopes: principal.scopes.clone(),
            acr: principal.acr.clone(),
            amr: principal.amr.clone(),
            auth_time_s: principal.auth_time_s,
        }
    }
}

impl ClaimsCache {
    /// `seed` is random: clients choose parts of the keys.
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Cache::new(PRINCIPALS_MAX, seed)))
    }

    /// Caches a token's claims in the place of those of the principal's token before. A token with
    /// too many removes them.
    pub(super) fn record(&self, id: PrincipalId, principal: &Principal) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if principal.roles.len() > ROLES_MAX || principal.scopes.len() > SCOPES_MAX {
            cache.remove(&id);
            return;
        }
        if cache
            .get(&id, Timestamp::from_ms(0))
            .is_none_or(|claims| !claims.are_of(principal))
        {
            cache.put_without_end(id, Arc::new(principal.into()));
        }
    }

    /// The claims of a principal's last token; `None`: it is not cached.
    pub(super) fn of(&self, id: &PrincipalId) -> Option<Arc<TokenClaims>> {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(id, Timestamp::from_ms(0)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(roles: &[&str]) -> Principal {
        Principal {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Principal::default()
        }
    }

    #[test]
    fn the_last_token_counts() {
        let claims = ClaimsCache::new(1);
        let (alice, bob) = (PrincipalId::of("i", "alice"), PrincipalId::of("i", "bob"));
        claims.record(alice, &principal(&["reader"]));
        claims.record(alice, &principal(&["reader", "writer"]));
        assert_eq!(claims.of(&alice).unwrap().roles, ["reader", "writer"]);
        assert_eq!(claims.of(&bob), None);
    }

    #[test]
    fn more_roles_or_scopes_than_are_evaluated_are_not_cached() {
        let claims = ClaimsCache::new(1);
        let alice = PrincipalId::of("i", "alice");
        let roles = principal(&["reader"; ROLES_MAX]);
        let scopes = Principal {
            scopes: vec!["read".to_owned(); SCOPES_MAX + 1],
            ..Principal::default()
        };
        for too_many in [principal(&["reader"; ROLES_MAX + 1]), scopes] {
            claims.record(alice, &roles);
            assert!(claims.of(&alice).is_some());
            // Nor is what a token before had.
            claims.record(alice, &too_many);
            assert_eq!(claims.of(&alice), None);
        }
    }
}
