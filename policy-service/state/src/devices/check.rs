//! The check of a request's device, for its decision.

use std::sync::Arc;

use async_trait::async_trait;
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Vary};
use picket_model::device::{DeviceFacts, DeviceState};
use picket_model::device_thumbprint::DeviceThumbprint;

use super::cache::Lookup;
use super::facts::device_facts;
use super::{Device, DeviceTrust, Devices, assess_trust};
use crate::{CachedView, Change, PrincipalId, StorageError};

/// What a request's device means for its decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCheck {
    /// What policies see of it; `None`: the request comes from no known device.
    pub device: Option<DeviceFacts>,
    /// Why the request is denied, if it is.
    pub refusal: Option<DeviceRefusal>,
    /// The attributes that were compared, besides those of the token.
    pub vary: Vary,
}

/// A request is denied for the state of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRefusal(pub(super) DeviceState);

impl DeviceRefusal {
    /// The stable code, for callers, metrics and records.
    pub fn code(self) -> &'static str {
        match self.0 {
            DeviceState::Retired => "device_retired",
            DeviceState::Suspended => "device_suspended",
            DeviceState::Enrolled => "device_enrolled",
            DeviceState::Trusted => "device_trusted",
        }
    }
}

impl DeviceCheck {
    /// The check of a service that keeps no devices.
    pub fn none() -> Self {
        Self {
            device: None,
            refusal: None,
            vary: Vary::NOTHING,
        }
    }
}

impl Devices {
    /// Checks the device of a request, with the cache or else with the storage.
    ///
    /// # Errors
    /// The storage failed, is not confirmed, or too many lookups wait for it. Then there is no
    /// decision.
    pub async fn check(&self, request: &AccessRequest, now_us: i64) -> Result<DeviceCheck, StorageError> {
        match self.check_cached(request, now_us)? {
            Some(check) => Ok(check),
            None => self.check_stored(request, now_us).await,
        }
    }

    /// The check without the storage; `None`: the cache does not know enough.
    pub(super) fn check_cached(
        &self,
        request: &AccessRequest,
        now_us: i64,
    ) -> Result<Option<DeviceCheck>, StorageError> {
        let mut found = Vec::new();
        for thumbprint in DeviceThumbprint::of_possession(request.context.possession) {
            match self.cache.get(thumbprint)? {
                Some(lookup) => found.extend(lookup),
                None => return Ok(None),
            }
        }
        Ok(Some(self.check_found(&found, request, now_us)))
    }

    pub(super) async fn check_stored(&self, request: &AccessRequest, now_us: i64) -> Result<DeviceCheck, StorageError> {
        let _slot = self.lookups.try_acquire().map_err(|_| StorageError::Overloaded)?;
        let mut found = Vec::new();
        for thumbprint in DeviceThumbprint::of_possession(request.context.possession) {
            found.extend(self.find(thumbprint).await?);
        }
        Ok(self.check_found(&found, request, now_us))
    }

    async fn find(&self, thumbprint: DeviceThumbprint) -> Result<Lookup, StorageError> {
        if let Some(lookup) = self.cache.get(thumbprint)? {
            return Ok(lookup);
        }
        let generation = self.cache.generation();
        let lookup = self.store.device_of(thumbprint).await?.map(Arc::new);
        self.cache.insert(thumbprint, lookup.clone(), generation);
        Ok(lookup)
    }

    /// Where certificate and key belong to two devices, the less trusted one counts, and the answer
    /// holds for as long as neither changes. The principal is the owner only where both devices are
    /// its own.
    fn check_found(&self, found: &[Arc<Device>], request: &AccessRequest, now_us: i64) -> DeviceCheck {
        let principal = request.principal.as_ref();
        let principal = principal.map(|principal| PrincipalId::of(&principal.issuer, &principal.subject));
        let is_owner = found.iter().all(|device| Some(device.owner) == principal);
        let assessed = || found.iter().map(|device| (device, self.trust(device, now_us)));
        let same_for_us = assessed().filter_map(|(_, trust)| trust.same_for_us).min();
        let least = assessed().min_by_key(|(device, trust)| (device.state, trust.is_trusted, trust.score, device.id));
        let device = least.map(|(device, trust)| {
            let trust = DeviceTrust { same_for_us, ..trust };
            device_facts(device.id, device.state, &trust, is_owner)
        });
        let refusal = device
            .as_ref()
            .filter(|device| self.settings.denied.contains(&device.state))
            .map(|device| DeviceRefusal(device.state));
        if let Some(refusal) = refusal {
            self.metrics.count_refusal(refusal);
        }
        DeviceCheck {
            device,
            refusal,
            // Where some states are denied, a decision depends on the device also without a policy
            // that reads it.
            vary: match self.settings.denied.is_empty() {
                true => Vary::NOTHING,
                false => Vary::NOTHING.with(Attribute::Device),
            },
        }
    }

    /// How far a device can be trusted now, and why.
    pub fn trust(&self, device: &Device, now_us: i64) -> DeviceTrust {
        assess_trust(device, &self.settings.compliance, &self.settings.weights, now_us)
    }
}

#[async_trait]
impl CachedView for Devices {
    fn apply_change(&self, change: Change) {
        self.cache.apply_change(change);
    }

    /// Nothing is cached as a whole: a device that is not cached is read when it is needed.
    fn is_current(&self) -> bool {
        true
    }

    async fn refresh(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
