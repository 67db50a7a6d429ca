//! What operators and reporters do with devices. What is acknowledged is durable, and known here to every decision from then on.

use picket_core::enrollment::{EnrollmentError, EnrollmentProof};
use picket_core::signature::SoftwareVerifier;
use picket_model::time::Timestamp;
use uuid::{NoContext, Uuid};

use super::{Challenge, ChallengeDigest, Device, DeviceId, DeviceState, Devices, Enrollment, Posture};
use super::{DeviceChange, NewDevice};
use crate::state::{Filter, PrincipalId, StorageError, Thumbprint, text};

/// How many challenges wait for their answers at once.
const ENROLLMENTS_MAX: u32 = 10_000;
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// For whom a device is to be enrolled.
pub(crate) struct Invitation {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) tenant: Option<String>,
    pub(crate) label: String,
    pub(crate) caller: String,
}

/// What a device has to answer.
pub(crate) struct Invited {
    pub(crate) challenge: Challenge,
    pub(crate) audience: String,
    pub(crate) ends_us: i64,
}

/// Devices of a list.
pub(crate) struct Page {
    pub(crate) devices: Vec<Device>,
    /// Where the next page begins; `None`: this is the last one.
    pub(crate) after: Option<DeviceId>,
}

/// Why a device was not invited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvitationError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{ENROLLMENTS_MAX} challenges wait for their answers")]
    TooMany,
    #[error("no random numbers from the operating system")]
    Random,
}

impl Devices {
    /// Makes a challenge for a device of somebody.
    pub(crate) async fn invite(&self, invitation: Invitation, now_us: i64) -> Result<Invited, InvitationError> {
        let challenge = Challenge::random().ok_or(InvitationError::Random)?;
        let ends_us = now_us.saturating_add(self.settings.challenge_valid_for_us);
        let enrollment = Enrollment {
            challenge: challenge.digest(),
            owner: PrincipalId::of(&invitation.issuer, &invitation.subject),
            issuer: text::cut(&invitation.issuer),
            subject: text::cut(&invitation.subject),
            tenant: invitation.tenant.as_deref().map(text::cut),
            label: text::cut(&invitation.label),
            ends_us,
            caller: invitation.caller,
        };
        match self.store.begin_enrollment(enrollment, now_us, ENROLLMENTS_MAX).await? {
            true => Ok(Invited {
                challenge,
                audience: self.settings.audience.clone(),
                ends_us,
            }),
            false => Err(InvitationError::TooMany),
        }
    }

    /// What a proof says, if it holds.
    pub(crate) fn check(&self, proof: &str, now_us: i64) -> Result<EnrollmentProof, EnrollmentError> {
        let now_ms = u64::try_from(now_us / 1000).unwrap_or(0);
        EnrollmentProof::check(
            proof,
            &self.settings.audience,
            Timestamp::from_ms(now_ms),
            &SoftwareVerifier,
        )
    }

    /// Enrols the device that answered a challenge.
    pub(crate) async fn enroll(&self, proof: &EnrollmentProof, now_us: i64) -> Result<DeviceChange, StorageError> {
        let thumbprint = Thumbprint::Key(proof.thumbprint.0);
        let new = NewDevice {
            challenge: ChallengeDigest::of(&proof.challenge),
            id: new_id(now_us),
            thumbprint,
            now_us,
            devices_max: self.settings.devices_max,
        };
        self.known(self.store.enroll(new).await, None, Some(thumbprint))
    }

    /// Says how far a device is let.
    pub(crate) async fn set_state(
        &self,
        id: DeviceId,
        state: DeviceState,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError> {
        self.known(self.store.set_device_state(id, state, now_us).await, Some(id), None)
    }

    /// Keeps what was reported of a device.
    pub(crate) async fn report(&self, id: DeviceId, posture: Posture) -> Result<DeviceChange, StorageError> {
        self.known(self.store.report_posture(id, posture).await, Some(id), None)
    }

    /// Makes a device known by a thumbprint.
    pub(crate) async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: Thumbprint,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError> {
        let change = self.store.add_thumbprint(id, thumbprint, now_us).await;
        self.known(change, Some(id), Some(thumbprint))
    }

    /// Makes it unknown by it.
    pub(crate) async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: Thumbprint,
        now_us: i64,
    ) -> Result<DeviceChange, StorageError> {
        let change = self.store.remove_thumbprint(id, thumbprint, now_us).await;
        self.known(change, Some(id), Some(thumbprint))
    }

    /// One page of the devices, in order of their ids.
    pub(crate) async fn list(
        &self,
        filter: Filter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<Page, StorageError> {
        let devices = self.store.devices(filter, after, count_max).await?;
        let is_full = u32::try_from(devices.len()).is_ok_and(|count| count >= count_max);
        let after = devices.last().filter(|_| is_full).map(|device| device.id);
        Ok(Page { devices, after })
    }

    /// One device.
    pub(crate) async fn show(&self, id: DeviceId) -> Result<Option<Device>, StorageError> {
        self.store.device(id).await
    }

    /// The device that is known by a thumbprint.
    pub(crate) async fn show_of(&self, thumbprint: Thumbprint) -> Result<Option<Device>, StorageError> {
        self.store.device_of(thumbprint).await
    }

    /// Forgets what a change may have made untrue, also where nobody knows whether it was made.
    fn known(
        &self,
        change: Result<DeviceChange, StorageError>,
        id: Option<DeviceId>,
        thumbprint: Option<Thumbprint>,
    ) -> Result<DeviceChange, StorageError> {
        let device = match &change {
            Ok(DeviceChange::Done(device) | DeviceChange::Unchanged(device)) => Some(device),
            Ok(DeviceChange::Missing | DeviceChange::Retired | DeviceChange::Taken | DeviceChange::TooMany) => None,
            Err(_) => {
                id.into_iter().for_each(|id| self.memory.forget_device(id));
                None
            }
        };
        let known_by = device.into_iter().flat_map(|device| device.thumbprints.iter().copied());
        self.memory.forget(known_by.chain(thumbprint));
        change
    }
}

/// RFC 9562 §5.7: ids sort by time.
fn new_id(now_us: i64) -> DeviceId {
    let now_us = u64::try_from(now_us).unwrap_or(0);
    let seconds = now_us / MICROSECONDS_PER_SECOND;
    let nanoseconds = u32::try_from(now_us % MICROSECONDS_PER_SECOND * 1000).unwrap_or(0);
    DeviceId::new(Uuid::new_v7(uuid::Timestamp::from_unix(
        NoContext,
        seconds,
        nanoseconds,
    )))
}
