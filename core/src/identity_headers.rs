//! The headers that tell the upstream who calls, and by whose leave.

use crate::access::Principal;
use crate::header_value;

pub(crate) const ISSUER: &str = "x-picket-issuer";
const SUBJECT: &str = "x-picket-subject";
const TENANT: &str = "x-picket-tenant";
const ROLES: &str = "x-picket-roles";
const SCOPES: &str = "x-picket-scopes";
pub(crate) const PEER: &str = "x-picket-peer";
pub(crate) const ROUTE_RULE: &str = "x-picket-route-rule";
pub(crate) const DECISION_ID: &str = "x-picket-decision-id";

/// Every header that Picket sets for the upstream. Those that have no value are absent.
pub const IDENTITY_HEADERS: &[&str] = &[ISSUER, SUBJECT, TENANT, ROLES, SCOPES, PEER, ROUTE_RULE, DECISION_ID];

/// The headers that name a principal; made once for each verified token.
pub(crate) fn of_principal(principal: &Principal) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (ISSUER, header_value::encode(&principal.issuer)),
        (SUBJECT, header_value::encode(&principal.subject)),
    ];
    headers.extend(
        principal
            .tenant
            .as_deref()
            .map(|tenant| (TENANT, header_value::encode(tenant))),
    );
    for (name, list) in [(ROLES, &principal.roles), (SCOPES, &principal.scopes)] {
        if !list.is_empty() {
            headers.push((name, header_value::encode_list(list)));
        }
    }
    headers
}
