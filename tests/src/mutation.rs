//! Requests that no client would send: good ones with a seeded number of things wrong.

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::exchange::RequestSpec;
use crate::keys::{Keys, TokenKey};
use crate::token::TokenSpec;

/// The largest header value that is made: above what Envoy takes in the shipped configuration there is nothing to try.
const VALUE_BYTES_MAX: usize = 20_000;

/// Pieces that parsers of paths, headers and tokens stumble over.
const PIECES: [&[u8]; 24] = [
    b"%2e%2e/",
    b"../",
    b"./",
    b"//",
    b"%2f",
    b"%5C",
    b"\\",
    b"%00",
    b"%",
    b"%zz",
    b";a=b",
    b"?",
    b"#",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"{}",
    b"\"",
    b",",
    b"  ",
    b"\t",
    b"=",
    b".",
    b"eyJhbGciOiJub25lIn0",
];

/// Header names that mean something to Picket, Envoy or HTTP.
const NAMES: [&str; 22] = [
    "authorization",
    "Authorization",
    "x-picket-subject",
    "X_Picket_Roles",
    "x-picket-",
    "x-picket-decided-by",
    "x-picket-reason",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-request-id",
    "x-envoy-original-path",
    "x-envoy-expected-rq-timeout-ms",
    "traceparent",
    "user-agent",
    "cookie",
    "dpop",
    "te",
    "grpc-timeout",
    "accept",
    "forwarded",
    "x-original-url",
    "x-a",
];

/// What was done to a request, which says what may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Headers were added or changed, the rest is as it was.
    Headers,
    /// The target is another.
    Target,
    /// The token is not what the issuer signed: never permitted.
    Token,
    /// The method or the host is another.
    Line,
    /// The body is there in odd chunks, or with trailers.
    Body,
    /// Any byte may be another. It may not even be a request, so an answer is not waited for.
    Bytes,
}

/// A mutated request.
#[derive(Debug, Clone)]
pub struct Mutated {
    /// What was done to it.
    pub kind: Kind,
    /// The request, in HTTP/1.1.
    pub bytes: Vec<u8>,
}

/// Makes mutated requests: the same seed and keys, the same choices.
pub struct Mutator {
    random: Rng,
    tokens: Vec<String>,
}

impl Mutator {
    /// From a seed, with tokens of these keys.
    ///
    /// # Errors
    /// When a token cannot be made.
    pub fn new(seed: u64, keys: &Keys) -> Result<Self> {
        let mut tokens = Vec::new();
        for key in [TokenKey::Rs256, TokenKey::Es256] {
            let spec = TokenSpec {
                key,
                expires_in_s: 3_600,
                ..TokenSpec::of("alice")
            };
            tokens.push(spec.mint(keys)?);
        }
        Ok(Self {
            random: Rng::with_seed(seed),
            tokens,
        })
    }

    /// The next one.
    ///
    /// # Errors
    /// Never with the tokens that [`Mutator::new`] made.
    pub fn mutate(&mut self) -> Result<Mutated> {
        let kinds = [
            Kind::Headers,
            Kind::Target,
            Kind::Token,
            Kind::Line,
            Kind::Body,
            Kind::Bytes,
        ];
        let kind = *self.random.choice(&kinds).context("no kinds")?;
        let token = self.random.choice(&self.tokens).context("no tokens")?.clone();
        let mut request = RequestSpec {
            path: format!("/orders/{}", self.random.u32(0..50)),
            ..RequestSpec::default()
        };
        let bytes = match kind {
            Kind::Headers => self.headers(&request, &token),
            Kind::Target => {
                let target = self.mangled(request.path.as_bytes());
                written(&request, &target, Some(token.as_bytes()), &[], b"")
            }
            Kind::Token => {
                let token = self.mangled_token(token.as_bytes());
                written(&request, request.path.as_bytes(), Some(&token), &[], b"")
            }
            Kind::Line => {
                let methods = ["POST", "get", "OPTIONS", "TRACE", "PROPFIND", "X", "PATCH", "DELETE"];
                request.method = (*self.random.choice(&methods).context("no methods")?).to_owned();
                let hosts = [
                    "ORDERS.EXAMPLE.ORG",
                    "orders.example.org.",
                    "orders.example.org:443",
                    "[::1]",
                    "a,b",
                    "x",
                ];
                request.host = (*self.random.choice(&hosts).context("no hosts")?).to_owned();
                written(&request, request.path.as_bytes(), Some(token.as_bytes()), &[], b"")
            }
            Kind::Body => self.body(&request, &token),
            Kind::Bytes => self.any_bytes(&request, &token),
        };
        Ok(Mutated { kind, bytes })
    }

    fn headers(&mut self, request: &RequestSpec, token: &str) -> Vec<u8> {
        let mut fields = Vec::new();
        for _ in 0..self.random.usize(1..40) {
            let name = self.random.choice(&NAMES).copied().unwrap_or("x-a");
            fields.push((name, self.value()));
        }
        let token = self.random.u8(0..4).gt(&0).then_some(token.as_bytes());
        written(request, request.path.as_bytes(), token, &fields, b"")
    }

    fn body(&mut self, request: &RequestSpec, token: &str) -> Vec<u8> {
        let request = RequestSpec {
            method: "POST".to_owned(),
            path: "/orders".to_owned(),
            ..request.clone()
        };
        let mut body = Vec::new();
        for _ in 0..self.random.usize(0..8) {
            let chunk = self.noise(4_000, 1);
            body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n");
        if self.random.bool() {
            body.extend(b"x-picket-subject: root\r\nx-trailer: \xff\r\n");
        }
        body.extend(b"\r\n");
        let fields = [("transfer-encoding", b"chunked".to_vec())];
        written(
            &request,
            request.path.as_bytes(),
            Some(token.as_bytes()),
            &fields,
            &body,
        )
    }

    fn any_bytes(&mut self, request: &RequestSpec, token: &str) -> Vec<u8> {
        let mut bytes = request.http1(Some(token));
        for _ in 0..self.random.usize(1..6) {
            let at = self.random.usize(0..bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = self.random.u8(..);
            }
        }
        if self.random.bool() {
            bytes.truncate(self.random.usize(1..bytes.len()));
            // Most parts of a request are a request when they end like one.
            bytes.extend(b"\r\n\r\n");
        }
        bytes
    }

    /// A field value that HTTP/1 can carry: no CR, LF or NUL, for those end the conversation before Picket sees it.
    fn value(&mut self) -> Vec<u8> {
        match self.random.u8(0..8) {
            0 => Vec::new(),
            1 => {
                let length = self.random.usize(1..VALUE_BYTES_MAX / 40);
                vec![b'a'; length]
            }
            2 => self.noise(200, 0x80),
            3 => self.tokens.first().cloned().unwrap_or_default().into_bytes(),
            4 => format!("Bearer {}", self.tokens.last().cloned().unwrap_or_default()).into_bytes(),
            _ => {
                let start = self.noise(12, 0x21);
                self.mangled(&start)
            }
        }
    }

    /// Random bytes, none below `least` and none that ends a field.
    fn noise(&mut self, length_max: usize, least: u8) -> Vec<u8> {
        let length = self.random.usize(1..=length_max);
        std::iter::repeat_with(|| self.random.u8(least..))
            .map(|byte| if byte == b'\r' || byte == b'\n' { b'.' } else { byte })
            .take(length)
            .collect()
    }

    /// `bytes` with pieces put in, bytes exchanged, and parts taken out.
    fn mangled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.random.usize(1..5) {
            let at = self.random.usize(0..=bytes.len());
            match self.random.u8(0..4) {
                0 if !bytes.is_empty() => bytes.truncate(at.max(1)),
                1 => {
                    let byte = self.random.u8(0x21..);
                    bytes.insert(at, byte);
                }
                _ => {
                    let piece = self.random.choice(&PIECES).copied().unwrap_or_default();
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }

    /// A token of which at least one character is another.
    fn mangled_token(&mut self, token: &[u8]) -> Vec<u8> {
        let mut mangled = match self.random.u8(0..3) {
            0 => self.mangled(token),
            _ => token.to_vec(),
        };
        if mangled.as_slice().trim_ascii() == token {
            let at = self.random.usize(0..mangled.len());
            if let Some(byte) = mangled.get_mut(at) {
                *byte = if *byte == b'A' { b'B' } else { b'A' };
            }
        }
        mangled
    }
}

fn written(
    request: &RequestSpec,
    target: &[u8],
    token: Option<&[u8]>,
    fields: &[(&str, Vec<u8>)],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(request.method.as_bytes());
    bytes.push(b' ');
    bytes.extend(target);
    bytes.extend(b" HTTP/1.1\r\nhost: ");
    bytes.extend(request.host.as_bytes());
    bytes.extend(b"\r\n");
    if let Some(token) = token {
        bytes.extend(b"authorization: Bearer ");
        bytes.extend(token);
        bytes.extend(b"\r\n");
    }
    for (name, value) in fields {
        bytes.extend(name.as_bytes());
        bytes.extend(b": ");
        bytes.extend(value);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Kind, Mutator};
    use crate::keys::Keys;

    #[test]
    fn the_same_seed_makes_the_same_requests_of_every_kind() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::make(&folder.path().join("pki")).unwrap();
        let mutator = Mutator::new(7, &keys).unwrap();
        let mut again = Mutator {
            random: fastrand::Rng::with_seed(7),
            tokens: mutator.tokens.clone(),
        };
        let mut mutator = mutator;
        let mut kinds = BTreeSet::new();
        for _ in 0..200 {
            let mutated = mutator.mutate().unwrap();
            assert_eq!(mutated.bytes, again.mutate().unwrap().bytes);
            if mutated.kind == Kind::Token {
                let text = String::from_utf8_lossy(&mutated.bytes).into_owned();
                let sent = text.split("Bearer ").nth(1).unwrap().split("\r\n").next().unwrap();
                assert!(
                    mutator.tokens.iter().all(|token| token != sent.trim()),
                    "an unchanged token"
                );
            }
            kinds.insert(mutated.kind);
        }
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }
}
