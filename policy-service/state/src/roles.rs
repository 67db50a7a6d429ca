//! Roles that operators assign to principals. [`Roles::add_to`] adds them to the roles of a
//! principal's token, for one decision.
//!
//! [`RoleStore`] is the port to the storage. All assignments are cached as a whole, and trusted
//! only while the database connection is confirmed: a role that was withdrawn on any replica counts
//! in no later decision.

mod store;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use picket_model::access::Principal;

use crate::{CachedView, Change, Freshness, PrincipalId, Snapshot, StorageError};
pub use store::{AssignmentResult, ROLE_ASSIGNMENTS_MAX, RoleAssignment, RoleFilter, RoleKey, RoleStore};

const MICROSECONDS_PER_MILLISECOND: i64 = 1_000;

/// The assignments in the storage, and the cache of them.
pub struct Roles {
    store: Arc<dyn RoleStore>,
    assignments: Snapshot<Assignments>,
}

/// By principal.
type Assignments = HashMap<PrincipalId, Vec<AssignedRole>>;

/// A role that is assigned to a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AssignedRole {
    role: String,
    tenant: Option<String>,
    until_us: Option<i64>,
}

/// The roles that were added to those of a principal's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedRoles {
    /// The roles that its token does not have.
    pub roles: Vec<String>,
    /// All of them end no sooner than this, unless an operator withdraws one.
    pub valid_for_ms_max: u32,
}

/// One page of assignments.
pub struct RolePage {
    /// In the order in which they were made.
    pub assignments: Vec<RoleAssignment>,
    /// Where the next one begins; `None`: this is the last one.
    pub after: Option<u64>,
}

impl AssignedRoles {
    /// No roles.
    pub fn none() -> Self {
        Self {
            roles: Vec::new(),
            valid_for_ms_max: u32::MAX,
        }
    }
}

impl Roles {
    /// Before anything is read from the storage.
    pub fn new(store: Arc<dyn RoleStore>, freshness: Arc<Freshness>) -> Self {
        Self {
            store,
            assignments: Snapshot::new(freshness),
        }
    }

    /// Adds the roles that were assigned to a principal to its own.
    ///
    /// # Errors
    /// The storage is not confirmed: a role may have been withdrawn, and a role can be what a
    /// policy forbids.
    pub fn add_to(&self, principal: &mut Principal, now_us: i64) -> Result<AssignedRoles, StorageError> {
        let assignments = self.assignments.value()?;
        let id = PrincipalId::of(&principal.issuer, &principal.subject);
        let assigned = assignments.get(&id).map_or(&[][..], Vec::as_slice);
        let added = matching(assigned, principal, now_us);
        principal.roles.extend(added.roles.iter().cloned());
        Ok(added)
    }

    /// Every decision here knows the assignment when this returns.
    pub async fn assign(&self, assignment: RoleAssignment) -> Result<AssignmentResult, StorageError> {
        let assigned = self.store.assign(assignment).await?;
        self.refresh_after_change().await?;
        Ok(assigned)
    }

    /// Withdraws a role. False: it was not assigned.
    pub async fn withdraw(&self, key: RoleKey) -> Result<bool, StorageError> {
        let withdrawn = self.store.withdraw(key).await?;
        self.refresh_after_change().await?;
        Ok(withdrawn)
    }

    /// Assignments in the order in which they were made, after one of them.
    pub async fn list(&self, filter: RoleFilter, after: u64, count_max: u32) -> Result<RolePage, StorageError> {
        let found = self.store.roles_page(filter, after, count_max).await?;
        let is_full = u32::try_from(found.len()).is_ok_and(|count| count >= count_max);
        Ok(RolePage {
            after: found.last().filter(|_| is_full).map(|(place, _)| *place),
            assignments: found.into_iter().map(|(_, assignment)| assignment).collect(),
        })
    }

    async fn refresh_after_change(&self) -> Result<(), StorageError> {
        self.assignments.changed();
        self.refresh().await
    }
}

#[async_trait]
impl CachedView for Roles {
    fn apply_change(&self, change: Change) {
        match change {
            Change::Roles => self.assignments.changed_elsewhere(),
            Change::Anything => self.assignments.forget(),
            Change::Session(_) | Change::Device(_) | Change::Restrictions | Change::Policies => {}
        }
    }

    fn is_current(&self) -> bool {
        self.assignments.is_current()
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        self.assignments
            .read(async || Ok(by_principal(self.store.roles().await?)))
            .await
    }
}

fn by_principal(stored: Vec<RoleAssignment>) -> Assignments {
    let mut assignments = Assignments::new();
    for RoleAssignment { key, until_us, .. } in stored {
        let id = PrincipalId::of(&key.issuer, &key.subject);
        assignments.entry(id).or_default().push(AssignedRole {
            role: key.role,
            tenant: key.tenant,
            until_us,
        });
    }
    assignments
}

/// INVARIANT: a role that was assigned for another tenant, or has ended, does not count.
fn matching(assigned: &[AssignedRole], principal: &Principal, now_us: i64) -> AssignedRoles {
    let mut added = AssignedRoles::none();
    for assigned in assigned {
        let is_here = assigned.tenant.is_none() || assigned.tenant == principal.tenant;
        let left_us = assigned.until_us.map(|until_us| until_us.saturating_sub(now_us));
        let has_ended = left_us.is_some_and(|left_us| left_us <= 0);
        if !is_here || has_ended || principal.roles.contains(&assigned.role) {
            continue;
        }
        if let Some(left_us) = left_us {
            // Rounded down, as it must not be repeated when it has ended.
            let left_ms = u32::try_from(left_us / MICROSECONDS_PER_MILLISECOND).unwrap_or(u32::MAX);
            added.valid_for_ms_max = added.valid_for_ms_max.min(left_ms);
        }
        if !added.roles.contains(&assigned.role) {
            added.roles.push(assigned.role.clone());
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;

    fn principal(tenant: Option<&str>, roles: &[&str]) -> Principal {
        Principal {
            issuer: "https://issuer.example".to_owned(),
            subject: "alice".to_owned(),
            tenant: tenant.map(str::to_owned),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            scopes: Vec::new(),
            acr: None,
            amr: Vec::new(),
            auth_time_s: None,
            session_id: None,
            token_id: None,
            issued_at_s: None,
            expires_at_s: None,
            actors: Vec::new(),
            is_bound: false,
        }
    }

    fn assigned(role: &str, tenant: Option<&str>, left_us: Option<i64>) -> AssignedRole {
        AssignedRole {
            role: role.to_owned(),
            tenant: tenant.map(str::to_owned),
            until_us: left_us.map(|left_us| NOW_US + left_us),
        }
    }

    fn check(assigned: &[AssignedRole], principal: &Principal, roles: &[&str], valid_for_ms_max: u32) {
        let added = matching(assigned, principal, NOW_US);
        assert_eq!(
            (
                added.roles.iter().map(String::as_str).collect::<Vec<_>>(),
                added.valid_for_ms_max
            ),
            (roles.to_vec(), valid_for_ms_max)
        );
    }

    #[test]
    fn a_role_of_another_tenant_never_counts() {
        let roles = [
            assigned("everywhere", None, None),
            assigned("a", Some("acme"), None),
            assigned("b", Some("other"), Some(9_000)),
        ];
        check(&roles, &principal(Some("acme"), &[]), &["everywhere", "a"], u32::MAX);
        check(&roles, &principal(Some("other"), &[]), &["everywhere", "b"], 9);
        check(&roles, &principal(Some("ACME"), &[]), &["everywhere"], u32::MAX);
        check(&roles, &principal(None, &[]), &["everywhere"], u32::MAX);
    }

    #[test]
    fn a_role_counts_until_its_end_which_bounds_the_answer() {
        let roles = |left_us| {
            [
                assigned("a", None, Some(left_us)),
                assigned("b", None, None),
                assigned("c", None, Some(5_000_000)),
            ]
        };
        check(&roles(2_000_999), &principal(None, &[]), &["a", "b", "c"], 2_000);
        check(&roles(999), &principal(None, &[]), &["a", "b", "c"], 0);
        check(&roles(1), &principal(None, &[]), &["a", "b", "c"], 0);
        for left_us in [0, -1, i64::MIN / 2] {
            check(&roles(left_us), &principal(None, &[]), &["b", "c"], 5_000);
        }
        let far = [assigned("a", None, Some(i64::MAX - NOW_US))];
        check(&far, &principal(None, &[]), &["a"], u32::MAX);
    }

    #[test]
    fn a_role_that_the_token_has_anyway_bounds_nothing() {
        let roles = [assigned("a", None, Some(1_000)), assigned("a", Some("acme"), None)];
        check(&roles, &principal(Some("acme"), &["a"]), &[], u32::MAX);
        check(&roles, &principal(Some("acme"), &["b"]), &["a"], 1);
    }

    #[test]
    fn assignments_are_those_of_issuer_and_subject() {
        let assignment = |issuer: &str, subject: &str, role: &str| RoleAssignment {
            key: RoleKey {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
                role: role.to_owned(),
                tenant: None,
            },
            until_us: None,
            author: String::new(),
            at_us: 0,
        };
        let assignments = by_principal(vec![
            assignment("https://issuer.example", "alice", "a"),
            assignment("https://issuer.example", "alice", "b"),
            assignment("https://issuer.examplea", "lice", "c"),
        ]);
        let of = |issuer, subject| assignments.get(&PrincipalId::of(issuer, subject)).map_or(0, Vec::len);
        assert_eq!(of("https://issuer.example", "alice"), 2);
        assert_eq!(of("https://issuer.examplea", "lice"), 1);
        assert_eq!(of("https://other.example", "alice"), 0);
    }
}
