//! The front for the OpenID AuthZEN Authorization API 1.0, over HTTPS: for enforcement points that are not Picket's.
//!
//! TLS and callers are those of the gRPC front. Each evaluation is a decision like any other, with a record.

mod connections;
mod evaluations;
mod failure;
mod information;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use picket_core::request::REQUEST_ID_BYTES_MAX;
use picket_core::strict_json;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::clock::{self, Stopwatch};
use crate::configuration::{AuthZen, Role};
use crate::decision::{Decider, made_up_id};
use crate::grpc::{Caller, Callers, Refusal, Tls, incoming};
use crate::metrics::Metrics;
use failure::Failure;

const EVALUATION_PATH: &str = "/access/v1/evaluation";
const EVALUATIONS_PATH: &str = "/access/v1/evaluations";
const SEARCH_ACTION_PATH: &str = "/access/v1/search/action";
const METADATA_PATH: &str = "/.well-known/authzen-configuration";
/// AuthZEN 1.0 §10.1.3.
const X_REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";
/// From a call's headers to its answer, so that a body that trickles in gives its slot back.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The documents of the API nest to 5.
const DEPTH_MAX: usize = 16;
/// All members and elements of a body: a hundred evaluations with a hundred each.
const MEMBERS_MAX: usize = 10_000;

/// Everything that the front serves with.
pub(crate) struct Front {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Tls,
    pub(crate) decider: Arc<Decider>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the calls share.
struct Served {
    settings: AuthZen,
    decider: Arc<Decider>,
    metrics: Arc<Metrics>,
    slots: Semaphore,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Evaluation,
    Evaluations,
    SearchAction,
    Metadata,
}

/// What a call says beside its body.
#[derive(Clone, Debug)]
struct Asked {
    /// The caller's SPIFFE ID.
    caller: Arc<str>,
    request_id: String,
    traceparent: Option<String>,
    stopwatch: Stopwatch,
}

/// Serves until it is told to stop and the calls in flight have ended.
pub(crate) async fn serve(front: Front, settings: AuthZen, callers: Callers, stop: watch::Receiver<bool>) {
    let connections = incoming(front.listener, front.tls, callers, Arc::clone(&front.metrics));
    let slots = usize::try_from(settings.concurrency_max).unwrap_or(Semaphore::MAX_PERMITS);
    let served = Arc::new(Served {
        settings,
        decider: front.decider,
        metrics: front.metrics,
        slots: Semaphore::new(slots),
    });
    connections::serve(connections, router(served), stop).await;
}

fn router(served: Arc<Served>) -> Router {
    let to = |endpoint| {
        move |State(served): State<Arc<Served>>, Extension(caller): Extension<Caller>, request: Request| async move {
            served.answer(endpoint, &caller, request).await
        }
    };
    Router::new()
        .route(EVALUATION_PATH, post(to(Endpoint::Evaluation)))
        .route(EVALUATIONS_PATH, post(to(Endpoint::Evaluations)))
        .route(SEARCH_ACTION_PATH, post(to(Endpoint::SearchAction)))
        .route(METADATA_PATH, get(to(Endpoint::Metadata)))
        .with_state(served)
}

impl Endpoint {
    /// The label in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Evaluations => "evaluations",
            Self::SearchAction => "search_action",
            Self::Metadata => "metadata",
        }
    }
}

impl Served {
    async fn answer(self: Arc<Self>, endpoint: Endpoint, caller: &Caller, request: Request) -> Response {
        let stopwatch = Stopwatch::start();
        let request_id = request.headers().get(X_REQUEST_ID).cloned();
        let answer =
            tokio::time::timeout(CALL_TIMEOUT, self.answer_in_time(endpoint, caller, request, stopwatch)).await;
        let answer = answer.unwrap_or(Err(Failure::TimedOut));
        let mut response = match answer {
            Ok(document) => ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response(),
            Err(failure) => {
                tracing::debug!(%failure, "no evaluation");
                failure.into_response()
            }
        };
        self.metrics.authzen(endpoint.as_str(), response.status().as_u16());
        // A decision is about this request, now.
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        if let Some(request_id) = request_id {
            response.headers_mut().insert(X_REQUEST_ID, request_id);
        }
        response
    }

    async fn answer_in_time(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        request: Request,
        stopwatch: Stopwatch,
    ) -> Result<Value, Failure> {
        let caller = self.admitted(caller)?;
        let _slot = self.slots.try_acquire().map_err(|_| Failure::Overloaded)?;
        if endpoint == Endpoint::Metadata {
            return Ok(metadata(&self.settings.policy_decision_point));
        }
        let headers = request.headers();
        check_content_type(headers)?;
        let asked = Asked {
            caller,
            request_id: visible(headers, X_REQUEST_ID).unwrap_or_else(|| made_up_id(clock::now_unix_us())),
            traceparent: visible(headers, TRACEPARENT),
            stopwatch,
        };
        let document = self.document(request.into_body()).await?;
        match endpoint {
            Endpoint::Evaluations => evaluations::evaluations(self, &asked, document).await,
            Endpoint::SearchAction => evaluations::search_action(self, &asked, &document).await,
            Endpoint::Evaluation | Endpoint::Metadata => evaluations::evaluation(self, &asked, document).await,
        }
    }

    /// AuthZEN 1.0 §10.1.2: 401 for who is not known, 403 for who may not ask.
    fn admitted(&self, caller: &Caller) -> Result<Arc<str>, Failure> {
        match caller {
            // Whoever asks for decisions has this role, a sidecar or not.
            Caller::Allowed(caller, roles) if roles.allow(Role::Sidecar) => Ok(Arc::clone(caller)),
            Caller::Allowed(..) => Err(self.refused(Refusal::Role)),
            Caller::Refused(refusal) => Err(self.refused(*refusal)),
        }
    }

    fn refused(&self, refusal: Refusal) -> Failure {
        self.metrics.refused(refusal.as_str());
        match refusal {
            Refusal::NoSpiffeId => Failure::CallerUnknown,
            Refusal::NotListed | Refusal::Role => Failure::CallerRefused,
        }
    }

    async fn document(&self, body: Body) -> Result<Map<String, Value>, Failure> {
        let bytes_max = usize::try_from(self.settings.request_bytes_max).unwrap_or(usize::MAX);
        let body = to_bytes(body, bytes_max)
            .await
            .map_err(|_| Failure::TooLarge(bytes_max))?;
        if !strict_json::is_within(&body, DEPTH_MAX, MEMBERS_MAX) {
            let message = format!("the body nests deeper than {DEPTH_MAX} or has more than {MEMBERS_MAX} members");
            return Err(Failure::Malformed(message));
        }
        match strict_json::parse(&body) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(Failure::Malformed("the body is not a JSON object".to_owned())),
            Err(error) => Err(Failure::Malformed(format!("the body is not JSON: {error}"))),
        }
    }
}

/// AuthZEN 1.0 §9.1. Searches for subjects and resources are not there: the service does not know all of them.
fn metadata(policy_decision_point: &str) -> Value {
    let endpoint = |path: &str| format!("{policy_decision_point}{path}");
    json!({
        "policy_decision_point": policy_decision_point,
        "access_evaluation_endpoint": endpoint(EVALUATION_PATH),
        "access_evaluations_endpoint": endpoint(EVALUATIONS_PATH),
        "search_action_endpoint": endpoint(SEARCH_ACTION_PATH),
    })
}

/// AuthZEN 1.0 §10.1: bodies are JSON, and say so.
fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = given.and_then(|given| given.split(';').next()).map(str::trim);
    match media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        true => Ok(()),
        false => Err(Failure::Malformed(
            "expected the content type `application/json`".to_owned(),
        )),
    }
}

/// A header that is short visible text, as the filter takes them.
fn visible(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let is_short = !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX;
    (is_short && value.bytes().all(|b| b.is_ascii_graphic())).then(|| value.to_owned())
}
