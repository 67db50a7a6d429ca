//! `[devices]`.

use std::collections::BTreeMap;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use picket_model::problems::{Problems, shortened};

use super::fields::{Ranged, parsed_text};
use crate::devices::{Compliance, DeviceState, OsName, OsVersion, Settings, Weights};

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 366 * DAY_S;
/// A phone in another room, or a colleague who has to be asked.
const CHALLENGE_VALID_FOR_S: u32 = 600;
const DEVICES_MAX: u32 = 200_000;
/// Less than 1 KiB each.
const CACHE_ENTRIES_MAX: u32 = 50_000;
/// A list of operating systems that is longer is none that somebody wrote.
const OS_MAX: usize = 64;
const AUDIENCE_BYTES_MAX: usize = 256;

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct DevicesSection {
    #[deserr(default = vec![State::Suspended, State::Retired])]
    deny: Vec<State>,
    #[deserr(default = Audience("picket-policy-service".to_owned()))]
    audience: Audience,
    #[deserr(default = Ranged(CHALLENGE_VALID_FOR_S))]
    challenge_valid_for_s: Ranged<10, DAY_S>,
    #[deserr(default = Ranged(DEVICES_MAX))]
    devices_max: Ranged<1, 100_000_000>,
    #[deserr(default = Ranged(CACHE_ENTRIES_MAX))]
    cache_entries_max: Ranged<1, 10_000_000>,
    #[deserr(default)]
    compliance: ComplianceSection,
    #[deserr(default)]
    trust: TrustSection,
}

/// The states whose requests can be denied without a policy.
#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
enum State {
    Enrolled,
    Suspended,
    Retired,
}

#[derive(Debug)]
struct Audience(String);

#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ComplianceSection {
    #[deserr(default)]
    os_versions_min: OsVersions,
    #[deserr(default)]
    disk_encryption_required: bool,
    #[deserr(default)]
    management_required: bool,
    #[deserr(default)]
    posture_age_s_max: Option<Ranged<60, YEAR_S>>,
}

#[derive(Debug, Default)]
struct OsVersions(BTreeMap<OsName, OsVersion>);

macro_rules! points {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $default:expr,)+) => {
        #[derive(Debug, Deserr)]
        #[deserr(deny_unknown_fields, error = Problems)]
        struct TrustSection { $(#[deserr(default = Ranged($default))] $key: $type,)+ }

        impl Default for TrustSection {
            fn default() -> Self {
                Self { $($key: Ranged($default),)+ }
            }
        }
    };
}

points! {
    trusted_points: Ranged<0, 100> = 100,
    enrolled_points: Ranged<0, 100> = 50,
    noncompliance_points: Ranged<0, 100> = 30,
    age_points: Ranged<0, 100> = 2,
    age_step_s: Ranged<60, YEAR_S> = DAY_S,
    age_points_max: Ranged<0, 100> = 40,
    failure_points: Ranged<0, 100> = 10,
    failure_points_max: Ranged<0, 100> = 50,
    trusted_from: Ranged<0, 100> = 60,
}

impl From<DevicesSection> for Settings {
    fn from(section: DevicesSection) -> Self {
        let us = |seconds: u32| i64::from(seconds) * MICROSECONDS_PER_SECOND;
        Self {
            compliance: Compliance {
                os_versions_min: section.compliance.os_versions_min.0,
                disk_encryption_required: section.compliance.disk_encryption_required,
                management_required: section.compliance.management_required,
                posture_age_us_max: section.compliance.posture_age_s_max.map(|age| us(age.0)),
            },
            weights: Weights::from(section.trust),
            denied: section.deny.into_iter().map(DeviceState::from).collect(),
            audience: section.audience.0,
            challenge_valid_for_us: us(section.challenge_valid_for_s.0),
            devices_max: section.devices_max.0.into(),
            cache_entries_max: section.cache_entries_max.0,
        }
    }
}

impl From<TrustSection> for Weights {
    fn from(section: TrustSection) -> Self {
        // Each is 100 at most.
        let points = |points: Ranged<0, 100>| u8::try_from(points.0).unwrap_or(u8::MAX);
        Self {
            trusted_points: points(section.trusted_points),
            enrolled_points: points(section.enrolled_points),
            noncompliance_points: points(section.noncompliance_points),
            age_points: points(section.age_points),
            age_step_us: i64::from(section.age_step_s.0) * MICROSECONDS_PER_SECOND,
            age_points_max: points(section.age_points_max),
            failure_points: points(section.failure_points),
            failure_points_max: points(section.failure_points_max),
            trusted_from: points(section.trusted_from),
        }
    }
}

impl From<State> for DeviceState {
    fn from(state: State) -> Self {
        match state {
            State::Enrolled => Self::Enrolled,
            State::Suspended => Self::Suspended,
            State::Retired => Self::Retired,
        }
    }
}

impl Deserr<Problems> for Audience {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| match text.len() {
            1..=AUDIENCE_BYTES_MAX => Ok(Self(text.to_owned())),
            _ => Err(format!("expected a text of 1 to {AUDIENCE_BYTES_MAX} bytes")),
        })
    }
}

impl Deserr<Problems> for OsVersions {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        let texts = <BTreeMap<String, String> as Deserr<Problems>>::deserialize_from_value(value, location)?;
        let mut problems = Problems::default();
        if texts.len() > OS_MAX {
            let message = format!("expected at most {OS_MAX} operating systems");
            return Err(super::fields::problem(location, message));
        }
        let mut versions = BTreeMap::new();
        for (name, version) in texts {
            let place = format!("devices.compliance.os_versions_min.{}", shortened(&name));
            let os = OsName::new(&name);
            if os.is_none() {
                let expected =
                    "expected the name of an operating system: 1 to 32 lower-case letters, digits, `.`, `_` and `-`";
                problems.add(place.as_str(), expected);
            }
            let least = OsVersion::new(&version);
            if least.is_none() {
                let message = format!(
                    "`{}` is not a version, expected one such as `14.2`",
                    shortened(&version)
                );
                problems.add(place, message);
            }
            versions.extend(os.zip(least));
        }
        problems.none_or(Some(Self(versions)))
    }
}
