//! How a refusal is told: a problem document (RFC 9457), or a gRPC status. Neither holds policy
//! text nor token.
//!
//! A gRPC status goes into the headers of a response without a body. That is so in gRPC where there
//! is no message, and it is what gRPC-Web knows as well, which has no trailers of HTTP.

use picket_model::decision::StepUp;
use serde_json::{Map, Value, json};

use super::{ChallengeScheme, Refusal};
use crate::reason::DenyReason;
use crate::request::CallerProtocol;

/// What nearly all challenges have room in, so that writing one takes memory once.
const CHALLENGE_BYTES_USUAL: usize = 384;
/// After how long a caller may try again when nothing was decided.
const RETRY_AFTER_S: &str = "1";

/// An answer to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The gRPC status code, for gRPC callers: the proxy adds it to the headers.
    pub grpc_status: Option<u32>,
    /// Headers, or metadata for gRPC callers.
    pub headers: Vec<(&'static str, String)>,
    /// The document; empty for callers of gRPC and gRPC-Web.
    pub body: String,
}

/// The answer for a refusal; `realm` is the workload's name (RFC 9110 §11.5).
#[must_use]
pub fn reply(refusal: &Refusal, realm: &str) -> Reply {
    let reason = refusal.reason;
    let mut headers = vec![
        ("x-picket-reason", reason.code().to_owned()),
        ("x-picket-decided-by", refusal.decided_by.as_str().to_owned()),
        // RFC 9111 §5.2.2.5: a refusal is about this caller, now.
        ("cache-control", "no-store".to_owned()),
    ];
    if reason.status() == 401 || reason.challenge_error().is_some() {
        headers.push(("www-authenticate", challenge(refusal, realm)));
        // RFC 9449 §8: for the proof that the client makes next.
        headers.extend(nonce(refusal).map(|nonce| ("dpop-nonce", nonce.to_owned())));
    }
    if reason.is_unavailable() {
        headers.push(("retry-after", RETRY_AFTER_S.to_owned()));
    }
    match refusal.caller.protocol {
        CallerProtocol::Http => {
            headers.push(("content-type", "application/problem+json".to_owned()));
            Reply {
                status: reason.status(),
                grpc_status: None,
                headers,
                body: problem_document(refusal),
            }
        }
        CallerProtocol::Grpc => grpc(Some(reason.grpc_status()), reason, headers),
        CallerProtocol::GrpcWeb => grpc_web("application/grpc-web+proto", reason, headers),
        CallerProtocol::GrpcWebText => grpc_web("application/grpc-web-text+proto", reason, headers),
    }
}

/// The message needs no encoding: reasons are told in visible ASCII without `%`.
fn grpc(grpc_status: Option<u32>, reason: DenyReason, mut headers: Vec<(&'static str, String)>) -> Reply {
    const OK: u16 = 200;
    headers.push(("grpc-message", format!("{} ({})", reason.title(), reason.code())));
    Reply {
        status: OK,
        grpc_status,
        headers,
        body: String::new(),
    }
}

/// To a proxy it is a response of HTTP as any other.
fn grpc_web(content_type: &str, reason: DenyReason, mut headers: Vec<(&'static str, String)>) -> Reply {
    headers.push(("content-type", content_type.to_owned()));
    headers.push(("grpc-status", reason.grpc_status().to_string()));
    grpc(None, reason, headers)
}

/// RFC 6750 §3, RFC 9449 §7 and RFC 9470 §3: the realm, for a credential that was sent what is
/// wrong with it, and what it lacks.
fn challenge(refusal: &Refusal, realm: &str) -> String {
    let challenge = refusal.challenge.as_deref();
    let (scheme, algorithms, other) = match challenge.map(|challenge| &challenge.scheme) {
        None | Some(ChallengeScheme::Bearer) => ("Bearer", None, None),
        Some(ChallengeScheme::Dpop { algorithms, .. }) => ("DPoP", Some(algorithms), None),
        Some(ChallengeScheme::BearerOrDpop { algorithms }) => ("Bearer", None, Some(algorithms)),
    };
    let mut text = String::with_capacity(CHALLENGE_BYTES_USUAL);
    text.extend([scheme, " realm=\"", realm, "\""]);
    let mut add = |name: &str, value: &str| text.extend([", ", name, "=\"", value, "\""]);
    if let Some(error) = refusal.reason.challenge_error() {
        add("error", error);
        add("error_description", refusal.reason.title());
        match challenge.map(|challenge| challenge.scopes.as_slice()) {
            None | Some([]) => {}
            Some(scopes) => add("scope", &scopes.join(" ")),
        }
    }
    if let Some(algorithms) = algorithms {
        add("algs", algorithms);
    }
    if let Some(step_up) = challenge.and_then(|challenge| challenge.step_up.as_deref()) {
        add_step_up(step_up, add);
    }
    if let Some(algorithms) = other {
        text.extend([", DPoP realm=\"", realm, "\", algs=\"", algorithms, "\""]);
    }
    text
}

/// RFC 9470 §3.
fn add_step_up(step_up: &StepUp, mut add: impl FnMut(&str, &str)) {
    if !step_up.acr_values().is_empty() {
        add("acr_values", &step_up.acr_values().join(" "));
    }
    if let Some(max_age_s) = step_up.max_age_s() {
        add("max_age", &max_age_s.to_string());
    }
}

fn nonce(refusal: &Refusal) -> Option<&str> {
    match &refusal.challenge.as_deref()?.scheme {
        ChallengeScheme::Bearer | ChallengeScheme::BearerOrDpop { .. } => None,
        ChallengeScheme::Dpop { nonce, .. } => nonce.as_deref(),
    }
}

/// RFC 9457 §3.1, with the members `reason`, `request_id`, and where there are any `reasons`,
/// `challenge` and `decision_id`.
fn problem_document(refusal: &Refusal) -> String {
    let reason = refusal.reason;
    let mut document = json!({
        "type": format!("urn:picket:reason:{}", reason.code()),
        "title": reason.title(),
        "status": reason.status(),
        "reason": reason.code(),
        "request_id": refusal.caller.request_id,
    });
    if let Some(members) = document.as_object_mut() {
        members.extend(
            refusal
                .detail
                .as_ref()
                .map(|detail| ("detail".to_owned(), json!(detail))),
        );
        members.extend(
            refusal
                .decision_id
                .as_ref()
                .map(|id| ("decision_id".to_owned(), json!(id))),
        );
        if let Some(step_up) = refusal
            .challenge
            .as_deref()
            .and_then(|challenge| challenge.step_up.as_deref())
        {
            members.insert("challenge".to_owned(), of_step_up(step_up));
        }
        if !refusal.caller_reasons.is_empty() {
            members.insert("reasons".to_owned(), json!(refusal.caller_reasons));
        }
    }
    document.to_string()
}

/// The same as the header says, and what no header has a parameter for.
fn of_step_up(step_up: &StepUp) -> Value {
    let mut members = Map::new();
    if !step_up.acr_values().is_empty() {
        members.insert("acr_values".to_owned(), json!(step_up.acr_values()));
    }
    if let Some(max_age_s) = step_up.max_age_s() {
        members.insert("max_age".to_owned(), json!(max_age_s));
    }
    if step_up.bound_token() {
        members.insert("bound_token".to_owned(), json!(true));
    }
    if step_up.trusted_device() {
        members.insert("trusted_device".to_owned(), json!(true));
    }
    Value::Object(members)
}
