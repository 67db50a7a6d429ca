//! DeviceTrust: what it is made of, and how long it stays the same.

use picket_model::device_thumbprint::DeviceThumbprint;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use uuid::Uuid;

use super::*;
use crate::PrincipalId;
use crate::devices::DeviceId;

const DAY_US: i64 = 86_400_000_000;
const REPORTED_US: i64 = 1_700_000_000_000_000;
const WEIGHTS: TrustWeights = TrustWeights {
    trusted_points: 100,
    enrolled_points: 50,
    noncompliance_points: 30,
    age_points: 2,
    age_step_us: DAY_US,
    age_points_max: 7,
    failure_points: 10,
    failure_points_max: 25,
    trusted_from: 60,
};

fn compliance() -> Compliance {
    let least = [("macos", "14.2"), ("windows", "10.0.22631")];
    Compliance {
        os_versions_min: least
            .map(|(os, version)| (OsName::new(os).unwrap(), OsVersion::new(version).unwrap()))
            .into(),
        disk_encryption_required: true,
        management_required: true,
        posture_age_us_max: Some(10 * DAY_US),
    }
}

fn posture() -> Posture {
    Posture {
        os: OsName::new("macos").unwrap(),
        os_version: OsVersion::new("14.2").unwrap(),
        is_disk_encrypted: true,
        is_managed: true,
        failures: 0,
        reported_us: REPORTED_US,
        reporter: "spiffe://example.org/mdm".into(),
    }
}

fn device(state: DeviceState, posture: Option<Posture>) -> Device {
    Device {
        id: DeviceId::new(Uuid::from_u128(1)),
        owner: PrincipalId::of("https://issuer.example", "alice"),
        issuer: "https://issuer.example".into(),
        subject: "alice".into(),
        tenant: None,
        label: String::new(),
        state,
        thumbprints: vec![DeviceThumbprint::Key([1; 32])],
        posture,
        enrolled_us: 0,
        changed_us: 0,
    }
}

fn of(change: impl FnOnce(&mut Posture)) -> DeviceTrust {
    let mut posture = posture();
    change(&mut posture);
    assess_trust(
        &device(DeviceState::Trusted, Some(posture)),
        &compliance(),
        &WEIGHTS,
        REPORTED_US,
    )
}

#[test]
fn a_trusted_device_that_complies_is_trusted() {
    let trust = of(|_| {});
    assert_eq!((trust.score, trust.is_compliant, trust.is_trusted), (100, true, true));
    assert_eq!(trust.parts.len(), 1);
}

#[test]
fn each_requirement_counts_and_one_is_enough_not_to_comply() {
    type Change = fn(&mut Posture);
    let changes: [(Requirement, Change); 4] = [
        (Requirement::OsVersion, |posture| {
            posture.os_version = OsVersion::new("14.1.9").unwrap();
        }),
        (Requirement::Os, |posture| posture.os = OsName::new("beos").unwrap()),
        (Requirement::DiskEncryption, |posture| posture.is_disk_encrypted = false),
        (Requirement::Management, |posture| posture.is_managed = false),
    ];
    for (requirement, change) in changes {
        let trust = of(change);
        assert_eq!((trust.score, trust.is_compliant, trust.is_trusted), (70, false, false));
        assert_eq!(trust.parts[1].cause, TrustCause::NotCompliant(requirement));
    }
    let trust = of(|posture| {
        posture.is_managed = false;
        posture.is_disk_encrypted = false;
    });
    assert_eq!(trust.score, 40);
}

#[test]
fn a_device_of_which_nothing_is_known_complies_with_nothing_that_is_asked_for() {
    let unreported = device(DeviceState::Trusted, None);
    let found = assess_trust(&unreported, &compliance(), &WEIGHTS, 0);
    assert_eq!((found.score, found.is_compliant, found.is_trusted), (63, false, false));
    assert_eq!(found.same_for_us, None);
    let found = assess_trust(&unreported, &Compliance::default(), &WEIGHTS, 0);
    assert_eq!((found.score, found.is_compliant, found.is_trusted), (93, true, true));
}

#[test]
fn only_an_operator_makes_a_device_trusted() {
    for state in [DeviceState::Enrolled, DeviceState::Suspended, DeviceState::Retired] {
        let found = assess_trust(&device(state, Some(posture())), &compliance(), &WEIGHTS, REPORTED_US);
        let expected = if state == DeviceState::Enrolled { 50 } else { 0 };
        assert_eq!((found.score, found.is_trusted), (expected, false), "{state:?}");
        assert!(found.is_compliant);
    }
}

#[test]
fn failures_count_up_to_a_limit() {
    assert_eq!(of(|posture| posture.failures = 2).score, 80);
    assert_eq!(of(|posture| posture.failures = 3).score, 75);
    assert_eq!(of(|posture| posture.failures = u16::MAX).score, 75);
    let too_low = TrustWeights {
        failure_points_max: 90,
        ..WEIGHTS
    };
    let mut failing = posture();
    failing.failures = 5;
    let found = assess_trust(
        &device(DeviceState::Trusted, Some(failing)),
        &compliance(),
        &too_low,
        REPORTED_US,
    );
    // It complies, and is not trusted all the same.
    assert_eq!((found.score, found.is_compliant, found.is_trusted), (50, true, false));
}

#[test]
fn trust_falls_with_the_age_of_the_report_and_says_when() {
    let at = |age_us: i64| {
        let device = device(DeviceState::Trusted, Some(posture()));
        assess_trust(&device, &compliance(), &WEIGHTS, REPORTED_US + age_us)
    };
    for (age_us, score, same_for_us) in [
        (-DAY_US, 100, Some(2 * DAY_US)),
        (0, 100, Some(DAY_US)),
        (DAY_US - 1, 100, Some(1)),
        (DAY_US, 98, Some(DAY_US)),
        (3 * DAY_US, 94, Some(DAY_US)),
        // Age costs no more: the next that changes something is that the report is too old.
        (4 * DAY_US, 93, Some(6 * DAY_US)),
        (10 * DAY_US - 1, 93, Some(1)),
        (10 * DAY_US, 63, None),
    ] {
        let trust = at(age_us);
        assert_eq!((trust.score, trust.same_for_us), (score, same_for_us), "{age_us}");
    }
    assert!(!at(10 * DAY_US).is_compliant);
}

proptest! {
    /// For as long as it says that it stays the same, it does; and it never leaves its bounds.
    #[test]
    fn what_stays_the_same_does(
        age_us in -DAY_US..20 * DAY_US, part in 0..1000_i64, points: u8, max: u8, step_us in 1..3 * DAY_US,
        limit_us in proptest::option::of(1..20 * DAY_US), failures: u16, state in 0..4_usize, is_known: bool,
        disk in any::<bool>(),
    ) {
        let mut reported = posture();
        reported.failures = failures;
        reported.is_disk_encrypted = disk;
        let device = device(DeviceState::ALL[state], is_known.then_some(reported));
        let compliance = Compliance { posture_age_us_max: limit_us, ..compliance() };
        let weights = TrustWeights { age_points: points, age_points_max: max, age_step_us: step_us, ..WEIGHTS };
        let now_us = REPORTED_US + age_us;
        let now = assess_trust(&device, &compliance, &weights, now_us);
        prop_assert!(now.score <= TRUST_SCORE_MAX);
        prop_assert!(now.same_for_us.is_none_or(|same_for_us| same_for_us > 0));
        let same_for_us = now.same_for_us.unwrap_or(100 * DAY_US);
        let then = assess_trust(&device, &compliance, &weights, now_us + (same_for_us - 1) * part / 1000);
        prop_assert_eq!(
            (now.score, now.is_compliant, now.is_trusted),
            (then.score, then.is_compliant, then.is_trusted)
        );
        let sum: i64 = now.parts.iter().map(|part| i64::from(part.points)).sum();
        if matches!(device.state, DeviceState::Enrolled | DeviceState::Trusted) {
            prop_assert_eq!(i64::from(now.score), sum.clamp(0, 100));
        }
    }
}
