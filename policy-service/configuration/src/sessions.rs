//! `[sessions]`.

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::Problems;
use picket_state::sessions::{
    FingerprintPart, QuotaLimits, SessionLimits, SessionSettings, TENANTS_COUNTED_MAX, WithoutId,
};

use super::fields::Ranged;

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

/// Sessions, known by the issuer and the `sid` of a token, or its `jti` where there is no `sid`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = values_agree -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Sessions")
)]
pub(super) struct SessionsSection {
    /// A session ends when it was not used for this long, in seconds. At most `absolute_timeout_s`.
    #[deserr(default = Ranged(IDLE_TIMEOUT_S))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = IDLE_TIMEOUT_S)))]
    idle_timeout_s: Ranged<10, YEAR_S>,
    /// A session ends this long after it was first seen, in seconds.
    #[deserr(default = Ranged(ABSOLUTE_TIMEOUT_S))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = ABSOLUTE_TIMEOUT_S)))]
    absolute_timeout_s: Ranged<10, YEAR_S>,
    /// The greatest time since the principal authenticated, in seconds, by `auth_time`, or by the
    /// session's first use where the token has none. Default: any.
    #[deserr(default)]
    reauthentication_interval_s: Option<Ranged<10, YEAR_S>>,
    /// The sessions of one principal. For a further one the oldest ends.
    #[deserr(default = Ranged(CONCURRENT_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CONCURRENT_MAX)))]
    concurrent_max: Ranged<1, 10_000>,
    /// The parts of the client that a session is bound to. A request with another value ends it.
    /// Leave `peer` out where workloads pass a user's token on.
    #[deserr(default = vec![Part::UserAgent, Part::Peer])]
    #[cfg_attr(feature = "schema", schemars(extend("default" = ["user_agent", "peer"])))]
    fingerprint: Vec<Part>,
    /// Whether a token with neither `sid` nor `jti` is accepted. Where it is, no timeout applies to
    /// it, and revocations of its principal do.
    #[deserr(default = Without::Deny)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "deny")))]
    tokens_without_id: Without,
    /// How long an ended session, or a revocation, is stored after its last use, in seconds. It
    /// must be longer than any token lives: a forgotten session begins anew.
    #[deserr(default = Ranged(RETENTION_S))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = RETENTION_S)))]
    retention_s: Ranged<10, YEAR_S>,
    /// How far the clocks of issuers and replicas may be ahead of the replica that revokes, in
    /// seconds. Tokens of a revoked principal or tenant that were issued up to this long after the
    /// revocation are refused too.
    #[deserr(default = Ranged(CLOCK_SKEW_S))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CLOCK_SKEW_S)))]
    clock_skew_s: Ranged<0, 600>,
    /// The sessions that are stored, including ended ones. Above it new sessions are denied.
    #[deserr(default = Ranged(SESSIONS_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = SESSIONS_MAX)))]
    sessions_max: Ranged<1, 100_000_000>,
    /// The sessions that one tenant may have, and all principals without a tenant together. Above
    /// it new sessions of the tenant are denied. At least a ten-thousandth of `sessions_max`, and
    /// at most `sessions_max`. With one tenant, or none, set it to `sessions_max`. Default: a
    /// quarter of `sessions_max`, rounded up.
    #[deserr(default)]
    sessions_per_tenant_max: Option<Ranged<1, 100_000_000>>,
    /// The sessions that are cached in memory.
    #[deserr(default = Ranged(CACHE_ENTRIES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CACHE_ENTRIES_MAX)))]
    cache_entries_max: Ranged<1, 10_000_000>,
}

/// A part of the client.
#[derive(Clone, Copy, Debug, Deserr)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
enum Part {
    /// The header `user-agent`.
    #[deserr(rename = "user_agent")]
    UserAgent,
    /// The SPIFFE ID of the peer.
    #[deserr(rename = "peer")]
    Peer,
}

/// The treatment of a token without an id.
#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
enum Without {
    /// It is denied, with `session_id_missing`.
    Deny,
    /// It is accepted without a session.
    Permit,
}

impl From<SessionsSection> for SessionSettings {
    fn from(sessions: SessionsSection) -> Self {
        let us = |seconds: u32| i64::from(seconds) * MICROSECONDS_PER_SECOND;
        Self {
            limits: SessionLimits {
                idle_timeout_us: us(sessions.idle_timeout_s.0),
                absolute_timeout_us: us(sessions.absolute_timeout_s.0),
                reauthentication_interval_us: sessions.reauthentication_interval_s.map(|interval| us(interval.0)),
                concurrent_max: sessions.concurrent_max.0,
                retention_us: us(sessions.retention_s.0),
                clock_skew_us: us(sessions.clock_skew_s.0),
            },
            fingerprint: sessions.fingerprint.into_iter().map(FingerprintPart::from).collect(),
            without_id: match sessions.tokens_without_id {
                Without::Deny => WithoutId::Deny,
                Without::Permit => WithoutId::Permit,
            },
            quota: QuotaLimits {
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

impl From<Part> for FingerprintPart {
    fn from(part: Part) -> Self {
        match part {
            Part::UserAgent => Self::UserAgent,
            Part::Peer => Self::Peer,
        }
    }
}
