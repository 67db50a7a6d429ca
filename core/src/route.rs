//! Route rules: which rule a request falls under. The most specific one wins; two that tie are a
//! mistake.
//!
//! Specific means, in this order: the host (exact, then the longest `*.` suffix, then `*`); the
//! path, segment by segment from the left (literal, then `{name}`, then `{**}`); the method (named,
//! then any). In literals `%3B` is `;` and `%2B` is `+`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::path::{Delimiters, decode_sub_delimiters, split_at_byte};

/// Templates with more segments are refused; a request's path may have more, which only `{**}`
/// matches.
pub const TEMPLATE_SEGMENTS_MAX: usize = 64;
/// The name under which `{**}` captures.
pub const REST_PARAMETER: &str = "rest";

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The place of a rule in the table's order of insertion.
pub type RuleIndex = usize;

/// A host pattern: `orders.example.org`, `*.example.org` or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(String),
    /// Every host under this suffix, which begins with a dot; not the suffix itself.
    Suffix(String),
    /// Every host.
    Any,
}

/// A path template: `/orders/{id}`, `/files/{**}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
    text: String,
    delimiters: Delimiters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    /// Everything that is left, which may be nothing.
    Rest,
}

/// Why a host pattern or a path template is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutePatternError {
    /// Not a host pattern.
    #[error("expected a host in lower case without port, `*.` before one, or `*`")]
    Host,
    /// Not absolute, or not in normal form: no request's path could ever match.
    #[error("expected an absolute path in normal form, such as `/orders/{{id}}` or `/files/{{**}}`")]
    Path,
    /// A brace that is neither `{name}` nor `{**}`, or not alone in its segment.
    #[error("expected `{{name}}` (lower-case letters, digits, `_`; not `rest`) or `{{**}}` as a whole segment")]
    Parameter,
    /// `{**}` before the end.
    #[error("expected `{{**}}` as the last segment only")]
    RestNotLast,
    /// One name twice.
    #[error("expected each parameter name once")]
    RepeatedParameter,
    /// Over [`TEMPLATE_SEGMENTS_MAX`].
    #[error("expected at most {TEMPLATE_SEGMENTS_MAX} segments")]
    TooManySegments,
}

/// Two rules that match the same requests with the same precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The rule that was there first.
    pub with: RuleIndex,
}

/// All route rules of a filter, prepared for matching. Cost depends on the path's length, not on
/// the number of rules.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: Map<String, Node>,
    suffix: Map<String, Node>,
    any: Node,
}

/// The rule that matched, with the parameters that its template captured.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteMatch<'t, 'p> {
    /// The rule.
    pub rule: RuleIndex,
    names: &'t [String],
    /// One for each name, the last one first.
    values: Vec<&'p str>,
}

impl<'t, 'p> RouteMatch<'t, 'p> {
    /// Parameter names and values, as they stand in the normalised path.
    pub fn parameters(&self) -> impl Iterator<Item = (&'t str, &'p str)> {
        let names = self.names.iter().map(String::as_str);
        names.zip(self.values.iter().rev().copied())
    }
}

#[derive(Debug, Default)]
struct Node {
    literals: Map<String, Node>,
    parameter: Option<Box<Node>>,
    here: Leaves,
    rest: Leaves,
}

#[derive(Debug, Default)]
struct Leaves {
    by_method: Map<String, Leaf>,
    any_method: Option<Leaf>,
}

#[derive(Clone, Debug)]
struct Leaf {
    rule: RuleIndex,
    names: Vec<String>,
}

impl RouteTable {
    /// Adds one of a rule's ways to match; `method` `None` means any.
    ///
    /// # Errors
    /// [`Tie`] if another way of a rule matches exactly the same.
    pub fn insert(
        &mut self,
        host: &HostPattern,
        method: Option<&str>,
        path: &PathTemplate,
        rule: RuleIndex,
    ) -> Result<(), Tie> {
        let mut node = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Suffix(suffix) => self.suffix.entry(suffix.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        let mut names = Vec::new();
        let mut is_rest = false;
        for segment in &path.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(name) => {
                    names.push(name.clone());
                    node = node.parameter.get_or_insert_default();
                }
                Segment::Rest => {
                    names.push(REST_PARAMETER.to_owned());
                    is_rest = true;
                }
            }
        }
        let leaves = if is_rest { &mut node.rest } else { &mut node.here };
        let taken = match method {
            Some(method) => leaves.by_method.get(method),
            None => leaves.any_method.as_ref(),
        };
        if let Some(leaf) = taken {
            return Err(Tie { with: leaf.rule });
        }
        let leaf = Leaf { rule, names };
        match method {
            Some(method) => drop(leaves.by_method.insert(method.to_owned(), leaf)),
            None => leaves.any_method = Some(leaf),
        }
        Ok(())
    }

    /// Finds the most specific rule for a host in lower case, a method and a normalised path.
    #[must_use]
    pub fn find<'t, 'p>(&'t self, host: &str, method: &str, path: &'p str) -> Option<RouteMatch<'t, 'p>> {
        self.find_of(host, method, path, |_| true)
    }

    /// Whether a rule matches, whatever more specific ones do as well.
    #[must_use]
    pub fn rule_matches(&self, rule: RuleIndex, host: &str, method: &str, path: &str) -> bool {
        self.find_of(host, method, path, |found| found == rule).is_some()
    }

    /// The most specific of the rules that are wanted.
    fn find_of<'t, 'p>(
        &'t self,
        host: &str,
        method: &str,
        path: &'p str,
        is_wanted: impl Fn(RuleIndex) -> bool,
    ) -> Option<RouteMatch<'t, 'p>> {
        let segments = path.strip_prefix('/')?;
        let suffixes = host
            .match_indices('.')
            .filter_map(|(dot, _)| self.suffix.get(host.get(dot..)?));
        let tables = self.exact.get(host).into_iter().chain(suffixes).chain(Some(&self.any));
        let mut values = Vec::new();
        let leaf = tables
            .into_iter()
            .find_map(|node| node.find(Some(segments), method, &is_wanted, &mut values))?;
        Some(RouteMatch {
            rule: leaf.rule,
            names: &leaf.names,
            values,
        })
    }
}

impl Node {
    /// `left`: the segments that are left, `None` after the last one. Captured values are pushed
    /// last one first.
    ///
    /// Each node is visited once at most, as each is reached by one sequence of segments; the depth
    /// is bounded by [`TEMPLATE_SEGMENTS_MAX`], whatever the request's path.
    fn find<'p>(
        &self,
        left: Option<&'p str>,
        method: &str,
        is_wanted: &impl Fn(RuleIndex) -> bool,
        values: &mut Vec<&'p str>,
    ) -> Option<&Leaf> {
        let Some(left) = left else {
            return self.here.find(method, is_wanted);
        };
        let (segment, after) = match split_at_byte(left, b'/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        if let Some(leaf) = self
            .literal(segment)
            .and_then(|node| node.find(after, method, is_wanted, values))
        {
            return Some(leaf);
        }
        // An empty segment (a trailing slash) is no value.
        if let Some(node) = self.parameter.as_deref().filter(|_| !segment.is_empty())
            && let Some(leaf) = node.find(after, method, is_wanted, values)
        {
            values.push(segment);
            return Some(leaf);
        }
        let leaf = self.rest.find(method, is_wanted)?;
        values.push(left);
        Some(leaf)
    }

    /// What follows a segment that stands in a template as it is.
    fn literal(&self, segment: &str) -> Option<&Self> {
        let as_sent = self.literals.get(segment);
        // Most segments that are no literal stand where no template has one.
        if as_sent.is_some() || self.literals.is_empty() {
            return as_sent;
        }
        match decode_sub_delimiters(segment) {
            Cow::Borrowed(_) => None,
            Cow::Owned(decoded) => self.literals.get(&decoded),
        }
    }
}

impl Leaves {
    fn find(&self, method: &str, is_wanted: impl Fn(RuleIndex) -> bool) -> Option<&Leaf> {
        let is_wanted = |leaf: &&Leaf| is_wanted(leaf.rule);
        let of_method = self.by_method.get(method).filter(is_wanted);
        of_method.or_else(|| self.any_method.as_ref().filter(is_wanted))
    }
}

impl FromStr for HostPattern {
    type Err = RoutePatternError;

    fn from_str(text: &str) -> Result<Self, RoutePatternError> {
        let is_host = |name: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
            let is_name = !name.split('.').any(str::is_empty) && name.bytes().all(allowed);
            let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            is_name || address.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok_and(|v6| v6.to_string() == ip))
        };
        match text.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(suffix) if suffix.strip_prefix('.').is_some_and(is_host) => Ok(Self::Suffix(suffix.to_owned())),
            None if is_host(text) => Ok(Self::Exact(text.to_owned())),
            Some(_) | None => Err(RoutePatternError::Host),
        }
    }
}

impl PathTemplate {
    /// The names that it captures.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Rest => Some(REST_PARAMETER),
            Segment::Literal(_) => None,
        })
    }

    /// Those in its literals.
    #[must_use]
    pub fn delimiters(&self) -> Delimiters {
        self.delimiters
    }
}

impl FromStr for PathTemplate {
    type Err = RoutePatternError;

    fn from_str(text: &str) -> Result<Self, RoutePatternError> {
        let rest = text.strip_prefix('/').ok_or(RoutePatternError::Path)?;
        // What is literal must be what a normalised path can hold.
        let literal_form = text.replace(['{', '}'], "x").replace("**", "x");
        let delimiters = match crate::path::parse_target(literal_form.as_bytes()) {
            Ok(target) if !target.is_rewritten() && target.query.is_none() => target.delimiters,
            Ok(_) | Err(_) => return Err(RoutePatternError::Path),
        };
        let segments = rest.split('/').map(Segment::from_str).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > TEMPLATE_SEGMENTS_MAX {
            return Err(RoutePatternError::TooManySegments);
        }
        if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
            return Err(RoutePatternError::RestNotLast);
        }
        let template = Self {
            segments,
            text: text.to_owned(),
            delimiters,
        };
        let mut names: Vec<_> = template.parameters().collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(RoutePatternError::RepeatedParameter);
        }
        Ok(template)
    }
}

impl FromStr for Segment {
    type Err = RoutePatternError;

    fn from_str(text: &str) -> Result<Self, RoutePatternError> {
        if text == "{**}" {
            return Ok(Self::Rest);
        }
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(allowed);
            return if is_name && name != REST_PARAMETER {
                Ok(Self::Parameter(name.to_owned()))
            } else {
                Err(RoutePatternError::Parameter)
            };
        }
        if text.contains(['{', '}', '*']) {
            Err(RoutePatternError::Parameter)
        } else {
            Ok(Self::Literal(decode_sub_delimiters(text).into_owned()))
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (host, method or "" for any, path); the index is the rule.
    fn table(ways: &[(&str, &str, &str)]) -> RouteTable {
        let mut table = RouteTable::default();
        for (rule, (host, method, path)) in ways.iter().enumerate() {
            let method = (!method.is_empty()).then_some(*method);
            table
                .insert(&host.parse().unwrap(), method, &path.parse().unwrap(), rule)
                .unwrap();
        }
        table
    }

    fn check(table: &RouteTable, host: &str, method: &str, path: &str, expected: Option<(usize, &[(&str, &str)])>) {
        let found = table.find(host, method, path);
        let got = found.map(|found| (found.rule, found.parameters().collect::<Vec<_>>()));
        let expected = expected.map(|(rule, parameters)| (rule, parameters.to_vec()));
        assert_eq!(got, expected, "{method} {host}{path}");
    }

    #[test]
    fn the_most_specific_rule_wins() {
        let table = table(&[
            ("*", "", "/{**}"),
            ("*.example.org", "", "/{**}"),
            ("*.eu.example.org", "", "/{**}"),
            ("a.example.org", "", "/orders/{id}"),
            ("a.example.org", "GET", "/orders/{id}"),
            ("a.example.org", "", "/orders/new"),
            ("a.example.org", "", "/orders/{**}"),
            ("a.example.org", "", "/{kind}/{id}/items/{item}"),
        ]);
        check(&table, "other.net", "GET", "/x", Some((0, &[("rest", "x")])));
        check(&table, "b.example.org", "GET", "/x", Some((1, &[("rest", "x")])));
        check(&table, "c.b.example.org", "GET", "/x", Some((1, &[("rest", "x")])));
        check(&table, "b.eu.example.org", "GET", "/x", Some((2, &[("rest", "x")])));
        check(&table, "example.org", "GET", "/", Some((0, &[("rest", "")])));
        check(&table, "a.example.org", "GET", "/orders/7", Some((4, &[("id", "7")])));
        check(&table, "a.example.org", "PUT", "/orders/7", Some((3, &[("id", "7")])));
        check(&table, "a.example.org", "GET", "/orders/new", Some((5, &[])));
        check(&table, "a.example.org", "GET", "/orders/", Some((6, &[("rest", "")])));
        check(
            &table,
            "a.example.org",
            "GET",
            "/orders/7/x",
            Some((6, &[("rest", "7/x")])),
        );
        check(
            &table,
            "a.example.org",
            "GET",
            "/o/7/items/9",
            Some((7, &[("kind", "o"), ("id", "7"), ("item", "9")])),
        );
        // No rule of the exact host matches: the next best host is asked.
        check(&table, "a.example.org", "GET", "/zzz", Some((1, &[("rest", "zzz")])));
    }

    #[test]
    fn what_no_rule_names_matches_none() {
        let table = table(&[("h", "GET", "/a/{id}"), ("h", "GET", "/files/{**}"), ("*.h", "", "/x")]);
        check(&table, "h", "POST", "/a/1", None);
        check(&table, "h", "get", "/a/1", None);
        check(&table, "h", "GET", "/a", None);
        check(&table, "h", "GET", "/a/", None);
        check(&table, "h", "GET", "/a/1/", None);
        check(&table, "h", "GET", "/files", None);
        check(&table, "h", "GET", "/files/", Some((1, &[("rest", "")])));
        check(&table, "g", "GET", "/a/1", None);
        check(&table, "xh", "GET", "/x", None);
        check(&table, "h", "GET", "/x", None);
    }

    #[test]
    fn a_literal_has_two_spellings_of_a_semicolon_and_of_a_plus() {
        let table = table(&[("h", "", "/c++/{id}"), ("h", "", "/d%2B/%3Bx"), ("h", "", "/{**}")]);
        for path in ["/c++/a%2Bb", "/c%2B+/a%2Bb", "/c%2B%2B/a%2Bb"] {
            check(&table, "h", "GET", path, Some((0, &[("id", "a%2Bb")])));
        }
        for path in ["/d+/;x", "/d%2B/;x", "/d+/%3Bx", "/d%2B/%3Bx"] {
            check(&table, "h", "GET", path, Some((1, &[])));
        }
        check(&table, "h", "GET", "/c%20%20/a", Some((2, &[("rest", "c%20%20/a")])));
    }

    #[test]
    fn a_less_specific_rule_matches_as_well() {
        let table = table(&[
            ("h", "GET", "/a/{id}"),
            ("h", "", "/a/{id}"),
            ("*", "", "/{**}"),
            ("h", "", "/a/b"),
            ("h", "PUT", "/a/{**}"),
        ]);
        let matching = |method, path| -> Vec<usize> {
            (0..5)
                .filter(|rule| table.rule_matches(*rule, "h", method, path))
                .collect()
        };
        assert_eq!(matching("GET", "/a/b"), [0, 1, 2, 3]);
        assert_eq!(matching("PUT", "/a/c"), [1, 2, 4]);
        assert_eq!(matching("GET", "/a"), [2]);
    }

    #[test]
    fn a_tie_names_the_other_rule() {
        let mut table = table(&[("h", "GET", "/a/{id}")]);
        let mut insert = |method, path: &str| table.insert(&"h".parse().unwrap(), method, &path.parse().unwrap(), 9);
        assert_eq!(insert(Some("GET"), "/a/{other}"), Err(Tie { with: 0 }));
        assert_eq!(insert(Some("PUT"), "/a/{id}"), Ok(()));
        assert_eq!(insert(None, "/a/{id}"), Ok(()));
        assert_eq!(insert(None, "/a/{x}"), Err(Tie { with: 9 }));
        assert_eq!(insert(None, "/c+"), Ok(()));
        assert_eq!(insert(None, "/c%2B"), Err(Tie { with: 9 }));
    }

    #[test]
    fn refuses_patterns_that_could_never_match() {
        for (path, error) in [
            ("", RoutePatternError::Path),
            ("a", RoutePatternError::Path),
            ("/a//b", RoutePatternError::Path),
            ("/a/../b", RoutePatternError::Path),
            ("/a?b", RoutePatternError::Path),
            ("/%61", RoutePatternError::Path),
            ("/a b", RoutePatternError::Path),
            ("/{}", RoutePatternError::Parameter),
            ("/{Id}", RoutePatternError::Parameter),
            ("/{rest}", RoutePatternError::Parameter),
            ("/x{id}", RoutePatternError::Parameter),
            ("/a*", RoutePatternError::Parameter),
            ("/{**}/a", RoutePatternError::RestNotLast),
            ("/{a}/{a}", RoutePatternError::RepeatedParameter),
        ] {
            assert_eq!(path.parse::<PathTemplate>(), Err(error), "{path}");
        }
        for host in ["", "H", "h:80", "*h", "*.", ".h", "h.", "a..b", "*.*", "[::01]", "é"] {
            assert_eq!(host.parse::<HostPattern>(), Err(RoutePatternError::Host), "{host}");
        }
        assert_eq!(
            "/a".repeat(TEMPLATE_SEGMENTS_MAX + 1).parse::<PathTemplate>(),
            Err(RoutePatternError::TooManySegments)
        );
    }

    #[test]
    fn a_long_path_of_many_segments_is_matched_in_bounds() {
        let table = table(&[("*", "", "/a/{**}")]);
        let path = "/a".repeat(4000);
        assert_eq!(table.find("h", "GET", &path).map(|found| found.rule), Some(0));
    }
}
