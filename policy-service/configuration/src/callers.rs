//! `[[grpc.callers]]`: who may call what.

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::{Problems, problem_at};
use picket_model::spiffe::SpiffeId;

use super::fields::CallerId;

/// A configured caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedCaller {
    /// The one URI SAN of its certificate.
    pub spiffe_id: SpiffeId,
    /// Its roles.
    pub roles: CallerRoles,
}

/// A role of callers, which permits a kind of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerRole {
    /// Requests decisions.
    Sidecar,
    /// Reports about devices and principals.
    Reporter,
    /// Reads state.
    Reader,
    /// Reads and changes state.
    Operator,
}

/// The roles of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerRoles {
    held: [bool; CallerRole::ALL.len()],
}

/// A caller with roles.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = has_a_role -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Callers of the gRPC front")
)]
pub(super) struct CallerSection {
    /// The SPIFFE ID of the caller.
    spiffe_id: CallerId,
    /// The roles of the caller.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    roles: Vec<RoleName>,
}

/// A role of a caller.
#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
enum RoleName {
    /// Asks for decisions, as the callers of `allowed_callers` do.
    Sidecar,
    /// Reports about devices and principals.
    Reporter,
    /// Reads sessions, devices, roles, policies and risk.
    Reader,
    /// Reads and changes them.
    Operator,
}

impl CallerRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Sidecar, Self::Reporter, Self::Reader, Self::Operator];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Reporter => "reporter",
            Self::Reader => "reader",
            Self::Operator => "operator",
        }
    }
}

impl CallerRoles {
    /// A set of roles.
    #[must_use]
    pub fn of(roles: &[CallerRole]) -> Self {
        Self {
            held: CallerRole::ALL.map(|role| roles.contains(&role)),
        }
    }

    /// Adds other roles.
    pub fn add(&mut self, others: Self) {
        for (held, other) in self.held.iter_mut().zip(others.held) {
            *held |= other;
        }
    }

    /// Whether they permit calls that need a role. An operator may read.
    #[must_use]
    pub fn allow(self, role: CallerRole) -> bool {
        match role {
            CallerRole::Sidecar | CallerRole::Reporter | CallerRole::Operator => self.iter().any(|held| held == role),
            CallerRole::Reader => self
                .iter()
                .any(|held| matches!(held, CallerRole::Reader | CallerRole::Operator)),
        }
    }

    /// Their names in the configuration.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|role| role.as_str().to_owned()).collect()
    }

    fn iter(self) -> impl Iterator<Item = CallerRole> {
        let held = CallerRole::ALL.into_iter().zip(self.held);
        held.filter(|(_, is_held)| *is_held).map(|(role, _)| role)
    }
}

impl From<CallerSection> for AllowedCaller {
    fn from(section: CallerSection) -> Self {
        let roles: Vec<CallerRole> = section.roles.into_iter().map(CallerRole::from).collect();
        Self {
            spiffe_id: section.spiffe_id.0,
            roles: CallerRoles::of(&roles),
        }
    }
}

impl From<RoleName> for CallerRole {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Sidecar => Self::Sidecar,
            RoleName::Reporter => Self::Reporter,
            RoleName::Reader => Self::Reader,
            RoleName::Operator => Self::Operator,
        }
    }
}

fn has_a_role(section: CallerSection, location: ValuePointerRef<'_>) -> Result<CallerSection, Problems> {
    if section.roles.is_empty() {
        return Err(problem_at(
            location,
            "expected at least one of the roles `sidecar`, `reporter`, `reader` and `operator`".to_owned(),
        ));
    }
    Ok(section)
}
