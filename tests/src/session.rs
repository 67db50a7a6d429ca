//! One client's connections to a stack, kept open: the same connection reaches the same worker, and so the same VM.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::tls::{Alpn, connect_plain, connect_tls};
use crate::client::{Answer, BoxedIo, http1, http2};
use crate::clock::Stopwatch;
use crate::exchange::{Exchange, Protocol, RequestSpec, Via};
use crate::keys::Keys;
use crate::wait;

/// The two ends that a client can connect to.
#[derive(Debug, Clone, Copy)]
pub struct Entrances {
    /// The caller's sidecar.
    pub outbound: SocketAddr,
    /// The callee's sidecar.
    pub inbound: SocketAddr,
}

/// A client with open connections: one for each way, certificate and protocol.
pub struct Session {
    keys: Keys,
    entrances: Entrances,
    connections: BTreeMap<Line, Connection>,
}

type Line = (Via, Option<String>, bool);

enum Connection {
    Http1(http1::Http1Connection),
    Http2(http2::Http2Connection),
}

impl Session {
    /// A client without connections yet.
    pub fn new(keys: &Keys, entrances: Entrances) -> Self {
        Self {
            keys: keys.clone(),
            entrances,
            connections: BTreeMap::new(),
        }
    }

    /// Sends what a vector says, as often as it says, and returns the last answer and how long that took.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn run(&mut self, vector: &Exchange) -> Result<(Answer, Duration)> {
        let token = self.token(&vector.request)?;
        let mut last = None;
        for _ in 0..vector.times {
            last = Some(self.send_with(&vector.request, token.as_deref()).await?);
        }
        last.with_context(|| format!("`{}` is sent no times", vector.id))
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, request: &RequestSpec) -> Result<Answer> {
        let token = self.token(request)?;
        Ok(self.send_with(request, token.as_deref()).await?.0)
    }

    /// Sends one request with this token, and a proof where it needs one; returns the answer and how long it took on an open connection.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send_with(&mut self, request: &RequestSpec, token: Option<&str>) -> Result<(Answer, Duration)> {
        let request = &request.proved(&self.keys, token)?;
        let line = (request.via, request.peer.clone(), request.protocol != Protocol::Http1);
        let mut connection = match self.connections.remove(&line) {
            Some(connection) => connection,
            None => self.connect(request).await?,
        };
        let watch = Stopwatch::start();
        let answer = match &mut connection {
            Connection::Http1(connection) => {
                let bytes = request.http1(token);
                wait::within("an answer in HTTP/1.1", connection.exchange(&bytes)).await?
            }
            Connection::Http2(connection) => {
                let (request, rest) = request.http2(token)?;
                wait::within("an answer in HTTP/2", connection.exchange(request, rest)).await?
            }
        };
        let took = watch.elapsed();
        let reusable = match &connection {
            Connection::Http1(connection) => connection.is_usable(),
            Connection::Http2(_) => true,
        };
        if reusable {
            self.connections.insert(line, connection);
        }
        Ok((answer, took))
    }

    fn token(&self, request: &RequestSpec) -> Result<Option<String>> {
        request.token.as_ref().map(|spec| spec.mint(&self.keys)).transpose()
    }

    async fn connect(&self, request: &RequestSpec) -> Result<Connection> {
        let is_http1 = request.protocol == Protocol::Http1;
        let alpn = if is_http1 { Alpn::Http1 } else { Alpn::Http2 };
        let io: BoxedIo = match request.via {
            Via::Sidecar => connect_plain(self.entrances.outbound).await?,
            Via::Direct => {
                let identity = request.peer.as_ref().map(|name| self.keys.identity(name)).transpose()?;
                connect_tls(&self.keys, identity.as_ref(), alpn, self.entrances.inbound).await?
            }
        };
        Ok(if is_http1 {
            Connection::Http1(http1::Http1Connection::new(io))
        } else {
            Connection::Http2(http2::Http2Connection::new(io).await?)
        })
    }
}
