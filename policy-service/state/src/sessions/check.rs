//! The check of a request's session, for its decision.

use std::sync::Arc;

use picket_model::access::{AccessRequest, Principal};
use picket_model::decision::{Attribute, StepUp, Vary};
use picket_model::session::EndReason;
use picket_model::spiffe::SpiffeId;

use super::rules::{self, PresentedToken, Restrictions, SessionState, SessionValidity};
use super::{
    ConcurrencyLimit, FingerprintPart, LiveSince, Session, SessionChange, SessionCreation, SessionEnd, SessionEvent,
    SessionRefusal, Sessions, WithoutId, model,
};
use crate::{Fingerprint, NamedBy, PrincipalId, SessionId, StorageError, TenantId, text};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
/// How often a session is read again when another request changes it meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// Whether a check may change the sessions that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAccess {
    /// The client presents its own tokens: the principal's session is created, bound to the client,
    /// kept alive, and ended.
    Update,
    /// An enforcement point describes a principal, and may leave out what a session is bound to.
    /// Sessions are read and not changed: a session that is bound to half a client would be ended
    /// by the client's next request.
    ReadOnly,
}

/// What a request's sessions mean for its decision.
#[derive(Clone, Debug)]
pub struct SessionCheck {
    /// Why the request is denied, if it is.
    pub refusal: Option<SessionRefusal>,
    /// The authentication that would help, where one does.
    pub challenge: Option<StepUp>,
    /// The decision may be repeated for at most this long.
    pub valid_for_ms_max: u32,
    /// The attributes that were compared, besides those of the token.
    pub vary: Vary,
}

/// The part of a check that needs no session.
enum Preparation<'a> {
    /// The answer is known.
    Answered(SessionCheck),
    /// Sessions are only read.
    ReadOnly,
    /// The principal's session is checked as well, and may be changed.
    Update {
        id: SessionId,
        principal: &'a Principal,
        token: PresentedToken,
    },
}

impl SessionCheck {
    /// The check of a service that keeps no sessions.
    pub fn none() -> Self {
        Self {
            refusal: None,
            challenge: None,
            valid_for_ms_max: u32::MAX,
            vary: Vary::NOTHING,
        }
    }

    /// Valid for no longer than sessions that were read beside this one.
    fn limited_by(self, read: &Self) -> Self {
        Self {
            valid_for_ms_max: self.valid_for_ms_max.min(read.valid_for_ms_max),
            ..self
        }
    }
}

impl Sessions {
    /// Checks the sessions of a request. With [`SessionAccess::Update`] it creates the principal's
    /// session or ends it, as the rules say, and passes what it did to `record`.
    ///
    /// Where the cache has no answer, check and `record` run in a task of their own, which ends
    /// also when the caller goes away: no change of a session stays unrecorded. `record` is called
    /// before a failure of the storage is returned, too.
    ///
    /// # Errors
    /// The storage failed, is not confirmed, or too many checks wait for it; or `record` failed.
    /// Then there is no decision.
    pub async fn check<E, R>(
        self: &Arc<Self>,
        request: &AccessRequest,
        access: SessionAccess,
        now_us: i64,
        record: impl FnOnce(Vec<SessionEvent>) -> R + Send + 'static,
    ) -> Result<SessionCheck, E>
    where
        E: From<StorageError> + Send + 'static,
        R: Future<Output = Result<(), E>> + Send,
    {
        if let Some(check) = self.check_cached(request, access, now_us)? {
            return Ok(check);
        }
        let slot = Arc::clone(&self.lookups)
            .try_acquire_owned()
            .map_err(|_| StorageError::Overloaded)?;
        let (sessions, request) = (Arc::clone(self), request.clone());
        let checked = tokio::spawn(async move {
            let _slot = slot;
            let mut events = Vec::new();
            let check = sessions.check_stored(&request, access, now_us, &mut events).await;
            record(events).await?;
            Ok(check?)
        });
        checked.await.unwrap_or(Err(StorageError::NotDone.into()))
    }

    /// The check without the storage; `None`: the cache does not know enough.
    pub(super) fn check_cached(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        now_us: i64,
    ) -> Result<Option<SessionCheck>, StorageError> {
        let restrictions = self.cache.restrictions.value()?;
        let (id, token) = match self.prepare(request, access, &restrictions) {
            Preparation::Answered(check) => return Ok(Some(check)),
            Preparation::ReadOnly => return Ok(self.read_cached(request, access, &restrictions, now_us)),
            Preparation::Update { id, token, .. } => (id, token),
        };
        let Some(read) = self.read_cached(request, access, &restrictions, now_us) else {
            return Ok(None);
        };
        if read.refusal.is_some() {
            return Ok(Some(read));
        }
        let state = self.cache.session(id);
        let check = state.and_then(|state| self.apply_rules(id, &state, &token, &restrictions, now_us).ok());
        Ok(check.map(|check| check.limited_by(&read)))
    }

    /// The check with the storage. Each change is added to `events`, also where the check fails
    /// after it.
    pub(super) async fn check_stored(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        now_us: i64,
        events: &mut Vec<SessionEvent>,
    ) -> Result<SessionCheck, StorageError> {
        let restrictions = self.cache.restrictions.value()?;
        let preparation = self.prepare(request, access, &restrictions);
        if let Preparation::Answered(check) = preparation {
            return Ok(check);
        }
        let read = self.read_stored(request, access, now_us).await?;
        match preparation {
            Preparation::Update { id, principal, token } if read.refusal.is_none() => {
                let session = (id, principal, &token);
                let check = self.check_and_update(request, session, now_us, events).await?;
                Ok(check.limited_by(&read))
            }
            Preparation::Update { .. } | Preparation::ReadOnly | Preparation::Answered(_) => Ok(read),
        }
    }

    /// Checks the principal's session, and creates or ends it.
    async fn check_and_update(
        &self,
        request: &AccessRequest,
        (id, principal, token): (SessionId, &Principal, &PresentedToken),
        now_us: i64,
        events: &mut Vec<SessionEvent>,
    ) -> Result<SessionCheck, StorageError> {
        for _ in 0..ATTEMPTS_MAX {
            let state = match self.find_or_create(id, principal, token, now_us, events).await? {
                Ok(state) => state,
                // A later request may create one.
                Err(refusal) => return Ok(self.answer(Some(refusal), 0)),
            };
            // An operator may have ordered something while the storage was asked.
            let restrictions = self.cache.restrictions.value()?;
            if let Err(refusal) = self.check_tokens(request, Some(token), &restrictions) {
                return Ok(self.answer(Some(refusal), i64::MAX));
            }
            let reason = match self.apply_rules(id, &state, token, &restrictions, now_us) {
                Ok(check) => return Ok(check),
                Err(reason) => reason,
            };
            if self.end_by_rule(id, &state, reason, now_us).await? {
                events.push(SessionEvent::new(
                    id,
                    principal,
                    SessionChange::Ended { reason },
                    now_us,
                ));
                return Ok(self.answer(Some(SessionRefusal::Ended(reason)), i64::MAX));
            }
        }
        Err(StorageError::Overloaded)
    }

    fn prepare<'a>(
        &self,
        request: &'a AccessRequest,
        access: SessionAccess,
        restrictions: &Restrictions,
    ) -> Preparation<'a> {
        let Some(principal) = &request.principal else {
            return match self.check_tokens(request, None, restrictions) {
                Err(refusal) => Preparation::Answered(self.answer(Some(refusal), i64::MAX)),
                Ok(()) => Preparation::ReadOnly,
            };
        };
        let token = self.presented_token(principal, request);
        if let Err(refusal) = self.check_tokens(request, Some(&token), restrictions) {
            return Preparation::Answered(self.answer(Some(refusal), i64::MAX));
        }
        match (token.session, access, self.settings.without_id) {
            (None, _, WithoutId::Deny) => Preparation::Answered(self.answer(Some(SessionRefusal::IdMissing), i64::MAX)),
            (Some(id), SessionAccess::Update, _) => Preparation::Update { id, principal, token },
            (None, _, WithoutId::Permit) | (Some(_), SessionAccess::ReadOnly, _) => Preparation::ReadOnly,
        }
    }

    /// The answer of the rules where nothing has to be written; else why the session ends.
    fn apply_rules(
        &self,
        id: SessionId,
        state: &SessionState,
        token: &PresentedToken,
        restrictions: &Restrictions,
        now_us: i64,
    ) -> Result<SessionCheck, EndReason> {
        let check = match rules::check_session(state, token, restrictions, &self.settings.limits, now_us) {
            SessionValidity::Valid { for_us } => self.answer(None, for_us),
            SessionValidity::Refused(refusal) => self.answer(Some(refusal), i64::MAX),
            SessionValidity::Ends(reason) => return Err(reason),
        };
        // A session that is refused stays in the storage for as long as somebody tries it.
        let write_interval_us = self.settings.limits.write_interval_us();
        self.cache.note_use(id, state, now_us, write_interval_us);
        Ok(check)
    }

    pub(super) fn answer(&self, refusal: Option<SessionRefusal>, valid_for_us: i64) -> SessionCheck {
        self.metrics.set_sessions(self.cache.quota.total());
        if let Some(refusal) = refusal {
            self.metrics.count_refusal(refusal);
        }
        SessionCheck {
            refusal,
            challenge: refusal.and_then(|refusal| self.challenge(refusal)),
            valid_for_ms_max: rules::milliseconds(valid_for_us),
            // Another client must not be given this answer: its own request has to come here, where
            // it ends the session.
            vary: self.settings.fingerprint.iter().map(|part| part.attribute()).collect(),
        }
    }

    /// RFC 9470 §3: `max_age` says how long ago the principal may have authenticated.
    fn challenge(&self, refusal: SessionRefusal) -> Option<StepUp> {
        match refusal {
            SessionRefusal::ReauthenticationRequired => {
                let interval_us = self.settings.limits.reauthentication_interval_us?;
                let max_age_s = u32::try_from(interval_us / MICROSECONDS_PER_SECOND).ok()?;
                StepUp::new(Vec::new(), Some(max_age_s), false, false)
            }
            SessionRefusal::Lockdown
            | SessionRefusal::Ended(_)
            | SessionRefusal::Revoked
            | SessionRefusal::IdMissing
            | SessionRefusal::LimitReached => None,
        }
    }

    /// The principal's token.
    pub(super) fn presented_token(&self, principal: &Principal, request: &AccessRequest) -> PresentedToken {
        let name = model::session_name(principal.session_id.as_deref(), principal.token_id.as_deref());
        let tenant = principal.tenant.as_deref();
        PresentedToken {
            issued_at_s: principal.issued_at_s,
            auth_time_s: principal.auth_time_s,
            ..self.token_of((&principal.issuer, &principal.subject, tenant), name, request)
        }
    }

    /// A token without its times.
    pub(super) fn token_of(
        &self,
        (issuer, subject, tenant): (&str, &str, Option<&str>),
        name: Option<(NamedBy, &str)>,
        request: &AccessRequest,
    ) -> PresentedToken {
        let parts: Vec<_> = self
            .settings
            .fingerprint
            .iter()
            .map(|part| match part {
                FingerprintPart::UserAgent => ("user_agent", request.context.user_agent_prefix()),
                FingerprintPart::Peer => ("peer", request.peer.as_ref().map(SpiffeId::as_str)),
            })
            .collect();
        PresentedToken {
            session: name.map(|(named_by, name)| SessionId::of(issuer, named_by, name)),
            principal: PrincipalId::of(issuer, subject),
            tenant: tenant.map(TenantId::of),
            fingerprint: Fingerprint::of(&parts),
            issued_at_s: None,
            auth_time_s: None,
        }
    }

    /// The session from the cache or the storage, or a new one; or why none is created now.
    async fn find_or_create(
        &self,
        id: SessionId,
        principal: &Principal,
        token: &PresentedToken,
        now_us: i64,
        events: &mut Vec<SessionEvent>,
    ) -> Result<Result<SessionState, SessionRefusal>, StorageError> {
        if let Some(state) = self.find(id).await? {
            return Ok(Ok(state));
        }
        let _lock = self.creation_locks.acquire(token.principal).await?;
        // A session that began now would be refused for good.
        let restrictions = self.cache.restrictions.value()?;
        if restrictions.is_revoked(&token.principal, token.tenant.as_ref(), now_us, &self.settings.limits) {
            return Ok(Err(SessionRefusal::Revoked));
        }
        let generation = self.cache.generation();
        let session = new_session(id, principal, token, now_us);
        let tenant = session.tenant.as_deref().map(TenantId::of);
        if !self.cache.quota.has_capacity(tenant, self.settings.quota) {
            return Ok(Err(SessionRefusal::LimitReached));
        }
        let state = SessionState::from(&session);
        match self.store.create(session, self.concurrency_limit(now_us)).await? {
            SessionCreation::Existing(session) => Ok(Ok(self.cache.insert(id, (&*session).into(), generation))),
            SessionCreation::Created { superseded } => {
                self.cache.quota.count_created(tenant);
                events.push(SessionEvent::new(id, principal, SessionChange::Created, now_us));
                for id in superseded {
                    self.cache.remove(id);
                    let reason = EndReason::Superseded;
                    events.push(SessionEvent::new(
                        id,
                        principal,
                        SessionChange::Ended { reason },
                        now_us,
                    ));
                }
                // Where the cache was invalidated meanwhile, the session is read at its next use:
                // it could be ended by now as well.
                Ok(Ok(self.cache.insert(id, state, generation)))
            }
        }
    }

    /// False: it has changed since it was read.
    async fn end_by_rule(
        &self,
        id: SessionId,
        state: &SessionState,
        reason: EndReason,
        now_us: i64,
    ) -> Result<bool, StorageError> {
        let end = SessionEnd {
            at_us: now_us,
            reason,
            caller: None,
        };
        let used_until_us = match reason {
            // Another replica may have noted a later use.
            EndReason::IdleTimeout => state.last_seen_us,
            EndReason::AbsoluteTimeout | EndReason::Compromised | EndReason::Superseded | EndReason::Revoked => {
                i64::MAX
            }
        };
        let is_ended = self.store.end(id, end, used_until_us).await?;
        self.cache.remove(id);
        Ok(is_ended)
    }

    fn concurrency_limit(&self, now_us: i64) -> ConcurrencyLimit {
        let LiveSince {
            first_seen_after_us,
            last_seen_after_us,
        } = self.live_since(now_us);
        ConcurrencyLimit {
            max: self.settings.limits.concurrent_max,
            first_seen_after_us,
            last_seen_after_us,
        }
    }

    pub(super) fn live_since(&self, now_us: i64) -> LiveSince {
        let limits = &self.settings.limits;
        LiveSince {
            first_seen_after_us: now_us.saturating_sub(limits.absolute_timeout_us),
            last_seen_after_us: now_us.saturating_sub(limits.idle_timeout_us),
        }
    }
}

impl FingerprintPart {
    fn attribute(self) -> Attribute {
        match self {
            Self::UserAgent => Attribute::UserAgent,
            Self::Peer => Attribute::Peer,
        }
    }
}

fn new_session(id: SessionId, principal: &Principal, token: &PresentedToken, now_us: i64) -> Session {
    // It has an id, so it has a name.
    let name = model::session_name(principal.session_id.as_deref(), principal.token_id.as_deref());
    let (named_by, name) = name.unwrap_or((NamedBy::TokenId, ""));
    Session {
        id,
        principal: token.principal,
        issuer: text::cut(&principal.issuer),
        subject: text::cut(&principal.subject),
        tenant: principal.tenant.as_deref().map(text::cut),
        named_by,
        name: text::cut(name),
        fingerprint: token.fingerprint,
        first_seen_us: now_us,
        last_seen_us: now_us,
        ended: None,
    }
}
