//! Paths that servers read in different ways: whether the route rule accepts one, and the readings
//! that access rules must also be matched against.

use super::Refusal;
use super::rule::{Decider, RouteRule};
use crate::path::{Delimiters, TargetError};
use crate::reason::DenyReason;
use crate::request::RequestHead;
use crate::route::{RouteTable, RuleIndex};

/// The other readings of a path that its route rule takes.
#[derive(Debug, Default)]
pub(super) struct PathReadings {
    /// Empty: all servers read the same.
    others: Vec<String>,
    /// Whether the rule says that the upstream takes all delimiters of the path for data.
    are_data: bool,
}

impl PathReadings {
    /// Refuses a path where the rules cannot tell which one is meant, or a policy would see another
    /// value than the upstream.
    ///
    /// Where the rule says that a delimiter is data, a reading may also fall under no rule, or
    /// under one that matches the path as it is as well, from which this rule is an exception.
    /// Other rules stay protected: only the configuration says that the upstream does not read the
    /// path so.
    pub(super) fn check(
        routes: &RouteTable,
        head: &RequestHead<'_>,
        index: RuleIndex,
        rule: &RouteRule,
    ) -> Result<Self, Refusal> {
        let target = &head.target;
        if target.delimiters.is_empty() {
            return Ok(Self::default());
        }
        let not_allowed = target.delimiters.without(rule.allow_in_path);
        if not_allowed.intersects(Delimiters::ENCODED_SLASH) {
            return Err(Refusal::malformed(TargetError::EncodedSlash));
        }
        let are_data = not_allowed.is_empty();
        if !are_data && rule.decider == Decider::PolicyService {
            return Err(Refusal::malformed(TargetError::Delimiter));
        }
        let others = target.other_readings().map_err(Refusal::malformed)?;
        let (host, method) = (&*head.host, head.method);
        let is_exception_of = |other| are_data && routes.rule_matches(other, host, method, &target.path);
        let is_taken = |reading: &String| match routes.find(host, method, reading) {
            Some(other) => other.rule == index || is_exception_of(other.rule),
            None => are_data,
        };
        match others.iter().all(is_taken) {
            true => Ok(Self { others, are_data }),
            false => Err(Refusal::malformed(TargetError::OtherReading)),
        }
    }

    /// Whether access rules make a difference between the path as it is, of which they say
    /// `refused`, and another reading.
    pub(super) fn any_differs(
        &self,
        refused: Option<DenyReason>,
        refused_as: impl Fn(&str) -> Option<DenyReason>,
    ) -> bool {
        self.others.iter().any(|other| match refused_as(other) {
            // As a reading that falls under no route rule.
            Some(DenyReason::AccessRuleNoAccept) if self.are_data => false,
            as_other => as_other != refused,
        })
    }
}
