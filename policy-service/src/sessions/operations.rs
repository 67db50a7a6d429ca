//! What operators do with sessions. What is acknowledged is durable, and known here to every decision from then on.

use std::sync::Arc;

use picket_model::access::Principal;

use super::model::{EndReason, Ended, Session};
use super::rules::{self, Lockdown, SessionState};
use super::{Revocation, Since};
use super::{Sessions, Target, TokenClaims};
use crate::state::{CachedView, Filter, PrincipalId, SessionId, StorageError, TenantId, text};

/// How many revocations of principals and tenants are held; what is older than any token is forgotten.
const REVOCATIONS_MAX: usize = 100_000;

/// Sessions of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) sessions: Vec<(Session, Status)>,
    /// Where the next page begins; `None`: this is the last one.
    pub(crate) after: Option<SessionId>,
}

/// A principal that has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPrincipal {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) tenant: Option<String>,
    /// Those of its last token; `None`: this process has not seen it.
    pub(crate) claims: Option<Arc<TokenClaims>>,
}

impl KnownPrincipal {
    /// `None`: its names were cut, so what is left may be somebody else's.
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

/// Whether a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Live,
    /// It was ended, or a timeout has passed.
    Over(EndReason),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{REVOCATIONS_MAX} revocations are held; revoke everything, or wait until older ones are forgotten")]
    TooManyRevocations,
}

impl Sessions {
    /// One page of the sessions, in order of their ids.
    pub(crate) async fn list(
        &self,
        filter: Filter,
        after: Option<SessionId>,
        count_max: u32,
        now_us: i64,
    ) -> Result<Page, StorageError> {
        let filter = match filter {
            // As it is stored.
            Filter::Tenant(tenant) => Filter::Tenant(text::cut(&tenant)),
            Filter::All | Filter::Principal(_) => filter,
        };
        let sessions = self.store.sessions(filter, after, count_max).await?;
        let is_full = u32::try_from(sessions.len()).is_ok_and(|count| count >= count_max);
        let after = sessions.last().filter(|_| is_full).map(|session| session.id);
        let mut page = Page {
            sessions: Vec::with_capacity(sessions.len()),
            after,
        };
        for session in sessions {
            let status = self.status(&session, now_us)?;
            page.sessions.push((session, status));
        }
        Ok(page)
    }

    /// Remembers the claims of a client's token for searches.
    pub(crate) fn record_claims(&self, principal: &Principal) {
        let id = PrincipalId::of(&principal.issuer, &principal.subject);
        self.memory.claims.record(id, principal);
    }

    /// Principals that have a session which holds, in order of their ids. `None`: what is stored of one does not name it, or
    /// everything of it was revoked.
    pub(crate) async fn known_principals(
        &self,
        after: Option<PrincipalId>,
        count_max: u32,
        now_us: i64,
    ) -> Result<Vec<(PrincipalId, Option<KnownPrincipal>)>, StorageError> {
        let limits = &self.settings.limits;
        let since = Since {
            first_seen_after_us: now_us.saturating_sub(limits.absolute_timeout_us),
            last_seen_after_us: now_us.saturating_sub(limits.idle_timeout_us),
        };
        let sessions = self.store.last_sessions(after, since, count_max).await?;
        let lockdown = self.lockdown()?;
        let known = |session: Session| {
            let holds = lockdown.is_none() && self.status(&session, now_us)? == Status::Live;
            let principal = session.principal;
            let claims = self.memory.claims.of(&principal);
            let known = Some(session).filter(|_| holds);
            Ok((principal, known.and_then(|session| KnownPrincipal::of(session, claims))))
        };
        sessions.into_iter().map(known).collect()
    }

    /// One session.
    pub(crate) async fn show(&self, id: SessionId, now_us: i64) -> Result<Option<(Session, Status)>, StorageError> {
        let Some(session) = self.store.session(id).await? else {
            return Ok(None);
        };
        let status = self.status(&session, now_us)?;
        Ok(Some((session, status)))
    }

    /// Ends a session. False: it is not there, or had ended.
    pub(crate) async fn revoke_session(&self, id: SessionId, caller: &str, now_us: i64) -> Result<bool, StorageError> {
        let ended = Ended {
            at_us: now_us,
            reason: EndReason::Revoked,
            caller: Some(caller.to_owned()),
        };
        let done = self.store.end(id, ended, i64::MAX).await?;
        self.memory.forget(id);
        Ok(done)
    }

    /// Revokes what a principal, a tenant or everybody has had up to now.
    pub(crate) async fn revoke(
        &self,
        target: Target,
        label: &str,
        caller: &str,
        now_us: i64,
    ) -> Result<(), OperationError> {
        let standing = self.memory.standing.value()?;
        let held = standing.revocations.principals.len() + standing.revocations.tenants.len();
        // What is listed takes no further place.
        if held >= REVOCATIONS_MAX && !standing.revocations.hold(target) {
            return Err(OperationError::TooManyRevocations);
        }
        let revocation = Revocation {
            target,
            label: text::cut(label),
            until_us: now_us,
            caller: caller.to_owned(),
        };
        self.store.revoke(revocation).await?;
        Ok(self.ordered().await?)
    }

    /// Refuses every request, or takes that back. False: it was so before.
    pub(crate) async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError> {
        let done = self.store.set_lockdown(lockdown).await?;
        self.ordered().await?;
        Ok(done)
    }

    /// What stands is read back, as another replica may have ordered something meanwhile.
    async fn ordered(&self) -> Result<(), StorageError> {
        self.memory.standing.changed();
        self.refresh().await
    }

    /// Whether every request is refused, since when and by whom.
    pub(crate) fn lockdown(&self) -> Result<Option<Lockdown>, StorageError> {
        Ok(self.memory.standing.value()?.lockdown.clone())
    }

    fn status(&self, session: &Session, now_us: i64) -> Result<Status, StorageError> {
        let state = SessionState::from(session);
        let tenant = session.tenant.as_deref().map(TenantId::of);
        let standing = self.memory.standing.value()?;
        let limits = &self.settings.limits;
        Ok(if let Some(reason) = state.ended {
            Status::Over(reason)
        } else if standing.revokes(&session.principal, tenant.as_ref(), state.first_seen_us, limits) {
            Status::Over(EndReason::Revoked)
        } else {
            rules::timed_out(&state, limits, now_us).map_or(Status::Live, Status::Over)
        })
    }
}
