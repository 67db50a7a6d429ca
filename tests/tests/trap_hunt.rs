//! Ten thousand requests that no client would send, after which Envoy and both workers' VMs still decide.
//!
//! `PICKET_TRAP_HUNT_REQUESTS` and `PICKET_TRAP_HUNT_SEED` change how many and which.

#![expect(clippy::panic, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_tests::client::http1::Http1Connection;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::clock::Stopwatch;
use picket_tests::keys::Keys;
use picket_tests::mutation::{Kind, Mutated, Mutator};
use picket_tests::proof::still_serves;
use picket_tests::stack::{Options, Stack};
use picket_tests::wait;

const REQUESTS: u64 = 10_000;
const SEED: u64 = 20_260_101;
/// Callers side by side: several for each worker.
const CALLERS: u64 = 8;

/// How long an answer to what may not be a request is waited for; that none comes is no failure.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often each kind of request got each answer; 0: the connection was closed without one.
type Tally = BTreeMap<(Kind, u16, String), u64>;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

struct Caller {
    keys: Keys,
    address: std::net::SocketAddr,
    connection: Option<Http1Connection>,
    tally: Tally,
}

impl Caller {
    async fn send(&mut self, mutated: &Mutated) -> Result<()> {
        let mut connection = match self.connection.take().filter(Http1Connection::is_usable) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if mutated.kind == Kind::Bytes {
            // It may not be a whole request: where no answer comes soon, say that no more will be sent, and take what there is.
            let _ = connection.send(&mutated.bytes).await;
            let answer = match tokio::time::timeout(PATIENCE, connection.answer()).await {
                Ok(answer) => answer.ok(),
                Err(_) => {
                    connection.finish().await;
                    wait::within("Envoy answers or closes", async { Ok(connection.answer().await.ok()) }).await?
                }
            };
            self.count(mutated.kind, answer.map(|answer| (answer.status, answer.reason())));
            return Ok(());
        }
        let answer = match wait::within("an answer", connection.exchange(&mutated.bytes)).await {
            Ok(answer) => answer,
            Err(error) => return Err(error.context(format!("{:?}", String::from_utf8_lossy(&mutated.bytes)))),
        };
        ensure!(
            answer.status != 503 && answer.status != 500,
            "{} {:?} to {:?}",
            answer.status,
            answer.reason(),
            String::from_utf8_lossy(&mutated.bytes)
        );
        ensure!(
            mutated.kind != Kind::Token || (400..500).contains(&answer.status),
            "a changed token got {}: {:?}",
            answer.status,
            String::from_utf8_lossy(&mutated.bytes)
        );
        self.count(mutated.kind, Some((answer.status, answer.reason())));
        self.connection = Some(connection);
        Ok(())
    }

    async fn connect(&mut self) -> Result<Http1Connection> {
        let identity = self.keys.identity("web")?;
        Ok(Http1Connection::new(
            connect_tls(&self.keys, Some(&identity), Alpn::Http1, self.address).await?,
        ))
    }

    fn count(&mut self, kind: Kind, answer: Option<(u16, Option<String>)>) {
        let (status, reason) = answer.unwrap_or_default();
        *self
            .tally
            .entry((kind, status, reason.unwrap_or_default()))
            .or_default() += 1;
    }
}

async fn hunt(keys: Keys, address: std::net::SocketAddr, seed: u64, requests: u64) -> Result<Tally> {
    let mut mutator = Mutator::new(seed, &keys)?;
    let mut caller = Caller {
        keys,
        address,
        connection: None,
        tally: Tally::new(),
    };
    for number in 0..requests {
        let mutated = mutator.mutate()?;
        caller
            .send(&mutated)
            .await
            .with_context(|| format!("request {number} of the seed {seed} ({:?})", mutated.kind))?;
    }
    Ok(caller.tally)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_brings_down_a_worker() {
    let requests = setting("PICKET_TRAP_HUNT_REQUESTS", REQUESTS);
    let seed = setting("PICKET_TRAP_HUNT_SEED", SEED);
    let mut stack = Stack::start(Options::default().lenient()).await.unwrap();
    let watch = Stopwatch::start();
    let hunts: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let share = requests / CALLERS + u64::from(caller < requests % CALLERS);
            tokio::spawn(hunt(
                stack.keys().clone(),
                stack.inbound_address(),
                seed + caller,
                share,
            ))
        })
        .collect();
    let mut tally = Tally::new();
    for hunt in hunts {
        match hunt.await.unwrap() {
            Ok(part) => part
                .into_iter()
                .for_each(|(key, count)| *tally.entry(key).or_default() += count),
            Err(error) => panic!("{error:#}\n{}", stack.tails()),
        }
    }
    let took = watch.elapsed();
    for ((kind, status, reason), count) in &tally {
        println!("{count:6}  {kind:?}  {status}  {reason}");
    }
    println!("{requests} requests, seed {seed}, in {took:?}");
    assert_eq!(tally.values().sum::<u64>(), requests);
    // What never gets as far as the filter hunts nothing: most must.
    let by_picket: u64 = tally
        .iter()
        .filter(|((_, _, reason), _)| !reason.is_empty())
        .map(|(_, count)| count)
        .sum();
    assert!(
        by_picket * 2 > requests,
        "only {by_picket} of {requests} reached Picket"
    );
    still_serves(&mut stack).await.unwrap();
}
