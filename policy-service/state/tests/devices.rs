//! The check of a request's device, over a real store.

#![expect(clippy::unwrap_used, reason = "tests: helpers outside #[test] functions fail loudly")]

use std::sync::Arc;

use picket_model::access::{AccessRequest, Action, Context, Possession, Principal, Resource, Sidecar};
use picket_model::decision::{Attribute, Vary};
use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use picket_state::StorageLocation;
use picket_state::devices::{
    Challenge, Compliance, DeviceCheck, DeviceId, DeviceMetrics, DeviceRefusal, DeviceSettings, DeviceUpdate, Devices,
    NewDevice, OsName, OsVersion, PendingEnrollment, Posture, TrustWeights,
};
use picket_state::{CachedView, Change, Freshness, PrincipalId, StorageError, Store};
use uuid::Uuid;

const NOW_US: i64 = 1_700_000_000_000_000;
const ISSUER: &str = "https://issuer.example";

fn settings() -> DeviceSettings {
    DeviceSettings {
        compliance: Compliance::default(),
        weights: TrustWeights {
            trusted_points: 100,
            enrolled_points: 50,
            noncompliance_points: 30,
            age_points: 2,
            age_step_us: 86_400_000_000,
            age_points_max: 20,
            failure_points: 10,
            failure_points_max: 50,
            trusted_from: 60,
        },
        denied: vec![DeviceState::Suspended, DeviceState::Retired],
        audience: "pdp".to_owned(),
        challenge_valid_for_us: 600_000_000,
        devices_max: 10,
        cache_entries_max: 10,
    }
}

/// A policy service's devices, without the service.
struct Replica {
    devices: Devices,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

impl Replica {
    async fn new(settings: DeviceSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("storage.sqlite3");
        let store = picket_storage::open(&StorageLocation::Sqlite { file }, Arc::new(|_| ()))
            .await
            .unwrap();
        let freshness = Arc::new(Freshness::new());
        freshness.confirm(freshness.elapsed_ms());
        let metrics = DeviceMetrics::default();
        let devices = Devices::new(Arc::<dyn Store>::clone(&store), freshness, 1, settings, metrics);
        Self {
            devices,
            store,
            _folder: folder,
        }
    }

    /// Enrols a device of alice's by the key of this number, and sets its state.
    async fn enrolled(&self, number: u8, state: DeviceState) -> DeviceId {
        let challenge = Challenge::random().unwrap();
        let enrollment = PendingEnrollment {
            challenge: challenge.digest(),
            owner: PrincipalId::of(ISSUER, "alice"),
            issuer: ISSUER.to_owned(),
            subject: "alice".to_owned(),
            tenant: None,
            label: String::new(),
            ends_us: NOW_US + 1,
            caller: String::new(),
        };
        assert!(self.store.begin_enrollment(enrollment, NOW_US, 10).await.unwrap());
        let new = NewDevice {
            challenge: challenge.digest(),
            id: DeviceId::new(Uuid::from_u128(number.into())),
            thumbprint: DeviceThumbprint::Key([number; 32]),
            now_us: NOW_US,
            devices_max: 10,
        };
        assert!(matches!(self.store.enroll(new).await.unwrap(), DeviceUpdate::Done(_)));
        if state != DeviceState::Enrolled {
            self.devices.set_state(new.id, state, NOW_US).await.unwrap();
        }
        new.id
    }

    async fn check(&self, request: &AccessRequest) -> DeviceCheck {
        let checked = self.devices.check(request, NOW_US).await.unwrap();
        // The lookup is cached, and has the same result.
        assert_eq!(self.devices.check(request, NOW_US).await.unwrap(), checked);
        checked
    }
}

fn request(certificate: Option<u8>, key: Option<u8>) -> AccessRequest {
    let text = str::to_owned;
    AccessRequest {
        request_id: text("request"),
        sidecar: Sidecar {
            node_id: text("node"),
            workload: text("orders"),
        },
        route_rule: text("rule"),
        principal: Some(Principal {
            issuer: text(ISSUER),
            subject: text("alice"),
            ..Principal::default()
        }),
        action: Action { method: text("GET") },
        resource: Resource {
            host: text("orders"),
            path: text("/"),
            ..Resource::default()
        },
        context: Context {
            possession: Possession {
                certificate: certificate.map(|number| CertificateThumbprint([number; 32])),
                key: key.map(|number| KeyThumbprint([number; 32])),
            },
            ..Context::default()
        },
        ..AccessRequest::default()
    }
}

#[tokio::test]
async fn a_device_is_known_by_what_was_proved_and_by_nothing_else() {
    let replica = Replica::new(settings()).await;
    let id = replica.enrolled(1, DeviceState::Trusted).await;
    let device = replica.check(&request(None, Some(1))).await.device.unwrap();
    assert_eq!(
        (device.id, device.is_trusted, device.is_owner),
        (id.to_string(), true, true)
    );
    // Nothing was reported.
    assert_eq!(device.trust_score, 80);
    for other in [request(None, None), request(None, Some(2)), request(Some(1), None)] {
        assert_eq!(replica.check(&other).await.device, None);
    }
    replica
        .devices
        .add_thumbprint(id, DeviceThumbprint::Certificate([1; 32]), NOW_US)
        .await
        .unwrap();
    let device = replica.check(&request(Some(1), None)).await.device.unwrap();
    assert_eq!(device.id, id.to_string());
    let mut of_bob = request(None, Some(1));
    of_bob.principal.as_mut().unwrap().subject = "bob".to_owned();
    assert!(!replica.check(&of_bob).await.device.unwrap().is_owner);
    of_bob.principal = None;
    assert!(!replica.check(&of_bob).await.device.unwrap().is_owner);
}

#[tokio::test]
async fn of_two_devices_the_lesser_one_counts() {
    let replica = Replica::new(settings()).await;
    replica.enrolled(1, DeviceState::Trusted).await;
    let lost = replica.enrolled(2, DeviceState::Suspended).await;
    let enrolled = replica.enrolled(3, DeviceState::Enrolled).await;
    replica
        .devices
        .add_thumbprint(lost, DeviceThumbprint::Certificate([2; 32]), NOW_US)
        .await
        .unwrap();
    replica
        .devices
        .add_thumbprint(enrolled, DeviceThumbprint::Certificate([3; 32]), NOW_US)
        .await
        .unwrap();
    let checked = replica.check(&request(Some(2), Some(1))).await;
    assert_eq!(checked.refusal.map(DeviceRefusal::code), Some("device_suspended"));
    let checked = replica.check(&request(Some(3), Some(1))).await;
    assert_eq!(checked.device.unwrap().state, DeviceState::Enrolled);
}

#[tokio::test]
async fn of_two_devices_what_is_said_holds_while_neither_changes_and_both_are_the_owners() {
    const DAY_US: i64 = 86_400_000_000;
    let replica = Replica::new(settings()).await;
    let ids = [
        replica.enrolled(1, DeviceState::Trusted).await,
        replica.enrolled(2, DeviceState::Trusted).await,
    ];
    let certificate = DeviceThumbprint::Certificate([2; 32]);
    replica
        .devices
        .add_thumbprint(ids[1], certificate, NOW_US)
        .await
        .unwrap();
    // The better one falls in a minute, the lesser one in a day.
    for (id, age_us) in ids.into_iter().zip([DAY_US - 60_000_000, 3 * DAY_US]) {
        let posture = Posture {
            os: OsName::new("macos").unwrap(),
            os_version: OsVersion::new("14.2").unwrap(),
            is_disk_encrypted: true,
            is_managed: true,
            failures: 0,
            reported_us: NOW_US - age_us,
            reporter: String::new(),
        };
        replica.devices.report(id, posture).await.unwrap();
    }
    let alone = replica.check(&request(Some(2), None)).await.device.unwrap();
    let both = replica.check(&request(Some(2), Some(1))).await.device.unwrap();
    assert_eq!((&alone.id, alone.is_owner), (&both.id, true));
    assert_eq!(alone.same_for_ms, Some(86_400_000));
    assert_eq!((both.same_for_ms, both.is_owner), (Some(60_000), true));
    let mut of_bob = request(Some(2), Some(1));
    of_bob.principal.as_mut().unwrap().subject = "bob".to_owned();
    assert!(!replica.check(&of_bob).await.device.unwrap().is_owner);
}

#[tokio::test]
async fn a_device_that_is_suspended_or_retired_is_denied_at_once_where_the_configuration_says_so() {
    let replica = Replica::new(settings()).await;
    let id = replica.enrolled(1, DeviceState::Trusted).await;
    let asked = request(None, Some(1));
    assert_eq!(replica.check(&asked).await.refusal, None);
    for (state, code) in [
        (DeviceState::Suspended, Some("device_suspended")),
        (DeviceState::Enrolled, None),
        (DeviceState::Retired, Some("device_retired")),
    ] {
        replica.devices.set_state(id, state, NOW_US).await.unwrap();
        let checked = replica.check(&asked).await;
        assert_eq!(checked.refusal.map(DeviceRefusal::code), code, "{state:?}");
        // Nobody else must be given this answer, nor it the answer of another.
        assert_eq!(checked.vary, Vary::NOTHING.with(Attribute::Device));
    }
    let open = DeviceSettings {
        denied: Vec::new(),
        ..settings()
    };
    let replica = Replica::new(open).await;
    replica.enrolled(1, DeviceState::Retired).await;
    let checked = replica.check(&asked).await;
    assert_eq!((checked.refusal, checked.vary), (None, Vary::NOTHING));
    assert_eq!(checked.device.unwrap().state, DeviceState::Retired);
}

#[tokio::test]
async fn what_another_replica_changes_is_known_when_it_is_told() {
    let replica = Replica::new(settings()).await;
    let asked = request(None, Some(1));
    // That it is nobody's is remembered.
    assert_eq!(replica.check(&asked).await.device, None);
    let id = replica.enrolled(1, DeviceState::Enrolled).await;
    assert_eq!(replica.check(&asked).await.device, None);
    CachedView::apply_change(&replica.devices, Change::Device(DeviceThumbprint::Key([1; 32])));
    assert_eq!(replica.check(&asked).await.device.unwrap().state, DeviceState::Enrolled);
    replica
        .store
        .set_device_state(id, DeviceState::Trusted, NOW_US)
        .await
        .unwrap();
    assert_eq!(replica.check(&asked).await.device.unwrap().state, DeviceState::Enrolled);
    CachedView::apply_change(&replica.devices, Change::Anything);
    assert_eq!(replica.check(&asked).await.device.unwrap().state, DeviceState::Trusted);
}

#[tokio::test]
async fn nothing_is_decided_while_the_storage_is_not_heard_from() {
    let replica = Replica::new(settings()).await;
    let (freshness, metrics) = (Arc::new(Freshness::new()), DeviceMetrics::default());
    let cut_off = Devices::new(
        Arc::<dyn Store>::clone(&replica.store),
        freshness,
        1,
        settings(),
        metrics,
    );
    let asked = request(None, Some(1));
    assert!(matches!(
        cut_off.check(&asked, NOW_US).await,
        Err(StorageError::Stale(_))
    ));
}
