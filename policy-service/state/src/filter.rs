//! Which rows of a list are asked for.

use super::PrincipalId;

/// Which sessions, or devices, are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All.
    All,
    /// Those of a principal.
    Principal(PrincipalId),
    /// Those of a tenant, by its name.
    Tenant(String),
}
