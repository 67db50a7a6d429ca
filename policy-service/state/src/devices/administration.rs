//! Operators' and reporters' access to devices. A change that was acknowledged is durable, and
//! every check here knows it from then on.

use picket_core::enrollment::{EnrollmentError, EnrollmentProof};
use picket_core::jose::signature::SoftwareVerifier;
use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_model::time::Timestamp;
use uuid::{NoContext, Uuid};

use super::{Challenge, ChallengeDigest, Device, DeviceId, Devices, PendingEnrollment, Posture};
use super::{DeviceUpdate, NewDevice};
use crate::{ListFilter, PrincipalId, StorageError, text};

/// How many challenges wait for their answers at once.
const ENROLLMENTS_MAX: u32 = 10_000;
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// For whom a device is to be enrolled.
pub struct EnrollmentRequest {
    /// The owner's `iss`.
    pub issuer: String,
    /// The owner's `sub`.
    pub subject: String,
    /// The owner's tenant.
    pub tenant: Option<String>,
    /// A name for people; may be empty.
    pub label: String,
    /// The SPIFFE ID of the operator.
    pub caller: String,
}

/// A challenge for a device, and what its proof has to name.
pub struct EnrollmentOffer {
    /// The text to sign.
    pub challenge: Challenge,
    /// The audience of the proof.
    pub audience: String,
    /// When the challenge expires, in microseconds since the epoch.
    pub ends_us: i64,
}

/// One page of a list of devices.
pub struct DevicePage {
    /// In order of their ids.
    pub devices: Vec<Device>,
    /// Where the next page begins; `None`: this is the last one.
    pub after: Option<DeviceId>,
}

/// Why an enrolment did not begin.
#[derive(Debug, thiserror::Error)]
pub enum EnrollmentRequestError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The limit of challenges is reached.
    #[error("{ENROLLMENTS_MAX} challenges wait for their answers")]
    TooMany,
    /// The operating system gives no random numbers.
    #[error("no random numbers from the operating system")]
    Random,
}

impl Devices {
    /// Makes a challenge for a device of a principal.
    pub async fn begin_enrollment(
        &self,
        request: EnrollmentRequest,
        now_us: i64,
    ) -> Result<EnrollmentOffer, EnrollmentRequestError> {
        let challenge = Challenge::random().ok_or(EnrollmentRequestError::Random)?;
        let ends_us = now_us.saturating_add(self.settings.challenge_valid_for_us);
        let enrollment = PendingEnrollment {
            challenge: challenge.digest(),
            owner: PrincipalId::of(&request.issuer, &request.subject),
            issuer: text::cut(&request.issuer),
            subject: text::cut(&request.subject),
            tenant: request.tenant.as_deref().map(text::cut),
            label: text::cut(&request.label),
            ends_us,
            caller: request.caller,
        };
        match self.store.begin_enrollment(enrollment, now_us, ENROLLMENTS_MAX).await? {
            true => Ok(EnrollmentOffer {
                challenge,
                audience: self.settings.audience.clone(),
                ends_us,
            }),
            false => Err(EnrollmentRequestError::TooMany),
        }
    }

    /// The content of an enrolment proof, if it is valid.
    pub fn verify_proof(&self, proof: &str, now_us: i64) -> Result<EnrollmentProof, EnrollmentError> {
        let now_ms = u64::try_from(now_us / 1000).unwrap_or(0);
        EnrollmentProof::check(
            proof,
            &self.settings.audience,
            Timestamp::from_ms(now_ms),
            &SoftwareVerifier,
        )
    }

    /// Enrols the device that has answered a challenge.
    pub async fn enroll(&self, proof: &EnrollmentProof, now_us: i64) -> Result<DeviceUpdate, StorageError> {
        let thumbprint = DeviceThumbprint::Key(proof.thumbprint.0);
        let new = NewDevice {
            challenge: ChallengeDigest::of(&proof.challenge),
            id: new_id(now_us),
            thumbprint,
            now_us,
            devices_max: self.settings.devices_max,
        };
        self.invalidate_after(self.store.enroll(new).await, None, Some(thumbprint))
    }

    /// Sets the state of a device.
    pub async fn set_state(&self, id: DeviceId, state: DeviceState, now_us: i64) -> Result<DeviceUpdate, StorageError> {
        self.invalidate_after(self.store.set_device_state(id, state, now_us).await, Some(id), None)
    }

    /// Stores a reported posture in the place of the one before.
    pub async fn report(&self, id: DeviceId, posture: Posture) -> Result<DeviceUpdate, StorageError> {
        self.invalidate_after(self.store.report_posture(id, posture).await, Some(id), None)
    }

    /// Adds a thumbprint by which a device is recognised.
    pub async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        let change = self.store.add_thumbprint(id, thumbprint, now_us).await;
        self.invalidate_after(change, Some(id), Some(thumbprint))
    }

    /// Removes a thumbprint of a device.
    pub async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        let change = self.store.remove_thumbprint(id, thumbprint, now_us).await;
        self.invalidate_after(change, Some(id), Some(thumbprint))
    }

    /// One page of the devices, in order of their ids.
    pub async fn list(
        &self,
        filter: ListFilter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<DevicePage, StorageError> {
        let devices = self.store.devices(filter, after, count_max).await?;
        let is_full = u32::try_from(devices.len()).is_ok_and(|count| count >= count_max);
        let after = devices.last().filter(|_| is_full).map(|device| device.id);
        Ok(DevicePage { devices, after })
    }

    /// One device.
    pub async fn show(&self, id: DeviceId) -> Result<Option<Device>, StorageError> {
        self.store.device(id).await
    }

    /// The device with a thumbprint.
    pub async fn show_by_thumbprint(&self, thumbprint: DeviceThumbprint) -> Result<Option<Device>, StorageError> {
        self.store.device_of(thumbprint).await
    }

    /// Drops what a change may have made wrong from the cache, also where it is not known whether
    /// the change was made.
    fn invalidate_after(
        &self,
        change: Result<DeviceUpdate, StorageError>,
        id: Option<DeviceId>,
        thumbprint: Option<DeviceThumbprint>,
    ) -> Result<DeviceUpdate, StorageError> {
        let device = match &change {
            Ok(DeviceUpdate::Done(device) | DeviceUpdate::Unchanged(device)) => Some(device),
            Ok(DeviceUpdate::Missing | DeviceUpdate::Retired | DeviceUpdate::Taken | DeviceUpdate::TooMany) => None,
            Err(_) => {
                id.into_iter().for_each(|id| self.cache.remove_device(id));
                None
            }
        };
        let thumbprints = device.into_iter().flat_map(|device| device.thumbprints.iter().copied());
        self.cache.remove(thumbprints.chain(thumbprint));
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
