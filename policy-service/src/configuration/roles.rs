//! `[[grpc.callers]]`: who may call what.

use deserr::{Deserr, ValuePointerRef};
use picket_core::configuration::problems::Problems;
use picket_core::spiffe::SpiffeId;

use super::fields::CallerId;

/// A caller with its roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRoles {
    /// The one URI SAN of its certificate.
    pub spiffe_id: SpiffeId,
    /// What it may do.
    pub roles: Roles,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ask for decisions.
    Sidecar,
    /// Look at what there is.
    Reader,
    /// Look, and act.
    Operator,
}

/// The roles of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    sidecar: bool,
    reader: bool,
    operator: bool,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = has_a_role -> Problems)]
pub(super) struct CallerSection {
    spiffe_id: CallerId,
    roles: Vec<RoleName>,
}

#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
enum RoleName {
    Sidecar,
    Reader,
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::Reader, Self::Operator];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Reader => "reader",
            Self::Operator => "operator",
        }
    }
}

impl Roles {
    /// These.
    #[must_use]
    pub fn of(roles: &[Role]) -> Self {
        Self {
            sidecar: roles.contains(&Role::Sidecar),
            reader: roles.contains(&Role::Reader),
            operator: roles.contains(&Role::Operator),
        }
    }

    /// These and those.
    pub fn add(&mut self, others: Self) {
        self.sidecar |= others.sidecar;
        self.reader |= others.reader;
        self.operator |= others.operator;
    }

    /// Whether they allow what the role is for. Whoever may act may look.
    #[must_use]
    pub fn allow(self, role: Role) -> bool {
        match role {
            Role::Sidecar => self.sidecar,
            Role::Reader => self.reader || self.operator,
            Role::Operator => self.operator,
        }
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let held = [self.sidecar, self.reader, self.operator];
        let held = Role::ALL.into_iter().zip(held).filter(|(_, is_held)| *is_held);
        held.map(|(role, _)| role.as_str().to_owned()).collect()
    }
}

impl From<CallerSection> for CallerRoles {
    fn from(section: CallerSection) -> Self {
        let roles: Vec<Role> = section.roles.into_iter().map(Role::from).collect();
        Self {
            spiffe_id: section.spiffe_id.0,
            roles: Roles::of(&roles),
        }
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Sidecar => Self::Sidecar,
            RoleName::Reader => Self::Reader,
            RoleName::Operator => Self::Operator,
        }
    }
}

fn has_a_role(section: CallerSection, location: ValuePointerRef<'_>) -> Result<CallerSection, Problems> {
    if section.roles.is_empty() {
        return Err(super::fields::problem(
            location,
            "expected at least one of the roles `sidecar`, `reader` and `operator`".to_owned(),
        ));
    }
    Ok(section)
}
