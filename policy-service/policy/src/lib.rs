//! Policies: loading a folder of Cedar policies, and evaluating access requests over them.
//!
//! [`load`] reads and validates a folder strictly and gives a [`PolicyEngine`], or every mistake with its line.
//! [`PolicyEngine::evaluate`] gives an [`Evaluation`] of an access request and an [`EvaluationContext`]; it cannot fail, as any
//! error is a deny. A [`Tracer`] says the same of each policy, clause by clause.

mod annotations;
mod changes;
mod compared;
mod context;
mod engine;
mod entities;
mod errors;
mod evaluation;
mod files;
mod index;
mod load;
mod model;
mod needs;
mod occurrence;
mod roles;
mod schema;
mod source;
mod step_up;
mod syntax;
pub mod testing;
mod trace;
mod user_agent;

pub use changes::{ChangeKind, PolicyChange, changes};
pub use context::{EvaluationContext, time_zone};
pub use engine::PolicyEngine;
pub use errors::{PolicyError, PolicyErrors};
pub use evaluation::{Evaluation, Observed};
pub(crate) use files::is_test_file;
pub use files::{FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, PolicyFiles, TESTS_FOLDER};
pub use jiff::tz::TimeZone;
pub use load::{load, load_files};
pub use model::{AMR_MAX, METHODS, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
pub use schema::SCHEMA;
pub use source::Place;
pub use trace::{Clause, ClauseKind, Outcome, PolicyKind, PolicyTrace, Trace, TraceError, TracedPolicy, Tracer};

#[cfg(test)]
mod tests;
