//! `[roles]`: where the roles of principals come from.

use deserr::Deserr;
use picket_model::problems::Problems;

use super::RoleSource;

/// The roles of principals.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Roles of principals")
)]
pub(super) struct RolesSection {
    /// Where the roles come from.
    #[deserr(default = Source::Token)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "token")))]
    source: Source,
}

/// Where the roles come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
enum Source {
    /// From the tokens.
    #[deserr(rename = "token")]
    Token,
    /// From the tokens, and from `storage`, where operators assign them.
    #[deserr(rename = "token_and_store")]
    TokenAndStore,
}

impl Default for RolesSection {
    fn default() -> Self {
        Self { source: Source::Token }
    }
}

impl RolesSection {
    pub(super) fn are_stored(&self) -> bool {
        self.source == Source::TokenAndStore
    }
}

impl From<RolesSection> for RoleSource {
    fn from(section: RolesSection) -> Self {
        match section.source {
            Source::Token => Self::Token,
            Source::TokenAndStore => Self::TokenAndStore,
        }
    }
}
