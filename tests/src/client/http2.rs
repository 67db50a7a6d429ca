//! HTTP/2, and gRPC as the shape of an HTTP/2 request.

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::task::JoinHandle;

use super::{Answer, BoxedIo};

/// An HTTP/2 connection. Dropping it closes it.
pub struct Http2Connection {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// The part of a request that comes after its headers.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    /// DATA frames; empty: the headers end the request, if there are no trailers either.
    pub body: Bytes,
    /// Trailer fields.
    pub trailers: Option<HeaderMap>,
}

impl Http2Connection {
    /// Speaks over `io`.
    ///
    /// # Errors
    /// When the peer does not speak HTTP/2.
    pub async fn new(io: BoxedIo) -> Result<Self> {
        let (sender, connection) = h2::client::handshake(io).await.context("no HTTP/2 connection")?;
        Ok(Self {
            sender,
            driver: tokio::spawn(connection),
        })
    }

    /// Sends a request, beside others that are under way, and reads the answer to it.
    ///
    /// # Errors
    /// When the stream or the connection ends before the answer does.
    pub async fn exchange(&self, request: Request<()>, rest: Rest) -> Result<Answer> {
        let mut sender = self.sender.clone().ready().await.context("the connection is gone")?;
        let ends = rest.body.is_empty() && rest.trailers.is_none();
        let (response, mut stream) = sender.send_request(request, ends)?;
        if !ends {
            // The answer may be there before the body is: then sending it fails, and that is no failure.
            let sent = stream.send_data(rest.body, rest.trailers.is_none());
            if let (Ok(()), Some(trailers)) = (sent, rest.trailers) {
                let _ = stream.send_trailers(trailers);
            }
        }
        let (head, body) = response.await.context("no answer")?.into_parts();
        read(head.status.as_u16(), &head.headers, body).await
    }
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(status: u16, headers: &HeaderMap, mut stream: RecvStream) -> Result<Answer> {
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.context("the answer's body was cut short")?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let trailers = stream
        .trailers()
        .await
        .context("the answer's trailers were cut short")?;
    Ok(Answer {
        status,
        headers: pairs(headers),
        body,
        trailers: trailers.as_ref().map(pairs).unwrap_or_default(),
    })
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}
