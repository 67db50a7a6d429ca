//! Records of what operators and reporters did.

use serde::{Deserialize, Serialize};

/// An act of an operator or a reporter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdministrationRecord {
    /// When, in microseconds since the epoch.
    pub time_us: i64,
    /// The caller's SPIFFE ID, from its certificate.
    pub caller: String,
    /// What.
    pub act: Act,
    /// What it was done to: a session's id, [`picket_model::access::principal_name`], a tenant, a
    /// principal with a role, a device's id with what was done to it, the number and digest of a
    /// revision, or nothing; of reports about principals a list of whom they are about, with names
    /// cut at 256 bytes.
    pub target: String,
    /// Its outcome.
    pub outcome: ActOutcome,
}

/// The acts of operators and reporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the methods of `picket.v1.Admin` and its like")]
pub enum Act {
    RevokeSession,
    RevokePrincipal,
    RevokeTenant,
    RevokeEverything,
    LockdownOn,
    LockdownOff,
    BeginEnrollment,
    EnrollDevice,
    TrustDevice,
    SuspendDevice,
    RetireDevice,
    ReinstateDevice,
    AddDeviceThumbprint,
    RemoveDeviceThumbprint,
    ReportPosture,
    ReportAuthentication,
    ReportDynamics,
    ActivatePolicies,
    RollBackPolicies,
    AssignRole,
    WithdrawRole,
}

impl Act {
    /// Whether it can only withdraw access. Such an act is performed also while it cannot be
    /// recorded.
    #[must_use]
    pub fn is_restrictive(self) -> bool {
        match self {
            Self::RevokeSession
            | Self::RevokePrincipal
            | Self::RevokeTenant
            | Self::RevokeEverything
            | Self::LockdownOn
            | Self::SuspendDevice
            | Self::RetireDevice
            | Self::RemoveDeviceThumbprint
            | Self::WithdrawRole => true,
            Self::LockdownOff
            | Self::BeginEnrollment
            | Self::EnrollDevice
            | Self::TrustDevice
            | Self::ReinstateDevice
            | Self::AddDeviceThumbprint
            | Self::ReportPosture
            | Self::ReportAuthentication
            | Self::ReportDynamics
            | Self::ActivatePolicies
            | Self::RollBackPolicies
            | Self::AssignRole => false,
        }
    }
}

/// The outcome of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActOutcome {
    /// It was performed.
    Done,
    /// It was so before, or there is nothing that it could be done to, or something is in the way.
    Unchanged,
    /// It was not performed, because the call is invalid.
    Refused,
    /// The storage failed; whether it was performed is not known.
    Failed,
}
