//! Pages of a search (AuthZEN 1.0 §8.2): a token says where the next one begins, and of which
//! search.

use deserr::Deserr;
use picket_model::problems::{self, Problems};
use ring::digest;
use serde_json::{Map, Value};

use super::error::AuthzenError;

/// The results of a page without `limit`.
const RESULTS_DEFAULT: u32 = 100;
/// The results of a page at most.
pub(crate) const RESULTS_MAX: u32 = 1_000;
/// Enough to distinguish searches: a token grants nothing.
const DIGEST_BYTES: usize = 16;
const PAGE: &str = "page";
/// The error of a token that is malformed or of another search.
pub(super) const OTHER_SEARCH: &str = "page.token: expected the `next_token` of a page of the same search";

/// §8.2.1. This service has no `properties` of pages.
#[derive(Debug, Default, Deserr)]
#[deserr(error = Problems)]
struct PageRequest {
    #[deserr(default)]
    token: Option<String>,
    #[deserr(default)]
    limit: Option<u32>,
}

#[derive(Debug, Deserr)]
#[deserr(error = Problems)]
struct PagedRequest {
    #[deserr(default)]
    page: Option<PageRequest>,
}

/// The page of a search that is requested.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where it begins; `None`: at the beginning.
    pub(super) position: Option<String>,
    /// How many results it has at most.
    pub(super) limit: u32,
    search: String,
}

impl Page {
    /// Takes the page out of a search; `what` and `caller` belong to the search as well.
    ///
    /// # Errors
    /// It is malformed, or of another search.
    pub(super) fn extract(what: &str, caller: &str, document: &mut Map<String, Value>) -> Result<Self, AuthzenError> {
        let page = document.remove(PAGE).unwrap_or(Value::Null);
        let search = digest_of(what, caller, document);
        let paged = Value::Object([(PAGE.to_owned(), page)].into_iter().collect());
        let paged =
            problems::read::<PagedRequest>(paged).map_err(|problems| AuthzenError::Malformed(problems.to_string()))?;
        let PageRequest { token, limit } = paged.page.unwrap_or_default();
        // §8.2: an empty token is that of no page.
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Ok(Self {
                position: None,
                limit: limit.unwrap_or(RESULTS_DEFAULT).min(RESULTS_MAX),
                search,
            });
        };
        let refused = || AuthzenError::Malformed(OTHER_SEARCH.to_owned());
        let mut parts = token.splitn(3, '.');
        let (of, at_most) = (parts.next(), parts.next().and_then(|limit| limit.parse::<u32>().ok()));
        let (Some(position), Some(at_most)) = (parts.next(), at_most) else {
            return Err(refused());
        };
        // All but the token has to stay as it was.
        let is_same = of == Some(search.as_str()) && limit.is_none_or(|limit| limit.min(RESULTS_MAX) == at_most);
        match is_same && at_most <= RESULTS_MAX {
            true => Ok(Self {
                position: Some(position.to_owned()).filter(|position| !position.is_empty()),
                limit: at_most,
                search,
            }),
            false => Err(refused()),
        }
    }

    /// The token of the page that begins at this position.
    pub(super) fn token(&self, position: Option<&str>) -> String {
        format!("{}.{}.{}", self.search, self.limit, position.unwrap_or_default())
    }
}

fn digest_of(what: &str, caller: &str, document: &Map<String, Value>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    // The members of an object are in order.
    let document = Value::Object(document.clone()).to_string();
    for part in ["picket search v1", what, caller, &document] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex::encode(context.finish().as_ref().get(..DIGEST_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(what: &str, document: &Value) -> Result<Page, String> {
        let mut document = document.as_object().cloned().unwrap();
        let page = Page::extract(what, "spiffe://example.org/a", &mut document).map_err(|error| error.to_string());
        assert!(!document.contains_key("page"));
        page
    }

    #[test]
    fn a_token_is_of_one_search_and_its_limit() {
        let first = json!({"subject": {"type": "user"}, "page": {"limit": 2}});
        let page = take("subject", &first).unwrap();
        assert_eq!((&page.position, page.limit), (&None, 2));
        let token = page.token(Some("7"));
        for limit in [json!(2), json!(null)] {
            let next = json!({"subject": {"type": "user"}, "page": {"token": token, "limit": limit}});
            let page = take("subject", &next).unwrap();
            assert_eq!((page.position, page.limit), (Some("7".to_owned()), 2), "{limit}");
        }
        let refused = "page.token: expected the `next_token` of a page of the same search";
        for (what, document) in [
            (
                "subject",
                json!({"subject": {"type": "user"}, "page": {"token": token, "limit": 3}}),
            ),
            (
                "subject",
                json!({"subject": {"type": "user", "id": "a"}, "page": {"token": token}}),
            ),
            (
                "resource",
                json!({"subject": {"type": "user"}, "page": {"token": token}}),
            ),
            ("subject", json!({"subject": {"type": "user"}, "page": {"token": "x"}})),
            (
                "subject",
                json!({"subject": {"type": "user"}, "page": {"token": token.replace(".2.", ".9999999.")}}),
            ),
        ] {
            assert_eq!(take(what, &document).unwrap_err(), refused, "{document}");
        }
        let mut document = json!({"subject": {"type": "user"}, "page": {"token": token}})
            .as_object()
            .cloned()
            .unwrap();
        assert!(Page::extract("subject", "spiffe://example.org/b", &mut document).is_err());
    }

    #[test]
    fn a_page_has_so_many_results_at_most() {
        for (page, expected) in [
            (json!({}), Ok(100)),
            (json!({"limit": 0}), Ok(0)),
            (json!({"token": ""}), Ok(100)),
            (json!({"limit": 5000}), Ok(1000)),
            (json!({"limit": -1}), Err("page.limit: ")),
            (json!({"limit": "2"}), Err("page.limit: ")),
            (json!([]), Err("page: ")),
        ] {
            let taken = take("subject", &json!({ "page": page }));
            match (taken, expected) {
                (Ok(page), Ok(limit)) => assert_eq!(page.limit, limit),
                (Err(error), Err(beginning)) => assert!(error.starts_with(beginning), "{error}"),
                (taken, _) => panic!("{page}: {taken:?}"),
            }
        }
    }
}
