//! Sessions that are looked at and not touched: those of the tokens beside the principal's, and the one that an enforcement
//! point tells of.
//!
//! What such a session is bound to is not compared: further tokens come with the clients of many principals, and who tells of a
//! principal may leave its client out.

use picket_model::access::{AccessRequest, FurtherToken};

use super::rules::{self, Limits, Seen, SessionState, Standing, Verdict};
use super::{Judgement, Presence, Refusal, Sessions, model};
use crate::state::{SessionId, StorageError};

/// One session, and the token that names it.
struct Look {
    id: SessionId,
    seen: Seen,
    limits: Limits,
    /// Whether this is a use of it.
    is_use: bool,
}

impl Sessions {
    /// What holds for the tokens of a request by themselves.
    pub(super) fn check_tokens(
        &self,
        request: &AccessRequest,
        principal: Option<&Seen>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        if standing.lockdown.is_some() {
            return Err(Refusal::Lockdown);
        }
        let further = request
            .further_tokens
            .iter()
            .map(|token| self.seen_beside(token, request));
        principal
            .copied()
            .into_iter()
            .chain(further)
            .try_for_each(|seen| rules::check_token(&seen, standing, &self.settings.limits))
    }

    /// Looks without asking the storage. `None`: it has to be asked.
    pub(super) fn look_at_remembered(
        &self,
        request: &AccessRequest,
        presence: Presence,
        standing: &Standing,
        now_us: i64,
    ) -> Option<Judgement> {
        let found = self.looks(request, presence).map(|look| {
            let state = self.memory.session(look.id)?;
            Some((look, Some(state)))
        });
        let found: Option<Vec<_>> = found.collect();
        Some(self.weigh(&found?, standing, now_us))
    }

    /// Looks.
    pub(super) async fn look_at(
        &self,
        request: &AccessRequest,
        presence: Presence,
        now_us: i64,
    ) -> Result<Judgement, StorageError> {
        let mut found = Vec::new();
        for look in self.looks(request, presence) {
            let state = self.stored(look.id).await?;
            found.push((look, state));
        }
        // Something may have been ordered while the storage was asked.
        let standing = self.memory.standing.value()?;
        let principal = request
            .principal
            .as_ref()
            .map(|principal| self.seen(principal, request));
        if let Err(refusal) = self.check_tokens(request, principal.as_ref(), &standing) {
            return Ok(self.judgement(Some(refusal), i64::MAX));
        }
        Ok(self.weigh(&found, &standing, now_us))
    }

    /// A session that is there, from memory or from the storage.
    pub(super) async fn stored(&self, id: SessionId) -> Result<Option<SessionState>, StorageError> {
        if let Some(state) = self.memory.session(id) {
            return Ok(Some(state));
        }
        let generation = self.memory.generation();
        let session = self.store.session(id).await?;
        Ok(session.map(|session| self.memory.keep(id, (&session).into(), generation)))
    }

    fn looks(&self, request: &AccessRequest, presence: Presence) -> impl Iterator<Item = Look> {
        let limits = self.settings.limits;
        let principal = match presence {
            Presence::Told => request.principal.as_ref(),
            Presence::Client => None,
        };
        let told = principal.map(|principal| (self.seen(principal, request), limits, false));
        let further = request.further_tokens.iter().map(move |token| {
            // How long ago somebody authenticated is asked of the principal.
            let limits = Limits {
                reauthentication_interval_us: None,
                ..limits
            };
            (self.seen_beside(token, request), limits, presence == Presence::Client)
        });
        told.into_iter().chain(further).filter_map(|(seen, limits, is_use)| {
            Some(Look {
                id: seen.id?,
                seen,
                limits,
                is_use,
            })
        })
    }

    fn seen_beside(&self, token: &FurtherToken, request: &AccessRequest) -> Seen {
        let name = model::session_name(token.session_id.as_deref(), token.token_id.as_deref());
        let tenant = token.tenant.as_deref();
        Seen {
            issued_at_s: token.issued_at_s,
            auth_time_s: None,
            ..self.seen_of((&token.issuer, &token.subject, tenant), name, request)
        }
    }

    /// What the rules say of them; the first that refuses counts.
    fn weigh(&self, found: &[(Look, Option<SessionState>)], standing: &Standing, now_us: i64) -> Judgement {
        let mut valid_for_us = i64::MAX;
        for (look, state) in found {
            // One that nobody has seen yet is as one that begins now.
            let known = state.unwrap_or_else(|| SessionState::beginning(&look.seen, now_us));
            let unbound = SessionState {
                fingerprint: look.seen.fingerprint,
                ..known
            };
            match rules::judge(&unbound, &look.seen, standing, &look.limits, now_us) {
                Verdict::Holds { valid_for_us: this_us } => valid_for_us = valid_for_us.min(this_us),
                Verdict::Refused(refusal) => return self.judgement(Some(refusal), i64::MAX),
                Verdict::Ends(reason) => return self.judgement(Some(Refusal::Ended(reason)), i64::MAX),
            }
            if look.is_use && state.is_some() {
                let interval_us = look.limits.write_interval_us();
                self.memory.used(look.id, &known, now_us, interval_us);
            }
        }
        self.judgement(None, valid_for_us)
    }
}
