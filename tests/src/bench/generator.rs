//! Load that h2load cannot make: a token or a path for each request, a client certificate, a rate that does not wait for answers.
//!
//! HTTP/1.1 over kept-alive connections, one request at a time on each. It is not what is measured: it has a core for itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::statistics::{count, number};
use crate::client::{BoxedIo, tls};
use crate::clock::Stopwatch;

/// How many connections carry the load; h2load gets the same number.
pub const CONNECTIONS: u64 = 16;
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where the load goes, and how.
#[derive(Clone)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// With what certificate; `None`: in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// The requests.
    pub requests: Requests,
}

/// What is sent.
#[derive(Clone)]
pub enum Requests {
    /// Ready to be sent, used in a circle.
    Circle(Arc<Vec<Vec<u8>>>),
    /// Made for each turn.
    Made(Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>),
}

impl Requests {
    /// How many there are before one comes again; of those that are made, one fills the caches.
    pub fn circle(&self) -> usize {
        match self {
            Self::Circle(requests) => requests.len(),
            Self::Made(_) => 1,
        }
    }

    fn of_turn(&self, turn: u64) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Made(make) => make().map(Cow::Owned),
            Self::Circle(requests) => {
                let circle = u64::try_from(requests.len())?;
                let place = usize::try_from(turn.checked_rem(circle).unwrap_or_default())?;
                let request = requests.get(place).context("there is no request to send")?;
                Ok(Cow::Borrowed(request))
            }
        }
    }
}

/// What came back.
#[derive(Debug, Default)]
pub struct LoadOutcome {
    /// How many answers had each status.
    pub statuses: BTreeMap<u16, u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// How long each answer took in microseconds, sorted.
    pub latencies_us: Vec<u64>,
}

struct Shared {
    target: Target,
    /// The number of the next request: connections share the circle.
    next: AtomicU64,
    total: u64,
    /// Requests in a second; `None`: as many as get answers.
    rate: Option<f64>,
}

/// Sends `total` requests, as fast as answers come or, where there is one, at `rate` a second; the first is number `first` of
/// the circle.
///
/// At a rate, a request that is due while its connection still waits for an answer counts as sent when it was due.
///
/// # Errors
/// When a connection cannot be opened or breaks.
pub async fn run(target: Target, first: u64, total: u64, rate: Option<f64>) -> Result<LoadOutcome> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(&target).await?);
    }
    let shared = Arc::new(Shared {
        target,
        next: AtomicU64::new(first),
        total: first.saturating_add(total),
        rate,
    });
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for io in connections {
        tasks.spawn(serve(io, Arc::clone(&shared), watch, first));
    }
    let mut outcome = LoadOutcome::default();
    while let Some(part) = tasks.join_next().await {
        let part = part.context("a connection's task ended early")??;
        for (status, times) in part.statuses {
            let sum = outcome.statuses.entry(status).or_default();
            *sum = sum.saturating_add(times);
        }
        outcome.latencies_us.extend(part.latencies_us);
    }
    outcome.elapsed = watch.elapsed();
    outcome.latencies_us.sort_unstable();
    Ok(outcome)
}

/// Sends one request on a connection of its own, and says with what status it was answered.
///
/// # Errors
/// When there is no answer.
pub async fn once(target: &Target) -> Result<u16> {
    let mut io = connect(target).await?;
    let request = target.requests.of_turn(0)?;
    exchange(&mut io, &mut BytesMut::new(), &request).await
}

async fn connect(target: &Target) -> Result<BoxedIo> {
    match &target.tls {
        None => tls::connect_plain(target.address).await,
        Some(config) => tls::connect_with(Arc::clone(config), target.address).await,
    }
}

async fn serve(mut io: BoxedIo, shared: Arc<Shared>, watch: Stopwatch, first: u64) -> Result<LoadOutcome> {
    let mut outcome = LoadOutcome::default();
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        if turn >= shared.total {
            return Ok(outcome);
        }
        // Made before the clock runs: it is not the server's time.
        let request = shared.target.requests.of_turn(turn)?;
        let mut sent_at = watch.elapsed();
        if let Some(rate) = shared.rate {
            let due_at = Duration::from_secs_f64(number(turn.saturating_sub(first)) / rate);
            if sent_at < due_at {
                tokio::time::sleep(due_at.saturating_sub(sent_at)).await;
                sent_at = watch.elapsed();
            } else {
                sent_at = due_at;
            }
        }
        let status = exchange(&mut io, &mut buffer, &request).await?;
        let sum = outcome.statuses.entry(status).or_default();
        *sum = sum.saturating_add(1);
        let took = watch.elapsed().saturating_sub(sent_at);
        outcome.latencies_us.push(count(took.as_secs_f64() * 1e6));
    }
}

async fn exchange(io: &mut BoxedIo, buffer: &mut BytesMut, request: &[u8]) -> Result<u16> {
    io.write_all(request).await?;
    io.flush().await?;
    loop {
        if let Some((status, length)) = answer(buffer)?
            && buffer.len() >= length
        {
            buffer.advance(length);
            return Ok(status);
        }
        ensure!(buffer.len() < ANSWER_BYTES_MAX, "an answer without an end");
        let read = io.read_buf(buffer).await?;
        ensure!(read > 0, "the connection was closed before the answer's end");
    }
}

/// The status of the answer at the front, and its length with its body; `None`: its head is not there yet.
fn answer(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    const HEADERS_MAX: usize = 64;
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).context("the answer is not HTTP/1")? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok())
        .context("an answer without content-length")?;
    let status = response.code.context("an answer without a status")?;
    Ok(Some((status, head.saturating_add(length))))
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn an_answer_is_its_head_and_its_body() {
        let bytes = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(answer(bytes).unwrap(), Some((403, bytes.len())));
        assert_eq!(answer(&bytes[..20]).unwrap(), None);
        answer(b"nonsense\r\n\r\n").unwrap_err();
    }
}
