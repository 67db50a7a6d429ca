//! `picket.v1.Admin`: what operators look at and do.

use std::sync::Arc;

use picket_core::access::principal_name;
use picket_proto::v1;
use picket_proto::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use super::act::{self, Caller, Done, Order, now_us};
use super::gate::Admitted;
use super::status::AdminError;
use crate::audit::{Act, AuditLog};
use crate::configuration::Role;
use crate::sessions::{
    EndReason, Lockdown, OperationError, PrincipalId, Session, SessionId, Sessions, Status as SessionStatus, Target,
    TenantId,
};
use crate::storage::Filter;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// Names in a request; claims are no longer than a token.
const NAME_BYTES_MAX: usize = 8 * 1024;

pub(super) type Answer<T> = Result<Response<T>, Status>;

/// Answers operators' calls.
#[derive(Clone)]
pub(super) struct AdminCalls {
    /// `None`: no sessions are kept.
    pub(super) sessions: Option<Arc<Sessions>>,
    pub(super) audit: AuditLog,
}

impl AdminCalls {
    /// The caller and the sessions, if it has the role.
    fn admit<T>(&self, request: &Request<T>, role: Role) -> Result<(Caller, Arc<Sessions>), AdminError> {
        let caller = act::admit(request, role)?;
        let sessions = self.sessions.clone().ok_or(AdminError::NoSessions)?;
        Ok((caller, sessions))
    }

    /// Does what was ordered and records it. `work` says whether that changed anything.
    async fn carry_out(
        &self,
        order: Order,
        work: impl Future<Output = Result<bool, OperationError>> + Send + 'static,
    ) -> Answer<v1::RevokeResponse> {
        let work = async move { Ok(Done::changed(work.await?)) };
        let changed = act::carry_out(&self.audit, order, work).await?;
        Ok(Response::new(v1::RevokeResponse { changed }))
    }

    async fn revoke_target(
        &self,
        (caller, sessions): (Caller, Arc<Sessions>),
        act: Act,
        target: Target,
        label: String,
    ) -> Answer<v1::RevokeResponse> {
        let order = Order {
            caller: caller.clone(),
            act,
            target: label.clone(),
        };
        let work = async move { sessions.revoke(target, &label, &caller, now_us()).await.map(|()| true) };
        self.carry_out(order, work).await
    }
}

#[tonic::async_trait]
impl Admin for AdminCalls {
    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let admitted = Admitted::of(request.extensions()).map_err(|error| error.status())?;
        Ok(Response::new(v1::WhoAmIResponse {
            spiffe_id: admitted.caller().to_owned(),
            roles: admitted.roles().names(),
        }))
    }

    async fn list_sessions(&self, request: Request<v1::ListSessionsRequest>) -> Answer<v1::ListSessionsResponse> {
        let (_caller, sessions) = self.admit(&request, Role::Reader)?;
        let asked = request.into_inner();
        let after = match asked.after.as_str() {
            "" => None,
            after => Some(session_id("after", after)?),
        };
        let count_max = page_length(asked.count_max)?;
        let page = sessions
            .list(
                filter(&asked.issuer, &asked.subject, &asked.tenant)?,
                after,
                count_max,
                now_us(),
            )
            .await
            .map_err(AdminError::from)?;
        Ok(Response::new(v1::ListSessionsResponse {
            next: page.after.map(|id| id.to_string()).unwrap_or_default(),
            sessions: page.sessions.into_iter().map(shown).collect(),
        }))
    }

    async fn show_session(&self, request: Request<v1::ShowSessionRequest>) -> Answer<v1::Session> {
        let (_caller, sessions) = self.admit(&request, Role::Reader)?;
        let id = session_id("id", &request.get_ref().id)?;
        let found = sessions.show(id, now_us()).await.map_err(AdminError::from)?;
        Ok(Response::new(shown(found.ok_or(AdminError::NoSuchSession)?)))
    }

    async fn revoke_session(&self, request: Request<v1::RevokeSessionRequest>) -> Answer<v1::RevokeResponse> {
        let (caller, sessions) = self.admit(&request, Role::Operator)?;
        let id = session_id("id", &request.get_ref().id)?;
        if sessions.show(id, now_us()).await.map_err(AdminError::from)?.is_none() {
            return Err(AdminError::NoSuchSession.into());
        }
        let order = Order {
            caller: caller.clone(),
            act: Act::RevokeSession,
            target: id.to_string(),
        };
        let work = async move { Ok(sessions.revoke_session(id, &caller, now_us()).await?) };
        self.carry_out(order, work).await
    }

    async fn revoke_principal(&self, request: Request<v1::RevokePrincipalRequest>) -> Answer<v1::RevokeResponse> {
        let admitted = self.admit(&request, Role::Operator)?;
        let asked = request.into_inner();
        let (issuer, subject) = (name("issuer", asked.issuer)?, name("subject", asked.subject)?);
        let target = Target::Principal(PrincipalId::of(&issuer, &subject));
        let label = principal_name(&issuer, &subject);
        self.revoke_target(admitted, Act::RevokePrincipal, target, label).await
    }

    async fn revoke_tenant(&self, request: Request<v1::RevokeTenantRequest>) -> Answer<v1::RevokeResponse> {
        let admitted = self.admit(&request, Role::Operator)?;
        let tenant = name("tenant", request.into_inner().tenant)?;
        let target = Target::Tenant(TenantId::of(&tenant));
        self.revoke_target(admitted, Act::RevokeTenant, target, tenant).await
    }

    async fn revoke_everything(&self, request: Request<v1::RevokeEverythingRequest>) -> Answer<v1::RevokeResponse> {
        let admitted = self.admit(&request, Role::Operator)?;
        self.revoke_target(admitted, Act::RevokeEverything, Target::Everything, String::new())
            .await
    }

    async fn show_lockdown(&self, request: Request<v1::ShowLockdownRequest>) -> Answer<v1::Lockdown> {
        let (_caller, sessions) = self.admit(&request, Role::Reader)?;
        let lockdown = sessions.lockdown().map_err(AdminError::from)?;
        Ok(Response::new(match lockdown {
            Some(lockdown) => v1::Lockdown {
                is_on: true,
                at_us: lockdown.at_us,
                caller: lockdown.caller,
            },
            None => v1::Lockdown::default(),
        }))
    }

    async fn set_lockdown(&self, request: Request<v1::SetLockdownRequest>) -> Answer<v1::RevokeResponse> {
        let (caller, sessions) = self.admit(&request, Role::Operator)?;
        let (act, lockdown) = match request.get_ref().mode() {
            v1::LockdownMode::On => {
                let lockdown = Lockdown {
                    at_us: now_us(),
                    caller: (*caller).to_owned(),
                };
                (Act::LockdownOn, Some(lockdown))
            }
            v1::LockdownMode::Off => (Act::LockdownOff, None),
            v1::LockdownMode::Unspecified => return Err(AdminError::Field("mode", "on or off").into()),
        };
        let order = Order {
            caller,
            act,
            target: String::new(),
        };
        let work = async move { Ok(sessions.set_lockdown(lockdown).await?) };
        self.carry_out(order, work).await
    }
}

/// How many a page has at most.
pub(super) fn page_length(asked: u32) -> Result<u32, AdminError> {
    match asked {
        0 => Ok(PAGE_DEFAULT),
        count_max @ 1..=PAGE_MAX => Ok(count_max),
        _ => Err(AdminError::Field("count_max", "1 to 1000")),
    }
}

/// Which ones are listed.
pub(super) fn filter(issuer: &str, subject: &str, tenant: &str) -> Result<Filter, AdminError> {
    match (issuer, subject, tenant) {
        ("", "", "") => Ok(Filter::All),
        ("", "", tenant) => Ok(Filter::Tenant(tenant.to_owned())),
        ("", _, _) => Err(AdminError::Field("issuer", "the subject's issuer")),
        (_, "", _) => Err(AdminError::Field("subject", "a subject of the issuer")),
        (issuer, subject, "") => Ok(Filter::Principal(PrincipalId::of(issuer, subject))),
        (_, _, _) => Err(AdminError::Field("tenant", "none where a principal is named")),
    }
}

pub(super) fn name(field: &'static str, text: String) -> Result<String, AdminError> {
    match text.len() {
        1..=NAME_BYTES_MAX => Ok(text),
        _ => Err(AdminError::Field(field, "1 to 8192 bytes")),
    }
}

fn session_id(field: &'static str, text: &str) -> Result<SessionId, AdminError> {
    text.parse()
        .map_err(|_| AdminError::Field(field, "a session's id, 64 hexadecimal digits"))
}

fn shown((session, status): (Session, SessionStatus)) -> v1::Session {
    let status = match status {
        SessionStatus::Live => v1::SessionStatus::Live,
        SessionStatus::Over(EndReason::IdleTimeout) => v1::SessionStatus::IdleTimeout,
        SessionStatus::Over(EndReason::AbsoluteTimeout) => v1::SessionStatus::AbsoluteTimeout,
        SessionStatus::Over(EndReason::Superseded) => v1::SessionStatus::Superseded,
        SessionStatus::Over(EndReason::Compromised) => v1::SessionStatus::Compromised,
        SessionStatus::Over(EndReason::Revoked) => v1::SessionStatus::Revoked,
    };
    v1::Session {
        id: session.id.to_string(),
        issuer: session.issuer,
        subject: session.subject,
        tenant: session.tenant.unwrap_or_default(),
        named_by: session.named_by.as_str().to_owned(),
        name: session.name,
        first_seen_us: session.first_seen_us,
        last_seen_us: session.last_seen_us,
        status: status.into(),
        ended_us: session.ended.as_ref().map(|ended| ended.at_us),
        ended_by: session.ended.and_then(|ended| ended.caller).unwrap_or_default(),
    }
}
