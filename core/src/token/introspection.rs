//! Token introspection (RFC 7662): the request about an opaque token, and the response of its
//! issuer.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use picket_model::strict_json::{Json, Members};

use super::remote_keys::location::Location;
use super::remote_keys::response::{FetchError, HttpResponse};
use crate::jose::jws::object;
use crate::jose::keys::Secret;
use crate::jose::limits::TokenLimits;

/// A longer client secret is refused.
const CLIENT_SECRET_BYTES_MAX: usize = 1024;

/// How a provider's tokens are looked up.
#[derive(Clone, Debug)]
pub struct IntrospectionSettings {
    /// Where.
    pub location: Location,
    /// The Envoy cluster that the requests go through.
    pub cluster: String,
    /// How long to wait for an answer.
    pub timeout_ms: u32,
    /// Who asks.
    pub client_id: String,
    /// The environment variable that holds the client's secret.
    pub secret_variable: String,
    /// How long an active token is remembered at most, from the question on.
    pub cache_ms_max: u64,
    /// How long an inactive one is.
    pub cache_inactive_ms: u64,
    /// Whether a response must have `aud`.
    pub audience: AudienceNeed,
    /// The value of `authorization`. `None`: the environment has not been read, and no request is
    /// made.
    pub(crate) authorization: Option<Secret>,
}

/// Whether an answer must have `aud`. One that has it must name one of the provider's audiences
/// either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudienceNeed {
    /// Yes: the issuer's tokens may be for others.
    Required,
    /// No: every token of the issuer is meant for this workload.
    Optional,
}

/// Why a text is no client secret. `Display` shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {CLIENT_SECRET_BYTES_MAX} bytes without control characters")]
pub struct ClientSecretError;

/// The question about one token. `Debug` shows neither token nor secret.
pub struct IntrospectionRequest {
    settings: Rc<IntrospectionSettings>,
    authorization: Secret,
    body: Secret,
}

/// How a look-up went, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntrospectionResult {
    /// The token is active.
    Active,
    /// It is not.
    Inactive,
    /// No answer came in time, or one with a status of 500 or more.
    Unavailable,
    /// There was no TLS connection.
    TlsFailed,
    /// Another status than 200, such as 401 for a client whose secret is wrong.
    Rejected,
    /// The answer is none by RFC 7662.
    Invalid,
}

/// The state of a token by a response.
#[derive(Debug)]
pub(super) enum Activity<'a> {
    /// It is active, with these members.
    Active(Members<'a>),
    /// It is not active, or unknown to the issuer.
    Inactive,
}

impl IntrospectionSettings {
    /// The same, with this client secret.
    ///
    /// # Errors
    /// [`ClientSecretError`] when it is empty, too long, or not visible text.
    pub fn with_secret(&self, secret: &str) -> Result<Self, ClientSecretError> {
        let is_secret = (1..=CLIENT_SECRET_BYTES_MAX).contains(&secret.len()) && !secret.chars().any(char::is_control);
        if !is_secret {
            return Err(ClientSecretError);
        }
        // RFC 6749 §2.3.1: both are form-encoded before they are put together.
        let pair = format!("{}:{}", form_encoded(&self.client_id), form_encoded(secret));
        let authorization = format!("Basic {}", STANDARD.encode(pair));
        Ok(Self {
            authorization: Some(Secret::new(authorization.into_bytes())),
            ..self.clone()
        })
    }

    /// The question about a token. `None`: there is no secret to ask with.
    pub(super) fn request(self: &Rc<Self>, token: &str) -> Option<IntrospectionRequest> {
        // RFC 7662 §2.1.
        let body = format!("token={}&token_type_hint=access_token", form_encoded(token));
        Some(IntrospectionRequest {
            authorization: self.authorization.clone()?,
            body: Secret::new(body.into_bytes()),
            settings: Rc::clone(self),
        })
    }
}

impl IntrospectionRequest {
    /// The Envoy cluster that it goes through.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.settings.cluster
    }

    /// How long to wait for an answer.
    #[must_use]
    pub fn timeout_ms(&self) -> u32 {
        self.settings.timeout_ms
    }

    /// The headers of the request, `authorization` among them: they are for the host alone.
    #[must_use]
    pub fn headers(&self) -> Vec<(&str, &str)> {
        vec![
            (":method", "POST"),
            (":path", self.settings.location.path.as_str()),
            (":authority", self.settings.location.authority.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            // RFC 9701 §4: with another type some servers answer a JWT.
            ("accept", "application/json"),
            ("user-agent", "picket"),
            // It was made of text.
            (
                "authorization",
                std::str::from_utf8(self.authorization.as_bytes()).unwrap_or_default(),
            ),
        ]
    }

    /// The form that holds the token: it is for the host alone.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }
}

impl fmt::Debug for IntrospectionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionRequest")
            .field("cluster", &self.settings.cluster)
            .finish_non_exhaustive()
    }
}

impl IntrospectionResult {
    /// Every result.
    pub const ALL: &'static [Self] = &[
        Self::Active,
        Self::Inactive,
        Self::Unavailable,
        Self::TlsFailed,
        Self::Rejected,
        Self::Invalid,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Unavailable => "unavailable",
            Self::TlsFailed => "tls_failed",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }
}

impl From<&FetchError> for IntrospectionResult {
    fn from(error: &FetchError) -> Self {
        match error {
            // A timeout may show as an answer with status 504, made by the proxy itself.
            FetchError::TlsFailed(_) => Self::TlsFailed,
            FetchError::EndpointStatus(500..)
            | FetchError::HostRefused
            | FetchError::EndpointUnreachable
            | FetchError::ProxyAnswered(_) => Self::Unavailable,
            FetchError::EndpointStatus(_) => Self::Rejected,
            FetchError::AnswerTooLarge | FetchError::MetadataInvalid(_) | FetchError::KeySetInvalid(_) => Self::Invalid,
        }
    }
}

/// Why there is no usable answer: how that counts, and what exactly was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IntrospectionError {
    pub(super) result: IntrospectionResult,
    pub(super) detail: Cow<'static, str>,
}

impl IntrospectionError {
    fn new(result: IntrospectionResult, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { result, detail }
    }
}

/// Reads an answer (RFC 7662 §2.2).
///
/// # Errors
/// When there is none, or it is no JSON object within the limits that says in one way alone whether
/// the token is active.
pub(super) fn read<'a>(
    answer: Result<HttpResponse<'a>, FetchError>,
    limits: &TokenLimits,
) -> Result<Activity<'a>, IntrospectionError> {
    let invalid = |detail: Cow<'static, str>| IntrospectionError::new(IntrospectionResult::Invalid, detail);
    let document = answer.and_then(|answer| answer.document());
    let document = document
        .map_err(|error| IntrospectionError::new((&error).into(), "its issuer gave no valid answer about it"))?;
    if document.len() > limits.bytes_max {
        let limit = format!("{} bytes (`token_limits.bytes_max`)", limits.bytes_max);
        return Err(invalid(format!("its issuer's answer is longer than {limit}").into()));
    }
    let members =
        object("answer of its issuer", document, limits).map_err(|error| invalid(error.to_string().into()))?;
    match members.get("active") {
        Some(Json::Bool(true)) => Ok(Activity::Active(members)),
        Some(Json::Bool(false)) => Ok(Activity::Inactive),
        // A text "true" is what some other answer holds.
        Some(_) | None => Err(invalid(
            "`active` in its issuer's answer is neither true nor false".into(),
        )),
    }
}

/// `application/x-www-form-urlencoded`, as RFC 6749 Appendix B has it.
fn form_encoded(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            other => encoded.extend(['%', digit(other >> 4), digit(other & 0xf)]),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::remote_keys::location::AllowedSchemes;

    fn settings() -> IntrospectionSettings {
        IntrospectionSettings {
            location: Location::parse("https://issuer.example/introspect?v=2", AllowedSchemes::Https).unwrap(),
            cluster: "issuer".into(),
            timeout_ms: 1_000,
            client_id: "s6BhdRkqt3".into(),
            secret_variable: "SECRET".into(),
            cache_ms_max: 60_000,
            cache_inactive_ms: 5_000,
            audience: AudienceNeed::Required,
            authorization: None,
        }
    }

    #[test]
    fn text_is_encoded_as_the_specification_does() {
        // RFC 6749 Appendix B.
        assert_eq!(form_encoded(" %&+£€"), "+%25%26%2B%C2%A3%E2%82%AC");
        assert_eq!(form_encoded("aZ09-._~/=+"), "aZ09-._%7E%2F%3D%2B");
    }

    #[test]
    fn the_request_is_that_of_the_specifications() {
        // The client of RFC 6749 §2.3.1.
        let settings = Rc::new(settings().with_secret("7Fjfp0ZBr1KtDRbnfVdmIw").unwrap());
        let request = settings.request("2YotnFZFEjr1zCsicMWpAA==").unwrap();
        let headers = request.headers();
        let header = |name: &str| headers.iter().find(|(have, _)| *have == name).unwrap().1;
        assert_eq!(
            header("authorization"),
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
        );
        assert_eq!((header(":method"), header(":authority")), ("POST", "issuer.example"));
        assert_eq!(header(":path"), "/introspect?v=2");
        assert_eq!(header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(
            request.body(),
            b"token=2YotnFZFEjr1zCsicMWpAA%3D%3D&token_type_hint=access_token"
        );
        let shown = format!("{request:?} {settings:?}");
        assert!(!shown.contains("2Yotn") && !shown.contains("czZC"), "{shown}");
    }

    #[test]
    fn id_and_secret_cannot_run_into_each_other() {
        let settings = IntrospectionSettings {
            client_id: "a:b".into(),
            ..settings()
        };
        let settings = Rc::new(settings.with_secret("c d:é").unwrap());
        let request = settings.request("t").unwrap();
        let (_, authorization) = *request.headers().last().unwrap();
        let decoded = STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(decoded, b"a%3Ab:c+d%3A%C3%A9");
    }

    #[test]
    fn without_a_secret_nobody_is_asked() {
        assert!(Rc::new(settings()).request("t").is_none());
        for bad in ["", "a\n", "\0", &"s".repeat(1025)] {
            assert_eq!(settings().with_secret(bad).map(|_| ()), Err(ClientSecretError));
        }
    }

    #[test]
    fn an_answer_says_exactly_whether_the_token_is_active() {
        let read_body = |status: &'static str, body: &str| {
            let headers = [(":status", status.as_bytes())];
            let answer = HttpResponse {
                headers: &headers,
                body: body.as_bytes(),
            };
            let read = read(Ok(answer), &TokenLimits::DEFAULT);
            let read = read.map(|activity| matches!(activity, Activity::Active(_)));
            read.map_err(|error| error.result)
        };
        assert_eq!(read_body("200", r#"{"active":true}"#), Ok(true));
        assert_eq!(read_body("200", r#"{"sub":"a","active":false}"#), Ok(false));
        for bad in [
            "",
            "null",
            "true",
            "{}",
            "[true]",
            r#"[{"active":true}]"#,
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":[true]}"#,
            r#"{"Active":true}"#,
            r#"{"x":{"active":true}}"#,
            r#"{"active":true,"active":true}"#,
            r#"{"active":false,"\u0061ctive":true}"#,
            r#"{"active":true}}"#,
            r#"{"active":true"#,
            &format!(r#"{{"active":true,"x":{}1{}}}"#, "[".repeat(16), "]".repeat(16)),
            &format!(r#"{{"active":true,"x":"{}"}}"#, "a".repeat(64 * 1024)),
            &format!(r#"{{"active":true,"x":"{}"}}"#, "a".repeat(16_385 - 22)),
        ] {
            assert_eq!(read_body("200", bad), Err(IntrospectionResult::Invalid), "{bad}");
        }
        let largest = format!(r#"{{"active":true,"x":"{}"}}"#, "a".repeat(16_384 - 22));
        assert!(read_body("200", &largest).is_ok());
        let good = r#"{"active":true}"#;
        for status in ["201", "204", "302", "400", "401", "403"] {
            assert_eq!(read_body(status, good), Err(IntrospectionResult::Rejected), "{status}");
        }
        for status in ["500", "503", "504", "", "OK"] {
            assert_eq!(
                read_body(status, good),
                Err(IntrospectionResult::Unavailable),
                "{status}"
            );
        }
        let lost = read(Err(FetchError::HostRefused), &TokenLimits::DEFAULT).map(|_| ());
        assert_eq!(lost.unwrap_err().result, IntrospectionResult::Unavailable);
    }
}
