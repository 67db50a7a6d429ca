//! The record of a search: who asked what would be permitted, and how much was found.

use picket_model::access::AccessRequest;
use picket_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::{ActionRecord, ContextRecord, PrincipalRecord, ResourceRecord};

/// One page of a search through AuthZEN. It is no decision: nothing was permitted by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// The id of the search.
    pub search_id: String,
    /// When, in microseconds since the epoch.
    pub time_us: u64,
    /// The caller's SPIFFE ID, from its certificate.
    pub caller: String,
    /// The caller's request id.
    pub request_id: String,
    /// The kind of the search.
    pub kind: SearchKind,
    /// The principal; absent in a search for subjects.
    pub principal: Option<PrincipalRecord>,
    /// The SPIFFE ID of the workload that would ask.
    pub peer: Option<String>,
    /// The action; absent in a search for actions.
    pub action: Option<ActionRecord>,
    /// The route rule; absent in a search for resources.
    pub route_rule: Option<String>,
    /// The resource; absent in a search for resources.
    pub resource: Option<ResourceRecord>,
    /// The circumstances.
    pub context: ContextRecord,
    /// The revision of the policies that were asked.
    pub policy_revision: String,
    /// The number of candidates that were evaluated.
    pub evaluated: u32,
    /// The number of candidates that would be permitted.
    pub found: u32,
}

/// The kinds of searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchKind {
    /// Principals that may perform the action.
    Subject,
    /// Resources that the action may be performed on.
    Resource,
    /// Actions that may be performed.
    Action,
}

impl SearchKind {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Resource => "resource",
            Self::Action => "action",
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct SearchSummary {
    /// The id of the search.
    pub search_id: String,
    /// When.
    pub time: Timestamp,
    /// The kind of the search.
    pub kind: SearchKind,
    /// The revision of the policies that were asked.
    pub policy_revision: String,
    /// The number of candidates that were evaluated.
    pub evaluated: u32,
    /// The number of candidates that would be permitted.
    pub found: u32,
}

impl SearchRecord {
    /// `asked` is the search as a request, with anything in the place of what is searched for.
    #[must_use]
    pub fn new(asked: AccessRequest, summary: SearchSummary) -> Self {
        let AccessRequest {
            request_id,
            sidecar,
            route_rule,
            principal,
            peer,
            action,
            resource,
            context,
            // A search is one call with the tokens of nobody.
            traceparent: _,
            further_tokens: _,
        } = asked;
        let SearchSummary {
            search_id,
            time,
            kind,
            policy_revision,
            evaluated,
            found,
        } = summary;
        Self {
            search_id,
            time_us: time.as_us(),
            caller: sidecar.workload,
            request_id,
            kind,
            principal: principal
                .filter(|_| kind != SearchKind::Subject)
                .map(PrincipalRecord::from),
            peer: peer.map(|peer| peer.to_string()),
            action: (kind != SearchKind::Action).then(|| action.into()),
            route_rule: (kind != SearchKind::Resource).then_some(route_rule),
            resource: (kind != SearchKind::Resource).then(|| resource.into()),
            context: context.into(),
            policy_revision,
            evaluated,
            found,
        }
    }
}
