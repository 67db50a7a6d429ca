//! `[risk]`: what counts, how much, and the files that scores are made with.

use std::collections::BTreeSet;
use std::path::PathBuf;

use deserr::{Deserr, ValuePointerRef};
use picket_core::configuration::problems::Problems;

use super::fields::{DatabaseFile, ExistingFile, ListName, Ranged};
use crate::risk::{
    BehaviourSettings, DENIALS_MAX, DeviceSettings, Levels, LocationSettings, Mode, RiskSettings, ThreatListSettings,
    TimeSettings, ValidForMs,
};

/// Each list is looked at for each request.
const THREAT_LISTS_MAX: usize = 32;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 366 * DAY_S;
/// As in `[decisions]`.
const VALID_FOR_MS_MAX: u32 = 86_400_000;
const WEIGHT_MAX: u32 = 100;
/// As many denials as are remembered.
const DENIALS_BURST_MAX: u32 = 32;
const _: () = assert!(DENIALS_MAX == 32);

/// `[risk]`: scores. Absent: nothing is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Risk {
    /// What counts, and how much.
    pub settings: RiskSettings,
    /// Where baselines are kept across a restart; made where it does not exist.
    pub state_file: PathBuf,
    /// How often they are saved.
    pub save_interval_s: u32,
    /// Addresses that others have seen attacks from.
    pub threat_lists: Vec<ThreatListFile>,
    /// How often it is looked whether the lists have changed.
    pub threat_list_interval_s: u32,
    /// What is known about addresses.
    pub geoip: GeoipFiles,
}

/// A threat list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreatListFile {
    /// What records call it.
    pub name: String,
    /// The file, in netset form.
    pub file: PathBuf,
}

/// Databases in MaxMind's format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeoipFiles {
    /// Of countries.
    pub country: Option<PathBuf>,
    /// Of cities, with coordinates and countries.
    pub city: Option<PathBuf>,
    /// Of autonomous systems.
    pub asn: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
enum ModeField {
    Learning,
    Effective,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = levels_and_lists -> Problems)]
pub(super) struct RiskSection {
    state_file: DatabaseFile,
    #[deserr(default = ModeField::Effective)]
    mode: ModeField,
    #[deserr(default = Ranged(300))]
    save_interval_s: Ranged<1, DAY_S>,
    #[deserr(default = Ranged(100_000))]
    principals_max: Ranged<1_000, 10_000_000>,
    #[deserr(default = Ranged(90))]
    remembered_for_days: Ranged<1, 366>,
    #[deserr(default = Ranged(Levels::DEFAULT.medium_from.into()))]
    medium_from: Ranged<1, WEIGHT_MAX>,
    #[deserr(default = Ranged(Levels::DEFAULT.high_from.into()))]
    high_from: Ranged<1, WEIGHT_MAX>,
    #[deserr(default = Ranged(300_000))]
    low_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    #[deserr(default = Ranged(60_000))]
    medium_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    #[deserr(default = Ranged(0))]
    high_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    #[deserr(default)]
    location: LocationSection,
    #[deserr(default)]
    device: DeviceSection,
    #[deserr(default)]
    time: TimeSection,
    #[deserr(default)]
    behaviour: BehaviourSection,
    #[deserr(default)]
    threats: ThreatsSection,
    #[deserr(default)]
    threat_lists: Vec<ThreatListSection>,
    #[deserr(default = Ranged(60))]
    threat_list_interval_s: Ranged<1, DAY_S>,
    #[deserr(default)]
    geoip_country_file: Option<ExistingFile>,
    #[deserr(default)]
    geoip_city_file: Option<ExistingFile>,
    #[deserr(default)]
    geoip_asn_file: Option<ExistingFile>,
}

/// A table of keys that all have a default, which an absent table has too.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Deserr)]
        #[deserr(deny_unknown_fields, error = Problems)]
        struct $name { $(#[deserr(default = $default)] $key: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }
    };
}

table! {
    /// `[risk.location]`.
    LocationSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(30),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
        speed_kmh_max: Ranged<1, 100_000> = Ranged(1000),
        distance_km_min: Ranged<0, 20_000> = Ranged(100),
    }
}

table! {
    /// `[risk.device]`.
    DeviceSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(25),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
    }
}

table! {
    /// `[risk.time]`.
    TimeSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(15),
        half_life_days: Ranged<1, 366> = Ranged(14),
        observations_min: Ranged<1, 1_000> = Ranged(15),
        share_min_percent: Ranged<1, 100> = Ranged(2),
    }
}

table! {
    /// `[risk.behaviour]`.
    BehaviourSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        rate_window_s: Ranged<1, DAY_S> = Ranged(60),
        rate_windows_min: Ranged<1, 1_000_000> = Ranged(30),
        rate_requests_min: Ranged<1, 1_000_000> = Ranged(60),
        rate_deviations_max: Ranged<1, 1_000> = Ranged(4),
        observations_min: Ranged<1, 1_000_000> = Ranged(50),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(600),
        denials_min: Ranged<1, DENIALS_BURST_MAX> = Ranged(5),
        denials_window_s: Ranged<1, DAY_S> = Ranged(60),
    }
}

table! {
    /// `[risk.threats]`: what the threat lists weigh.
    ThreatsSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(50),
    }
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ThreatListSection {
    name: ListName,
    file: ExistingFile,
}

fn levels_and_lists(section: RiskSection, _location: ValuePointerRef<'_>) -> Result<RiskSection, Problems> {
    let mut problems = Problems::default();
    if section.medium_from.0 > section.high_from.0 {
        problems.add(
            "risk.medium_from",
            format!(
                "expected at most `risk.high_from`, which is {}, found {}",
                section.high_from.0, section.medium_from.0
            ),
        );
    }
    let lists = &section.threat_lists;
    if lists.len() > THREAT_LISTS_MAX {
        let message = format!("expected at most {THREAT_LISTS_MAX} lists, found {}", lists.len());
        problems.add("risk.threat_lists", message);
    }
    let mut names = BTreeSet::new();
    for (index, list) in lists.iter().enumerate() {
        if !names.insert(&list.name.0) {
            let message = format!("the name `{}` is taken by another list", list.name.0);
            problems.add(format!("risk.threat_lists[{index}].name"), message);
        }
    }
    problems.none_or(Some(section))
}

impl From<RiskSection> for Risk {
    fn from(section: RiskSection) -> Self {
        Self {
            settings: settings(&section),
            state_file: section.state_file.0,
            save_interval_s: section.save_interval_s.0,
            threat_lists: section
                .threat_lists
                .into_iter()
                .map(|list| ThreatListFile {
                    name: list.name.0,
                    file: list.file.0,
                })
                .collect(),
            threat_list_interval_s: section.threat_list_interval_s.0,
            geoip: GeoipFiles {
                country: section.geoip_country_file.map(|file| file.0),
                city: section.geoip_city_file.map(|file| file.0),
                asn: section.geoip_asn_file.map(|file| file.0),
            },
        }
    }
}

fn settings(section: &RiskSection) -> RiskSettings {
    RiskSettings {
        mode: match section.mode {
            ModeField::Learning => Mode::Learning,
            ModeField::Effective => Mode::Effective,
        },
        levels: Levels {
            medium_from: percent(section.medium_from),
            high_from: percent(section.high_from),
        },
        valid_for_ms: ValidForMs {
            low: section.low_valid_for_ms.0,
            medium: section.medium_valid_for_ms.0,
            high: section.high_valid_for_ms.0,
        },
        principals_max: usize::try_from(section.principals_max.0).unwrap_or(usize::MAX),
        remembered_for_s: section.remembered_for_days.0.saturating_mul(DAY_S),
        location: section.location.enabled.then(|| section.location.settings()),
        device: section.device.enabled.then(|| section.device.settings()),
        time: section.time.enabled.then(|| section.time.settings()),
        behaviour: section.behaviour.enabled.then(|| section.behaviour.settings()),
        threat_list: section.threats.enabled.then(|| ThreatListSettings {
            weight: percent(section.threats.weight),
        }),
    }
}

impl LocationSection {
    fn settings(&self) -> LocationSettings {
        LocationSettings {
            weight: percent(self.weight),
            settles_after_s: self.settles_after_s.0,
            speed_kmh_max: self.speed_kmh_max.0,
            distance_km_min: self.distance_km_min.0,
        }
    }
}

impl DeviceSection {
    fn settings(&self) -> DeviceSettings {
        DeviceSettings {
            weight: percent(self.weight),
            settles_after_s: self.settles_after_s.0,
        }
    }
}

impl TimeSection {
    fn settings(&self) -> TimeSettings {
        TimeSettings {
            weight: percent(self.weight),
            half_life_days: self.half_life_days.0,
            observations_min: self.observations_min.0,
            share_min_percent: self.share_min_percent.0,
        }
    }
}

impl BehaviourSection {
    fn settings(&self) -> BehaviourSettings {
        BehaviourSettings {
            weight: percent(self.weight),
            rate_window_s: self.rate_window_s.0,
            rate_windows_min: self.rate_windows_min.0,
            rate_requests_min: self.rate_requests_min.0,
            rate_deviations_max: self.rate_deviations_max.0,
            observations_min: self.observations_min.0,
            settles_after_s: self.settles_after_s.0,
            denials_min: self.denials_min.0,
            denials_window_s: self.denials_window_s.0,
        }
    }
}

/// What is at most 100 fits.
fn percent<const MIN: u32>(value: Ranged<MIN, WEIGHT_MAX>) -> u8 {
    u8::try_from(value.0).unwrap_or(u8::MAX)
}

/// The defaults, for the tests of what they mean.
#[cfg(test)]
pub(crate) fn default_risk_settings() -> RiskSettings {
    use picket_core::configuration::problems;
    let folder = tempfile::tempdir().unwrap();
    let section = serde_json::json!({"state_file": folder.path().join("state")});
    Risk::from(problems::read::<RiskSection>(section).unwrap()).settings
}
