//! The port of devices to the storage, and the rules that every back end applies within its
//! transactions.

use async_trait::async_trait;
use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;

use super::{ChallengeDigest, Device, DeviceId, PendingEnrollment, Posture, THUMBPRINTS_MAX};
use crate::{ListFilter, StorageError};

/// A device that answers a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// The challenge that was answered.
    pub challenge: ChallengeDigest,
    /// Its id.
    pub id: DeviceId,
    /// The thumbprint of the key that answered.
    pub thumbprint: DeviceThumbprint,
    /// When, in microseconds since the epoch.
    pub now_us: i64,
    /// The limit of stored devices, this one included.
    pub devices_max: u64,
}

/// The result of a change of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceUpdate {
    /// The change was made; this is the device now.
    Done(Box<Device>),
    /// It was so before.
    Unchanged(Box<Device>),
    /// There is no such device; or no such challenge, because it has ended or was answered.
    Missing,
    /// The device is retired, which nothing changes.
    Retired,
    /// The thumbprint is another device's.
    Taken,
    /// The limit of devices, or of thumbprints of the device, is reached.
    TooMany,
}

/// Devices, durable.
#[async_trait]
pub trait DeviceStore: Send + Sync {
    /// One device.
    async fn device(&self, id: DeviceId) -> Result<Option<Device>, StorageError>;

    /// The device with a thumbprint.
    async fn device_of(&self, thumbprint: DeviceThumbprint) -> Result<Option<Device>, StorageError>;

    /// Devices in order of their ids, after one of them.
    async fn devices(
        &self,
        filter: ListFilter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<Vec<Device>, StorageError>;

    /// Stores a challenge, and deletes those that have expired by `now_us`. False: `count_max` wait
    /// for their answers.
    async fn begin_enrollment(
        &self,
        enrollment: PendingEnrollment,
        now_us: i64,
        count_max: u32,
    ) -> Result<bool, StorageError>;

    /// Deletes a challenge that was answered, and enrols the device.
    async fn enroll(&self, new: NewDevice) -> Result<DeviceUpdate, StorageError>;

    /// Sets the state of a device, unless it is retired.
    async fn set_device_state(
        &self,
        id: DeviceId,
        state: DeviceState,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError>;

    /// Stores a reported posture in the place of the one before.
    async fn report_posture(&self, id: DeviceId, posture: Posture) -> Result<DeviceUpdate, StorageError>;

    /// Adds a thumbprint to a device.
    async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError>;

    /// Removes a thumbprint of a device; another device may have it then.
    async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError>;
}

impl Device {
    /// A device as it is enrolled.
    #[must_use]
    pub fn enrolled(enrollment: PendingEnrollment, new: &NewDevice) -> Self {
        Self {
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

    /// Whether a state may be set.
    ///
    /// # Errors
    /// The result of the change where nothing is to be changed.
    pub fn check_state_change(self, state: DeviceState) -> Result<Self, DeviceUpdate> {
        match self.state {
            before if before == state => Err(DeviceUpdate::Unchanged(Box::new(self))),
            before if !state.may_follow(before) => Err(DeviceUpdate::Retired),
            DeviceState::Retired | DeviceState::Suspended | DeviceState::Enrolled | DeviceState::Trusted => Ok(self),
        }
    }

    /// Whether a thumbprint may be added that `owner` has.
    ///
    /// # Errors
    /// The result of the change where nothing is to be changed.
    pub fn check_thumbprint_addition(self, owner: Option<DeviceId>) -> Result<Self, DeviceUpdate> {
        match owner {
            Some(owner) if owner == self.id => Err(DeviceUpdate::Unchanged(Box::new(self))),
            Some(_) => Err(DeviceUpdate::Taken),
            None if self.state == DeviceState::Retired => Err(DeviceUpdate::Retired),
            None if self.thumbprints.len() >= THUMBPRINTS_MAX => Err(DeviceUpdate::TooMany),
            None => Ok(self),
        }
    }

    /// Whether a thumbprint may be removed.
    ///
    /// # Errors
    /// The result of the change where nothing is to be changed.
    pub fn check_thumbprint_removal(self, thumbprint: DeviceThumbprint) -> Result<Self, DeviceUpdate> {
        match self.thumbprints.contains(&thumbprint) {
            // Freed, it could be enrolled anew.
            _ if self.state == DeviceState::Retired => Err(DeviceUpdate::Retired),
            true => Ok(self),
            false => Err(DeviceUpdate::Unchanged(Box::new(self))),
        }
    }
}
