//! Sessions: who is logged in, for how long, and how that ends.
//!
//! [`rules`] decides and does no I/O; [`crate::storage`] keeps; what is here joins them for each decision.
//!
//! A decision knows every revocation that was acknowledged before it, on whichever replica, or is none: what is remembered here is
//! believed only as long as the storage was heard from within [`crate::storage::STALE_MS_MAX`].

mod memory;
mod model;
mod operations;
mod rules;
mod upkeep;

use std::sync::Arc;

use picket_core::access::{AccessRequest, Principal};
use picket_core::decision::{Attribute, StepUp, Vary};
use picket_core::spiffe::SpiffeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::{SessionChange, SessionRecord};
use crate::metrics::Metrics;
use crate::storage::{Concurrency, Creation, SessionStore, StorageError};
pub(crate) use memory::Memory;
pub use model::{EndReason, Ended, Fingerprint, NamedBy, PrincipalId, Session, SessionId, TenantId};
pub(crate) use operations::{OperationError, Status};
pub use rules::{Limits, Lockdown, Refusal, Revocations, Standing, Target};
use rules::{Seen, SessionState, Verdict};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
/// How often a session is looked at anew when somebody else changes it meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// How sessions are kept, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long they last.
    pub limits: Limits,
    /// What of the client a session is bound to.
    pub fingerprint: Vec<ClientPart>,
    /// What becomes of a token without `sid` and `jti`.
    pub without_id: WithoutId,
    /// How many sessions are held.
    pub sessions_max: u64,
    /// How many of them are remembered in the process's memory.
    pub cache_entries_max: u32,
}

/// A part of a client that a session is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPart {
    /// The `user-agent`.
    UserAgent,
    /// The SPIFFE ID of the peer.
    Peer,
}

/// What becomes of a token that names no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutId {
    /// It is denied.
    Deny,
    /// It is taken; no timeout holds for it, revocations of its principal do.
    Permit,
}

/// What a request's session means for its decision.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// Why the request is denied, if it is.
    pub(crate) refusal: Option<Refusal>,
    /// What would help, where something does.
    pub(crate) challenge: Option<StepUp>,
    /// An answer is good for no longer.
    pub(crate) valid_for_ms_max: u32,
    /// What was looked at besides the token.
    pub(crate) vary: Vary,
    /// What changed, for the audit log.
    pub(crate) changes: Vec<SessionRecord>,
}

/// What is known before a session is looked for.
enum Prepared<'a> {
    /// The session does not matter, or there is none.
    Settled(Judgement),
    /// It is to be looked for.
    Session {
        id: SessionId,
        principal: &'a Principal,
        seen: Seen,
    },
}

impl Judgement {
    /// Of a service that keeps no sessions.
    pub(crate) fn none() -> Self {
        Self {
            refusal: None,
            challenge: None,
            valid_for_ms_max: u32::MAX,
            vary: Vary::NOTHING,
            changes: Vec::new(),
        }
    }
}

/// The sessions of one policy service.
pub(crate) struct Sessions {
    store: Arc<dyn SessionStore>,
    memory: Arc<Memory>,
    settings: Settings,
    metrics: Arc<Metrics>,
    judging: Arc<Semaphore>,
}

/// How many sessions are looked up at once, those among them whose caller has gone away. More are refused.
const JUDGED_AT_ONCE_MAX: usize = 1024;

impl Sessions {
    pub(crate) fn new(
        store: Arc<dyn SessionStore>,
        memory: Arc<Memory>,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            memory,
            settings,
            metrics,
            judging: Arc::new(Semaphore::new(JUDGED_AT_ONCE_MAX)),
        }
    }

    /// A place for [`Self::judge`], to be held for as long as that takes.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, StorageError> {
        Arc::clone(&self.judging)
            .try_acquire_owned()
            .map_err(|_| StorageError::Overloaded)
    }

    /// What is known about a request's session without asking the storage. `None`: [`Self::judge`] has to.
    ///
    /// # Errors
    /// The storage was not heard from; then there is no decision.
    pub(crate) fn remembered(&self, request: &AccessRequest, now_us: i64) -> Result<Option<Judgement>, StorageError> {
        let standing = self.memory.standing.value()?;
        Ok(match self.prepare(request, &standing) {
            Prepared::Settled(judgement) => Some(judgement),
            Prepared::Session { id, seen, .. } => self
                .memory
                .session(id)
                .and_then(|state| self.settle(id, &state, &seen, &standing, now_us).ok()),
        })
    }

    /// Looks at the session of a request, creates it or ends it as the rules say.
    ///
    /// # Errors
    /// The storage failed or was not heard from; then there is no decision.
    pub(crate) async fn judge(&self, request: &AccessRequest, now_us: i64) -> Result<Judgement, StorageError> {
        let standing = self.memory.standing.value()?;
        let (id, principal, seen) = match self.prepare(request, &standing) {
            Prepared::Settled(judgement) => return Ok(judgement),
            Prepared::Session { id, principal, seen } => (id, principal, seen),
        };
        let mut changes = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let Some(state) = self.find(id, principal, &seen, now_us, &mut changes).await? else {
                return Ok(self.judgement(Some(Refusal::LimitReached), 0));
            };
            // Something may have been ordered while the storage was asked.
            let standing = self.memory.standing.value()?;
            if let Err(refusal) = rules::check_token(&seen, &standing) {
                let judgement = self.judgement(Some(refusal), i64::MAX);
                return Ok(Judgement { changes, ..judgement });
            }
            let reason = match self.settle(id, &state, &seen, &standing, now_us) {
                Ok(judgement) => return Ok(Judgement { changes, ..judgement }),
                Err(reason) => reason,
            };
            if self.end_by_rule(id, &state, reason, now_us).await? {
                changes.push(record(id, principal, SessionChange::Ended { reason }, now_us));
                let judgement = self.judgement(Some(Refusal::Ended(reason)), i64::MAX);
                return Ok(Judgement { changes, ..judgement });
            }
        }
        Err(StorageError::Overloaded)
    }

    /// What can be said before a session is looked for.
    fn prepare<'a>(&self, request: &'a AccessRequest, standing: &Standing) -> Prepared<'a> {
        let Some(principal) = &request.principal else {
            let refusal = standing.lockdown.is_some().then_some(Refusal::Lockdown);
            return Prepared::Settled(self.judgement(refusal, i64::MAX));
        };
        let seen = self.seen(principal, request);
        if let Err(refusal) = rules::check_token(&seen, standing) {
            return Prepared::Settled(self.judgement(Some(refusal), i64::MAX));
        }
        match seen.id {
            Some(id) => Prepared::Session { id, principal, seen },
            None => {
                let refusal = (self.settings.without_id == WithoutId::Deny).then_some(Refusal::IdMissing);
                Prepared::Settled(self.judgement(refusal, i64::MAX))
            }
        }
    }

    /// What the rules say, where nothing has to be written; else why the session ends.
    fn settle(
        &self,
        id: SessionId,
        state: &SessionState,
        seen: &Seen,
        standing: &Standing,
        now_us: i64,
    ) -> Result<Judgement, EndReason> {
        let judgement = match rules::judge(state, seen, standing, &self.settings.limits, now_us) {
            Verdict::Holds { valid_for_us } => self.judgement(None, valid_for_us),
            Verdict::Refused(refusal) => self.judgement(Some(refusal), i64::MAX),
            Verdict::Ends(reason) => return Err(reason),
        };
        // One that is refused is remembered for as long as somebody tries it.
        self.memory
            .used(id, state, now_us, self.settings.limits.write_interval_us());
        Ok(judgement)
    }

    fn judgement(&self, refusal: Option<Refusal>, valid_for_us: i64) -> Judgement {
        self.metrics.sessions_held(self.memory.held());
        if let Some(refusal) = refusal {
            self.metrics.session_refused(refusal.code());
        }
        Judgement {
            refusal,
            challenge: refusal.and_then(|refusal| self.challenge(refusal)),
            valid_for_ms_max: rules::milliseconds(valid_for_us),
            // Another client must not be given what this one was: its request has to come here, where it ends the session.
            vary: self.settings.fingerprint.iter().map(|part| part.attribute()).collect(),
            changes: Vec::new(),
        }
    }

    /// RFC 9470 §3: `max_age` says how long ago the principal may have authenticated.
    fn challenge(&self, refusal: Refusal) -> Option<StepUp> {
        match refusal {
            Refusal::ReauthenticationRequired => {
                let interval_us = self.settings.limits.reauthentication_interval_us?;
                let max_age_s = u32::try_from(interval_us / MICROSECONDS_PER_SECOND).ok()?;
                StepUp::new(Vec::new(), Some(max_age_s), false)
            }
            Refusal::Lockdown | Refusal::Ended(_) | Refusal::Revoked | Refusal::IdMissing | Refusal::LimitReached => {
                None
            }
        }
    }

    fn seen(&self, principal: &Principal, request: &AccessRequest) -> Seen {
        let parts: Vec<_> = self
            .settings
            .fingerprint
            .iter()
            .map(|part| match part {
                ClientPart::UserAgent => ("user_agent", request.context.user_agent.as_deref()),
                ClientPart::Peer => ("peer", request.peer.as_ref().map(SpiffeId::as_str)),
            })
            .collect();
        let name = model::session_name(principal);
        Seen {
            id: name.map(|(named_by, name)| SessionId::of(&principal.issuer, named_by, name)),
            principal: PrincipalId::of(&principal.issuer, &principal.subject),
            tenant: principal.tenant.as_deref().map(TenantId::of),
            fingerprint: Fingerprint::of(&parts),
            issued_at_s: principal.issued_at_s,
            auth_time_s: principal.auth_time_s,
        }
    }

    /// The session, from memory, from the storage, or created. `None`: no more of them may be created.
    async fn find(
        &self,
        id: SessionId,
        principal: &Principal,
        seen: &Seen,
        now_us: i64,
        changes: &mut Vec<SessionRecord>,
    ) -> Result<Option<SessionState>, StorageError> {
        if let Some(state) = self.memory.session(id) {
            return Ok(Some(state));
        }
        let generation = self.memory.generation();
        if let Some(session) = self.store.session(id).await? {
            return Ok(Some(self.memory.keep(id, (&session).into(), generation)));
        }
        if self.memory.held() >= self.settings.sessions_max {
            return Ok(None);
        }
        let session = new_session(id, principal, seen, now_us);
        let state = SessionState::from(&session);
        match self.store.create(session, self.concurrency(now_us)).await? {
            Creation::Existing(session) => Ok(Some(self.memory.keep(id, (&*session).into(), generation))),
            Creation::Created { superseded } => {
                self.memory.created();
                changes.push(record(id, principal, SessionChange::Created, now_us));
                for id in superseded {
                    self.memory.forget(id);
                    let change = SessionChange::Ended {
                        reason: EndReason::Superseded,
                    };
                    changes.push(record(id, principal, change, now_us));
                }
                // Where some were forgotten, it is not remembered but read at its next use: it could be ended by now as well.
                Ok(Some(self.memory.keep(id, state, generation)))
            }
        }
    }

    /// False: it is no longer as it was looked at.
    async fn end_by_rule(
        &self,
        id: SessionId,
        state: &SessionState,
        reason: EndReason,
        now_us: i64,
    ) -> Result<bool, StorageError> {
        let ended = Ended {
            at_us: now_us,
            reason,
            caller: None,
        };
        let seen_until_us = match reason {
            // Another replica may have seen it used since.
            EndReason::IdleTimeout => state.last_seen_us,
            EndReason::AbsoluteTimeout | EndReason::Compromised | EndReason::Superseded | EndReason::Revoked => {
                i64::MAX
            }
        };
        let done = self.store.end(id, ended, seen_until_us).await?;
        self.memory.forget(id);
        Ok(done)
    }

    fn concurrency(&self, now_us: i64) -> Concurrency {
        let limits = &self.settings.limits;
        Concurrency {
            max: limits.concurrent_max,
            first_seen_after_us: now_us.saturating_sub(limits.absolute_timeout_us),
            last_seen_after_us: now_us.saturating_sub(limits.idle_timeout_us),
        }
    }
}

impl ClientPart {
    fn attribute(self) -> Attribute {
        match self {
            Self::UserAgent => Attribute::UserAgent,
            Self::Peer => Attribute::Peer,
        }
    }
}

fn new_session(id: SessionId, principal: &Principal, seen: &Seen, now_us: i64) -> Session {
    // It has an id, so it has a name.
    let (named_by, name) = model::session_name(principal).unwrap_or((NamedBy::TokenId, ""));
    Session {
        id,
        principal: seen.principal,
        issuer: model::cut(&principal.issuer),
        subject: model::cut(&principal.subject),
        tenant: principal.tenant.as_deref().map(model::cut),
        named_by,
        name: model::cut(name),
        fingerprint: seen.fingerprint,
        first_seen_us: now_us,
        last_seen_us: now_us,
        ended: None,
    }
}

fn record(id: SessionId, principal: &Principal, change: SessionChange, now_us: i64) -> SessionRecord {
    SessionRecord {
        session: id.to_string(),
        time_us: now_us,
        issuer: principal.issuer.clone(),
        subject: principal.subject.clone(),
        tenant: principal.tenant.clone(),
        change,
    }
}

#[cfg(test)]
mod tests;
