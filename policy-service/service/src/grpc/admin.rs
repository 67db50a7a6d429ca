//! `picket.v1.Admin`: sessions, revocations and lockdown.

use std::sync::Arc;

use picket_audit::Act;
use picket_model::access::principal_name;
use picket_model::session::EndReason;
use picket_proto::v1;
use picket_proto::v1::admin_server::Admin;
use picket_state::sessions::{Lockdown, RevocationTarget, RevokeError, Session, SessionStatus, Sessions};
use picket_state::{ListFilter, PrincipalId, SessionId, TenantId};
use tonic::{Request, Response};

use super::interceptor::admitted;
use super::{GrpcResult, admitted_for};
use crate::administration::{AdminAction, AdminError, Administration, Performed, now_us};
use crate::transport::AdmittedCall;
use picket_service_configuration::CallerRole;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// Names in a request; claims are no longer than a token.
const NAME_BYTES_MAX: usize = 8 * 1024;

/// Serves `Admin`.
#[derive(Clone)]
pub(super) struct AdminService {
    administration: Arc<Administration>,
}

impl AdminService {
    pub(super) fn new(administration: Arc<Administration>) -> Self {
        Self { administration }
    }

    /// The call and the sessions, where the caller has the role.
    fn authorized<T>(
        &self,
        request: &Request<T>,
        role: CallerRole,
    ) -> Result<(AdmittedCall, Arc<Sessions>), AdminError> {
        let call = admitted_for(request, role)?;
        let sessions = self.administration.sessions(&call, role)?;
        Ok((call, sessions))
    }

    /// Performs and records an action. `work` returns whether it changed anything.
    async fn perform(
        &self,
        action: AdminAction,
        work: impl Future<Output = Result<bool, RevokeError>> + Send + 'static,
    ) -> GrpcResult<v1::RevokeResponse> {
        let work = async move { Ok(Performed::changed(work.await?)) };
        let changed = self.administration.perform_audited(action, work).await?;
        Ok(Response::new(v1::RevokeResponse { changed }))
    }

    async fn revoke_target(
        &self,
        (call, sessions): (AdmittedCall, Arc<Sessions>),
        act: Act,
        target: RevocationTarget,
        label: String,
    ) -> GrpcResult<v1::RevokeResponse> {
        let caller = call.shared_caller();
        let action = AdminAction {
            call,
            act,
            target: label.clone(),
        };
        let work = async move { sessions.revoke(target, &label, &caller, now_us()).await.map(|()| true) };
        self.perform(action, work).await
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> GrpcResult<v1::WhoAmIResponse> {
        let call = admitted(&request).map_err(|error| error.status())?;
        Ok(Response::new(v1::WhoAmIResponse {
            spiffe_id: call.caller().to_owned(),
            roles: call.roles().names(),
        }))
    }

    async fn list_sessions(&self, request: Request<v1::ListSessionsRequest>) -> GrpcResult<v1::ListSessionsResponse> {
        let (_call, sessions) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.into_inner();
        let after = match message.after.as_str() {
            "" => None,
            after => Some(session_id("after", after)?),
        };
        let count_max = page_length(message.count_max)?;
        let page = sessions
            .list(
                filter(&message.issuer, &message.subject, &message.tenant)?,
                after,
                count_max,
                now_us(),
            )
            .await
            .map_err(AdminError::from)?;
        Ok(Response::new(v1::ListSessionsResponse {
            next: page.after.map(|id| id.to_string()).unwrap_or_default(),
            sessions: page.sessions.into_iter().map(to_message).collect(),
        }))
    }

    async fn show_session(&self, request: Request<v1::ShowSessionRequest>) -> GrpcResult<v1::Session> {
        let (_call, sessions) = self.authorized(&request, CallerRole::Reader)?;
        let id = session_id("id", &request.get_ref().id)?;
        let found = sessions.show(id, now_us()).await.map_err(AdminError::from)?;
        Ok(Response::new(to_message(found.ok_or(AdminError::NoSuchSession)?)))
    }

    async fn revoke_session(&self, request: Request<v1::RevokeSessionRequest>) -> GrpcResult<v1::RevokeResponse> {
        let (call, sessions) = self.authorized(&request, CallerRole::Operator)?;
        let id = session_id("id", &request.get_ref().id)?;
        if sessions.show(id, now_us()).await.map_err(AdminError::from)?.is_none() {
            return Err(AdminError::NoSuchSession.into());
        }
        let caller = call.shared_caller();
        let action = AdminAction {
            call,
            act: Act::RevokeSession,
            target: id.to_string(),
        };
        let work = async move { Ok(sessions.revoke_session(id, &caller, now_us()).await?) };
        self.perform(action, work).await
    }

    async fn revoke_principal(&self, request: Request<v1::RevokePrincipalRequest>) -> GrpcResult<v1::RevokeResponse> {
        let authorized = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        let (issuer, subject) = (name("issuer", message.issuer)?, name("subject", message.subject)?);
        let target = RevocationTarget::Principal(PrincipalId::of(&issuer, &subject));
        let label = principal_name(&issuer, &subject);
        self.revoke_target(authorized, Act::RevokePrincipal, target, label)
            .await
    }

    async fn revoke_tenant(&self, request: Request<v1::RevokeTenantRequest>) -> GrpcResult<v1::RevokeResponse> {
        let authorized = self.authorized(&request, CallerRole::Operator)?;
        let tenant = name("tenant", request.into_inner().tenant)?;
        let target = RevocationTarget::Tenant(TenantId::of(&tenant));
        self.revoke_target(authorized, Act::RevokeTenant, target, tenant).await
    }

    async fn revoke_everything(&self, request: Request<v1::RevokeEverythingRequest>) -> GrpcResult<v1::RevokeResponse> {
        let authorized = self.authorized(&request, CallerRole::Operator)?;
        self.revoke_target(
            authorized,
            Act::RevokeEverything,
            RevocationTarget::Everything,
            String::new(),
        )
        .await
    }

    async fn show_lockdown(&self, request: Request<v1::ShowLockdownRequest>) -> GrpcResult<v1::Lockdown> {
        let (_call, sessions) = self.authorized(&request, CallerRole::Reader)?;
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

    async fn set_lockdown(&self, request: Request<v1::SetLockdownRequest>) -> GrpcResult<v1::RevokeResponse> {
        let (call, sessions) = self.authorized(&request, CallerRole::Operator)?;
        let (act, lockdown) = match request.get_ref().mode() {
            v1::LockdownMode::On => {
                let lockdown = Lockdown {
                    at_us: now_us(),
                    caller: call.caller().to_owned(),
                };
                (Act::LockdownOn, Some(lockdown))
            }
            v1::LockdownMode::Off => (Act::LockdownOff, None),
            v1::LockdownMode::Unspecified => return Err(AdminError::Field("mode", "on or off").into()),
        };
        let action = AdminAction {
            call,
            act,
            target: String::new(),
        };
        let work = async move { Ok(sessions.set_lockdown(lockdown).await?) };
        self.perform(action, work).await
    }
}

/// The length of a page; 0 asks for the default.
pub(super) fn page_length(count_max: u32) -> Result<u32, AdminError> {
    match count_max {
        0 => Ok(PAGE_DEFAULT),
        count_max @ 1..=PAGE_MAX => Ok(count_max),
        _ => Err(AdminError::Field("count_max", "1 to 1000")),
    }
}

/// A filter of sessions or devices, from the fields of a request.
pub(super) fn filter(issuer: &str, subject: &str, tenant: &str) -> Result<ListFilter, AdminError> {
    match (issuer, subject, tenant) {
        ("", "", "") => Ok(ListFilter::All),
        ("", "", tenant) => Ok(ListFilter::Tenant(tenant.to_owned())),
        ("", _, _) => Err(AdminError::Field("issuer", "the subject's issuer")),
        (_, "", _) => Err(AdminError::Field("subject", "a subject of the issuer")),
        (issuer, subject, "") => Ok(ListFilter::Principal(PrincipalId::of(issuer, subject))),
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

fn to_message((session, status): (Session, SessionStatus)) -> v1::Session {
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
