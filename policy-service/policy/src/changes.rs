//! What changed from some policies to others.

use std::collections::BTreeMap;

use serde::Serialize;

use super::trace::{TracedPolicy, Tracer};

/// A policy that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// Its `@id`.
    pub id: String,
    /// How it changed.
    pub kind: ChangeKind,
    /// Its text before; `None` where there was none.
    pub old: Option<String>,
    /// Its text now; `None` where there is none.
    pub new: Option<String>,
}

/// How a policy changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// Its text is another one; in which file it stands is no part of it.
    Changed,
}

/// The policies that changed, in the order of their `@id`s.
#[must_use]
pub fn changes(old: &Tracer, new: &Tracer) -> Vec<PolicyChange> {
    let (old, new) = (by_id(old.policies()), by_id(new.policies()));
    let mut ids: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .filter_map(|id| change(id, old.get(id).copied(), new.get(id).copied()))
        .collect()
}

fn change(id: &str, old: Option<&str>, new: Option<&str>) -> Option<PolicyChange> {
    let kind = match (old, new) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) => ChangeKind::Changed,
    };
    Some(PolicyChange {
        id: id.to_owned(),
        kind,
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    })
}

fn by_id(policies: &[TracedPolicy]) -> BTreeMap<&str, &str> {
    policies
        .iter()
        .map(|policy| (policy.id.as_str(), policy.text.as_str()))
        .collect()
}
