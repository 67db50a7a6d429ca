//! A policy service that misbehaves on purpose, as the real one never should: below gRPC it does whatever its mode says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use picket_proto::v1::{Challenge, Decision, Effect};
use prost::Message;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::keys::Keys;

/// How long its permits are valid: not at all, so that each request asks.
const VALID_FOR_MS: u32 = 0;

/// What it does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Permits.
    Permit,
    /// Denies, and says that a trusted device would be permitted.
    AsksForADevice,
    /// Denies, and says that the token's session has ended.
    SaysRevoked,
    /// Says nothing for as long as this is its mode; then does as the next mode says.
    Silent,
    /// Answers bytes that are no message.
    Garbled,
    /// Answers a message that announces more bytes than come.
    CutShort,
    /// Answers a message without any field.
    EmptyMessage,
    /// Answers a decision with the effect that is none.
    Unspecified,
    /// Answers a permit that lacks the decision's id.
    PermitWithoutId,
    /// Answers status OK without a message.
    NoMessage,
    /// Answers a permit, and then that it failed.
    PermitThenFailed,
    /// Answers gRPC status UNAVAILABLE with a message that is not UTF-8.
    Unavailable,
    /// Answers HTTP 500.
    Http500,
    /// Resets the stream.
    Reset,
    /// Closes the connection.
    Close,
}

/// A running fake. Dropping it ends it.
#[derive(Debug)]
pub struct FakePolicyService {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    calls: Arc<AtomicU64>,
    accepts: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    acceptor: TlsAcceptor,
    mode: watch::Receiver<Mode>,
    calls: Arc<AtomicU64>,
}

impl FakePolicyService {
    /// Starts it with the policy service's certificate, on a port that the system gives out.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub async fn start(keys: &Keys, mode: Mode) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (mode, seen) = watch::channel(mode);
        let calls = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            acceptor: TlsAcceptor::from(Arc::new(server_config(keys)?)),
            mode: seen,
            calls: Arc::clone(&calls),
        };
        Ok(Self {
            address: listener.local_addr()?,
            mode,
            calls,
            accepts: tokio::spawn(accept(listener, shared)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on, also with calls that it has not answered yet.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many calls it got.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for FakePolicyService {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

fn server_config(keys: &Keys) -> Result<ServerConfig> {
    let identity = keys.identity("policy-service")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn accept(listener: TcpListener, shared: Shared) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            tokio::spawn(async move {
                // A connection that breaks is what this service is for.
                let _ = serve(stream, shared).await;
            });
        }
    }
}

async fn serve(stream: TcpStream, shared: Shared) -> Result<()> {
    let stream = shared.acceptor.accept(stream).await?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (_request, respond) = call?;
        shared.calls.fetch_add(1, Ordering::SeqCst);
        if *shared.mode.borrow() == Mode::Close {
            return Ok(());
        }
        tokio::spawn(answer(respond, shared.mode.clone()));
    }
    Ok(())
}

async fn answer(mut respond: SendResponse<Bytes>, mut mode: watch::Receiver<Mode>) -> Result<()> {
    let mode = *mode
        .wait_for(|mode| *mode != Mode::Silent)
        .await
        .context("the fake ended")?;
    match mode {
        Mode::Permit => send(respond, framed(&permit()), "0"),
        Mode::AsksForADevice => send(respond, framed(&asking_for_a_device().encode_to_vec()), "0"),
        Mode::SaysRevoked => send(respond, framed(&saying_revoked().encode_to_vec()), "0"),
        Mode::Garbled => send(respond, framed(&[0xff; 40]), "0"),
        Mode::CutShort => send(respond, Bytes::from_static(&[0, 0, 0, 1, 0, 1, 2, 3]), "0"),
        Mode::EmptyMessage => send(respond, framed(&[]), "0"),
        Mode::Unspecified => send(respond, framed(&decision(Effect::Unspecified, "d-1")), "0"),
        Mode::PermitWithoutId => send(respond, framed(&decision(Effect::Permit, "")), "0"),
        Mode::NoMessage => send(respond, Bytes::new(), "0"),
        Mode::PermitThenFailed => send(respond, framed(&permit()), "13"),
        Mode::Unavailable => {
            let mut head = grpc_head();
            head.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
            head.headers_mut()
                .insert("grpc-message", HeaderValue::from_bytes(b"\xff\xfe gone")?);
            respond.send_response(head, true)?;
            Ok(())
        }
        Mode::Http500 => {
            let mut head = Response::new(());
            *head.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            respond.send_response(head, true)?;
            Ok(())
        }
        Mode::Reset | Mode::Close | Mode::Silent => {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            Ok(())
        }
    }
}

fn permit() -> Vec<u8> {
    decision(Effect::Permit, "decision-of-the-fake")
}

fn saying_revoked() -> Decision {
    Decision {
        token_revoked: true,
        caller_reasons: vec!["session_ended".to_owned()],
        ..of(Effect::Deny, "decision-of-the-fake")
    }
}

fn asking_for_a_device() -> Decision {
    Decision {
        challenge: Some(Challenge {
            trusted_device: true,
            ..Challenge::default()
        }),
        ..of(Effect::Deny, "decision-of-the-fake")
    }
}

fn decision(effect: Effect, id: &str) -> Vec<u8> {
    of(effect, id).encode_to_vec()
}

fn of(effect: Effect, id: &str) -> Decision {
    Decision {
        effect: effect.into(),
        decision_id: id.to_owned(),
        policy_revision: "revision-of-the-fake".to_owned(),
        valid_for_ms: VALID_FOR_MS,
        ..Decision::default()
    }
}

/// The length prefix of gRPC over HTTP/2: not compressed, four bytes of length.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn grpc_head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}

fn send(mut respond: SendResponse<Bytes>, body: Bytes, status: &'static str) -> Result<()> {
    let mut stream = respond.send_response(grpc_head(), false)?;
    if !body.is_empty() {
        stream.send_data(body, false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
    stream.send_trailers(trailers)?;
    Ok(())
}
