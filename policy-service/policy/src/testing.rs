//! Tests of policies: requests with expected decisions, in YAML files beside the policies.
//!
//! [`run()`] evaluates them with the engine that the service decides with, and reports which policies
//! and clauses no test exercises. A [`Matrix`] is the decision for each principal, method and
//! resource of a list, as a text for review.

mod cases;
mod coverage;
mod document;
mod matrix;
mod request;
mod requests;
mod run;

pub use cases::{CASES_MAX, Expectation, FILES_MAX, TestCase, TestFile, parse_cases, read_cases};
pub use coverage::{ConditionCoverage, Coverage, PolicyCoverage};
pub use document::{DocumentError, DocumentErrors, FILE_BYTES_MAX};
pub use matrix::{
    CELLS_MAX, CellDecision, MATRIX_FILE, Matrix, MatrixCell, MatrixReport, MatrixRow, MatrixTable, read_matrix,
};
pub use request::{NamedRequest, TestRequest};
pub use requests::{read_requests, tested_roles};
pub use run::{CaseReport, FileReport, Mismatch, TestReport, run};

#[cfg(test)]
mod tests;
