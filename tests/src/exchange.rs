//! A request and what is expected of it, as data: `tests/vectors/*.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Answer;
use crate::client::http2::Rest;
use crate::dpop::{ProofSpec, ProofTarget};
use crate::keys::Keys;
use crate::token::TokenSpec;

/// One vector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Names it; unique in its file.
    pub id: String,
    /// Why it is there: shown in the demo's table.
    pub comment: String,
    /// What is sent.
    pub request: RequestSpec,
    /// How often it is sent, on one connection and with one token; the last answer counts.
    #[serde(default = "once")]
    pub times: u32,
    /// What comes back.
    pub expected: Expected,
}

/// A request, well-formed in its framing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSpec {
    /// The way that it takes.
    pub via: Via,
    /// The workload whose certificate is presented, when sent directly; absent: none.
    pub peer: Option<String>,
    /// How it is spoken.
    pub protocol: Protocol,
    /// Its method.
    pub method: String,
    /// Its host.
    pub host: String,
    /// Its target, as it is.
    pub path: String,
    /// The token; absent: none.
    pub token: Option<TokenSpec>,
    /// With which scheme it is sent.
    pub scheme: Scheme,
    /// The proof that goes with it; absent: none.
    pub proof: Option<ProofSpec>,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// How a token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// RFC 6750.
    #[default]
    Bearer,
    /// RFC 9449 §7.1.
    Dpop,
}

/// The way that a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Through the caller's sidecar, which presents the certificate of `web`.
    #[default]
    Sidecar,
    /// To the callee's sidecar with a certificate of one's own.
    Direct,
}

/// How a request is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC: HTTP/2, content type `application/grpc`, an empty message.
    Grpc,
}

/// What comes back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The HTTP status.
    pub status: u16,
    /// Picket's reason code; absent: there is none, because Picket was not asked.
    pub reason: Option<String>,
    /// The step that decided.
    pub decided_by: Option<String>,
    /// The gRPC status, for a gRPC request.
    pub grpc_status: Option<u32>,
    /// Header fields of the answer, by name: a part of the value; `null`: there is none.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    /// Text that the body contains.
    #[serde(default)]
    pub body_contains: Vec<String>,
    /// Text that neither the body nor a header contains.
    #[serde(default)]
    pub leaks_nothing_of: Vec<String>,
    /// Header fields as the upstream received them, by name: the one value; `null`: there is none.
    #[serde(default)]
    pub upstream: BTreeMap<String, Option<String>>,
    /// The request's target as the upstream received it.
    pub upstream_target: Option<String>,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}

fn once() -> u32 {
    1
}

impl Default for RequestSpec {
    fn default() -> Self {
        Self {
            via: Via::Sidecar,
            peer: Some("web".to_owned()),
            protocol: Protocol::Http1,
            method: "GET".to_owned(),
            host: "orders.example.org".to_owned(),
            path: "/orders/1".to_owned(),
            token: None,
            scheme: Scheme::Bearer,
            proof: None,
            headers: Vec::new(),
            body: String::new(),
        }
    }
}

impl RequestSpec {
    /// With a proof made now for this token in its header fields, where it needs one.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn proved(&self, keys: &Keys, token: Option<&str>) -> Result<Self> {
        let mut request = self.clone();
        if let Some(spec) = &self.proof {
            let proof = spec.make(keys, &self.proof_target(), token.unwrap_or_default())?;
            for _ in 0..spec.fields {
                request.headers.push(("dpop".to_owned(), proof.clone()));
            }
        }
        Ok(request)
    }

    fn proof_target(&self) -> ProofTarget<'_> {
        ProofTarget {
            method: &self.method,
            host: &self.host,
            path: &self.path,
        }
    }

    /// The bytes in HTTP/1.1, with `token` as the token.
    pub fn http1(&self, token: Option<&str>) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.path, self.host);
        if let Some(token) = token {
            text.push_str(&format!("authorization: {} {token}\r\n", self.scheme.name()));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }

    /// The request in HTTP/2, with `token` as the token.
    ///
    /// # Errors
    /// When a part of it cannot be said in HTTP/2.
    pub fn http2(&self, token: Option<&str>) -> Result<(Request<()>, Rest)> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(format!("https://{}{}", self.host, self.path));
        if let Some(token) = token {
            request = request.header("authorization", format!("{} {token}", self.scheme.name()));
        }
        let mut body = Bytes::from(self.body.clone());
        if self.protocol == Protocol::Grpc {
            request = request
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            body = Bytes::from_static(&[0, 0, 0, 0, 0]);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(()).context("not a request in HTTP/2")?;
        Ok((request, Rest { body, trailers: None }))
    }
}

/// Header fields from text, for HTTP/2.
///
/// # Errors
/// When a name or value is none.
pub fn header_map(fields: &[(&str, &[u8])]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_bytes(value)?,
        );
    }
    Ok(headers)
}

impl Expected {
    /// In what `answer` differs, a line each; none: in nothing.
    pub fn differences(&self, answer: &Answer) -> Vec<String> {
        let mut found = Vec::new();
        compare(&mut found, "status", &self.status, &answer.status);
        compare(&mut found, "reason", &self.reason, &answer.reason());
        if self.decided_by.is_some() {
            compare(&mut found, "decided by", &self.decided_by, &answer.decided_by());
        }
        compare(&mut found, "gRPC status", &self.grpc_status, &answer.grpc_status());
        self.compare_headers(answer, &mut found);
        self.compare_text(answer, &mut found);
        self.compare_upstream(answer, &mut found);
        found
    }

    fn compare_headers(&self, answer: &Answer, found: &mut Vec<String>) {
        for (name, part) in &self.headers {
            match (part, answer.header(name)) {
                (None, None) => {}
                (Some(part), Some(value)) if value.contains(part.as_str()) => {}
                (part, value) => found.push(format!("header {name}: expected {part:?}, was {value:?}")),
            }
        }
    }

    fn compare_text(&self, answer: &Answer, found: &mut Vec<String>) {
        let body = String::from_utf8_lossy(&answer.body);
        for part in &self.body_contains {
            if !body.contains(part.as_str()) {
                found.push(format!("body: expected `{part}` in it, was `{body}`"));
            }
        }
        let everything = format!("{body}\n{:?}", answer.headers);
        for part in &self.leaks_nothing_of {
            if everything.contains(part.as_str()) {
                found.push(format!("the answer gives away `{part}`"));
            }
        }
    }

    fn compare_upstream(&self, answer: &Answer, found: &mut Vec<String>) {
        for (name, value) in &self.upstream {
            let received = answer.received_by_upstream(name);
            let expected: Vec<String> = value.iter().cloned().collect();
            compare(found, &format!("{name} at the upstream"), &expected, &received);
        }
        if let Some(target) = &self.upstream_target {
            let echo = answer.json().unwrap_or_default();
            let received = echo
                .get("target")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            compare(found, "target at the upstream", target, &received);
        }
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(found: &mut Vec<String>, what: &str, expected: &T, was: &T) {
    if expected != was {
        found.push(format!("{what}: expected {expected:?}, was {was:?}"));
    }
}

/// Reads a file of vectors.
///
/// # Errors
/// When it is not one, or two vectors have the same id.
pub fn parse(json: &str) -> Result<Vec<Exchange>> {
    let vectors: Vec<Exchange> = serde_json::from_str(json).context("not a file of vectors")?;
    let mut ids: Vec<&str> = vectors.iter().map(|vector| vector.id.as_str()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    anyhow::ensure!(ids.len() == count, "two vectors have the same id");
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::{Expected, RequestSpec, parse};
    use crate::client::Answer;

    fn expected(json: &str) -> Expected {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_every_difference() {
        let expected = expected(r#"{"status":401,"reason":"token_expired","headers":{"retry-after":null,"a":"b"}}"#);
        let answer = Answer {
            status: 200,
            headers: vec![("retry-after".to_owned(), b"1".to_vec())],
            ..Answer::default()
        };
        assert_eq!(
            expected.differences(&answer).len(),
            4,
            "{:?}",
            expected.differences(&answer)
        );
    }

    #[test]
    fn a_reason_that_is_not_expected_is_a_difference() {
        let answer = Answer {
            status: 200,
            headers: vec![("x-picket-reason".to_owned(), b"policy_permit".to_vec())],
            ..Answer::default()
        };
        assert_eq!(
            expected(r#"{"status":200,"reason":"policy_permit"}"#).differences(&answer),
            Vec::<String>::new()
        );
        assert_eq!(expected(r#"{"status":200}"#).differences(&answer).len(), 1);
    }

    #[test]
    fn compares_what_the_upstream_received() {
        let answer = Answer {
            status: 200,
            body: br#"{"headers":[["x-picket-subject","alice"]],"target":"/a"}"#.to_vec(),
            ..Answer::default()
        };
        let good =
            expected(r#"{"status":200,"upstream":{"x-picket-subject":"alice","x":null},"upstream_target":"/a"}"#);
        assert_eq!(good.differences(&answer), Vec::<String>::new());
        let bad = expected(r#"{"status":200,"upstream":{"x-picket-subject":null},"upstream_target":"/b"}"#);
        assert_eq!(bad.differences(&answer).len(), 2);
    }

    #[test]
    fn writes_a_request_by_the_byte() {
        let request = RequestSpec {
            method: "POST".to_owned(),
            headers: vec![("a".to_owned(), "b".to_owned())],
            body: "hi".to_owned(),
            ..RequestSpec::default()
        };
        let text = String::from_utf8(request.http1(Some("t"))).unwrap();
        assert_eq!(
            text,
            "POST /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: Bearer t\r\na: b\r\ncontent-length: 2\r\n\r\nhi"
        );
    }

    #[test]
    fn refuses_two_vectors_with_one_id() {
        let vector = r#"{"id":"a","comment":"","request":{},"expected":{"status":200}}"#;
        parse(&format!("[{vector}]")).unwrap();
        parse(&format!("[{vector},{vector}]")).unwrap_err();
    }
}
