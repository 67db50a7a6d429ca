//! HTTP/1.1 on accepted connections.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use crate::transport::IncomingConnection;

/// The time that a connection may take to send a request's headers, and to begin the next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
/// Enough for the API's own headers and a trace context.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Serves until it is told to stop, and the calls in flight have ended.
pub(super) async fn serve(
    incoming: impl Stream<Item = Result<IncomingConnection, Infallible>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    {
        let mut incoming = pin!(incoming);
        loop {
            tokio::select! {
                accepted = incoming.next() => match accepted {
                    Some(Ok(stream)) => {
                        connections.spawn(connection(stream, router.clone(), stop.clone()));
                    }
                    Some(Err(never)) => match never {},
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                () = stopped(&mut stop) => break,
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: IncomingConnection, router: Router, mut stop: watch::Receiver<bool>) {
    let router = router.layer(Extension(stream.connect_info()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTPS connection failed");
    }
}

/// Completes when the service stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stopping| *stopping).await;
}
