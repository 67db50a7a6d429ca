//! The paths that servers make of one that holds delimiters.

use std::borrow::Cow;

use super::{Target, TargetError, remove_dot_and_empty_segments};

/// A path with more readings is refused. One with each delimiter once has 13.
const READINGS_MAX: usize = 64;

/// The bytes of all readings together. A long path with many readings is refused: a stranger would
/// have it compared at length.
const READ_BYTES_MAX: usize = 4 * super::TARGET_BYTES_MAX;

type Step = fn(&str) -> String;

/// What servers do with a path that holds a delimiter before they route, each of it or nothing, in
/// any order: they decode the delimiter, end the path at it, or cut the parameters off each segment
/// (RFC 3986 §3.3).
const STEPS: [(&str, Step); 6] = [
    ("%2F", |path| path.replace("%2F", "/")),
    ("%3B", |path| path.replace("%3B", ";")),
    ("%3F", |path| before(path, "%3F")),
    ("%23", |path| before(path, "%23")),
    (";", |path| before(path, ";")),
    (";", without_segment_parameters),
];

impl Target<'_> {
    /// The path as rules are compared with it: `%3B` is `;`, and `%2B` is `+`.
    #[must_use]
    pub fn path_for_rules(&self) -> Cow<'_, str> {
        match self.has_encoded_sub_delimiter {
            false => Cow::Borrowed(&self.path),
            true => decode_sub_delimiters(&self.path),
        }
    }

    /// The other paths that servers make of this one, each in normal form and as rules are compared
    /// with it. Empty: all read the same.
    ///
    /// # Errors
    /// [`TargetError::DotSegment`] where one of them has dot segments, and
    /// [`TargetError::OtherReading`] where they are too many to compare.
    pub fn other_readings(&self) -> Result<Vec<String>, TargetError> {
        if self.delimiters.is_empty() {
            return Ok(Vec::new());
        }
        let mut paths = vec![self.path.to_string()];
        let (mut next, mut bytes) = (0, 0);
        while let Some(path) = paths.get(next).cloned() {
            for (delimiter, step) in STEPS {
                if !path.contains(delimiter) {
                    continue;
                }
                let read = step(&path);
                let read = remove_dot_and_empty_segments(&read)?.unwrap_or(read);
                if !paths.contains(&read) {
                    bytes += read.len();
                    paths.push(read);
                }
                if paths.len() > READINGS_MAX || bytes > READ_BYTES_MAX {
                    return Err(TargetError::OtherReading);
                }
            }
            next += 1;
        }
        let as_it_is = self.path_for_rules();
        let others = paths
            .iter()
            .skip(1)
            .map(|path| decode_sub_delimiters(path).into_owned());
        let mut others: Vec<String> = others.filter(|other| *other != as_it_is).collect();
        others.sort_unstable();
        others.dedup();
        Ok(others)
    }

    /// Whether a server that decodes twice would read another path: `%25` before two hexadecimal
    /// digits, or before `u` and four, the form of `escape` in ECMAScript (ECMA-262 §B.2.1.1).
    #[must_use]
    pub fn is_double_encoded(&self) -> bool {
        let are_digits = |text: &str, from: usize, count: usize| {
            let digits = text.as_bytes().get(from..from.saturating_add(count));
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let is_encoding =
            |text: &str| are_digits(text, 0, 2) || (text.starts_with(['u', 'U']) && are_digits(text, 1, 4));
        self.path.split("%25").skip(1).any(is_encoding)
    }
}

/// `%3B` as `;`, and `%2B` as `+`. Servers that decode read both spellings alike.
pub(crate) fn decode_sub_delimiters(path: &str) -> Cow<'_, str> {
    match path.bytes().any(|b| b == b'%') {
        false => Cow::Borrowed(path),
        true => Cow::Owned(path.replace("%3B", ";").replace("%2B", "+")),
    }
}

/// Whether no reading finds a dot segment that the others do not: between slashes of either
/// spelling, before any delimiter.
pub(super) fn check_dot_segments(path: &str) -> Result<(), TargetError> {
    for segment in path.split('/') {
        for part in segment.split("%2F") {
            let name = [";", "%3B", "%3F", "%23"]
                .iter()
                .filter_map(|delimiter| part.split(delimiter).next())
                .min_by_key(|name| name.len())
                .unwrap_or_default();
            if matches!(name, "." | "..") && name != segment {
                return Err(TargetError::DotSegment);
            }
        }
    }
    Ok(())
}

fn before(path: &str, delimiter: &str) -> String {
    path.split(delimiter).next().unwrap_or_default().to_owned()
}

/// RFC 3986 §3.3: what follows a `;` in a segment.
fn without_segment_parameters(path: &str) -> String {
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::parse_target;
    use super::READINGS_MAX;

    #[track_caller]
    fn check(path: &str, expected: &[&str]) {
        let target = parse_target(path.as_bytes()).unwrap();
        let readings = target.other_readings().unwrap();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(readings, expected, "{path}");
    }

    #[test]
    fn a_path_without_delimiters_has_one_reading() {
        for path in ["/a/b", "/a%20b", "/c++", "/c%2B%2B", "/100%25", "/a?b;c%2F%3F%23"] {
            check(path, &[]);
        }
    }

    #[test]
    fn a_semicolon_begins_a_parameter_of_the_segment_or_of_the_path() {
        for semicolon in [";", "%3B", "%3b"] {
            let check = |path: &str, expected: &[&str]| check(&path.replace(';', semicolon), expected);
            check("/a;v=1/b;w", &["/a/b", "/a"]);
            check("/;x/admin/users", &["/admin/users", "/"]);
            check("/;/admin", &["/admin", "/"]);
            check("/admin/;x/secret", &["/admin/secret", "/admin/"]);
            check("/secret;/x", &["/secret/x", "/secret"]);
            check("/;", &["/"]);
            // One that ends in a slash is read with and without it.
            check("/a;/", &["/a/", "/a"]);
        }
        // An encoded one may be data where the other one is none.
        check("/a%3Bx/b;y/c", &["/a/b/c", "/a/b", "/a", "/a;x/b/c", "/a;x/b"]);
    }

    #[test]
    fn an_encoded_delimiter_is_read_as_itself_behind_a_proxy_that_decodes() {
        check("/a%3Fb/c", &["/a"]);
        check("/a%23b/c", &["/a"]);
        check("/a%23b%3Fc", &["/a", "/a%23b"]);
        check("/%3Fx", &["/"]);
        check("/a//%3f", &["/a/"]);
        check("/a%2Fb/c", &["/a/b/c"]);
        check("/q/%2F/n", &["/q/n"]);
        check("/a%2F%2Fb", &["/a/b"]);
        check("/a;x%2Fb", &["/a/b", "/a", "/a;x/b"]);
        check("/a%3Bx%3Fy/b", &["/a;x", "/a", "/a/b"]);
    }

    #[test]
    fn the_number_of_readings_is_bounded() {
        let readings = |path: &str| parse_target(path.as_bytes()).unwrap().other_readings();
        assert_eq!(readings("/a;b/c%2Fd%3Fe%23f").map(|readings| readings.len()), Ok(12));
        let parts = "%2F%3Bbc%23;a%3F;/b%23%3B/%2Fa%3F/";
        for length in [1, 10, 200] {
            let readings = readings(&format!("/{}", parts.repeat(length)));
            assert!(readings.is_err() || readings.is_ok_and(|readings| readings.len() < READINGS_MAX));
        }
    }

    #[test]
    fn servers_take_their_steps_in_any_order() {
        check(
            "/;x%2Fy/admin%2Fz",
            &["/;x/y/admin/z", "/admin%2Fz", "/admin/z", "/y/admin/z", "/"],
        );
        check("/a;x%3Fy/b%3Fz", &["/a;x", "/a", "/a/b%3Fz", "/a/b"]);
    }

    #[test]
    fn a_path_is_encoded_twice_where_decoding_it_again_changes_it() {
        for (path, expected) in [
            ("/a%252Fb", true),
            ("/a%25%32%66b", true),
            ("/%252%65%252%65", true),
            ("/a%253Bb", true),
            ("/%2561dmin", true),
            ("/a%25252Fb", true),
            ("/a%25u002Fb", true),
            ("/100%25", false),
            ("/100%25/a", false),
            ("/100%25zz", false),
            ("/a%2Fb", false),
            ("/a?b=%252F", false),
        ] {
            assert_eq!(
                parse_target(path.as_bytes()).unwrap().is_double_encoded(),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn a_long_path_with_many_readings_is_refused_at_a_bounded_cost() {
        let path = format!("{}%3B%2F;%2F%23/a/%23%3F%3B%2F%3B", "/a".repeat(4_000));
        let target = parse_target(path.as_bytes()).unwrap();
        assert!(target.other_readings().is_err());
        // One with few is compared, however long it is.
        let path = format!("{};v=1/b", "/a".repeat(4_000));
        let target = parse_target(path.as_bytes()).unwrap();
        assert_eq!(target.other_readings().unwrap().len(), 2);
    }
}
