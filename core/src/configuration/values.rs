//! Checks of single values that several parts of the configuration share.

use std::collections::BTreeSet;

use picket_model::problems::{Problems, shortened};

use super::limits::{CLUSTER_BYTES_MAX, NAME_BYTES_MAX};

/// Checks the name of a rule or provider: short, unique, and fit for headers and metrics.
pub(super) fn check_name(name: &str, used: &mut BTreeSet<String>, path: &str, check: &mut Problems) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        check.add(path, "expected 1 to 64 of the characters `a-z A-Z 0-9 . - _`");
    } else if !used.insert(name.to_owned()) {
        check.add(
            path,
            format_args!("expected a name of its own, `{name}` was used before"),
        );
    }
}

/// Checks the name of an Envoy cluster.
pub(super) fn check_cluster(name: &str, path: &str, check: &mut Problems) {
    if name.is_empty() || name.len() > CLUSTER_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
        check.add(
            path,
            format_args!("expected 1 to {CLUSTER_BYTES_MAX} visible ASCII characters"),
        );
    }
}

/// The value, or its default, and a problem where it is out of range.
pub(super) fn in_range(
    value: Option<u32>,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    path: &str,
    check: &mut Problems,
) -> u32 {
    let value = value.unwrap_or(default);
    if !range.contains(&value) {
        check.add(
            path,
            format_args!("expected {} to {}, found {value}", range.start(), range.end()),
        );
    }
    value
}

/// The values of a list that parse, each with its index; a problem for each that does not.
pub(super) fn parse_each<T>(texts: &[String], path: &str, check: &mut Problems) -> Vec<(usize, T)>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    parse_each_with(texts, path, str::parse::<T>, check)
}

/// As [`parse_each`], for values that are read in another way.
pub(super) fn parse_each_with<T, E: std::fmt::Display>(
    texts: &[String],
    path: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    check: &mut Problems,
) -> Vec<(usize, T)> {
    let mut values = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let result = parse(text).map_err(|error| format!("{error}, found `{}`", shortened(text)));
        values.extend(
            check
                .take(&format!("{path}[{index}]"), result)
                .map(|value| (index, value)),
        );
    }
    values
}

/// As [`parse_each`], for a set that is absent or not empty.
pub(super) fn parse_all<T>(texts: Option<&[String]>, path: &str, check: &mut Problems) -> BTreeSet<T>
where
    T: std::str::FromStr + Ord,
    T::Err: std::fmt::Display,
{
    if texts.is_some_and(<[String]>::is_empty) {
        check.add(path, "expected at least one");
    }
    parse_each(texts.unwrap_or_default(), path, check)
        .into_iter()
        .map(|(_, value)| value)
        .collect()
}
