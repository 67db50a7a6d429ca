//! `[sessions]`.

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::Problems;

use super::fields::Ranged;
use crate::sessions::{ClientPart, HeldLimits, Limits, Settings, TENANTS_COUNTED_MAX, WithoutId};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 366 * DAY_S;

/// OWASP's session management names 15 to 30 minutes for what is of ordinary value.
const IDLE_TIMEOUT_S: u32 = 30 * 60;
/// A working day.
const ABSOLUTE_TIMEOUT_S: u32 = 12 * 60 * 60;
/// More than a person's devices and programs, fewer than a stolen account's.
const CONCURRENT_MAX: u32 = 100;
const RETENTION_S: u32 = 7 * DAY_S;
/// As far as tickets of Kerberos may be off (RFC 4120 §5.9.1), and as the filter lets providers set
/// at most.
const CLOCK_SKEW_S: u32 = 5 * 60;
const SESSIONS_MAX: u32 = 1_000_000;
/// So many tenants fill the storage together, unless the configuration says otherwise.
const TENANTS_SHARING: u32 = 4;
const CACHE_ENTRIES_MAX: u32 = 100_000;

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = values_agree -> Problems)]
pub(super) struct SessionsSection {
    #[deserr(default = Ranged(IDLE_TIMEOUT_S))]
    idle_timeout_s: Ranged<10, YEAR_S>,
    #[deserr(default = Ranged(ABSOLUTE_TIMEOUT_S))]
    absolute_timeout_s: Ranged<10, YEAR_S>,
    #[deserr(default)]
    reauthentication_interval_s: Option<Ranged<10, YEAR_S>>,
    #[deserr(default = Ranged(CONCURRENT_MAX))]
    concurrent_max: Ranged<1, 10_000>,
    #[deserr(default = vec![Part::UserAgent, Part::Peer])]
    fingerprint: Vec<Part>,
    #[deserr(default = Without::Deny)]
    tokens_without_id: Without,
    #[deserr(default = Ranged(RETENTION_S))]
    retention_s: Ranged<10, YEAR_S>,
    #[deserr(default = Ranged(CLOCK_SKEW_S))]
    clock_skew_s: Ranged<0, 600>,
    #[deserr(default = Ranged(SESSIONS_MAX))]
    sessions_max: Ranged<1, 100_000_000>,
    #[deserr(default)]
    sessions_per_tenant_max: Option<Ranged<1, 100_000_000>>,
    #[deserr(default = Ranged(CACHE_ENTRIES_MAX))]
    cache_entries_max: Ranged<1, 10_000_000>,
}

#[derive(Clone, Copy, Debug, Deserr)]
enum Part {
    #[deserr(rename = "user_agent")]
    UserAgent,
    #[deserr(rename = "peer")]
    Peer,
}

#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
enum Without {
    Deny,
    Permit,
}

impl From<SessionsSection> for Settings {
    fn from(sessions: SessionsSection) -> Self {
        let us = |seconds: u32| i64::from(seconds) * MICROSECONDS_PER_SECOND;
        Self {
            limits: Limits {
                idle_timeout_us: us(sessions.idle_timeout_s.0),
                absolute_timeout_us: us(sessions.absolute_timeout_s.0),
                reauthentication_interval_us: sessions.reauthentication_interval_s.map(|interval| us(interval.0)),
                concurrent_max: sessions.concurrent_max.0,
                retention_us: us(sessions.retention_s.0),
                clock_skew_us: us(sessions.clock_skew_s.0),
            },
            fingerprint: sessions.fingerprint.into_iter().map(ClientPart::from).collect(),
            without_id: match sessions.tokens_without_id {
                Without::Deny => WithoutId::Deny,
                Without::Permit => WithoutId::Permit,
            },
            held: HeldLimits {
                sessions_max: u64::from(sessions.sessions_max.0),
                per_tenant_max: u64::from(
                    sessions
                        .sessions_per_tenant_max
                        .map_or_else(|| sessions.sessions_max.0.div_ceil(TENANTS_SHARING), |share| share.0),
                ),
            },
            cache_entries_max: sessions.cache_entries_max.0,
        }
    }
}

fn values_agree(sessions: SessionsSection, _location: ValuePointerRef<'_>) -> Result<SessionsSection, Problems> {
    let mut problems = Problems::default();
    let (idle, absolute) = (sessions.idle_timeout_s.0, sessions.absolute_timeout_s.0);
    if idle > absolute {
        problems.add(
            "sessions.idle_timeout_s",
            format!("expected at most `sessions.absolute_timeout_s`, which is {absolute}, found {idle}"),
        );
    }
    let all = sessions.sessions_max.0;
    // Tenants beyond those that are counted hold less than the least of these.
    let least = all.div_ceil(TENANTS_COUNTED_MAX);
    if let Some(share) = &sessions.sessions_per_tenant_max
        && !(least..=all).contains(&share.0)
    {
        problems.add(
            "sessions.sessions_per_tenant_max",
            format!(
                "expected {least} to {all}, as `sessions.sessions_max` is {all}, found {}",
                share.0
            ),
        );
    }
    problems.none_or(Some(sessions))
}

impl From<Part> for ClientPart {
    fn from(part: Part) -> Self {
        match part {
            Part::UserAgent => Self::UserAgent,
            Part::Peer => Self::Peer,
        }
    }
}
