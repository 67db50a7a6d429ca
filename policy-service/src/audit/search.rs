//! The record of a search: who asked what would be permitted, and how much was found.

use picket_model::access::{AccessRequest, Principal};
use serde::{Deserialize, Serialize};

use super::record::{ActionRecord, ContextRecord, PrincipalRecord, ResourceRecord};

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
    /// What was searched for.
    pub kind: SearchKind,
    /// Whose permissions; absent in a search for subjects.
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
    /// How many candidates were evaluated.
    pub evaluated: u32,
    /// How many of them would be permitted.
    pub found: u32,
}

/// What is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchKind {
    /// Who may do it.
    Subject,
    /// What it may be done to.
    Resource,
    /// What may be done.
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

/// What a search came to.
#[derive(Clone, Debug)]
pub(crate) struct Searched {
    pub(crate) search_id: String,
    pub(crate) time_us: u64,
    pub(crate) kind: SearchKind,
    pub(crate) policy_revision: String,
    pub(crate) evaluated: u32,
    pub(crate) found: u32,
}

impl SearchRecord {
    /// `asked` is the search as a request, with anything in the place of what is searched for.
    pub(crate) fn new(asked: AccessRequest, searched: Searched) -> Self {
        let Searched { kind, .. } = searched;
        let with_principal = |principal: Option<Principal>| principal.filter(|_| kind != SearchKind::Subject);
        let named = kind != SearchKind::Resource;
        Self {
            search_id: searched.search_id,
            time_us: searched.time_us,
            caller: asked.sidecar.workload,
            request_id: asked.request_id,
            kind,
            principal: with_principal(asked.principal).map(PrincipalRecord::from),
            peer: asked.peer.map(|peer| peer.to_string()),
            action: (kind != SearchKind::Action).then(|| ActionRecord::from(asked.action)),
            route_rule: named.then_some(asked.route_rule),
            resource: named.then(|| ResourceRecord::from(asked.resource)),
            context: ContextRecord::from(asked.context),
            policy_revision: searched.policy_revision,
            evaluated: searched.evaluated,
            found: searched.found,
        }
    }
}
