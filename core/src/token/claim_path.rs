//! Where a claim is: a member of the claims, or of an object within them.

use std::fmt;
use std::str::FromStr;

use picket_model::strict_json::{Json, Members};

/// A deeper path is refused; issuers nest claims two or three deep.
const DEPTH_MAX: usize = 8;

/// The way to a claim: a name, or a JSON Pointer (RFC 6901) through objects, such as
/// `/realm_access/roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

/// Why a text is no way to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a claim's name, or a JSON Pointer (RFC 6901) of at most {DEPTH_MAX} names such as `/realm_access/roles`"
)]
pub struct ClaimPathError;

impl ClaimPath {
    /// The claim's name, where it is no member of another one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// The value of the claim. `None`: there is none, or what should hold it is no object.
    #[must_use]
    pub fn find<'c, 't>(&self, claims: &'c Members<'t>) -> Option<&'c Json<'t>> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| match value {
            Json::Object(members) => members.get(name),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => None,
        })
    }
}

impl FromStr for ClaimPath {
    type Err = ClaimPathError;

    fn from_str(text: &str) -> Result<Self, ClaimPathError> {
        let names: Option<Vec<String>> = match text.strip_prefix('/') {
            None => Some(vec![text.to_owned()]),
            Some(pointer) => pointer.split('/').map(unescaped).collect(),
        };
        names
            .filter(|names| names.len() <= DEPTH_MAX && !names.iter().any(String::is_empty))
            .map(Self)
            .ok_or(ClaimPathError)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// RFC 6901 §3 and §4: `~1` is a slash and `~0` a tilde; any other tilde is an error.
fn unescaped(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(character) = rest.next() {
        match (character, character == '~') {
            (plain, false) => out.push(plain),
            (_, true) => out.push(match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            }),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use picket_model::strict_json;

    use super::*;

    #[test]
    fn finds_claims_by_name_and_by_pointer() {
        let claims = br#"{"a":1,"/b":2,"c":{"d":{"e":3},"~":4,"x/y":5},"f":[6],"https://e.example/r":7}"#;
        let Ok(Json::Object(claims)) = strict_json::borrow(claims) else {
            panic!("not an object")
        };
        let check = |path: &str, expected: Option<u64>| {
            let found = path.parse::<ClaimPath>().unwrap().find(&claims).cloned();
            let expected = expected.map(|number| Json::Number(number.into()));
            assert_eq!(found, expected, "{path}");
        };
        check("a", Some(1));
        check("/a", Some(1));
        check("/~1b", Some(2));
        check("/c/d/e", Some(3));
        check("/c/~0", Some(4));
        check("/c/x~1y", Some(5));
        check("https://e.example/r", Some(7));
        check("c/d/e", None);
        check("/f/0", None);
        check("/a/b", None);
        check("/c/d/e/f", None);
    }

    #[test]
    fn refuses_what_is_no_way() {
        for bad in ["", "/", "//a", "/a/", "/a~", "/a~2", "/1/2/3/4/5/6/7/8/9"] {
            assert_eq!(bad.parse::<ClaimPath>(), Err(ClaimPathError), "{bad}");
        }
    }
}
