//! Verdicts as responses to Envoy.

use std::collections::BTreeSet;

use picket_core::enforcement::{Permit, Refusal, reply};
use picket_proto::external::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use picket_proto::external::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use picket_proto::external::envoy::service::auth::v3::check_response::HttpResponse;
use picket_proto::external::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use picket_proto::external::envoy::r#type::v3::HttpStatus;
use picket_proto::external::google::rpc::Status;

const OK: i32 = 0;
/// RFC 9449 §8.2.
const NONCE_HEADER: &str = "dpop-nonce";
/// In the place of a code that is out of range: never OK.
const PERMISSION_DENIED: i32 = 7;

/// Whether responses to permitted requests name reason and decider, as refusals do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Explanations {
    /// They do.
    Given,
    /// They do not.
    Withheld,
}

/// A permit: Envoy forwards the request with the changes that the filter would make. Envoy cannot
/// remove a header of the response here, so `nonce` replaces the upstream's own, where it sends
/// one; a permit with a nonce of its own excludes it.
pub(super) fn permitted(permit: &Permit, explanations: Explanations, nonce: Option<&str>) -> CheckResponse {
    let set: Vec<(&str, &str)> = permit.headers_to_set().collect();
    // Envoy removes after it has set, and setting replaces all that the request has of that name.
    let is_set = |name: &&str| set.iter().any(|(wanted, _)| wanted == name);
    let removed: BTreeSet<&str> = permit.headers_to_remove().filter(|name| !is_set(name)).collect();
    let path = permit.rewritten_path().map(|path| (":path", path));
    let mut added = Vec::new();
    if let Some(nonce) = permit.next_nonce() {
        // RFC 9449 §8.2: from a cache the nonce would be an old one.
        added.extend([(NONCE_HEADER, nonce), ("cache-control", "no-store")]);
    }
    if explanations == Explanations::Given {
        added.extend([
            ("x-picket-reason", permit.reason().code()),
            ("x-picket-decided-by", permit.decided_by().as_str()),
        ]);
    }
    let mut response_headers = overwriting(added);
    let nonce = nonce.map(|nonce| (NONCE_HEADER, nonce));
    response_headers.extend(with_action(HeaderAppendAction::OverwriteIfExists, nonce));
    let response = OkHttpResponse {
        headers: overwriting(path.into_iter().chain(set.iter().copied())),
        headers_to_remove: removed.into_iter().map(str::to_owned).collect(),
        response_headers_to_add: response_headers,
    };
    CheckResponse {
        status: Some(Status { code: OK }),
        http_response: Some(HttpResponse::OkResponse(response)),
    }
}

/// A refusal: Envoy replies as core has written it. For gRPC Envoy's own status would be one of
/// HTTP's; behind its filter for gRPC-Web it would not make one at all.
pub(super) fn refused(refusal: &Refusal, realm: &str) -> CheckResponse {
    let reply = reply(refusal, realm);
    let grpc_status = reply.grpc_status.map(|code| code.to_string());
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let response = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(reply.status),
        }),
        headers: overwriting(headers.chain(grpc_status.iter().map(|code| ("grpc-status", code.as_str())))),
        body: reply.body,
    };
    let code = i32::try_from(refusal.reason.grpc_status())
        .ok()
        .filter(|code| *code != OK);
    CheckResponse {
        status: Some(Status {
            code: code.unwrap_or(PERMISSION_DENIED),
        }),
        http_response: Some(HttpResponse::DeniedResponse(response)),
    }
}

fn overwriting<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<HeaderValueOption> {
    with_action(HeaderAppendAction::OverwriteIfExistsOrAdd, headers)
}

fn with_action<'a>(
    action: HeaderAppendAction,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<HeaderValueOption> {
    let option = |(name, value): (&str, &str)| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append_action: action.into(),
        keep_empty_value: true,
    };
    headers.into_iter().map(option).collect()
}
