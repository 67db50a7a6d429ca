//! An access request as it is written in YAML: in the words of `picket.v1.AccessRequest`, with most
//! of it left out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use picket_core::path::parse_target;
use picket_model::access::{AccessRequest, Action, Actor, Context, Possession, Principal, Resource, Sidecar};
use picket_model::device::{DeviceFacts, DeviceState, TRUST_SCORE_MAX};
use picket_model::problems::{Problems, parsed_text, problem_at, shortened};
use picket_model::spiffe::SpiffeId;
use picket_model::time::Timestamp;
use picket_risk::{Assessment, Country, HypotheticalRisk, HypotheticalRiskError, Signal};

use crate::{Evaluation, EvaluationContext, PolicyEngine};

/// The values of fields that are left out.
const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "someone";
const METHOD: &str = "GET";
const HOST: &str = "service.example";
const PATH: &str = "/";
const WORKLOAD: &str = "policy-test";
const DEVICE: &str = "00000000-0000-7000-8000-000000000000";
/// Monday, 2026-01-05, noon in Greenwich: a test comes out the same whenever it is run.
const TIME: jiff::Timestamp = jiff::Timestamp::constant(1_767_614_400, 0);

/// A request, and when it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRequest {
    /// The request.
    pub request: AccessRequest,
    /// When it is asked.
    pub time: Timestamp,
    /// The device that it is said to come from; `None`: none that is known.
    pub device: Option<DeviceFacts>,
    /// How risky it is said to be; `None`: as if risk were not assessed.
    pub risk: Option<HypotheticalRisk>,
}

impl TestRequest {
    /// Evaluates the policies as the service would.
    #[must_use]
    pub fn evaluate(&self, engine: &PolicyEngine) -> Evaluation {
        let risk = self.assessment(engine);
        engine.evaluate(&self.request, &self.context(risk.as_ref()))
    }

    /// The context to evaluate it in, with the assessment of its risk.
    #[must_use]
    pub fn context<'a>(&'a self, risk: Option<&'a Assessment>) -> EvaluationContext<'a> {
        EvaluationContext {
            now: self.time,
            risk,
            device: self.device.as_ref(),
        }
    }

    /// The assessment of its risk by a service with these policies.
    #[must_use]
    pub fn assessment(&self, engine: &PolicyEngine) -> Option<Assessment> {
        self.risk.as_ref().map(|risk| engine.assessment(risk))
    }
}

/// A request with its name in the file that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRequest {
    /// The case's name, or that of resource, principal and method; empty for a file that is one
    /// request.
    pub name: String,
    /// The request.
    pub request: TestRequest,
}

/// A request. Only the route rule is required: policies ask for it nearly always.
#[derive(Clone, Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct RequestDocument {
    #[deserr(default)]
    pub(super) route_rule: Option<Text>,
    #[deserr(default)]
    pub(super) principal: Option<PrincipalDocument>,
    #[deserr(default)]
    pub(super) peer: Option<PeerDocument>,
    #[deserr(default)]
    pub(super) action: ActionDocument,
    #[deserr(default)]
    pub(super) resource: ResourceDocument,
    #[deserr(default)]
    pub(super) context: ContextDocument,
    #[deserr(default)]
    pub(super) device: Option<DeviceDocument>,
    #[deserr(default)]
    pub(super) risk: Option<RiskDocument>,
}

#[derive(Clone, Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct PrincipalDocument {
    #[deserr(default)]
    issuer: Option<Text>,
    #[deserr(default)]
    subject: Option<Text>,
    #[deserr(default)]
    tenant: Option<Text>,
    #[deserr(default)]
    roles: Vec<Text>,
    #[deserr(default)]
    scopes: Vec<Text>,
    #[deserr(default)]
    acr: Option<Text>,
    #[deserr(default)]
    amr: Vec<Text>,
    #[deserr(default)]
    auth_time_s: Option<i64>,
    /// In place of `auth_time_s`: how long before `context.time` it was.
    #[deserr(default)]
    auth_age_s: Option<u32>,
    #[deserr(default)]
    session_id: Option<Text>,
    #[deserr(default)]
    token_id: Option<Text>,
    #[deserr(default)]
    issued_at_s: Option<i64>,
    #[deserr(default)]
    expires_at_s: Option<i64>,
    #[deserr(default)]
    actors: Vec<ActorDocument>,
    #[deserr(default)]
    is_bound: bool,
}

#[derive(Clone, Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ActorDocument {
    #[deserr(default)]
    issuer: Option<Text>,
    subject: Text,
}

#[derive(Clone, Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct PeerDocument {
    pub(super) spiffe_id: Peer,
}

#[derive(Clone, Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct ActionDocument {
    #[deserr(default)]
    pub(super) method: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct ResourceDocument {
    #[deserr(default)]
    host: Option<Host>,
    #[deserr(default)]
    path: Option<Path>,
    #[deserr(default)]
    path_parameters: Option<BTreeMap<String, String>>,
    #[deserr(default)]
    classification: Option<Text>,
    #[deserr(default)]
    security_zone: Option<Text>,
    #[deserr(default)]
    tenant: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct ContextDocument {
    #[deserr(default)]
    source_address: Option<Address>,
    #[deserr(default)]
    user_agent: Option<Text>,
    #[deserr(default)]
    time: Option<Time>,
}

/// A device. What is left out of one that is trusted is as good as it can be, of any other as it is
/// without trust.
#[derive(Clone, Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct DeviceDocument {
    state: State,
    #[deserr(default)]
    id: Option<Text>,
    #[deserr(default)]
    is_trusted: Option<bool>,
    #[deserr(default)]
    is_compliant: Option<bool>,
    #[deserr(default)]
    trust_score: Option<Score>,
    #[deserr(default)]
    is_owner: Option<bool>,
}

/// The name of a state.
#[derive(Clone, Copy, Debug)]
struct State(DeviceState);

#[derive(Clone, Copy, Debug)]
struct Score(u8);

/// A risk; its level follows from the score.
#[derive(Clone, Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct RiskDocument {
    score: u64,
    #[deserr(default)]
    signals: Vec<SignalName>,
    /// Where the request comes from.
    #[deserr(default)]
    country: Option<CountryCode>,
}

/// A country by its two letters.
#[derive(Clone, Copy, Debug)]
struct CountryCode(Country);

/// The name of a signal.
#[derive(Clone, Copy, Debug)]
struct SignalName(Signal);

/// Text that is not empty: on the wire, what is empty is not there.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) String);

/// A host as the filter sends it.
#[derive(Clone, Debug)]
struct Host(String);

/// A path as the filter sends it.
#[derive(Clone, Debug)]
struct Path(String);

#[derive(Clone, Debug)]
pub(super) struct Peer(SpiffeId);

#[derive(Clone, Debug)]
struct Address(IpAddr);

/// RFC 3339.
#[derive(Clone, Copy, Debug)]
struct Time(jiff::Timestamp);

impl RequestDocument {
    /// The request, once everything is known. `name` becomes its id.
    pub(super) fn complete(self, name: &str, path: &str, problems: &mut Problems) -> Option<TestRequest> {
        let Self {
            route_rule,
            principal,
            peer,
            action,
            resource,
            context,
            device,
            risk,
        } = self;
        let Some(route_rule) = route_rule else {
            problems.add(join(path, "route_rule"), "is required, here or in `defaults`");
            return None;
        };
        let ContextDocument {
            source_address,
            user_agent,
            time,
        } = context;
        let time = time.map_or(TIME, |time| time.0);
        let risk = risk.and_then(|risk| risk.assumed(path, problems));
        let principal = principal.map(|principal| principal.at(time, path, problems));
        let request = AccessRequest {
            request_id: name.to_owned(),
            traceparent: None,
            sidecar: Sidecar {
                node_id: String::new(),
                workload: WORKLOAD.to_owned(),
            },
            route_rule: route_rule.0,
            principal,
            further_tokens: Vec::new(),
            peer: peer.map(|peer| peer.spiffe_id.0),
            action: Action {
                method: text_or(action.method, METHOD),
            },
            resource: resource.into(),
            context: Context {
                source_address: source_address.map(|address| address.0),
                user_agent: user_agent.map(|text| text.0),
                possession: Possession::default(),
            },
        };
        // Before the epoch there were no tokens.
        let time_us = u64::try_from(time.as_microsecond()).unwrap_or(0);
        let device = device.and_then(|device| device.facts(path, problems));
        Some(TestRequest {
            request,
            time: Timestamp::from_us(time_us),
            device,
            risk,
        })
    }
}

impl From<ResourceDocument> for Resource {
    fn from(document: ResourceDocument) -> Self {
        let ResourceDocument {
            host,
            path,
            path_parameters,
            classification,
            security_zone,
            tenant,
        } = document;
        let text = |text: Option<Text>| text.map(|text| text.0);
        Self {
            host: host.map_or_else(|| HOST.to_owned(), |host| host.0),
            path: path.map_or_else(|| PATH.to_owned(), |path| path.0),
            path_parameters: path_parameters.unwrap_or_default(),
            classification: text(classification),
            security_zone: text(security_zone),
            tenant: text(tenant),
        }
    }
}

impl DeviceDocument {
    /// A device that is none the rules would make of any is a mistake: a policy would be tried with
    /// what it never sees.
    fn facts(self, path: &str, problems: &mut Problems) -> Option<DeviceFacts> {
        let Self {
            state: State(state),
            id,
            is_trusted,
            is_compliant,
            trust_score,
            is_owner,
        } = self;
        let is_trusted = is_trusted.unwrap_or(state == DeviceState::Trusted);
        let is_compliant = is_compliant.unwrap_or(is_trusted);
        let is_known_good = matches!(state, DeviceState::Trusted | DeviceState::Enrolled);
        let trust_score = match (trust_score, is_trusted) {
            (Some(score), _) => score.0,
            (None, true) => TRUST_SCORE_MAX,
            (None, false) => 0,
        };
        if is_trusted && !(state == DeviceState::Trusted && is_compliant) {
            problems.add(
                join(path, "device.is_trusted"),
                "only a `trusted` device that complies is trusted",
            );
            return None;
        }
        if trust_score > 0 && !is_known_good {
            let message = "a device that is suspended or retired has the score 0";
            problems.add(join(path, "device.trust_score"), message);
            return None;
        }
        Some(DeviceFacts {
            id: text_or(id, DEVICE),
            state,
            is_trusted,
            is_compliant,
            trust_score,
            is_owner: is_owner.unwrap_or(true),
            same_for_ms: None,
        })
    }
}

impl RiskDocument {
    fn assumed(self, path: &str, problems: &mut Problems) -> Option<HypotheticalRisk> {
        let Self {
            score,
            signals,
            country,
        } = self;
        let signals = signals.into_iter().map(|name| name.0).collect();
        match HypotheticalRisk::new(score, signals) {
            Ok(risk) => Some(risk.in_country(country.map(|code| code.0))),
            Err(error) => {
                let field = match error {
                    HypotheticalRiskError::Score(_) => "risk.score",
                    HypotheticalRiskError::Twice(_) => "risk.signals",
                };
                problems.add(join(path, field), error.to_string());
                None
            }
        }
    }
}

impl PrincipalDocument {
    fn at(self, time: jiff::Timestamp, path: &str, problems: &mut Problems) -> Principal {
        let Self {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            auth_age_s,
            session_id,
            token_id,
            issued_at_s,
            expires_at_s,
            actors,
            is_bound,
        } = self;
        if auth_time_s.is_some() && auth_age_s.is_some() {
            let message = "says what `auth_time_s` says already";
            problems.add(join(path, "principal.auth_age_s"), message);
        }
        let aged = auth_age_s.map(|age_s| time.as_second().saturating_sub(age_s.into()));
        let text = |text: Option<Text>| text.map(|text| text.0);
        Principal {
            issuer: text_or(issuer, ISSUER),
            subject: text_or(subject, SUBJECT),
            tenant: text(tenant),
            roles: texts(roles),
            scopes: texts(scopes),
            acr: text(acr),
            amr: texts(amr),
            auth_time_s: auth_time_s.or(aged),
            session_id: text(session_id),
            token_id: text(token_id),
            issued_at_s,
            expires_at_s,
            actors: actors.into_iter().map(Actor::from).collect(),
            is_bound,
        }
    }
}

impl From<ActorDocument> for Actor {
    fn from(document: ActorDocument) -> Self {
        Self {
            issuer: document.issuer.map(|text| text.0),
            subject: document.subject.0,
        }
    }
}

pub(super) fn texts(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.0).collect()
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    }
}

fn text_or(text: Option<Text>, default: &str) -> String {
    text.map_or_else(|| default.to_owned(), |text| text.0)
}

impl Deserr<Problems> for Text {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| match text {
            "" => Err("expected a text that is not empty".to_owned()),
            text => Ok(Self(text.to_owned())),
        })
    }
}

impl Deserr<Problems> for State {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            DeviceState::from_name(text).map(Self).ok_or_else(|| {
                format!(
                    "expected one of `enrolled`, `trusted`, `suspended` and `retired`, found `{}`",
                    shortened(text)
                )
            })
        })
    }
}

impl Deserr<Problems> for CountryCode {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            Country::try_from(text.to_owned())
                .map(Self)
                .map_err(|error| format!("{error}, found `{}`", shortened(text)))
        })
    }
}

impl Deserr<Problems> for SignalName {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            Signal::from_name(text).map(Self).ok_or_else(|| {
                let names: Vec<String> = Signal::ALL
                    .iter()
                    .map(|signal| format!("`{}`", signal.name()))
                    .collect();
                format!(
                    "`{}` is no signal, expected one of {}",
                    shortened(text),
                    names.join(", ")
                )
            })
        })
    }
}

impl Deserr<Problems> for Score {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        let score = <u8 as Deserr<Problems>>::deserialize_from_value(value, location).ok();
        score
            .filter(|score| *score <= TRUST_SCORE_MAX)
            .map(Self)
            .ok_or_else(|| {
                let expected = format!("expected a whole number of 0 to {TRUST_SCORE_MAX}");
                problem_at(location, expected)
            })
    }
}

impl Deserr<Problems> for Host {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let is_sent = !text.is_empty() && text == text.to_ascii_lowercase();
            is_sent.then(|| Self(text.to_owned())).ok_or_else(|| {
                format!(
                    "expected a host in lower case without port, found `{}`",
                    shortened(text)
                )
            })
        })
    }
}

impl Deserr<Problems> for Path {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let target = parse_target(text.as_bytes()).map_err(|error| error.to_string())?;
            // A policy that is tried with another spelling would be tried with what it never sees.
            match target.path == text {
                true => Ok(Self(text.to_owned())),
                false => Err(format!(
                    "expected the path in normal form and without query, which is `{}`",
                    target.path
                )),
            }
        })
    }
}

impl Deserr<Problems> for Peer {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            text.parse()
                .map(Self)
                .map_err(|error| format!("`{}` is not a SPIFFE ID: {error}", shortened(text)))
        })
    }
}

impl Deserr<Problems> for Address {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            text.parse()
                .map(Self)
                .map_err(|_| format!("`{}` is not an IP address", shortened(text)))
        })
    }
}

impl Deserr<Problems> for Time {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            text.parse().map(Self).map_err(|_| {
                format!(
                    "`{}` is not a time, expected one such as `2026-01-05T12:00:00Z`",
                    shortened(text)
                )
            })
        })
    }
}
