//! `[roles]`: where the roles of principals come from.

use deserr::Deserr;
use picket_model::problems::Problems;

use super::RoleSource;

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct RolesSection {
    #[deserr(default = Source::Token)]
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
enum Source {
    #[deserr(rename = "token")]
    Token,
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
