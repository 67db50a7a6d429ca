//! What devices need of a store.

use async_trait::async_trait;

use super::{ChallengeDigest, Device, DeviceId, DeviceState, Enrollment, Posture, THUMBPRINTS_MAX};
use crate::state::{Filter, StorageError, Thumbprint};

/// What is to be enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// The challenge that was answered.
    pub challenge: ChallengeDigest,
    /// What it will be called.
    pub id: DeviceId,
    /// That of the key that answered.
    pub thumbprint: Thumbprint,
    /// When, in microseconds since the epoch.
    pub now_us: i64,
    /// How many devices there may be, this one included.
    pub devices_max: u64,
}

/// What became of a change of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// It was made; this is the device now.
    Done(Box<Device>),
    /// It was so before.
    Unchanged(Box<Device>),
    /// There is no such device; or no such challenge, because it has ended or was answered.
    Missing,
    /// The device is retired, which nothing changes.
    Retired,
    /// The thumbprint is another device's.
    Taken,
    /// There are as many devices, or thumbprints of it, as there may be.
    TooMany,
}

/// Devices, durable.
#[async_trait]
pub trait DeviceStore: Send + Sync {
    /// One device.
    async fn device(&self, id: DeviceId) -> Result<Option<Device>, StorageError>;

    /// The device that is known by a thumbprint.
    async fn device_of(&self, thumbprint: Thumbprint) -> Result<Option<Device>, StorageError>;

    /// Devices in order of their ids, after one of them.
    async fn devices(
        &self,
        filter: Filter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<Vec<Device>, StorageError>;

    /// Waits for the answer to a challenge, and forgets those that have ended by `now_us`. False: `count_max` wait already.
    async fn begin_enrollment(&self, enrollment: Enrollment, now_us: i64, count_max: u32)
    -> Result<bool, StorageError>;

    /// Takes the answer to a challenge, which is gone then, and enrols the device.
    async fn enroll(&self, new: NewDevice) -> Result<DeviceChange, StorageError>;

    /// Sets the state of a device, unless it is retired.
    async fn set_device_state(
        &self,
        id: DeviceId,
        state: DeviceState,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError>;

    /// Keeps what was reported of a device in the place of what was reported before.
    async fn report_posture(&self, id: DeviceId, posture: Posture) -> Result<DeviceChange, StorageError>;

    /// Makes a device known by one more thumbprint.
    async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: Thumbprint,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError>;

    /// Makes a device no longer known by a thumbprint, which another may have then.
    async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: Thumbprint,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError>;
}

/// Whether a state may be set: `Err` says what becomes of the change instead.
pub(crate) fn check_state(device: Device, state: DeviceState) -> Result<Device, DeviceChange> {
    match device.state {
        before if before == state => Err(DeviceChange::Unchanged(Box::new(device))),
        before if !state.may_follow(before) => Err(DeviceChange::Retired),
        DeviceState::Retired | DeviceState::Suspended | DeviceState::Enrolled | DeviceState::Trusted => Ok(device),
    }
}

/// Whether a thumbprint may be added that `owner` has.
pub(crate) fn check_addition(device: Device, owner: Option<DeviceId>) -> Result<Device, DeviceChange> {
    match owner {
        Some(owner) if owner == device.id => Err(DeviceChange::Unchanged(Box::new(device))),
        Some(_) => Err(DeviceChange::Taken),
        None if device.state == DeviceState::Retired => Err(DeviceChange::Retired),
        None if device.thumbprints.len() >= THUMBPRINTS_MAX => Err(DeviceChange::TooMany),
        None => Ok(device),
    }
}

/// Whether a thumbprint may be taken away.
pub(crate) fn check_removal(device: Device, thumbprint: Thumbprint) -> Result<Device, DeviceChange> {
    match device.thumbprints.contains(&thumbprint) {
        // Freed, it could be enrolled anew.
        _ if device.state == DeviceState::Retired => Err(DeviceChange::Retired),
        true => Ok(device),
        false => Err(DeviceChange::Unchanged(Box::new(device))),
    }
}

/// A device as it is enrolled.
pub(crate) fn enrolled(enrollment: Enrollment, new: &NewDevice) -> Device {
    Device {
        id: new.id,
        owner: enrollment.owner,
        issuer: enrollment.issuer,
        subject: enrollment.subject,
        tenant: enrollment.tenant,
        label: enrollment.label,
        state: DeviceState::Enrolled,
        thumbprints: vec![new.thumbprint],
        posture: None,
        enrolled_us: new.now_us,
        changed_us: new.now_us,
    }
}
