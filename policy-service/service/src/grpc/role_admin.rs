//! `picket.v1.RoleAdmin`: role assignments.

use std::sync::Arc;

use picket_audit::{Act, ActOutcome};
use picket_model::access::principal_name;
use picket_proto::v1;
use picket_proto::v1::role_admin_server::RoleAdmin;
use picket_state::roles::{AssignmentResult, RoleAssignment, RoleFilter, RoleKey, Roles};
use tonic::{Request, Response};

use super::{GrpcResult, admitted_for};
use crate::administration::{AdminAction, AdminError, Administration, Performed, now_us};
use crate::transport::AdmittedCall;
use picket_service_configuration::CallerRole;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// A principal or a tenant: all of them are in memory.
const NAME_BYTES_MAX: usize = 1_024;
const ROLE_BYTES_MAX: usize = 256;

/// Serves `RoleAdmin`.
#[derive(Clone)]
pub(super) struct RoleAdminService {
    administration: Arc<Administration>,
}

impl RoleAdminService {
    pub(super) fn new(administration: Arc<Administration>) -> Self {
        Self { administration }
    }

    /// The call and the assigned roles, where the caller has the role for that.
    fn authorized<T>(&self, request: &Request<T>, role: CallerRole) -> Result<(AdmittedCall, Arc<Roles>), AdminError> {
        let call = admitted_for(request, role)?;
        let roles = self.administration.roles(&call, role)?;
        Ok((call, roles))
    }
}

#[tonic::async_trait]
impl RoleAdmin for RoleAdminService {
    async fn assign_role(&self, request: Request<v1::AssignRoleRequest>) -> GrpcResult<v1::ChangeRoleResponse> {
        let (call, roles) = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        let at_us = now_us();
        if message.until_us.is_some_and(|until_us| until_us <= at_us) {
            return Err(AdminError::Field("until_us", "a time to come").into());
        }
        let assignment = RoleAssignment {
            key: key(message.issuer, message.subject, message.role, message.tenant)?,
            until_us: message.until_us,
            author: call.caller().to_owned(),
            at_us,
        };
        let action = AdminAction {
            call,
            act: Act::AssignRole,
            target: target(&assignment.key),
        };
        let work = async move {
            let assigned = roles.assign(assignment).await?;
            let outcome = match assigned {
                AssignmentResult::Done => ActOutcome::Done,
                AssignmentResult::Unchanged => ActOutcome::Unchanged,
                AssignmentResult::TooMany => ActOutcome::Refused,
            };
            Ok(Performed::new(outcome, assigned))
        };
        match self.administration.perform_audited(action, work).await? {
            AssignmentResult::Done => Ok(Response::new(v1::ChangeRoleResponse { changed: true })),
            AssignmentResult::Unchanged => Ok(Response::new(v1::ChangeRoleResponse { changed: false })),
            AssignmentResult::TooMany => Err(AdminError::TooManyRoles.into()),
        }
    }

    async fn withdraw_role(&self, request: Request<v1::WithdrawRoleRequest>) -> GrpcResult<v1::ChangeRoleResponse> {
        let (call, roles) = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        let key = key(message.issuer, message.subject, message.role, message.tenant)?;
        let action = AdminAction {
            call,
            act: Act::WithdrawRole,
            target: target(&key),
        };
        let work = async move { Ok(Performed::changed(roles.withdraw(key).await?)) };
        let changed = self.administration.perform_audited(action, work).await?;
        Ok(Response::new(v1::ChangeRoleResponse { changed }))
    }

    async fn list_roles(&self, request: Request<v1::ListRolesRequest>) -> GrpcResult<v1::ListRolesResponse> {
        let (_call, roles) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.into_inner();
        let count_max = match message.count_max {
            0 => PAGE_DEFAULT,
            count_max @ 1..=PAGE_MAX => count_max,
            _ => return Err(AdminError::Field("count_max", "1 to 1000").into()),
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let filter = RoleFilter {
            issuer: some(message.issuer),
            subject: some(message.subject),
            role: some(message.role),
            tenant: some(message.tenant),
        };
        let page = roles.list(filter, message.after, count_max).await;
        let page = page.map_err(AdminError::from)?;
        Ok(Response::new(v1::ListRolesResponse {
            next: page.after.unwrap_or(0),
            assignments: page.assignments.into_iter().map(to_message).collect(),
        }))
    }
}

fn key(issuer: String, subject: String, role: String, tenant: String) -> Result<RoleKey, AdminError> {
    let tenant = match tenant.as_str() {
        "" => None,
        _ => Some(name("tenant", tenant)?),
    };
    Ok(RoleKey {
        issuer: name("issuer", issuer)?,
        subject: name("subject", subject)?,
        role: match is_name(&role, ROLE_BYTES_MAX) {
            true => role,
            false => return Err(AdminError::Field("role", "1 to 256 bytes without control characters")),
        },
        tenant,
    })
}

fn name(field: &'static str, text: String) -> Result<String, AdminError> {
    match is_name(&text, NAME_BYTES_MAX) {
        true => Ok(text),
        false => Err(AdminError::Field(field, "1 to 1024 bytes without control characters")),
    }
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.contains(char::is_control)
}

/// As the audit log names it.
fn target(key: &RoleKey) -> String {
    let (principal, role) = (principal_name(&key.issuer, &key.subject), &key.role);
    match &key.tenant {
        Some(tenant) => format!("{principal} {role} in {tenant}"),
        None => format!("{principal} {role}"),
    }
}

fn to_message(assignment: RoleAssignment) -> v1::RoleAssignment {
    v1::RoleAssignment {
        issuer: assignment.key.issuer,
        subject: assignment.key.subject,
        role: assignment.key.role,
        tenant: assignment.key.tenant.unwrap_or_default(),
        until_us: assignment.until_us,
        author: assignment.author,
        at_us: assignment.at_us,
    }
}
