//! Policies: loading a folder of Cedar policies, and evaluating access requests over them.
//!
//! [`load()`] reads and validates a folder strictly. It returns a [`PolicyEngine`], or every mistake
//! with its file and line. [`PolicyEngine::evaluate`] takes an access request and an
//! [`EvaluationContext`] (time, risk, device) and returns an [`Evaluation`]. It cannot fail: any
//! error is a deny. An evaluation also says which attributes it depends on (`vary`), for how long
//! it holds, and with which stronger authentication a denied principal would be permitted.
//!
//! A [`Tracer`] reports the result of each policy for a request, clause by clause. [`testing`] runs
//! the tests beside policies.
//!
//! Each evaluation reads only what its policies need: an index selects the policies of the
//! request's tenant and route rule, and their syntax trees name the attributes. The result is the
//! same as that of all policies with all attributes.

mod annotations;
mod changes;
mod compared;
mod context;
mod engine;
mod entities;
mod errors;
mod evaluation;
mod files;
mod impossible_names;
mod index;
mod load;
mod model;
mod needs;
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
pub use files::{FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, PolicyFiles, REVISION_MESSAGE_BYTES_MAX, TESTS_FOLDER};
pub use jiff::tz::TimeZone;
pub use load::{load, load_files};
pub use model::{AMR_MAX, METHODS, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
pub use schema::SCHEMA;
pub use source::SourceLocation;
pub use trace::{Clause, ClauseKind, ConditionValue, PolicyKind, PolicyTrace, Trace, TraceError, TracedPolicy, Tracer};

#[cfg(test)]
mod tests;
