//! The rules of sessions. They do no I/O, and time is a parameter.

use std::collections::HashMap;

use picket_model::session::EndReason;

use super::model::Session;
use crate::{Fingerprint, PrincipalId, SessionId, TenantId};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const MICROSECONDS_PER_MILLISECOND: i64 = 1_000;
/// A use is written once in this fraction of the idle timeout: a session may end that much too
/// early, never too late.
const IDLE_PARTS_PER_WRITE: i64 = 10;
/// A process that dies loses at most the uses of this time, however long the idle timeout is.
const WRITE_INTERVAL_US_MAX: i64 = 60 * MICROSECONDS_PER_SECOND;

/// How long sessions last, and how many a principal may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// A session ends when it was not used for this long, in microseconds.
    pub idle_timeout_us: i64,
    /// A session ends this long after its first request, in microseconds.
    pub absolute_timeout_us: i64,
    /// How long ago its principal may have authenticated, in microseconds; `None`: any time.
    pub reauthentication_interval_us: Option<i64>,
    /// How many sessions a principal may have at once.
    pub concurrent_max: u32,
    /// How long a session is stored after its last use and its idle timeout, in microseconds.
    pub retention_us: i64,
    /// How far the clocks of issuers and replicas may be ahead of the clock by which something was
    /// revoked, in microseconds. A token that was issued, or a session that began, within this time
    /// after a revocation may be from before it and is refused.
    pub clock_skew_us: i64,
}

/// The part of a session that the rules read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionState {
    /// Whose it is.
    pub principal: PrincipalId,
    /// The client of the first request.
    pub fingerprint: Fingerprint,
    /// When it was created, in microseconds since the epoch.
    pub first_seen_us: i64,
    /// When it was last used, in microseconds since the epoch.
    pub last_seen_us: i64,
    /// Why it ended.
    pub ended: Option<EndReason>,
}

/// The part of a token and its request that the rules read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PresentedToken {
    /// The session; `None`: the token names none.
    pub session: Option<SessionId>,
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

/// Revocations of more than one session: for each target the time up to which tokens and sessions
/// are no longer accepted, in microseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Of all principals.
    pub everything_us: Option<i64>,
    /// Of one principal.
    pub principals: HashMap<PrincipalId, i64>,
    /// Of all principals of a tenant.
    pub tenants: HashMap<TenantId, i64>,
}

/// Whose tokens and sessions a revocation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One principal.
    Principal(PrincipalId),
    /// All principals of a tenant.
    Tenant(TenantId),
    /// All principals.
    Everything,
}

/// Every request is refused until an operator ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// Since when, in microseconds since the epoch.
    pub at_us: i64,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

/// What operators have ordered about all requests of a principal, a tenant, or everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Revocations.
    pub revocations: Revocations,
    /// `None`: there is no lockdown.
    pub lockdown: Option<Lockdown>,
}

/// What the rules say about the session of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionValidity {
    /// It is valid.
    Valid {
        /// The answer may be repeated for this long, in microseconds: at most until the next
        /// timeout.
        for_us: i64,
    },
    /// It ends now, which has to be stored.
    Ends(EndReason),
    /// It is not valid, and nothing has to be stored.
    Refused(SessionRefusal),
}

/// Why a request is denied for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionRefusal {
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
    /// The limit of stored sessions is reached.
    LimitReached,
}

impl SessionRefusal {
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

    /// Whether the token is no longer accepted, so that only another one helps: its session has
    /// ended or was revoked.
    #[must_use]
    pub fn revokes_token(self) -> bool {
        match self {
            Self::Revoked | Self::Ended(_) => true,
            Self::Lockdown | Self::ReauthenticationRequired | Self::IdMissing | Self::LimitReached => false,
        }
    }
}

impl SessionLimits {
    /// How often a session's use is written, in microseconds.
    #[must_use]
    pub fn write_interval_us(&self) -> i64 {
        (self.idle_timeout_us / IDLE_PARTS_PER_WRITE).min(WRITE_INTERVAL_US_MAX)
    }
}

impl Restrictions {
    /// Whether a token or session of this time, by an issuer's or another replica's clock, may be
    /// from before a revocation.
    pub(super) fn is_revoked(
        &self,
        principal: &PrincipalId,
        tenant: Option<&TenantId>,
        time_us: i64,
        limits: &SessionLimits,
    ) -> bool {
        let revoked_us = self.revocations.until_us(principal, tenant);
        revoked_us.is_some_and(|revoked_us| time_us <= revoked_us.saturating_add(limits.clock_skew_us))
    }
}

impl Revocations {
    /// Whether a revocation of this target replaces one that exists. The one of everything always
    /// has a place.
    pub(super) fn contains(&self, target: RevocationTarget) -> bool {
        match target {
            RevocationTarget::Principal(principal) => self.principals.contains_key(&principal),
            RevocationTarget::Tenant(tenant) => self.tenants.contains_key(&tenant),
            RevocationTarget::Everything => true,
        }
    }

    /// Adds one. An earlier time than the present one changes nothing.
    pub fn add(&mut self, target: RevocationTarget, until_us: i64) {
        let until = match target {
            RevocationTarget::Principal(id) => self.principals.entry(id).or_insert(until_us),
            RevocationTarget::Tenant(id) => self.tenants.entry(id).or_insert(until_us),
            RevocationTarget::Everything => self.everything_us.get_or_insert(until_us),
        };
        *until = until_us.max(*until);
    }

    /// Up to when the tokens and sessions of this principal are no longer accepted.
    #[must_use]
    pub fn until_us(&self, principal: &PrincipalId, tenant: Option<&TenantId>) -> Option<i64> {
        let principal = self.principals.get(principal).copied();
        let tenant = tenant.and_then(|tenant| self.tenants.get(tenant)).copied();
        // `None` is less than every time.
        self.everything_us.max(principal).max(tenant)
    }
}

impl SessionState {
    /// A session that begins with this request.
    pub(super) fn new(token: &PresentedToken, now_us: i64) -> Self {
        Self {
            principal: token.principal,
            fingerprint: token.fingerprint,
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

/// Checks a token by itself, before its session is known.
///
/// # Errors
/// It is refused.
pub(super) fn check_token(
    token: &PresentedToken,
    restrictions: &Restrictions,
    limits: &SessionLimits,
) -> Result<(), SessionRefusal> {
    if restrictions.lockdown.is_some() {
        return Err(SessionRefusal::Lockdown);
    }
    // `iat` has whole seconds, so a token of the same second may be from before. One without `iat`
    // is not known to be later.
    let issued_us = token.issued_at_s.map_or(i64::MIN, seconds);
    match restrictions.is_revoked(&token.principal, token.tenant.as_ref(), issued_us, limits) {
        true => Err(SessionRefusal::Revoked),
        false => Ok(()),
    }
}

/// Checks a session.
#[must_use]
pub(super) fn check_session(
    state: &SessionState,
    token: &PresentedToken,
    restrictions: &Restrictions,
    limits: &SessionLimits,
    now_us: i64,
) -> SessionValidity {
    if let Some(reason) = state.ended {
        return SessionValidity::Refused(SessionRefusal::Ended(reason));
    }
    if restrictions.is_revoked(&token.principal, token.tenant.as_ref(), state.first_seen_us, limits) {
        return SessionValidity::Refused(SessionRefusal::Revoked);
    }
    if let Some(reason) = timed_out(state, limits, now_us) {
        return SessionValidity::Ends(reason);
    }
    if state.principal != token.principal || state.fingerprint != token.fingerprint {
        return SessionValidity::Ends(EndReason::Compromised);
    }
    // An `auth_time` in the future would put the next one off.
    let authenticated_us = token
        .auth_time_s
        .map_or(state.first_seen_us, |time_s| seconds(time_s).min(now_us));
    let reauthentication_us = limits
        .reauthentication_interval_us
        .map(|interval_us| left(authenticated_us, interval_us, now_us));
    if reauthentication_us.is_some_and(|left_us| left_us <= 0) {
        return SessionValidity::Refused(SessionRefusal::ReauthenticationRequired);
    }
    let for_us = left(state.first_seen_us, limits.absolute_timeout_us, now_us)
        // Half of it, so that a session whose requests the sidecar answers from its cache is
        // checked here before it is idle.
        .min(limits.idle_timeout_us / 2)
        .min(reauthentication_us.unwrap_or(i64::MAX));
    SessionValidity::Valid { for_us }
}

/// The timeout that a session has reached.
#[must_use]
pub(super) fn timed_out(state: &SessionState, limits: &SessionLimits, now_us: i64) -> Option<EndReason> {
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
