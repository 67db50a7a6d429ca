//! The fixed limits of the command line, for the reference.

use picket_model::limits::{Limit, LimitGroup};

use crate::command::TAIL_RECORDS_MAX;
use crate::duration::DURATION_DAYS_MAX;
use crate::files::FILE_BYTES_MAX;
use crate::pki::WORKLOADS_MAX;

/// All of them.
pub const LIMITS: &[LimitGroup] = &[LimitGroup {
    title: "Command line",
    limits: &[
        Limit::bytes("file that is read", FILE_BYTES_MAX, "exit code 3"),
        Limit::count("workloads of `picket pki init`", WORKLOADS_MAX as u64, "exit code 2"),
        Limit::count("days of a duration", DURATION_DAYS_MAX, "exit code 2"),
        Limit::count(
            "records of `picket audit tail`",
            TAIL_RECORDS_MAX.unsigned_abs(),
            "exit code 2",
        ),
    ],
}];
