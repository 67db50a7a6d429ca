//! The reasons of refusals and permits.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use picket_core::enforcement::PermitReason;
use picket_core::reason::DenyReason;

use crate::Page;
use crate::markdown::wrapped;

const INTRODUCTION: &str = "\
Why a request was refused. A refusal carries the reason in `x-picket-reason`, the step that decided in \
`x-picket-decided-by`, and both in a problem document (RFC 9457) of type `urn:picket:reason:REASON`. A gRPC caller \
receives the gRPC status instead. The label `picket_reason` of metrics has the same values.

Each entry names the HTTP status, the gRPC status, the steps that give the reason, and the `error` of the challenge in \
`WWW-Authenticate` where there is one. The quoted sentence is what the caller reads. `detail`, `reasons` and `challenge` \
are members of the problem document.";

pub(crate) fn page() -> Page {
    let statuses: BTreeSet<u16> = DenyReason::ALL.iter().map(|reason| reason.status()).collect();
    let mut body = String::new();
    for status in statuses {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "## HTTP status {status}\n");
        for reason in DenyReason::ALL.iter().filter(|reason| reason.status() == status) {
            let _ = writeln!(body, "{}", entry(*reason));
        }
    }
    let permits: Vec<_> = PermitReason::ALL
        .iter()
        .map(|reason| format!("`{}`", reason.code()))
        .collect();
    let permits = format!(
        "Permitted requests have the reason {}. Responses to them carry it only with `explain_permits`.",
        permits.join(" or ")
    );
    let _ = write!(body, "## Permits\n\n{}", wrapped(&permits));
    let source = "the table in `core/src/reason.rs`";
    Page::new("deny-reasons.md", "Deny reasons", source, INTRODUCTION, &body)
}

fn entry(reason: DenyReason) -> String {
    let steps: Vec<_> = reason
        .decided_by()
        .iter()
        .map(|step| format!("`{}`", step.as_str()))
        .collect();
    let challenge = reason.challenge_error();
    let head = format!(
        "{}, {}. Decided by {}.{}",
        reason.status(),
        grpc_name(reason.grpc_status()),
        steps.join(" or "),
        challenge.map_or_else(String::new, |error| format!(" Challenge: `{error}`."))
    );
    let explanation = reason.explanation().replace('\n', " ");
    let title = format!("> {}", reason.title());
    format!(
        "### `{}`\n\n{}\n{}\n{title}\n",
        reason.code(),
        wrapped(&head),
        wrapped(&explanation)
    )
}

/// The name of a status in `google.rpc.Code`.
fn grpc_name(code: u32) -> String {
    let name = match code {
        3 => "INVALID_ARGUMENT",
        7 => "PERMISSION_DENIED",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => return format!("gRPC status {code}"),
    };
    format!("gRPC {name} ({code})")
}
