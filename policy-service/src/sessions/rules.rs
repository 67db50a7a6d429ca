//! The rules of sessions. They do no I/O, and time is a parameter.

use std::collections::HashMap;

use super::model::{EndReason, Session};
use crate::state::{Fingerprint, PrincipalId, SessionId, TenantId};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const MICROSECONDS_PER_MILLISECOND: i64 = 1_000;
/// A use is written down once in this part of the idle timeout, so a session may be ended that much too early, never too late.
const IDLE_PARTS_PER_WRITE: i64 = 10;
/// However long the idle timeout is, no more of a session's uses than those of this time are lost when a process dies.
const WRITE_INTERVAL_US_MAX: i64 = 60 * MICROSECONDS_PER_SECOND;

/// How long sessions last, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A session ends that was not used for this long, in microseconds.
    pub idle_timeout_us: i64,
    /// A session ends this long after its first sight, in microseconds.
    pub absolute_timeout_us: i64,
    /// How long ago its principal may have authenticated, in microseconds; `None`: any time.
    pub reauthentication_interval_us: Option<i64>,
    /// How many sessions a principal may have at once.
    pub concurrent_max: u32,
    /// How long a session is remembered after its last use and its idle timeout, in microseconds.
    pub retention_us: i64,
    /// How far the clocks of issuers and replicas may be ahead of the clock by which something was revoked, in microseconds. A
    /// token that was issued, or a session that began, within this time after a revocation may be from before it and is refused.
    pub clock_skew_us: i64,
}

/// What the rules look at in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionState {
    /// Whose it is.
    pub principal: PrincipalId,
    /// The client at first sight.
    pub fingerprint: Fingerprint,
    /// When it was created.
    pub first_seen_us: i64,
    /// When it was last used.
    pub last_seen_us: i64,
    /// Why it ended.
    pub ended: Option<EndReason>,
}

/// What the rules look at in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The session; `None`: the token names none.
    pub id: Option<SessionId>,
    /// The principal.
    pub principal: PrincipalId,
    /// Its tenant.
    pub tenant: Option<TenantId>,
    /// The client.
    pub fingerprint: Fingerprint,
    /// `iat`.
    pub issued_at_s: Option<i64>,
    /// `auth_time`.
    pub auth_time_s: Option<i64>,
}

/// What was revoked beyond single sessions: for each target the time up to which tokens and sessions are no longer good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Everything.
    pub everything_us: Option<i64>,
    /// What a principal has.
    pub principals: HashMap<PrincipalId, i64>,
    /// What the principals of a tenant have.
    pub tenants: HashMap<TenantId, i64>,
}

/// What a revocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One principal.
    Principal(PrincipalId),
    /// All principals of a tenant.
    Tenant(TenantId),
    /// Everybody.
    Everything,
}

/// Nobody is let in until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// Since when, in microseconds since the epoch.
    pub at_us: i64,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

/// What an operator has ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What was revoked.
    pub revocations: Revocations,
    /// Whether everything is refused.
    pub lockdown: Option<Lockdown>,
}

/// What the rules say about a session that a request comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds, and an answer may be repeated for this long.
    Holds {
        /// Never longer than to the next timeout.
        valid_for_us: i64,
    },
    /// It ends now, which has to be written down.
    Ends(EndReason),
    /// It does not hold, and nothing changes.
    Refused(Refusal),
}

/// Why a request is denied for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Everything is refused.
    Lockdown,
    /// The session has ended.
    Ended(EndReason),
    /// The token or the session is from before a revocation.
    Revoked,
    /// The principal authenticated too long ago.
    ReauthenticationRequired,
    /// The token has neither `sid` nor `jti`.
    IdMissing,
    /// As many sessions are held as there may be.
    LimitReached,
}

impl Refusal {
    /// The stable code, for callers, metrics and records.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Lockdown => "lockdown",
            Self::Revoked | Self::Ended(EndReason::Revoked) => "session_revoked",
            Self::Ended(EndReason::Compromised) => "session_compromised",
            Self::Ended(EndReason::IdleTimeout | EndReason::AbsoluteTimeout | EndReason::Superseded) => "session_ended",
            Self::ReauthenticationRequired => "reauthentication_required",
            Self::IdMissing => "session_id_missing",
            Self::LimitReached => "session_limit_reached",
        }
    }

    /// Whether the token is no longer accepted, so that only another one helps: its session has ended or was revoked.
    #[must_use]
    pub fn revokes_token(self) -> bool {
        match self {
            Self::Revoked | Self::Ended(_) => true,
            Self::Lockdown | Self::ReauthenticationRequired | Self::IdMissing | Self::LimitReached => false,
        }
    }
}

impl Limits {
    /// How often a session's use is written down at most.
    #[must_use]
    pub fn write_interval_us(&self) -> i64 {
        (self.idle_timeout_us / IDLE_PARTS_PER_WRITE).min(WRITE_INTERVAL_US_MAX)
    }
}

impl Standing {
    /// Whether what is of this time, by an issuer's or another replica's clock, may be from before a revocation.
    pub(super) fn revokes(
        &self,
        principal: &PrincipalId,
        tenant: Option<&TenantId>,
        time_us: i64,
        limits: &Limits,
    ) -> bool {
        let revoked_us = self.revocations.until_us(principal, tenant);
        revoked_us.is_some_and(|revoked_us| time_us <= revoked_us.saturating_add(limits.clock_skew_us))
    }
}

impl Revocations {
    /// Whether a further revocation of this only moves one that there is. There is always one place for everything.
    pub(super) fn hold(&self, target: Target) -> bool {
        match target {
            Target::Principal(principal) => self.principals.contains_key(&principal),
            Target::Tenant(tenant) => self.tenants.contains_key(&tenant),
            Target::Everything => true,
        }
    }

    /// Adds one. An earlier time than one that is there changes nothing.
    pub fn add(&mut self, target: Target, until_us: i64) {
        let until = match target {
            Target::Principal(id) => self.principals.entry(id).or_insert(until_us),
            Target::Tenant(id) => self.tenants.entry(id).or_insert(until_us),
            Target::Everything => self.everything_us.get_or_insert(until_us),
        };
        *until = until_us.max(*until);
    }

    /// Up to when the tokens and sessions of this principal are no longer good.
    #[must_use]
    pub fn until_us(&self, principal: &PrincipalId, tenant: Option<&TenantId>) -> Option<i64> {
        let principal = self.principals.get(principal).copied();
        let tenant = tenant.and_then(|tenant| self.tenants.get(tenant)).copied();
        // `None` is less than every time.
        self.everything_us.max(principal).max(tenant)
    }
}

impl SessionState {
    /// One that begins with this request.
    pub(super) fn beginning(seen: &Seen, now_us: i64) -> Self {
        Self {
            principal: seen.principal,
            fingerprint: seen.fingerprint,
            first_seen_us: now_us,
            last_seen_us: now_us,
            ended: None,
        }
    }
}

impl From<&Session> for SessionState {
    fn from(session: &Session) -> Self {
        Self {
            principal: session.principal,
            fingerprint: session.fingerprint,
            first_seen_us: session.first_seen_us,
            last_seen_us: session.last_seen_us,
            ended: session.ended.as_ref().map(|ended| ended.reason),
        }
    }
}

/// What holds for a token by itself, before its session is looked for.
///
/// # Errors
/// It is refused.
pub(super) fn check_token(seen: &Seen, standing: &Standing, limits: &Limits) -> Result<(), Refusal> {
    if standing.lockdown.is_some() {
        return Err(Refusal::Lockdown);
    }
    // `iat` has whole seconds, so a token of the same second may be from before. One without `iat` is not known to be later.
    let issued_us = seen.issued_at_s.map_or(i64::MIN, seconds);
    match standing.revokes(&seen.principal, seen.tenant.as_ref(), issued_us, limits) {
        true => Err(Refusal::Revoked),
        false => Ok(()),
    }
}

/// What the rules say about a session.
#[must_use]
pub(super) fn judge(state: &SessionState, seen: &Seen, standing: &Standing, limits: &Limits, now_us: i64) -> Verdict {
    if let Some(reason) = state.ended {
        return Verdict::Refused(Refusal::Ended(reason));
    }
    if standing.revokes(&seen.principal, seen.tenant.as_ref(), state.first_seen_us, limits) {
        return Verdict::Refused(Refusal::Revoked);
    }
    if let Some(reason) = timed_out(state, limits, now_us) {
        return Verdict::Ends(reason);
    }
    if state.principal != seen.principal || state.fingerprint != seen.fingerprint {
        return Verdict::Ends(EndReason::Compromised);
    }
    // An `auth_time` in the future would put the next one off.
    let authenticated_us = seen
        .auth_time_s
        .map_or(state.first_seen_us, |time_s| seconds(time_s).min(now_us));
    let reauthentication_us = limits
        .reauthentication_interval_us
        .map(|interval_us| left(authenticated_us, interval_us, now_us));
    if reauthentication_us.is_some_and(|left_us| left_us <= 0) {
        return Verdict::Refused(Refusal::ReauthenticationRequired);
    }
    let valid_for_us = left(state.first_seen_us, limits.absolute_timeout_us, now_us)
        // Half of it, so that a session that is used through answers of the sidecar's cache is seen here before it is idle.
        .min(limits.idle_timeout_us / 2)
        .min(reauthentication_us.unwrap_or(i64::MAX));
    Verdict::Holds { valid_for_us }
}

/// Why a session that nobody has ended is over.
#[must_use]
pub(super) fn timed_out(state: &SessionState, limits: &Limits, now_us: i64) -> Option<EndReason> {
    if left(state.first_seen_us, limits.absolute_timeout_us, now_us) <= 0 {
        Some(EndReason::AbsoluteTimeout)
    } else if left(state.last_seen_us, limits.idle_timeout_us, now_us) <= 0 {
        Some(EndReason::IdleTimeout)
    } else {
        None
    }
}

/// Whole milliseconds of a validity, rounded down.
#[must_use]
pub(super) fn milliseconds(us: i64) -> u32 {
    let ms = us.max(0) / MICROSECONDS_PER_MILLISECOND;
    u32::try_from(ms).unwrap_or(u32::MAX)
}

/// Seconds since the epoch, as tokens have them, in microseconds.
#[must_use]
pub(super) fn seconds(time_s: i64) -> i64 {
    time_s.saturating_mul(MICROSECONDS_PER_SECOND)
}

/// What is left of an interval.
fn left(since_us: i64, interval_us: i64, now_us: i64) -> i64 {
    since_us.saturating_add(interval_us).saturating_sub(now_us)
}

#[cfg(test)]
mod tests;
