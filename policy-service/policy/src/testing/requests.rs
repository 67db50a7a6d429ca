//! Requests by name, from whichever file has some.

use std::collections::BTreeSet;
use std::path::Path;

use picket_model::decision::Effect;
use picket_model::problems::{self, Problems};
use serde_json::Value;

use super::cases::{TestCase, cases, read_cases};
use super::document::{DocumentErrors, read_yaml};
use super::matrix::{MATRIX_FILE, matrix};
use super::request::{NamedRequest, RequestDocument, TestRequest};
use crate::TESTS_FOLDER;

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

/// The roles that tests and matrix of a folder of policies give to principals. Cases that expect a
/// deny by no policy are left out: their roles may be wrong on purpose.
///
/// # Errors
/// Every mistake of the files.
pub fn tested_roles(directory: &Path) -> Result<BTreeSet<String>, DocumentErrors> {
    let (tests, matrix) = (directory.join(TESTS_FOLDER), directory.join(MATRIX_FILE));
    let mut roles = BTreeSet::new();
    if tests.exists() {
        let cases = read_cases(&tests)?.into_iter().flat_map(|file| file.cases);
        let counts = |case: &TestCase| {
            let names_policies = case.expected.policy_ids.as_ref().is_none_or(|ids| !ids.is_empty());
            case.expected.effect == Effect::Permit || names_policies
        };
        roles.extend(cases.filter(counts).flat_map(|case| roles_of(case.request)));
    }
    if matrix.exists() {
        let requests = read_requests(&matrix)?.into_iter();
        roles.extend(requests.flat_map(|named| roles_of(named.request)));
    }
    Ok(roles)
}

fn roles_of(request: TestRequest) -> Vec<String> {
    request
        .request
        .principal
        .map(|principal| principal.roles)
        .unwrap_or_default()
}

fn requests(document: Value) -> Result<Vec<NamedRequest>, Problems> {
    if document.get("cases").is_some() {
        let of_case = |case: TestCase| NamedRequest {
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
