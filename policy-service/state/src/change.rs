//! What a back end tells the caches of this process: another replica has changed something that is
//! stored.

use std::sync::Arc;

use picket_model::device_thumbprint::DeviceThumbprint;

use super::SessionId;

/// What another replica has changed, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session was ended.
    Session(SessionId),
    /// The device that is known by a thumbprint, or was, or is now.
    Device(DeviceThumbprint),
    /// Something was revoked, or a lockdown began or ended.
    Restrictions,
    /// Another revision of the policies is active.
    Policies,
    /// A role was assigned or withdrawn.
    Roles,
    /// Anything: the store could not tell for a while.
    Anything,
}

/// Who is told of changes. It must not block.
pub type ChangeObserver = Arc<dyn Fn(Change) + Send + Sync>;
