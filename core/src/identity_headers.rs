//! The headers that tell the upstream who calls, and by whose leave.

use std::borrow::Cow;

use picket_model::access::Principal;

use crate::header_value;
use crate::request::OWNED_HEADER_PREFIX;

pub(crate) const ISSUER: &str = "x-picket-issuer";
const SUBJECT: &str = "x-picket-subject";
const ACTOR: &str = "x-picket-actor";
const TENANT: &str = "x-picket-tenant";
const ROLES: &str = "x-picket-roles";
const SCOPES: &str = "x-picket-scopes";
pub(crate) const PEER: &str = "x-picket-peer";
pub(crate) const ROUTE_RULE: &str = "x-picket-route-rule";
pub(crate) const DECISION_ID: &str = "x-picket-decision-id";
/// What the upstream has to see to. It is no choice: where policy obliges, the upstream is told.
pub(crate) const OBLIGATIONS: &str = "x-picket-obligations";

/// Every header that Picket sets for the upstream. Those that have no value are absent.
pub const IDENTITY_HEADERS: &[&str] = &[
    ISSUER,
    SUBJECT,
    ACTOR,
    TENANT,
    ROLES,
    SCOPES,
    PEER,
    ROUTE_RULE,
    DECISION_ID,
];

/// The names of [`IDENTITY_HEADERS`] as the configuration has them: `route_rule` for
/// `x-picket-route-rule`.
pub fn short_names() -> impl Iterator<Item = String> {
    IDENTITY_HEADERS.iter().map(|name| short_name(name))
}

/// Which of [`IDENTITY_HEADERS`] the upstream gets. A client's copy of the others is removed all
/// the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders(Vec<&'static str>);

impl IdentityHeaders {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(IDENTITY_HEADERS.to_vec())
    }

    /// Adds the one of this [`short_names`]. False: there is none.
    pub(crate) fn add(&mut self, short_name: &str) -> bool {
        let known = IDENTITY_HEADERS
            .iter()
            .find(|name| self::short_name(name) == short_name);
        self.0.extend(known);
        known.is_some()
    }

    /// None of them.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// The headers that name a principal. They are made once for each verified token.
    pub(crate) fn of_principal(&self, principal: &Principal) -> Vec<(Cow<'static, str>, String)> {
        // Exhaustive, so that another attribute gets a header, or a line here.
        let Principal {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            actors,
            acr: _,
            amr: _,
            auth_time_s: _,
            session_id: _,
            token_id: _,
            issued_at_s: _,
            expires_at_s: _,
            is_bound: _,
        } = principal;
        let mut headers = vec![
            (ISSUER, header_value::encode(issuer)),
            (SUBJECT, header_value::encode(subject)),
        ];
        headers.extend(tenant.as_deref().map(|tenant| (TENANT, header_value::encode(tenant))));
        for (name, list) in [(ROLES, roles), (SCOPES, scopes)] {
            if !list.is_empty() {
                headers.push((name, header_value::encode_list(list)));
            }
        }
        if let Some(actor) = actors.first() {
            headers.push((ACTOR, header_value::encode(&actor.subject)));
        }
        headers.retain(|(name, _)| self.has(name));
        headers
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect()
    }
}

fn short_name(header: &str) -> String {
    let name = header.strip_prefix(OWNED_HEADER_PREFIX).unwrap_or(header);
    name.replace('-', "_")
}
