//! Decisions: what the policy service answers about an access request.

/// What is to happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request may go on.
    Permit,
    /// It may not.
    Deny,
}

/// The policy service's answer about one access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Permit or deny.
    pub effect: Effect,
    /// The id of the decision and of its audit record.
    pub decision_id: String,
    /// The revision of the policies that decided.
    pub policy_revision: String,
    /// How long the same answer may be given to the same request, in milliseconds; 0: not at all.
    pub valid_for_ms: u32,
    /// The ids of the policies that decided, for the record.
    pub policy_ids: Vec<String>,
    /// What the caller may be told.
    pub caller_reasons: Vec<String>,
}
