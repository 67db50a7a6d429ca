//! What is counted, and how often it is run. What a path is made of is in [`super::sidecar`], which alone knows `core`.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::sidecar::{DECISIONS_MAX, RULES, Request, Routes, Sidecar, token};

/// The most times that a path is run: so many requests wait in [`on_decision`], however many are answered.
pub const WAITING: u32 = 1_000;

/// A function of `core`, or several that a request meets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HotPath {
    /// Headers to a `RequestHead`.
    RequestHead,
    /// A path among 10 rules.
    #[serde(rename = "route_of_10")]
    RouteOf10,
    /// A path among 10,000 rules.
    #[serde(rename = "route_of_10000")]
    RouteOf10000,
    /// A request whose token and decision are cached, to its permit.
    RequestWarm,
    /// A request with a new token that a rule permits; the signature is taken for good.
    TokenCold,
    /// A request to the question for the policy service.
    RequestAsked,
    /// The answer to that, to its permit.
    AnswerArrived,
    /// A request without a token, to the reply.
    Refusal,
}

impl HotPath {
    /// Every path.
    pub const ALL: &'static [Self] = &[
        Self::RequestHead,
        Self::RouteOf10,
        Self::RouteOf10000,
        Self::RequestWarm,
        Self::TokenCold,
        Self::RequestAsked,
        Self::AnswerArrived,
        Self::Refusal,
    ];

    fn id(self) -> &'static str {
        match self {
            Self::RequestHead => "request_head",
            Self::RouteOf10 => "route_of_10",
            Self::RouteOf10000 => "route_of_10000",
            Self::RequestWarm => "request_warm",
            Self::TokenCold => "token_cold",
            Self::RequestAsked => "request_asked",
            Self::AnswerArrived => "on_decision",
            Self::Refusal => "refusal",
        }
    }

    /// Runs it `times` times, after a set-up that does not depend on `times`.
    ///
    /// # Errors
    /// When it does not end as it should.
    pub fn run(self, times: u32) -> Result<()> {
        match self {
            Self::RequestHead => request_head(times),
            Self::RouteOf10 => route(10, times),
            Self::RouteOf10000 => route(10_000, times),
            Self::RequestWarm => request_warm(times),
            Self::TokenCold => token_cold(times),
            Self::RequestAsked => request_asked(times),
            Self::AnswerArrived => on_decision(times),
            Self::Refusal => refusal(times),
        }
    }
}

impl fmt::Display for HotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for HotPath {
    type Err = anyhow::Error;

    fn from_str(id: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|path| path.id() == id);
        found.copied().with_context(|| format!("there is no hot path `{id}`"))
    }
}

fn request_head(times: u32) -> Result<()> {
    let request = Request::new(RULES / 2, Some(&token(0)));
    for _ in 0..times {
        black_box(&request).parse()?;
    }
    Ok(())
}

fn route(rules: u32, times: u32) -> Result<()> {
    let routes = Routes::new(rules)?;
    for _ in 0..times {
        black_box(&routes).find_the_middle_one()?;
    }
    Ok(())
}

fn request_warm(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let request = Request::new(0, Some(&token(0)));
    let pending = sidecar.asks(&request)?;
    sidecar.answers(pending)?;
    for _ in 0..times {
        sidecar.permits(black_box(&request))?;
    }
    Ok(())
}

fn token_cold(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    // One token is remembered, so that neither of two is known when it comes again.
    let each = [0, 1].map(|number| Request::new(RULES - 1, Some(&token(number))));
    for request in each.iter().cycle().take(usize::try_from(times)?) {
        sidecar.permits(black_box(request))?;
    }
    Ok(())
}

fn request_asked(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let request = Request::new(0, Some(&token(0)));
    black_box(sidecar.asks(&request)?);
    for _ in 0..times {
        black_box(sidecar.asks(black_box(&request))?);
    }
    Ok(())
}

fn on_decision(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let token = token(0);
    let mut waiting = Vec::new();
    for number in 0..WAITING + DECISIONS_MAX {
        // Another path for each, or they would all have one place in the cache.
        waiting.push(sidecar.asks(&Request::numbered(0, number, Some(&token)))?);
    }
    let mut waiting = waiting.into_iter();
    for pending in waiting.by_ref().take(usize::try_from(DECISIONS_MAX)?) {
        sidecar.answers(pending)?;
    }
    for _ in 0..times {
        let pending = waiting.next().context("no more requests wait")?;
        sidecar.answers(black_box(pending))?;
    }
    // Freeing the rest would count less the more were answered.
    std::mem::forget(waiting);
    Ok(())
}

fn refusal(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let request = Request::new(0, None);
    for _ in 0..times {
        sidecar.refuses(black_box(&request))?;
    }
    Ok(())
}
