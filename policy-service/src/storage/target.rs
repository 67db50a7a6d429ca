//! The stored form of what a revocation is about.

use crate::sessions::Target;
use crate::state::{PrincipalId, TenantId};

/// The kind and the bytes under which it is stored.
pub(super) fn key(target: &Target) -> (&'static str, &[u8]) {
    match target {
        Target::Principal(id) => ("principal", id.as_bytes()),
        Target::Tenant(id) => ("tenant", id.as_bytes()),
        Target::Everything => ("everything", &[]),
    }
}

/// `None`: they are no stored form.
pub(super) fn of_key(kind: &str, bytes: &[u8]) -> Option<Target> {
    match kind {
        "principal" => PrincipalId::from_slice(bytes).map(Target::Principal),
        "tenant" => TenantId::from_slice(bytes).map(Target::Tenant),
        "everything" => Some(Target::Everything),
        _ => None,
    }
}
