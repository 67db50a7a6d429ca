//! Sessions: who is logged in, for how long, and how that ends.
//!
//! [`rules`] decides and does no I/O; [`crate::storage`] keeps; what is here joins them for each decision.
//!
//! A decision knows every revocation that was acknowledged before it, on whichever replica, or is none: what is remembered here is
//! believed only as long as the storage was heard from within [`crate::state::STALE_MS_MAX`].

mod held;
mod looks;
mod memory;
mod model;
mod operations;
mod rules;
mod store;
mod token_claims;
mod turns;
mod upkeep;

use std::sync::Arc;

use picket_model::access::{AccessRequest, Principal};
use picket_model::decision::{Attribute, StepUp, Vary};
use picket_model::spiffe::SpiffeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::{SessionChange, SessionRecord};
use crate::metrics::Metrics;
use crate::state::{Fingerprint, NamedBy, PrincipalId, SessionId, StorageError, TenantId, text};
pub use held::HeldLimits;
pub(crate) use held::TENANTS_COUNTED_MAX;
pub(crate) use memory::Memory;
pub use model::{EndReason, Ended, Session};
pub(crate) use operations::{KnownPrincipal, OperationError, Status};
pub use rules::{Limits, Lockdown, Refusal, Revocations, Standing, Target};
use rules::{Seen, SessionState, Verdict};
pub use store::{Concurrency, Counts, Creation, Forgotten, Revocation, SessionStore, Since};
pub(crate) use token_claims::TokenClaims;
use turns::Turns;

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
    pub held: HeldLimits,
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

/// What a question does to the sessions that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A client is there with its tokens: the principal's session is created, bound to the client, kept alive, and ended.
    Client,
    /// An enforcement point tells of a principal and may leave out what a session is bound to. What is known counts, and nothing
    /// changes: a session that is bound to half a client would be ended by the next whole one.
    Told,
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
}

/// What is known before a session is looked for.
enum Prepared<'a> {
    /// What is asked for does not matter.
    Settled(Judgement),
    /// No session is created, kept alive or ended; what there is is looked at.
    Looks,
    /// The principal's is to be looked for, beside the others.
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
        }
    }

    /// With what was seen of other sessions, none of which refuses the request.
    fn and(self, looked: &Self) -> Self {
        Self {
            valid_for_ms_max: self.valid_for_ms_max.min(looked.valid_for_ms_max),
            ..self
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
    creating: Turns,
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
            creating: Turns::default(),
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

    /// What is known about a request's sessions without asking the storage. `None`: [`Self::judge`] has to.
    ///
    /// # Errors
    /// The storage was not heard from; then there is no decision.
    pub(crate) fn remembered(
        &self,
        request: &AccessRequest,
        presence: Presence,
        now_us: i64,
    ) -> Result<Option<Judgement>, StorageError> {
        let standing = self.memory.standing.value()?;
        let (id, seen) = match self.prepare(request, presence, &standing) {
            Prepared::Settled(judgement) => return Ok(Some(judgement)),
            Prepared::Looks => return Ok(self.look_at_remembered(request, presence, &standing, now_us)),
            Prepared::Session { id, seen, .. } => (id, seen),
        };
        let Some(looked) = self.look_at_remembered(request, presence, &standing, now_us) else {
            return Ok(None);
        };
        if looked.refusal.is_some() {
            return Ok(Some(looked));
        }
        let state = self.memory.session(id);
        let settled = state.and_then(|state| self.settle(id, &state, &seen, &standing, now_us).ok());
        Ok(settled.map(|judgement| judgement.and(&looked)))
    }

    /// Looks at the sessions of a request; creates the principal's or ends it as the rules say, where a client is present. What was
    /// done is added to `changes`, to be recorded whatever comes after it.
    ///
    /// # Errors
    /// The storage failed or was not heard from; then there is no decision.
    pub(crate) async fn judge(
        &self,
        request: &AccessRequest,
        presence: Presence,
        now_us: i64,
        changes: &mut Vec<SessionRecord>,
    ) -> Result<Judgement, StorageError> {
        let standing = self.memory.standing.value()?;
        let prepared = self.prepare(request, presence, &standing);
        if let Prepared::Settled(judgement) = prepared {
            return Ok(judgement);
        }
        let looked = self.look_at(request, presence, now_us).await?;
        match prepared {
            Prepared::Session { id, principal, seen } if looked.refusal.is_none() => {
                let judgement = self
                    .judge_client(request, (id, principal, &seen), now_us, changes)
                    .await?;
                Ok(judgement.and(&looked))
            }
            Prepared::Session { .. } | Prepared::Looks | Prepared::Settled(_) => Ok(looked),
        }
    }

    /// The session of a client that is there.
    async fn judge_client(
        &self,
        request: &AccessRequest,
        (id, principal, seen): (SessionId, &Principal, &Seen),
        now_us: i64,
        changes: &mut Vec<SessionRecord>,
    ) -> Result<Judgement, StorageError> {
        for _ in 0..ATTEMPTS_MAX {
            let state = match self.find(id, principal, seen, now_us, changes).await? {
                Ok(state) => state,
                // A request that comes later may begin one.
                Err(refusal) => return Ok(self.judgement(Some(refusal), 0)),
            };
            // Something may have been ordered while the storage was asked.
            let standing = self.memory.standing.value()?;
            if let Err(refusal) = self.check_tokens(request, Some(seen), &standing) {
                return Ok(self.judgement(Some(refusal), i64::MAX));
            }
            let reason = match self.settle(id, &state, seen, &standing, now_us) {
                Ok(judgement) => return Ok(judgement),
                Err(reason) => reason,
            };
            if self.end_by_rule(id, &state, reason, now_us).await? {
                changes.push(record(id, principal, SessionChange::Ended { reason }, now_us));
                return Ok(self.judgement(Some(Refusal::Ended(reason)), i64::MAX));
            }
        }
        Err(StorageError::Overloaded)
    }

    /// What can be said before a session is looked for.
    fn prepare<'a>(&self, request: &'a AccessRequest, presence: Presence, standing: &Standing) -> Prepared<'a> {
        let Some(principal) = &request.principal else {
            return match self.check_tokens(request, None, standing) {
                Err(refusal) => Prepared::Settled(self.judgement(Some(refusal), i64::MAX)),
                Ok(()) => Prepared::Looks,
            };
        };
        let seen = self.seen(principal, request);
        if let Err(refusal) = self.check_tokens(request, Some(&seen), standing) {
            return Prepared::Settled(self.judgement(Some(refusal), i64::MAX));
        }
        match (seen.id, presence, self.settings.without_id) {
            (None, _, WithoutId::Deny) => Prepared::Settled(self.judgement(Some(Refusal::IdMissing), i64::MAX)),
            (Some(id), Presence::Client, _) => Prepared::Session { id, principal, seen },
            (None, _, WithoutId::Permit) | (Some(_), Presence::Told, _) => Prepared::Looks,
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
        self.metrics.sessions_held(self.memory.held.all());
        if let Some(refusal) = refusal {
            self.metrics.session_refused(refusal.code());
        }
        Judgement {
            refusal,
            challenge: refusal.and_then(|refusal| self.challenge(refusal)),
            valid_for_ms_max: rules::milliseconds(valid_for_us),
            // Another client must not be given what this one was: its request has to come here, where it ends the session.
            vary: self.settings.fingerprint.iter().map(|part| part.attribute()).collect(),
        }
    }

    /// RFC 9470 §3: `max_age` says how long ago the principal may have authenticated.
    fn challenge(&self, refusal: Refusal) -> Option<StepUp> {
        match refusal {
            Refusal::ReauthenticationRequired => {
                let interval_us = self.settings.limits.reauthentication_interval_us?;
                let max_age_s = u32::try_from(interval_us / MICROSECONDS_PER_SECOND).ok()?;
                StepUp::new(Vec::new(), Some(max_age_s), false, false)
            }
            Refusal::Lockdown | Refusal::Ended(_) | Refusal::Revoked | Refusal::IdMissing | Refusal::LimitReached => {
                None
            }
        }
    }

    fn seen(&self, principal: &Principal, request: &AccessRequest) -> Seen {
        let name = model::session_name(principal.session_id.as_deref(), principal.token_id.as_deref());
        let tenant = principal.tenant.as_deref();
        Seen {
            issued_at_s: principal.issued_at_s,
            auth_time_s: principal.auth_time_s,
            ..self.seen_of((&principal.issuer, &principal.subject, tenant), name, request)
        }
    }

    /// Without what a token says of times.
    fn seen_of(
        &self,
        (issuer, subject, tenant): (&str, &str, Option<&str>),
        name: Option<(NamedBy, &str)>,
        request: &AccessRequest,
    ) -> Seen {
        let parts: Vec<_> = self
            .settings
            .fingerprint
            .iter()
            .map(|part| match part {
                ClientPart::UserAgent => ("user_agent", request.context.user_agent_prefix()),
                ClientPart::Peer => ("peer", request.peer.as_ref().map(SpiffeId::as_str)),
            })
            .collect();
        Seen {
            id: name.map(|(named_by, name)| SessionId::of(issuer, named_by, name)),
            principal: PrincipalId::of(issuer, subject),
            tenant: tenant.map(TenantId::of),
            fingerprint: Fingerprint::of(&parts),
            issued_at_s: None,
            auth_time_s: None,
        }
    }

    /// The session, from memory, from the storage, or created; or why none is created now.
    async fn find(
        &self,
        id: SessionId,
        principal: &Principal,
        seen: &Seen,
        now_us: i64,
        changes: &mut Vec<SessionRecord>,
    ) -> Result<Result<SessionState, Refusal>, StorageError> {
        if let Some(state) = self.stored(id).await? {
            return Ok(Ok(state));
        }
        let _turn = self.creating.take(seen.principal).await?;
        // One that began now would be refused for good.
        let standing = self.memory.standing.value()?;
        if standing.revokes(&seen.principal, seen.tenant.as_ref(), now_us, &self.settings.limits) {
            return Ok(Err(Refusal::Revoked));
        }
        let generation = self.memory.generation();
        let session = new_session(id, principal, seen, now_us);
        let tenant = session.tenant.as_deref().map(TenantId::of);
        if !self.memory.held.has_room(tenant, self.settings.held) {
            return Ok(Err(Refusal::LimitReached));
        }
        let state = SessionState::from(&session);
        match self.store.create(session, self.concurrency(now_us)).await? {
            Creation::Existing(session) => Ok(Ok(self.memory.keep(id, (&*session).into(), generation))),
            Creation::Created { superseded } => {
                self.memory.held.created(tenant);
                changes.push(record(id, principal, SessionChange::Created, now_us));
                for id in superseded {
                    self.memory.forget(id);
                    let change = SessionChange::Ended {
                        reason: EndReason::Superseded,
                    };
                    changes.push(record(id, principal, change, now_us));
                }
                // Where some were forgotten, it is not remembered but read at its next use: it could be ended by now as well.
                Ok(Ok(self.memory.keep(id, state, generation)))
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
    let name = model::session_name(principal.session_id.as_deref(), principal.token_id.as_deref());
    let (named_by, name) = name.unwrap_or((NamedBy::TokenId, ""));
    Session {
        id,
        principal: seen.principal,
        issuer: text::cut(&principal.issuer),
        subject: text::cut(&principal.subject),
        tenant: principal.tenant.as_deref().map(text::cut),
        named_by,
        name: text::cut(name),
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
