//! The roles that a folder names. A token can bring any role, so that none is wrong; one that
//! stands in a policy alone is probably a slip.

use std::collections::{BTreeMap, BTreeSet};

use super::errors::{Mistakes, PolicyError};
use super::impossible_names::{did_you_mean, nearest};
use super::source::SourceLocation;

/// The roles of a folder.
pub(super) struct NamedRoles {
    /// The roles in `entities.json`.
    pub(super) declared: BTreeSet<String>,
    /// The roles in policies, each with its place in each policy.
    pub(super) in_policies: BTreeMap<String, Vec<SourceLocation>>,
}

impl NamedRoles {
    /// The roles that policies alone name, each place with the nearest other role. Where neither
    /// `entities.json` nor a test names any role, a role counts that stands in one policy and is a
    /// slip away from one in several.
    pub(super) fn warnings(&self, tested: &BTreeSet<String>) -> Vec<PolicyError> {
        let known: BTreeSet<&str> = self.declared.iter().chain(tested).map(String::as_str).collect();
        let mut found = Mistakes::default();
        for (role, places) in &self.in_policies {
            if known.contains(role.as_str()) {
                continue;
            }
            let usual = self.in_policies.iter().filter(|(_, places)| places.len() > 1);
            let usual = usual.map(|(other, _)| other.as_str());
            let suggestion = nearest(role, known.iter().copied().chain(usual)).next();
            if known.is_empty() && (suggestion.is_none() || places.len() > 1) {
                continue;
            }
            let message = format!(
                "only policies name the role `{role}`: it is in neither entities.json, nor tests, nor matrix.yaml{}",
                did_you_mean(suggestion)
            );
            for place in places {
                found.add(&place.file, Some(place.line), &message);
            }
        }
        found.into_warnings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_nothing_but_policies_names_is_told_with_the_nearest() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let place = |line| SourceLocation {
            file: "p.cedar".into(),
            line,
        };
        let warnings = |declared: &[&str], tested: &[&str], in_policies: &[(&str, usize)]| {
            let roles = NamedRoles {
                declared: set(declared),
                in_policies: in_policies
                    .iter()
                    .map(|(role, policies)| ((*role).to_owned(), (1..=*policies).map(place).collect()))
                    .collect(),
            };
            let warnings = roles.warnings(&set(tested)).into_iter();
            warnings
                .map(|warning| {
                    let suggestion = warning.message.split_once("did you mean `").map(|(_, rest)| rest);
                    suggestion.unwrap_or_default().trim_end_matches("`?").to_owned()
                })
                .collect::<Vec<_>>()
        };
        // Declared, tested, in policies; the suggestions, empty where there is none.
        for (declared, tested, in_policies, expected) in [
            (&["clerk"][..], &[][..], &[("clerk", 1)][..], &[][..]),
            (&["clerk"], &[], &[("clrek", 1)], &["clerk"]),
            (&["clerk"], &[], &[("clrek", 2)], &["clerk", "clerk"]),
            (&[], &["clerk"], &[("clrek", 1)], &["clerk"]),
            (&["clerk"], &["auditor"], &[("auditor", 1)], &[]),
            (&["clerk"], &[], &[("auditor", 1)], &[""]),
            (&["team1"], &[], &[("team2", 1)], &[""]),
            (&[], &[], &[("clerk", 2), ("clrek", 1)], &["clerk"]),
            (&[], &[], &[("clerk", 1), ("clrek", 1)], &[]),
            (&[], &[], &[("team1", 2), ("team2", 1)], &[]),
            (&[], &[], &[("auditor", 1)], &[]),
        ] {
            assert_eq!(
                warnings(declared, tested, in_policies),
                expected,
                "{declared:?} {in_policies:?}"
            );
        }
    }
}
