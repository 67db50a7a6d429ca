//! Speaking to a stack: over TLS as a workload or in the clear, in HTTP/1 by the byte, in HTTP/2, as a gRPC caller.

pub mod http1;
pub mod http2;
pub mod tls;

use std::fmt;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection of a kind that does not matter.
pub type BoxedIo = Box<dyn Io>;

/// Whatever came back.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// Trailer fields (HTTP/2 alone).
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Bytes as text, for the messages of failing tests.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |fields: &[(String, Vec<u8>)]| -> Vec<String> {
            let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", String::from_utf8_lossy(value));
            fields.iter().map(line).collect()
        };
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &fields(&self.headers))
            .field("body", &String::from_utf8_lossy(&self.body))
            .field("trailers", &fields(&self.trailers))
            .finish()
    }
}

impl Answer {
    /// The first value of a header or trailer, with what is not UTF-8 replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .chain(&self.trailers)
            .find(|(found, _)| found == name)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// Picket's reason code.
    pub fn reason(&self) -> Option<String> {
        self.header("x-picket-reason")
    }

    /// The step that decided.
    pub fn decided_by(&self) -> Option<String> {
        self.header("x-picket-decided-by")
    }

    /// The gRPC status, from the trailers or from an answer that is nothing but trailers.
    pub fn grpc_status(&self) -> Option<u32> {
        self.header("grpc-status")?.parse().ok()
    }

    /// The body as JSON: a problem document, or what the upstream says that it received. The message of a gRPC answer is looked
    /// into.
    pub fn json(&self) -> Option<Value> {
        const GRPC_PREFIX_BYTES: usize = 5;
        serde_json::from_slice(&self.body)
            .or_else(|_| serde_json::from_slice(self.body.get(GRPC_PREFIX_BYTES..).unwrap_or_default()))
            .ok()
    }

    /// All values of a header as the upstream received it.
    pub fn received_by_upstream(&self, name: &str) -> Vec<String> {
        let echo = self.json().unwrap_or_default();
        let headers = echo
            .get("headers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        headers
            .iter()
            .filter(|pair| pair.get(0).and_then(Value::as_str) == Some(name))
            .filter_map(|pair| pair.get(1).and_then(Value::as_str).map(str::to_owned))
            .collect()
    }
}
