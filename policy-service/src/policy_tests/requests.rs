//! Requests by name, from whichever file has some.

use std::path::Path;

use picket_core::configuration::problems::{self, Problems};
use serde_json::Value;

use super::cases::cases;
use super::document::{DocumentErrors, read_yaml};
use super::matrix::matrix;
use super::request::{RequestDocument, TimedRequest};

/// A request and what it is called in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRequest {
    /// The case's name, or that of resource, principal and method; empty for a file that is one request.
    pub name: String,
    /// The request.
    pub request: TimedRequest,
}

/// The requests of a file of cases, of a matrix, or of a file that is one request.
///
/// # Errors
/// Every mistake of the file, with the way to the field.
pub fn read_requests(file: &Path) -> Result<Vec<NamedRequest>, DocumentErrors> {
    let mut found = DocumentErrors::default();
    let document = read_yaml(file, &mut found);
    let requests = document.and_then(|document| found.take(file, requests(document)));
    found.none_or(requests.unwrap_or_default())
}

fn requests(document: Value) -> Result<Vec<NamedRequest>, Problems> {
    if document.get("cases").is_some() {
        let of_case = |case: super::Case| NamedRequest {
            name: case.name,
            request: case.request,
        };
        return Ok(cases(document)?.into_iter().map(of_case).collect());
    }
    if document.get("resources").is_some() {
        return Ok(matrix(&problems::read(document)?)?.requests());
    }
    let mut problems = Problems::default();
    let request = problems::read::<RequestDocument>(document)?.complete("request", "", &mut problems);
    let name = String::new();
    problems.none_or(request.map(|request| vec![NamedRequest { name, request }]))
}
