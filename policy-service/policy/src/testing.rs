//! Tests of policies: requests with what is expected of them, written as YAML beside the policies.
//!
//! They are run by the engine that the service decides with, and tell which policies and conditions none of them tries.

mod cases;
mod coverage;
mod document;
mod matrix;
mod request;
mod requests;
mod run;

pub use cases::{CASES_MAX, Case, CaseFile, Expected, FILES_MAX, read, read_texts};
pub use coverage::{ConditionCoverage, Coverage, PolicyCoverage};
pub use document::{DocumentError, DocumentErrors, FILE_BYTES_MAX};
pub use matrix::{CELLS_MAX, Cell, MATRIX_FILE, Matrix, MatrixReport, Row, Table, Verdict, read_matrix};
pub use request::{NamedRequest, TimedRequest};
pub use requests::{read_requests, tested_roles};
pub use run::{CaseReport, FileReport, Mismatch, Report, run};

#[cfg(test)]
mod tests;
