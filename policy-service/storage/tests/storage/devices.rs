//! What holds of devices in every store.

use picket_model::device::DeviceState;
use std::sync::Arc;

use picket_model::device_thumbprint::DeviceThumbprint;
use picket_state::StorageLocation;
use picket_state::devices::{
    ChallengeDigest, Device, DeviceId, DeviceUpdate, NewDevice, OsName, OsVersion, PendingEnrollment, Posture,
    THUMBPRINTS_MAX,
};
use picket_state::{Change, ListFilter, PrincipalId, Store};
use uuid::Uuid;

use crate::Backend;
use crate::open;
use crate::postgres::Server;
use crate::schema::told;

const NOW_US: i64 = 1_700_000_000_000_000;
const ISSUER: &str = "https://issuer.example";

pub(crate) async fn run(backend: &impl Backend) {
    a_challenge_is_answered_once(&*open(&backend.fresh().await).await).await;
    a_thumbprint_is_of_one_device(&*open(&backend.fresh().await).await).await;
    what_is_retired_stays_as_it_is(&*open(&backend.fresh().await).await).await;
    a_device_has_no_more_thumbprints_than_there_may_be(&*open(&backend.fresh().await).await).await;
    a_list_has_every_device_once(&*open(&backend.fresh().await).await).await;
    challenges_that_wait_are_limited_and_end(&*open(&backend.fresh().await).await).await;
    devices_are_limited(&*open(&backend.fresh().await).await).await;
    a_challenge_that_is_answered_at_once_enrols_one(open(&backend.fresh().await).await).await;
    what_was_reported_is_there_after_a_restart(&backend.fresh().await).await;
}

fn id(number: u8) -> DeviceId {
    DeviceId::new(Uuid::from_u128(number.into()))
}

fn key(number: u8) -> DeviceThumbprint {
    DeviceThumbprint::Key([number; 32])
}

fn enrollment(challenge: &str, subject: &str) -> PendingEnrollment {
    PendingEnrollment {
        challenge: ChallengeDigest::of(challenge),
        owner: PrincipalId::of(ISSUER, subject),
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        tenant: (subject == "alice").then(|| "acme".to_owned()),
        label: "o'clock; DROP TABLE device; --".to_owned(),
        ends_us: NOW_US + 10,
        caller: "spiffe://example.org/operator".to_owned(),
    }
}

fn new(challenge: &str, number: u8) -> NewDevice {
    NewDevice {
        challenge: ChallengeDigest::of(challenge),
        id: id(number),
        thumbprint: key(number),
        now_us: NOW_US,
        devices_max: 100,
    }
}

fn device(number: u8, subject: &str) -> Device {
    let PendingEnrollment {
        owner,
        issuer,
        subject,
        tenant,
        label,
        ..
    } = enrollment("", subject);
    Device {
        id: id(number),
        owner,
        issuer,
        subject,
        tenant,
        label,
        state: DeviceState::Enrolled,
        thumbprints: vec![key(number)],
        posture: None,
        enrolled_us: NOW_US,
        changed_us: NOW_US,
    }
}

fn posture() -> Posture {
    Posture {
        os: OsName::new("macos").unwrap(),
        os_version: OsVersion::new("14.2.1").unwrap(),
        is_disk_encrypted: true,
        is_managed: false,
        failures: u16::MAX,
        reported_us: NOW_US + 3,
        reporter: "spiffe://example.org/mdm".to_owned(),
    }
}

fn done(device: Device) -> DeviceUpdate {
    DeviceUpdate::Done(Box::new(device))
}

async fn begin(store: &dyn Store, challenge: &str, subject: &str) {
    assert!(
        store
            .begin_enrollment(enrollment(challenge, subject), NOW_US, 10)
            .await
            .unwrap()
    );
}

/// Enrols a device of this number.
async fn enroll(store: &dyn Store, number: u8, subject: &str) {
    let challenge = number.to_string();
    begin(store, &challenge, subject).await;
    let enrolled = store.enroll(new(&challenge, number)).await.unwrap();
    assert_eq!(enrolled, done(device(number, subject)));
}

async fn a_challenge_is_answered_once(store: &dyn Store) {
    assert_eq!(store.enroll(new("never made", 1)).await.unwrap(), DeviceUpdate::Missing);
    begin(store, "c", "alice").await;
    begin(store, "d", "alice").await;
    let late = NewDevice {
        now_us: NOW_US + 10,
        ..new("c", 1)
    };
    assert_eq!(store.enroll(late).await.unwrap(), DeviceUpdate::Missing);
    assert_eq!(store.enroll(new("c", 1)).await.unwrap(), done(device(1, "alice")));
    assert_eq!(store.device(id(1)).await.unwrap(), Some(device(1, "alice")));
    assert_eq!(store.device_of(key(1)).await.unwrap(), Some(device(1, "alice")));
    // The same hash of a certificate is another thumbprint.
    assert_eq!(
        store.device_of(DeviceThumbprint::Certificate([1; 32])).await.unwrap(),
        None
    );
    assert_eq!(store.device(id(2)).await.unwrap(), None);
    // Replayed, with the same key or another.
    for number in [1, 2] {
        assert_eq!(store.enroll(new("c", number)).await.unwrap(), DeviceUpdate::Missing);
    }
    // A key that is known already takes no other place, and the challenge waits on.
    let again = NewDevice {
        id: id(2),
        ..new("d", 1)
    };
    assert_eq!(store.enroll(again).await.unwrap(), DeviceUpdate::Taken);
    assert_eq!(store.enroll(new("d", 2)).await.unwrap(), done(device(2, "alice")));
}

async fn a_thumbprint_is_of_one_device(store: &dyn Store) {
    enroll(store, 1, "alice").await;
    enroll(store, 2, "bob").await;
    let certificate = DeviceThumbprint::Certificate([9; 32]);
    let with = |mut device: Device| {
        device.thumbprints = vec![certificate, key(1)];
        device.changed_us = NOW_US + 1;
        device
    };
    let added = with(device(1, "alice"));
    let now_us = NOW_US + 1;
    assert_eq!(
        store.add_thumbprint(id(1), certificate, now_us).await.unwrap(),
        done(added.clone())
    );
    let again = store.add_thumbprint(id(1), certificate, now_us + 5).await.unwrap();
    assert_eq!(again, DeviceUpdate::Unchanged(Box::new(added.clone())));
    for taken in [certificate, key(1)] {
        assert_eq!(
            store.add_thumbprint(id(2), taken, now_us).await.unwrap(),
            DeviceUpdate::Taken
        );
    }
    assert_eq!(
        store.add_thumbprint(id(3), key(3), now_us).await.unwrap(),
        DeviceUpdate::Missing
    );
    assert_eq!(store.device_of(certificate).await.unwrap(), Some(added));
    let not_its_own = store.remove_thumbprint(id(2), certificate, now_us).await.unwrap();
    assert_eq!(not_its_own, DeviceUpdate::Unchanged(Box::new(device(2, "bob"))));
    let removed = store.remove_thumbprint(id(1), certificate, NOW_US + 2).await.unwrap();
    let expected = Device {
        changed_us: NOW_US + 2,
        ..device(1, "alice")
    };
    assert_eq!(removed, done(expected));
    assert_eq!(store.device_of(certificate).await.unwrap(), None);
    // It is free now.
    assert!(matches!(
        store.add_thumbprint(id(2), certificate, now_us).await.unwrap(),
        DeviceUpdate::Done(_)
    ));
}

async fn what_is_retired_stays_as_it_is(store: &dyn Store) {
    enroll(store, 1, "alice").await;
    let in_state = |state, changed_us| Device {
        state,
        changed_us,
        ..device(1, "alice")
    };
    for (state, changed_us) in [
        (DeviceState::Trusted, NOW_US + 1),
        (DeviceState::Suspended, NOW_US + 2),
        (DeviceState::Enrolled, NOW_US + 3),
        (DeviceState::Retired, NOW_US + 4),
    ] {
        let set = store.set_device_state(id(1), state, changed_us).await.unwrap();
        assert_eq!(set, done(in_state(state, changed_us)));
        let again = store.set_device_state(id(1), state, changed_us + 50).await.unwrap();
        assert_eq!(again, DeviceUpdate::Unchanged(Box::new(in_state(state, changed_us))));
    }
    for state in [DeviceState::Trusted, DeviceState::Suspended, DeviceState::Enrolled] {
        let set = store.set_device_state(id(1), state, NOW_US).await.unwrap();
        assert_eq!(set, DeviceUpdate::Retired, "{state:?}");
    }
    assert_eq!(
        store.add_thumbprint(id(1), key(2), NOW_US).await.unwrap(),
        DeviceUpdate::Retired
    );
    assert_eq!(
        store.remove_thumbprint(id(1), key(1), NOW_US).await.unwrap(),
        DeviceUpdate::Retired
    );
    // Its key cannot be enrolled anew.
    begin(store, "c", "mallory").await;
    let again = NewDevice {
        id: id(2),
        ..new("c", 1)
    };
    assert_eq!(store.enroll(again).await.unwrap(), DeviceUpdate::Taken);
    let missing = store
        .set_device_state(id(7), DeviceState::Trusted, NOW_US)
        .await
        .unwrap();
    assert_eq!(missing, DeviceUpdate::Missing);
}

async fn a_device_has_no_more_thumbprints_than_there_may_be(store: &dyn Store) {
    enroll(store, 1, "alice").await;
    for number in 2..=u8::try_from(THUMBPRINTS_MAX).unwrap() {
        let added = store.add_thumbprint(id(1), key(number), NOW_US).await.unwrap();
        assert!(matches!(added, DeviceUpdate::Done(_)), "{number}");
    }
    let added = store.add_thumbprint(id(1), key(200), NOW_US).await.unwrap();
    assert_eq!(added, DeviceUpdate::TooMany);
    let device = store.device(id(1)).await.unwrap().unwrap();
    assert_eq!(device.thumbprints.len(), THUMBPRINTS_MAX);
    assert!(device.thumbprints.is_sorted());
}

async fn a_list_has_every_device_once(store: &dyn Store) {
    for (number, subject) in [(3, "alice"), (1, "bob"), (2, "alice")] {
        enroll(store, number, subject).await;
    }
    let ids = async |filter: ListFilter, after, count_max| {
        let devices = store.devices(filter, after, count_max).await.unwrap();
        devices.iter().map(|device| device.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(ListFilter::All, None, 10).await, [id(1), id(2), id(3)]);
    assert_eq!(ids(ListFilter::All, None, 2).await, [id(1), id(2)]);
    assert_eq!(ids(ListFilter::All, Some(id(2)), 2).await, [id(3)]);
    let alice = ListFilter::Principal(PrincipalId::of(ISSUER, "alice"));
    assert_eq!(ids(alice.clone(), None, 10).await, [id(2), id(3)]);
    assert_eq!(ids(alice, Some(id(2)), 10).await, [id(3)]);
    assert_eq!(ids(ListFilter::Tenant("acme".to_owned()), None, 1).await, [id(2)]);
    assert_eq!(ids(ListFilter::Tenant("globex".to_owned()), None, 1).await, []);
    let listed = store.devices(ListFilter::All, None, 1).await.unwrap();
    assert_eq!(listed, [device(1, "bob")]);
}

async fn challenges_that_wait_are_limited_and_end(store: &dyn Store) {
    let begin = async |challenge: &str, now_us| {
        store
            .begin_enrollment(enrollment(challenge, "alice"), now_us, 2)
            .await
            .unwrap()
    };
    assert!(begin("1", NOW_US).await);
    assert!(begin("2", NOW_US + 9).await);
    assert!(!begin("3", NOW_US + 9).await);
    // The others have ended.
    assert!(begin("4", NOW_US + 10).await);
    assert_eq!(store.enroll(new("1", 1)).await.unwrap(), DeviceUpdate::Missing);
}

async fn devices_are_limited(store: &dyn Store) {
    enroll(store, 1, "alice").await;
    begin(store, "c", "alice").await;
    let full = NewDevice {
        devices_max: 1,
        ..new("c", 2)
    };
    assert_eq!(store.enroll(full).await.unwrap(), DeviceUpdate::TooMany);
    assert_eq!(store.device(id(2)).await.unwrap(), None);
    assert!(matches!(
        store.enroll(new("c", 2)).await.unwrap(),
        DeviceUpdate::Done(_)
    ));
}

async fn a_challenge_that_is_answered_at_once_enrols_one(store: Arc<dyn Store>) {
    begin(&*store, "c", "alice").await;
    let mut answers = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let store = Arc::clone(&store);
        answers.spawn(async move { store.enroll(new("c", number)).await.unwrap() });
    }
    let mut enrolled = 0;
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        let is_enrolled = matches!(answer, DeviceUpdate::Done(_));
        assert!(is_enrolled || answer == DeviceUpdate::Missing, "{answer:?}");
        enrolled += u32::from(is_enrolled);
    }
    assert_eq!(enrolled, 1);
    assert_eq!(store.devices(ListFilter::All, None, 10).await.unwrap().len(), 1);
}

async fn what_was_reported_is_there_after_a_restart(location: &StorageLocation) {
    let store = open(location).await;
    enroll(&*store, 1, "alice").await;
    let reported = Device {
        posture: Some(posture()),
        ..device(1, "alice")
    };
    let change = store.report_posture(id(1), posture()).await.unwrap();
    assert_eq!(change, done(reported.clone()));
    let missing = store.report_posture(id(2), posture()).await.unwrap();
    assert_eq!(missing, DeviceUpdate::Missing);
    drop(store);
    let store = crate::reopen(location).await;
    assert_eq!(store.device(id(1)).await.unwrap(), Some(reported));
}

pub(crate) async fn changes_of_devices_are_told(server: &Server, folder: &std::path::Path) {
    let location = crate::postgres_at(folder, &server.database().await);
    let (first, _) = told(&location).await;
    let (second, changes) = told(&location).await;
    let take = async || {
        // The answer to a probe comes after everything that was to be told.
        second.probe().await.unwrap();
        std::mem::take(&mut *changes.lock().unwrap())
    };
    take().await;
    let (one, certificate) = (key(1), DeviceThumbprint::Certificate([9; 32]));
    enroll(&*first, 1, "alice").await;
    assert_eq!(take().await, [Change::Device(one)]);
    first.add_thumbprint(id(1), certificate, NOW_US).await.unwrap();
    let both = [Change::Device(certificate), Change::Device(one)];
    assert_eq!(take().await, both);
    first
        .set_device_state(id(1), DeviceState::Suspended, NOW_US)
        .await
        .unwrap();
    assert_eq!(take().await, both);
    first
        .set_device_state(id(1), DeviceState::Suspended, NOW_US)
        .await
        .unwrap();
    assert_eq!(take().await, []);
    first.report_posture(id(1), posture()).await.unwrap();
    assert_eq!(take().await, both);
    first.remove_thumbprint(id(1), certificate, NOW_US).await.unwrap();
    assert_eq!(take().await, [Change::Device(one), Change::Device(certificate)]);
}
