//! An issuer's endpoint for keys: a JWK set, and the metadata that say where it is. It misbehaves when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::token::ISSUER;

/// Where its key set is.
pub const KEYS_PATH: &str = "/jwks";
/// Where its metadata are.
pub const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// What it does with a request for its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// Holds it until it publishes something else, and then does that.
    Nothing,
    /// Answers this document.
    Document(String),
    /// Answers this document, which is not to be stored.
    Unstorable(String),
    /// Answers this status, with a key set that must not count, and for a redirection the place of one.
    Status(u16, String),
    /// Closes the connection.
    Closed,
}

/// A running issuer. Dropping it ends it.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    publication: watch::Sender<Publication>,
    counts: Arc<Counts>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    keys: AtomicU64,
    metadata: AtomicU64,
}

impl Issuer {
    /// Starts listening. It publishes nothing yet.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .context("cannot listen")?;
        let (publication, watched) = watch::channel(Publication::Nothing);
        let counts = Arc::new(Counts::default());
        Ok(Self {
            address: listener.local_addr()?,
            publication,
            counts: Arc::clone(&counts),
            accepts: tokio::spawn(accept(listener, watched, counts)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this, also with requests that it holds.
    pub fn publish(&self, publication: Publication) {
        self.publication.send_replace(publication);
    }

    /// How often its key set was asked for.
    pub fn key_requests(&self) -> u64 {
        self.counts.keys.load(Ordering::SeqCst)
    }

    /// How often its metadata were asked for.
    pub fn metadata_requests(&self) -> u64 {
        self.counts.metadata.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// The keys of a set that have this `kty`.
///
/// # Errors
/// When the set is none.
pub fn keys_of_type(key_set: &str, kty: &str) -> Result<String> {
    let set: Value = serde_json::from_str(key_set)?;
    let keys = set.get("keys").and_then(Value::as_array).context("no key set")?;
    let chosen: Vec<&Value> = keys
        .iter()
        .filter(|key| key.get("kty").is_some_and(|have| have == kty))
        .collect();
    Ok(json!({ "keys": chosen }).to_string())
}

async fn accept(listener: TcpListener, publication: watch::Receiver<Publication>, counts: Arc<Counts>) {
    loop {
        // An error here is about one connection that was gone before it was accepted.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, publication.clone(), Arc::clone(&counts)));
        }
    }
}

async fn serve(stream: TcpStream, publication: watch::Receiver<Publication>, counts: Arc<Counts>) {
    let service = service_fn(move |request| answer(request, publication.clone(), Arc::clone(&counts)));
    // A connection that breaks is the client's affair, or was to break.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    mut publication: watch::Receiver<Publication>,
    counts: Arc<Counts>,
) -> Result<Response<Full<Bytes>>> {
    match request.uri().path() {
        METADATA_PATH => {
            counts.metadata.fetch_add(1, Ordering::SeqCst);
            let metadata = json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}{KEYS_PATH}") });
            Ok(document(metadata.to_string()))
        }
        KEYS_PATH => {
            counts.keys.fetch_add(1, Ordering::SeqCst);
            let publication = publication.wait_for(|it| *it != Publication::Nothing).await?.clone();
            keys(publication)
        }
        other => bail!("nobody should ask for `{other}`"),
    }
}

/// An error closes the connection.
fn keys(publication: Publication) -> Result<Response<Full<Bytes>>> {
    match publication {
        Publication::Document(text) => Ok(document(text)),
        Publication::Unstorable(text) => {
            let mut response = document(text);
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        Publication::Status(status, text) => {
            let mut response = document(text);
            *response.status_mut() = status.try_into()?;
            response
                .headers_mut()
                .insert(LOCATION, HeaderValue::from_static(KEYS_PATH));
            Ok(response)
        }
        Publication::Nothing | Publication::Closed => bail!("closed"),
    }
}

fn document(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
