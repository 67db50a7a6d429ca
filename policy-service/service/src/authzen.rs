//! The front for the OpenID AuthZEN Authorization API 1.0 over HTTPS, for enforcement points other
//! than Picket's.
//!
//! It serves the callers of the gRPC front with the same certificates. Each evaluation is a
//! decision like any other, with its record.

mod connections;
mod error;
mod evaluations;
mod information;
mod metrics;
mod paging;
mod resources;
mod search;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use picket_core::request::REQUEST_ID_BYTES_MAX;
use picket_model::strict_json;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::clock::{self, Stopwatch};
use crate::decision::{Decider, new_id};
use crate::transport::{
    AdmissionControl, AdmissionError, AdmittedCall, Caller, CallerDirectory, CallerRefusal, TlsServer,
    TransportMetrics, accept_connections,
};
use error::AuthzenError;
pub(crate) use metrics::AuthzenMetrics;
pub(crate) use paging::RESULTS_MAX;
use picket_service_configuration::{AuthzenSettings, CallerRole};
pub(crate) use resources::{BYTES_MAX as RESOURCES_BYTES_MAX, RESOURCES_MAX, ResourceList};
use search::CandidateSource;
pub(crate) use search::{CANDIDATES_MAX, TIME_MAX as SEARCH_TIME_MAX};

const EVALUATION_PATH: &str = "/access/v1/evaluation";
const EVALUATIONS_PATH: &str = "/access/v1/evaluations";
const SEARCH_SUBJECT_PATH: &str = "/access/v1/search/subject";
const SEARCH_RESOURCE_PATH: &str = "/access/v1/search/resource";
const SEARCH_ACTION_PATH: &str = "/access/v1/search/action";
const METADATA_PATH: &str = "/.well-known/authzen-configuration";
/// AuthZEN 1.0 §10.1.3.
const X_REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";
/// From a call's headers to its answer, so that a body that trickles in gives its slot back.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The documents of the API nest to 5.
pub(crate) const DEPTH_MAX: usize = 16;
/// All members and elements of a body: a hundred evaluations with a hundred each.
pub(crate) const MEMBERS_MAX: usize = 10_000;

/// Concurrent searches: each is up to a thousand evaluations.
pub(crate) const SEARCHES_MAX: usize = 4;

/// The front with everything that it serves.
pub(crate) struct AuthzenFront {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsServer,
    pub(crate) callers: CallerDirectory,
    pub(crate) decider: Arc<Decider>,
    /// `None`: there is no search for resources.
    pub(crate) resources: Option<ResourceList>,
    pub(crate) metrics: AuthzenMetrics,
    pub(crate) transport_metrics: TransportMetrics,
}

/// The state that all calls share.
struct AuthzenService {
    settings: AuthzenSettings,
    decider: Arc<Decider>,
    resources: Option<ResourceList>,
    metrics: AuthzenMetrics,
    admission: AdmissionControl,
    searches: Semaphore,
}

/// The endpoints of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Evaluation,
    Evaluations,
    SearchSubject,
    SearchResource,
    SearchAction,
    Metadata,
}

/// A call without its body.
#[derive(Clone, Debug)]
struct CallContext {
    /// The caller's SPIFFE ID.
    caller: Arc<str>,
    request_id: String,
    traceparent: Option<String>,
    stopwatch: Stopwatch,
}

/// Serves until it is told to stop and the calls in flight have ended.
pub(crate) async fn serve(front: AuthzenFront, settings: AuthzenSettings, stop: watch::Receiver<bool>) {
    let connections = accept_connections(
        front.listener,
        front.tls,
        front.callers,
        front.transport_metrics.clone(),
    );
    let admission = AdmissionControl::new(settings.concurrency_max, front.transport_metrics);
    let service = Arc::new(AuthzenService {
        settings,
        decider: front.decider,
        resources: front.resources,
        metrics: front.metrics,
        admission,
        searches: Semaphore::new(SEARCHES_MAX),
    });
    connections::serve(connections, router(service), stop).await;
}

fn router(service: Arc<AuthzenService>) -> Router {
    let to = |endpoint| {
        move |State(service): State<Arc<AuthzenService>>, Extension(caller): Extension<Caller>, request: Request| async move {
            service.respond(endpoint, &caller, request).await
        }
    };
    let mut router = Router::new().route(METADATA_PATH, get(to(Endpoint::Metadata)));
    for endpoint in Endpoint::POSTED
        .into_iter()
        .filter(|endpoint| service.serves(*endpoint))
    {
        router = router.route(endpoint.path(), post(to(endpoint)));
    }
    router.with_state(service)
}

impl Endpoint {
    const POSTED: [Self; 5] = [
        Self::Evaluation,
        Self::Evaluations,
        Self::SearchSubject,
        Self::SearchResource,
        Self::SearchAction,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Evaluation => EVALUATION_PATH,
            Self::Evaluations => EVALUATIONS_PATH,
            Self::SearchSubject => SEARCH_SUBJECT_PATH,
            Self::SearchResource => SEARCH_RESOURCE_PATH,
            Self::SearchAction => SEARCH_ACTION_PATH,
            Self::Metadata => METADATA_PATH,
        }
    }

    /// Its name in the metadata (AuthZEN 1.0 §9.1.1), without the suffix `_endpoint`.
    fn name(self) -> &'static str {
        match self {
            Self::Evaluation => "access_evaluation",
            Self::Evaluations => "access_evaluations",
            Self::SearchSubject | Self::SearchResource | Self::SearchAction | Self::Metadata => self.as_str(),
        }
    }

    /// The role that a caller needs. A search for subjects returns who is logged in, as a list of
    /// sessions does.
    fn role(self) -> CallerRole {
        match self {
            Self::SearchSubject => CallerRole::Reader,
            // A caller that asks for decisions has this role, a sidecar or not.
            Self::Evaluation | Self::Evaluations | Self::SearchResource | Self::SearchAction | Self::Metadata => {
                CallerRole::Sidecar
            }
        }
    }

    /// The label in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Evaluations => "evaluations",
            Self::SearchSubject => "search_subject",
            Self::SearchResource => "search_resource",
            Self::SearchAction => "search_action",
            Self::Metadata => "metadata",
        }
    }
}

impl AuthzenService {
    async fn respond(self: Arc<Self>, endpoint: Endpoint, caller: &Caller, request: Request) -> Response {
        let stopwatch = Stopwatch::start();
        let request_id = request.headers().get(X_REQUEST_ID).cloned();
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.process(endpoint, caller, request, stopwatch)).await;
        let answer = answer.unwrap_or(Err(AuthzenError::TimedOut));
        let mut response = match answer {
            Ok(document) => ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response(),
            Err(error) => {
                tracing::debug!(%error, "no evaluation");
                error.into_response()
            }
        };
        self.metrics
            .count_request(endpoint.as_str(), response.status().as_u16());
        // A decision is about this request, now.
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        if let Some(request_id) = request_id {
            response.headers_mut().insert(X_REQUEST_ID, request_id);
        }
        response
    }

    async fn process(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        request: Request,
        stopwatch: Stopwatch,
    ) -> Result<Value, AuthzenError> {
        let call = self.admit(caller, endpoint.role())?;
        if endpoint == Endpoint::Metadata {
            return Ok(self.metadata());
        }
        let headers = request.headers();
        check_content_type(headers)?;
        let call = CallContext {
            caller: call.shared_caller(),
            request_id: visible_header(headers, X_REQUEST_ID).unwrap_or_else(|| new_id(clock::now())),
            traceparent: visible_header(headers, TRACEPARENT),
            stopwatch,
        };
        let document = self.read_document(request.into_body()).await?;
        match endpoint {
            Endpoint::Evaluations => evaluations::evaluations(self, &call, document).await,
            Endpoint::SearchSubject | Endpoint::SearchResource | Endpoint::SearchAction => {
                let source = self.source(endpoint).ok_or(AuthzenError::NotServed)?;
                search::search(self, &call, source, document).await
            }
            Endpoint::Evaluation | Endpoint::Metadata => evaluations::evaluation(self, &call, document).await,
        }
    }

    /// The source of a search's candidates; `None`: this service has none.
    fn source(&self, endpoint: Endpoint) -> Option<CandidateSource<'_>> {
        match endpoint {
            Endpoint::SearchSubject => self.decider.sessions.as_deref().map(CandidateSource::Subjects),
            Endpoint::SearchResource => self.resources.as_ref().map(CandidateSource::Resources),
            Endpoint::SearchAction => Some(CandidateSource::Actions),
            Endpoint::Evaluation | Endpoint::Evaluations | Endpoint::Metadata => None,
        }
    }

    /// Whether an endpoint is served. The service finds subjects where it keeps sessions, and
    /// resources where it has a list of them.
    fn serves(&self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Evaluation | Endpoint::Evaluations | Endpoint::Metadata => true,
            Endpoint::SearchSubject | Endpoint::SearchResource | Endpoint::SearchAction => {
                self.source(endpoint).is_some()
            }
        }
    }

    /// The metadata document (AuthZEN 1.0 §9.1): the endpoints that are served.
    fn metadata(&self) -> Value {
        let policy_decision_point = &self.settings.policy_decision_point;
        let mut members = Map::new();
        members.insert("policy_decision_point".to_owned(), json!(policy_decision_point));
        for endpoint in Endpoint::POSTED.into_iter().filter(|endpoint| self.serves(*endpoint)) {
            let url = format!("{policy_decision_point}{}", endpoint.path());
            members.insert(format!("{}_endpoint", endpoint.name()), json!(url));
        }
        Value::Object(members)
    }

    /// AuthZEN 1.0 §10.1.2: 401 for a caller that is not known, 403 for one that lacks the role.
    fn admit(&self, caller: &Caller, role: CallerRole) -> Result<AdmittedCall, AuthzenError> {
        self.admission.admit(caller, &[role]).map_err(|error| match error {
            AdmissionError::Refused(CallerRefusal::NoSpiffeId) => AuthzenError::CallerUnknown,
            AdmissionError::Refused(CallerRefusal::NotListed | CallerRefusal::Role) => AuthzenError::CallerRefused,
            AdmissionError::Overloaded => AuthzenError::Overloaded,
        })
    }

    async fn read_document(&self, body: Body) -> Result<Map<String, Value>, AuthzenError> {
        let bytes_max = usize::try_from(self.settings.request_bytes_max).unwrap_or(usize::MAX);
        let body = to_bytes(body, bytes_max)
            .await
            .map_err(|_| AuthzenError::TooLarge(bytes_max))?;
        if !strict_json::is_within(&body, DEPTH_MAX, MEMBERS_MAX) {
            let message = format!("the body nests deeper than {DEPTH_MAX} or has more than {MEMBERS_MAX} members");
            return Err(AuthzenError::Malformed(message));
        }
        match strict_json::parse(&body) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(AuthzenError::Malformed("the body is not a JSON object".to_owned())),
            Err(error) => Err(AuthzenError::Malformed(format!("the body is not JSON: {error}"))),
        }
    }
}

/// AuthZEN 1.0 §10.1: bodies are JSON, and say so.
fn check_content_type(headers: &HeaderMap) -> Result<(), AuthzenError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = given.and_then(|given| given.split(';').next()).map(str::trim);
    match media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        true => Ok(()),
        false => Err(AuthzenError::Malformed(
            "expected the content type `application/json`".to_owned(),
        )),
    }
}

/// A header that is short visible text, by the filter's limits.
fn visible_header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let is_short = !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX;
    (is_short && value.bytes().all(|b| b.is_ascii_graphic())).then(|| value.to_owned())
}
