//! Sessions that a check reads and does not change: those of secondary tokens, and the session of a
//! principal that an enforcement point describes (AuthZEN).
//!
//! Their fingerprint is not compared: secondary tokens come with the clients of many principals,
//! and an enforcement point may leave the principal's client out.

use picket_model::access::{AccessRequest, FurtherToken};

use super::rules::{self, PresentedToken, Restrictions, SessionLimits, SessionState, SessionValidity};
use super::{SessionAccess, SessionCheck, SessionRefusal, Sessions, model};
use crate::{SessionId, StorageError};

/// A token, and the session that it names.
struct ReadOnlyToken {
    session: SessionId,
    token: PresentedToken,
    limits: SessionLimits,
    /// Whether the request keeps the session alive.
    is_use: bool,
}

impl Sessions {
    /// Checks every token of a request by itself.
    pub(super) fn check_tokens(
        &self,
        request: &AccessRequest,
        principal: Option<&PresentedToken>,
        restrictions: &Restrictions,
    ) -> Result<(), SessionRefusal> {
        if restrictions.lockdown.is_some() {
            return Err(SessionRefusal::Lockdown);
        }
        let secondary = request
            .further_tokens
            .iter()
            .map(|token| self.secondary_token(token, request));
        principal
            .copied()
            .into_iter()
            .chain(secondary)
            .try_for_each(|token| rules::check_token(&token, restrictions, &self.settings.limits))
    }

    /// Checks the sessions that are only read, with the cache alone. `None`: it does not have all
    /// of them.
    pub(super) fn read_cached(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        restrictions: &Restrictions,
        now_us: i64,
    ) -> Option<SessionCheck> {
        let found = self.read_only_tokens(request, access).map(|token| {
            let state = self.cache.session(token.session)?;
            Some((token, Some(state)))
        });
        let found: Option<Vec<_>> = found.collect();
        Some(self.check_read(&found?, restrictions, now_us))
    }

    /// Checks the sessions that are only read, with the storage.
    pub(super) async fn read_stored(
        &self,
        request: &AccessRequest,
        access: SessionAccess,
        now_us: i64,
    ) -> Result<SessionCheck, StorageError> {
        let mut found = Vec::new();
        for token in self.read_only_tokens(request, access) {
            let state = self.find(token.session).await?;
            found.push((token, state));
        }
        // An operator may have ordered something while the storage was asked.
        let restrictions = self.cache.restrictions.value()?;
        let principal = request
            .principal
            .as_ref()
            .map(|principal| self.presented_token(principal, request));
        if let Err(refusal) = self.check_tokens(request, principal.as_ref(), &restrictions) {
            return Ok(self.answer(Some(refusal), i64::MAX));
        }
        Ok(self.check_read(&found, &restrictions, now_us))
    }

    /// A session from the cache, or else from the storage.
    pub(super) async fn find(&self, id: SessionId) -> Result<Option<SessionState>, StorageError> {
        if let Some(state) = self.cache.session(id) {
            return Ok(Some(state));
        }
        let generation = self.cache.generation();
        let session = self.store.session(id).await?;
        Ok(session.map(|session| self.cache.insert(id, (&session).into(), generation)))
    }

    fn read_only_tokens(&self, request: &AccessRequest, access: SessionAccess) -> impl Iterator<Item = ReadOnlyToken> {
        let limits = self.settings.limits;
        let principal = match access {
            SessionAccess::ReadOnly => request.principal.as_ref(),
            SessionAccess::Update => None,
        };
        let principal = principal.map(|principal| (self.presented_token(principal, request), limits, false));
        let secondary = request.further_tokens.iter().map(move |token| {
            // Only the principal is asked how long ago it authenticated.
            let limits = SessionLimits {
                reauthentication_interval_us: None,
                ..limits
            };
            let token = self.secondary_token(token, request);
            (token, limits, access == SessionAccess::Update)
        });
        principal
            .into_iter()
            .chain(secondary)
            .filter_map(|(token, limits, is_use)| {
                Some(ReadOnlyToken {
                    session: token.session?,
                    token,
                    limits,
                    is_use,
                })
            })
    }

    fn secondary_token(&self, token: &FurtherToken, request: &AccessRequest) -> PresentedToken {
        let name = model::session_name(token.session_id.as_deref(), token.token_id.as_deref());
        let tenant = token.tenant.as_deref();
        PresentedToken {
            issued_at_s: token.issued_at_s,
            auth_time_s: None,
            ..self.token_of((&token.issuer, &token.subject, tenant), name, request)
        }
    }

    /// The first refusal counts; without one, the shortest validity.
    fn check_read(
        &self,
        found: &[(ReadOnlyToken, Option<SessionState>)],
        restrictions: &Restrictions,
        now_us: i64,
    ) -> SessionCheck {
        let mut valid_for_us = i64::MAX;
        for (read, state) in found {
            // A session that does not exist yet is treated as one that begins now.
            let known = state.unwrap_or_else(|| SessionState::new(&read.token, now_us));
            let unbound = SessionState {
                fingerprint: read.token.fingerprint,
                ..known
            };
            match rules::check_session(&unbound, &read.token, restrictions, &read.limits, now_us) {
                SessionValidity::Valid { for_us } => valid_for_us = valid_for_us.min(for_us),
                SessionValidity::Refused(refusal) => return self.answer(Some(refusal), i64::MAX),
                SessionValidity::Ends(reason) => return self.answer(Some(SessionRefusal::Ended(reason)), i64::MAX),
            }
            if read.is_use && state.is_some() {
                let interval_us = read.limits.write_interval_us();
                self.cache.note_use(read.session, &known, now_us, interval_us);
            }
        }
        self.answer(None, valid_for_us)
    }
}
