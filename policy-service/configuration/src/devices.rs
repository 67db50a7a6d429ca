//! `[devices]`.

use std::collections::BTreeMap;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use picket_model::device::DeviceState;
use picket_model::problems::{Problems, parsed_text, problem_at, shortened};
use picket_state::devices::{Compliance, DeviceSettings, OsName, OsVersion, TrustWeights};

use super::fields::Ranged;

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 366 * DAY_S;
/// A phone in another room, or a colleague who has to be asked.
const CHALLENGE_VALID_FOR_S: u32 = 600;
const DEVICES_MAX: u32 = 200_000;
/// Less than 1 KiB each.
const CACHE_ENTRIES_MAX: u32 = 50_000;
/// A list of operating systems that is longer is none that somebody wrote.
pub(super) const OS_MAX: usize = 64;
const AUDIENCE: &str = "picket-policy-service";
pub(super) const AUDIENCE_BYTES_MAX: usize = 256;

/// Devices: enrolled by operators, reported about by reporters, and read by policies as
/// `context.device`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Devices")
)]
pub(super) struct DevicesSection {
    /// The states whose requests are denied before any policy is evaluated.
    #[deserr(default = vec![State::Suspended, State::Retired])]
    #[cfg_attr(feature = "schema", schemars(extend("default" = ["suspended", "retired"])))]
    deny: Vec<State>,
    /// The audience (`aud`) of proofs of enrolment.
    #[deserr(default = Audience(AUDIENCE.to_owned()))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = AUDIENCE)))]
    audience: Audience,
    /// How long a challenge can be answered, in seconds.
    #[deserr(default = Ranged(CHALLENGE_VALID_FOR_S))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CHALLENGE_VALID_FOR_S)))]
    challenge_valid_for_s: Ranged<10, DAY_S>,
    /// The devices that are stored, including retired ones.
    #[deserr(default = Ranged(DEVICES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = DEVICES_MAX)))]
    devices_max: Ranged<1, 100_000_000>,
    /// The thumbprints that are cached in memory, including those of no device, at less than 1 KiB
    /// each.
    #[deserr(default = Ranged(CACHE_ENTRIES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CACHE_ENTRIES_MAX)))]
    cache_entries_max: Ranged<1, 10_000_000>,
    /// The requirements of a device that complies.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    compliance: ComplianceSection,
    /// The points of the trust score.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    trust: TrustSection,
}

/// A state of a device.
#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
enum State {
    /// Enrolled, and neither trusted, suspended nor retired.
    Enrolled,
    /// Suspended until an operator reinstates it.
    Suspended,
    /// Retired for good.
    Retired,
}

/// The audience of proofs of enrolment.
#[derive(Debug)]
pub(super) struct Audience(String);

/// The requirements of a device that complies, checked against its last report.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Compliance of devices")
)]
struct ComplianceSection {
    /// The least version of each operating system, such as
    /// `{ macos = "14.2", windows = "10.0.22631" }`. With one or more entries, other operating
    /// systems do not comply.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    os_versions_min: OsVersions,
    /// Whether the device must store its data encrypted.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    disk_encryption_required: bool,
    /// Whether the device must be managed.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    management_required: bool,
    /// The greatest age of the last report, in seconds. Default: any.
    #[deserr(default)]
    posture_age_s_max: Option<Ranged<60, YEAR_S>>,
}

#[derive(Debug, Default)]
pub(super) struct OsVersions(BTreeMap<OsName, OsVersion>);

macro_rules! points {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $default:expr,)+) => {
        /// The points of the trust score of a device, from 0 to 100.
        #[derive(Debug, Deserr)]
        #[deserr(deny_unknown_fields, error = Problems)]
        #[cfg_attr(
            feature = "schema",
            derive(schemars::JsonSchema),
            schemars(deny_unknown_fields, title = "Trust score of devices")
        )]
        struct TrustSection {
            $(
                $(#[$doc])*
                #[deserr(default = Ranged($default))]
                #[cfg_attr(feature = "schema", schemars(extend("default" = $default)))]
                $key: $type,
            )+
        }

        impl Default for TrustSection {
            fn default() -> Self {
                Self { $($key: Ranged($default),)+ }
            }
        }
    };
}

points! {
    /// The score at which a trusted device begins.
    trusted_points: Ranged<0, 100> = 100,
    /// The score at which an enrolled device begins. Suspended and retired devices have 0.
    enrolled_points: Ranged<0, 100> = 50,
    /// The points that each requirement costs that the device does not meet.
    noncompliance_points: Ranged<0, 100> = 30,
    /// The points that each step of age of the last report costs.
    age_points: Ranged<0, 100> = 2,
    /// The length of a step of age, in seconds.
    age_step_s: Ranged<60, YEAR_S> = DAY_S,
    /// The points that age costs at most, and without any report.
    age_points_max: Ranged<0, 100> = 40,
    /// The points that each failed check of the last report costs.
    failure_points: Ranged<0, 100> = 10,
    /// The points that failed checks cost at most.
    failure_points_max: Ranged<0, 100> = 50,
    /// The least score of a device that is trusted (`context.device.is_trusted`).
    trusted_from: Ranged<0, 100> = 60,
}

impl From<DevicesSection> for DeviceSettings {
    fn from(section: DevicesSection) -> Self {
        let us = |seconds: u32| i64::from(seconds) * MICROSECONDS_PER_SECOND;
        Self {
            compliance: Compliance {
                os_versions_min: section.compliance.os_versions_min.0,
                disk_encryption_required: section.compliance.disk_encryption_required,
                management_required: section.compliance.management_required,
                posture_age_us_max: section.compliance.posture_age_s_max.map(|age| us(age.0)),
            },
            weights: TrustWeights::from(section.trust),
            denied: section.deny.into_iter().map(DeviceState::from).collect(),
            audience: section.audience.0,
            challenge_valid_for_us: us(section.challenge_valid_for_s.0),
            devices_max: section.devices_max.0.into(),
            cache_entries_max: section.cache_entries_max.0,
        }
    }
}

impl From<TrustSection> for TrustWeights {
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
            return Err(problem_at(location, message));
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
