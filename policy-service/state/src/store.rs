//! The ports of all parts together.

use crate::StoreProbe;
use crate::devices::DeviceStore;
use crate::revisions::PolicyStore;
use crate::roles::RoleStore;
use crate::sessions::SessionStore;

/// All ports of the state, as one back end implements them.
pub trait Store: SessionStore + DeviceStore + PolicyStore + RoleStore + StoreProbe {}

impl<S: SessionStore + DeviceStore + PolicyStore + RoleStore + StoreProbe> Store for S {}
