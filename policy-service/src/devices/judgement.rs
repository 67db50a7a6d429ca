//! The device of a request, for its decision.

use std::sync::Arc;

use async_trait::async_trait;
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Vary};

use super::memory::Known;
use super::{Device, DeviceState, Devices, SeenDevice, Trust, trust};
use crate::state::{CachedView, Change, PrincipalId, StorageError, Thumbprint};

/// What a request's device means for its decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// What policies see of it; `None`: none is known.
    pub(crate) device: Option<SeenDevice>,
    /// Why the request is denied, if it is.
    pub(crate) refusal: Option<Refusal>,
    /// What was looked at besides the token.
    pub(crate) vary: Vary,
}

/// A request is denied for the state of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(DeviceState);

impl Refusal {
    /// The stable code, which the caller is told.
    pub(crate) fn code(self) -> &'static str {
        match self.0 {
            DeviceState::Retired => "device_retired",
            DeviceState::Suspended => "device_suspended",
            DeviceState::Enrolled => "device_enrolled",
            DeviceState::Trusted => "device_trusted",
        }
    }
}

impl Judgement {
    /// Of a service that keeps no devices.
    pub(crate) fn none() -> Self {
        Self {
            device: None,
            refusal: None,
            vary: Vary::NOTHING,
        }
    }
}

impl Devices {
    /// What is known of a request's device without asking the storage. `None`: [`Self::judge`] has to.
    ///
    /// # Errors
    /// The storage was not heard from; then there is no decision.
    pub(crate) fn remembered(&self, request: &AccessRequest, now_us: i64) -> Result<Option<Judgement>, StorageError> {
        let mut found = Vec::new();
        for thumbprint in Thumbprint::of_possession(request.context.possession) {
            match self.memory.known(thumbprint)? {
                Some(known) => found.extend(known),
                None => return Ok(None),
            }
        }
        Ok(Some(self.judgement(&found, request, now_us)))
    }

    /// Looks the device of a request up.
    ///
    /// # Errors
    /// The storage failed or was not heard from; then there is no decision.
    pub(crate) async fn judge(&self, request: &AccessRequest, now_us: i64) -> Result<Judgement, StorageError> {
        let _place = self.looking_up.try_acquire().map_err(|_| StorageError::Overloaded)?;
        let mut found = Vec::new();
        for thumbprint in Thumbprint::of_possession(request.context.possession) {
            found.extend(self.find(thumbprint).await?);
        }
        Ok(self.judgement(&found, request, now_us))
    }

    async fn find(&self, thumbprint: Thumbprint) -> Result<Known, StorageError> {
        if let Some(known) = self.memory.known(thumbprint)? {
            return Ok(known);
        }
        let generation = self.memory.generation();
        let known = self.store.device_of(thumbprint).await?.map(Arc::new);
        self.memory.keep(thumbprint, known.clone(), generation);
        Ok(known)
    }

    /// Where certificate and key are two devices', the lesser one counts, for as long as neither changes: a good one vouches for no
    /// other, and somebody else's makes nobody the owner.
    fn judgement(&self, found: &[Arc<Device>], request: &AccessRequest, now_us: i64) -> Judgement {
        let principal = request.principal.as_ref();
        let principal = principal.map(|principal| PrincipalId::of(&principal.issuer, &principal.subject));
        let is_owner = found.iter().all(|device| Some(device.owner) == principal);
        let judged = || found.iter().map(|device| (device, self.trust(device, now_us)));
        let same_for_us = judged().filter_map(|(_, trust)| trust.same_for_us).min();
        let least = judged().min_by_key(|(device, trust)| (device.state, trust.is_trusted, trust.score, device.id));
        let device = least.map(|(device, trust)| {
            let trust = Trust { same_for_us, ..trust };
            SeenDevice::new(device.id, device.state, &trust, is_owner)
        });
        let refusal = device
            .as_ref()
            .filter(|device| self.settings.denied.contains(&device.state))
            .map(|device| Refusal(device.state));
        if let Some(refusal) = refusal {
            self.metrics.device_refused(refusal.code());
        }
        Judgement {
            device,
            refusal,
            // Without a policy that reads devices a decision depends on them all the same, where some are denied.
            vary: match self.settings.denied.is_empty() {
                true => Vary::NOTHING,
                false => Vary::NOTHING.with(Attribute::Device),
            },
        }
    }

    /// How far a device can be trusted now, and why.
    pub(crate) fn trust(&self, device: &Device, now_us: i64) -> Trust {
        trust(device, &self.settings.compliance, &self.settings.weights, now_us)
    }
}

#[async_trait]
impl CachedView for Devices {
    fn apply_change(&self, change: Change) {
        self.memory.changed(change);
    }

    /// Nothing has to be known as a whole: what is not remembered is read when it is needed.
    fn is_current(&self) -> bool {
        true
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
