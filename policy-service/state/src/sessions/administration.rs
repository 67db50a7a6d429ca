//! Operators' access to sessions. A change that was acknowledged is durable, and every check here
//! knows it from then on.

use std::sync::Arc;

use picket_model::access::Principal;
use picket_model::session::EndReason;

use super::rules::{self, SessionState};
use super::{Lockdown, Revocation, RevocationTarget, Session, SessionEnd, Sessions, TokenClaims};
use crate::{CachedView, ListFilter, PrincipalId, SessionId, StorageError, TenantId, text};

/// How many revocations of principals and tenants are stored; those that are older than any token
/// are deleted.
const REVOCATIONS_MAX: usize = 100_000;

/// One page of a list of sessions.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// In order of their ids.
    pub sessions: Vec<(Session, SessionStatus)>,
    /// Where the next page begins; `None`: this is the last one.
    pub after: Option<SessionId>,
}

/// A principal that has a valid session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivePrincipal {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// The claims of its last token; `None`: they are not cached in this process.
    pub claims: Option<Arc<TokenClaims>>,
}

impl ActivePrincipal {
    /// `None`: its names were cut, and what is left may name another principal.
    fn of(session: Session, claims: Option<Arc<TokenClaims>>) -> Option<Self> {
        let is_whole = PrincipalId::of(&session.issuer, &session.subject) == session.principal;
        let is_whole = is_whole && session.tenant.as_deref().is_none_or(text::is_whole);
        is_whole.then_some(Self {
            claims,
            issuer: session.issuer,
            subject: session.subject,
            tenant: session.tenant,
        })
    }
}

/// Whether a session is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// It is valid.
    Live,
    /// It was ended, or a timeout has passed.
    Over(EndReason),
}

/// Why a revocation was not stored.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The limit of revocations is reached.
    #[error("{REVOCATIONS_MAX} revocations are held; revoke everything, or wait until older ones are forgotten")]
    TooManyRevocations,
}

impl Sessions {
    /// One page of the sessions, in order of their ids.
    pub async fn list(
        &self,
        filter: ListFilter,
        after: Option<SessionId>,
        count_max: u32,
        now_us: i64,
    ) -> Result<SessionPage, StorageError> {
        let filter = match filter {
            // As it is stored.
            ListFilter::Tenant(tenant) => ListFilter::Tenant(text::cut(&tenant)),
            ListFilter::All | ListFilter::Principal(_) => filter,
        };
        let sessions = self.store.sessions(filter, after, count_max).await?;
        let is_full = u32::try_from(sessions.len()).is_ok_and(|count| count >= count_max);
        let after = sessions.last().filter(|_| is_full).map(|session| session.id);
        let mut page = SessionPage {
            sessions: Vec::with_capacity(sessions.len()),
            after,
        };
        for session in sessions {
            let status = self.status(&session, now_us)?;
            page.sessions.push((session, status));
        }
        Ok(page)
    }

    /// Caches the claims of a client's token for searches.
    pub fn cache_claims(&self, principal: &Principal) {
        let id = PrincipalId::of(&principal.issuer, &principal.subject);
        self.cache.claims.record(id, principal);
    }

    /// Principals that have a valid session, in order of their ids. `None`: the stored names do not
    /// name the principal, or all of its sessions were revoked.
    pub async fn active_principals(
        &self,
        after: Option<PrincipalId>,
        count_max: u32,
        now_us: i64,
    ) -> Result<Vec<(PrincipalId, Option<ActivePrincipal>)>, StorageError> {
        let sessions = self
            .store
            .last_sessions(after, self.live_since(now_us), count_max)
            .await?;
        let lockdown = self.lockdown()?;
        let principal = |session: Session| {
            let is_valid = lockdown.is_none() && self.status(&session, now_us)? == SessionStatus::Live;
            let principal = session.principal;
            let claims = self.cache.claims.of(&principal);
            let active = Some(session).filter(|_| is_valid);
            Ok((
                principal,
                active.and_then(|session| ActivePrincipal::of(session, claims)),
            ))
        };
        sessions.into_iter().map(principal).collect()
    }

    /// One session.
    pub async fn show(&self, id: SessionId, now_us: i64) -> Result<Option<(Session, SessionStatus)>, StorageError> {
        let Some(session) = self.store.session(id).await? else {
            return Ok(None);
        };
        let status = self.status(&session, now_us)?;
        Ok(Some((session, status)))
    }

    /// Ends a session. False: it does not exist, or had ended.
    pub async fn revoke_session(&self, id: SessionId, caller: &str, now_us: i64) -> Result<bool, StorageError> {
        let end = SessionEnd {
            at_us: now_us,
            reason: EndReason::Revoked,
            caller: Some(caller.to_owned()),
        };
        let is_ended = self.store.end(id, end, i64::MAX).await?;
        self.cache.remove(id);
        Ok(is_ended)
    }

    /// Revokes the tokens and sessions that a principal, a tenant or everybody has had up to now.
    pub async fn revoke(
        &self,
        target: RevocationTarget,
        label: &str,
        caller: &str,
        now_us: i64,
    ) -> Result<(), RevokeError> {
        let restrictions = self.cache.restrictions.value()?;
        let count = restrictions.revocations.principals.len() + restrictions.revocations.tenants.len();
        // A further revocation of the same target takes no further place.
        if count >= REVOCATIONS_MAX && !restrictions.revocations.contains(target) {
            return Err(RevokeError::TooManyRevocations);
        }
        let revocation = Revocation {
            target,
            label: text::cut(label),
            until_us: now_us,
            caller: caller.to_owned(),
        };
        self.store.revoke(revocation).await?;
        Ok(self.refresh_restrictions().await?)
    }

    /// Starts or ends a lockdown. False: it was so before.
    pub async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError> {
        let done = self.store.set_lockdown(lockdown).await?;
        self.refresh_restrictions().await?;
        Ok(done)
    }

    /// They are read from the storage, as another replica may have changed them meanwhile.
    async fn refresh_restrictions(&self) -> Result<(), StorageError> {
        self.cache.restrictions.changed();
        self.refresh().await
    }

    /// The lockdown; `None`: there is none.
    pub fn lockdown(&self) -> Result<Option<Lockdown>, StorageError> {
        Ok(self.cache.restrictions.value()?.lockdown.clone())
    }

    fn status(&self, session: &Session, now_us: i64) -> Result<SessionStatus, StorageError> {
        let state = SessionState::from(session);
        let tenant = session.tenant.as_deref().map(TenantId::of);
        let restrictions = self.cache.restrictions.value()?;
        let limits = &self.settings.limits;
        Ok(if let Some(reason) = state.ended {
            SessionStatus::Over(reason)
        } else if restrictions.is_revoked(&session.principal, tenant.as_ref(), state.first_seen_us, limits) {
            SessionStatus::Over(EndReason::Revoked)
        } else {
            rules::timed_out(&state, limits, now_us).map_or(SessionStatus::Live, SessionStatus::Over)
        })
    }
}
