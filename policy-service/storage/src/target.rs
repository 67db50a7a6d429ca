//! The stored form of what a revocation is about.

use picket_state::sessions::RevocationTarget;
use picket_state::{PrincipalId, TenantId};

/// The kind and the bytes under which it is stored.
pub(super) fn key(target: &RevocationTarget) -> (&'static str, &[u8]) {
    match target {
        RevocationTarget::Principal(id) => ("principal", id.as_bytes()),
        RevocationTarget::Tenant(id) => ("tenant", id.as_bytes()),
        RevocationTarget::Everything => ("everything", &[]),
    }
}

/// `None`: they are no stored form.
pub(super) fn of_key(kind: &str, bytes: &[u8]) -> Option<RevocationTarget> {
    match kind {
        "principal" => PrincipalId::from_slice(bytes).map(RevocationTarget::Principal),
        "tenant" => TenantId::from_slice(bytes).map(RevocationTarget::Tenant),
        "everything" => Some(RevocationTarget::Everything),
        _ => None,
    }
}
