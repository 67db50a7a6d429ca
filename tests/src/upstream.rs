//! The application behind the callee's sidecar: it answers each request with what reached it.
//!
//! It speaks HTTP/1 and, without TLS, HTTP/2. A gRPC-shaped request gets a gRPC-shaped answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request header whose value the answer has in `dpop-nonce`, as from an upstream that checks proofs itself.
pub const NONCE_TO_ANSWER: &str = "x-echo-dpop-nonce";
/// The path on which it says how many requests it got, without counting the question.
pub const COUNT_PATH: &str = "/echo-upstream/count";

/// A running echo upstream. Dropping it ends it.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Received>,
    accepts: JoinHandle<()>,
}

/// What reached it.
#[derive(Debug, Default)]
struct Received {
    requests: AtomicU64,
    last: Mutex<Value>,
}

impl Upstream {
    /// Starts listening; port 0 asks the system for one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let received = Arc::default();
        Ok(Self {
            address: listener.local_addr()?,
            received: Arc::clone(&received),
            accepts: tokio::spawn(accept(listener, received)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests reached it.
    pub fn requests(&self) -> u64 {
        self.received.requests.load(Ordering::SeqCst)
    }

    /// What the last request was, as it is echoed: for an answer whose body Envoy does not hand over. Null: there was none.
    pub fn last(&self) -> Value {
        self.received
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs until the task is cancelled.
    ///
    /// # Errors
    /// When accepting connections ended.
    pub async fn run(mut self) -> Result<()> {
        (&mut self.accepts).await.context("the upstream stopped accepting")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn accept(listener: TcpListener, received: Arc<Received>) {
    loop {
        // An error here is about one connection that was gone before it was accepted.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&received)));
        }
    }
}

async fn serve(stream: TcpStream, received: Arc<Received>) {
    let service = service_fn(move |request| {
        let received = Arc::clone(&received);
        async move { Ok::<_, Infallible>(echo(request, &received).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().max_headers(400).max_buf_size(256 * 1024);
    server.http2().max_header_list_size(256 * 1024);
    // A connection that breaks is the client's affair.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn echo(request: Request<Incoming>, received: &Received) -> Response<Body> {
    if request.uri().path() == COUNT_PATH {
        return plain(&json!({ "requests": received.requests.load(Ordering::SeqCst) }));
    }
    received.requests.fetch_add(1, Ordering::SeqCst);
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    let mut trailers = Vec::new();
    let mut complete = true;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) if frame.is_data() => body_bytes += frame.data_ref().map_or(0, Bytes::len),
            Ok(frame) => trailers = frame.trailers_ref().map(pairs).unwrap_or_default(),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    let echo = json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        "version": format!("{:?}", head.version),
        "headers": pairs(&head.headers),
        "body_bytes": body_bytes,
        "body_complete": complete,
        "trailers": trailers,
    });
    received
        .last
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone_from(&echo);
    let is_grpc = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let mut response = if is_grpc { grpc(&echo) } else { plain(&echo) };
    if let Some(nonce) = head.headers.get(NONCE_TO_ANSWER) {
        response.headers_mut().insert("dpop-nonce", nonce.clone());
    }
    response
}

fn plain(echo: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(echo.to_string()).boxed_unsync());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// One message whose bytes are the JSON text, and status 0 in the trailers.
fn grpc(echo: &Value) -> Response<Body> {
    let text = echo.to_string();
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    message.put_slice(text.as_bytes());
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let body = Full::new(message.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc+proto"),
    );
    response
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
