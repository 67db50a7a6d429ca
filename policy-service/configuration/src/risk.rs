//! `[risk]`: what counts, how much, and the files that scores are made with.

mod kinds;

use std::collections::BTreeSet;
use std::path::PathBuf;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use picket_model::decision::{ACR_VALUE_BYTES_MAX, ACR_VALUES_MAX, is_acr_value};
use picket_model::problems::{Problems, parsed_text, shortened};
use picket_risk::{FactorSettings, Levels, RiskMode, RiskSettings, ValidForMs};

use super::fields::{DatabaseFile, ExistingFile, ListName, Ranged};
use kinds::{
    AuthenticationSection, BehaviourSection, DeviceSection, DynamicsSection, LocationSection, ThreatsSection,
    TimeSection, TokenSection, percent,
};

/// Each list is looked at for each request.
const THREAT_LISTS_MAX: usize = 32;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 366 * DAY_S;
/// As in `[decisions]`.
const VALID_FOR_MS_MAX: u32 = 86_400_000;
const WEIGHT_MAX: u32 = 100;

/// `[risk]`: scores. Absent: nothing is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct AssessorSettings {
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

/// What scores are for.
#[derive(Clone, Copy, Debug, Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
enum ModeField {
    /// Scores are recorded and have no effect.
    Learning,
    /// Scores have an effect on decisions.
    Effective,
}

/// Risk scores: how unusual each request is for its principal, from 0 to 100. Override a table of
/// it as a whole, as in `PICKET__RISK__TIME='{ enabled = false }'`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = levels_and_lists -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Risk scores")
)]
pub(super) struct RiskSection {
    /// What was learnt, as digests. It is written with mode 0600 at `save_interval_s` and at the
    /// end, and replaced as a whole. A damaged file, or one of a newer version, ends the start. Its
    /// folder must exist.
    state_file: DatabaseFile,
    /// What scores are for.
    #[deserr(default = ModeField::Effective)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "effective")))]
    mode: ModeField,
    /// How often `state_file` is written, in seconds. A crash loses what was learnt since.
    #[deserr(default = Ranged(300))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 300)))]
    save_interval_s: Ranged<1, DAY_S>,
    /// The principals that are remembered. The least recently seen makes room, and starts anew when
    /// it comes back.
    #[deserr(default = Ranged(100_000))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 100_000)))]
    principals_max: Ranged<1_000, 10_000_000>,
    /// A location, device, method or route rule that was not seen for this many days is new again.
    #[deserr(default = Ranged(90))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 90)))]
    remembered_for_days: Ranged<1, 366>,
    /// The score from which the level is medium. At most `high_from`.
    #[deserr(default = Ranged(Levels::DEFAULT.medium_from.into()))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = Levels::DEFAULT.medium_from)))]
    medium_from: Ranged<1, WEIGHT_MAX>,
    /// The score from which the level is high.
    #[deserr(default = Ranged(Levels::DEFAULT.high_from.into()))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = Levels::DEFAULT.high_from)))]
    high_from: Ranged<1, WEIGHT_MAX>,
    /// How long a decision at the level low may be repeated, in milliseconds, and never longer than
    /// `decisions` says. 0: not at all.
    #[deserr(default = Ranged(300_000))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 300_000)))]
    low_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    /// How long a decision at the level medium may be repeated, in milliseconds, and never longer
    /// than `decisions` says. 0: not at all.
    #[deserr(default = Ranged(60_000))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60_000)))]
    medium_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    /// How long a decision at the level high may be repeated, in milliseconds, and never longer
    /// than `decisions` says. 0: not at all.
    #[deserr(default = Ranged(0))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    high_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    /// Signals about where requests come from.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    location: LocationSection,
    /// Signals about the device.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    device: DeviceSection,
    /// Signals about the hour.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    time: TimeSection,
    /// Signals about rate, methods, route rules and denials.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    behaviour: BehaviourSection,
    /// The signal about threat lists.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    threats: ThreatsSection,
    /// The signal about failed authentications.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    authentication: AuthenticationSection,
    /// The signal about a token that is used from several places.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    token: TokenSection,
    /// The signal about how a client is handled.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    dynamics: DynamicsSection,
    /// The authentication that each level asks for.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    factors: FactorsSection,
    /// Threat lists. Their names are unique.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = THREAT_LISTS_MAX), extend("default" = [])))]
    threat_lists: Vec<ThreatListSection>,
    /// How often the files of `threat_lists` are checked for a change of size or time, in seconds.
    /// A broken file leaves the old list in place, and is logged and counted.
    #[deserr(default = Ranged(60))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60)))]
    threat_list_interval_s: Ranged<1, DAY_S>,
    /// A database of countries in MaxMind's format. It is read at the start and held in memory.
    /// Default: none.
    #[deserr(default)]
    geoip_country_file: Option<ExistingFile>,
    /// A database of cities in MaxMind's format, with coordinates. It also has the countries where
    /// there is no database of countries. Default: none.
    #[deserr(default)]
    geoip_city_file: Option<ExistingFile>,
    /// A database of autonomous systems in MaxMind's format. Default: none.
    #[deserr(default)]
    geoip_asn_file: Option<ExistingFile>,
}

/// The authentication context classes that a level's challenge asks for. A level without any is
/// left to the policies. A level above one with some needs some too.
#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Authentication by risk level")
)]
struct FactorsSection {
    /// The `acr_values` of a challenge at the level low.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ACR_VALUES_MAX), extend("default" = [])))]
    low_acr_values: Vec<AcrValue>,
    /// The `acr_values` of a challenge at the level medium.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ACR_VALUES_MAX), extend("default" = [])))]
    medium_acr_values: Vec<AcrValue>,
    /// The `acr_values` of a challenge at the level high.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ACR_VALUES_MAX), extend("default" = [])))]
    high_acr_values: Vec<AcrValue>,
}

/// An authentication context class that a challenge can name.
#[derive(Clone, Debug)]
pub(super) struct AcrValue(String);

/// A threat list.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Threat lists")
)]
struct ThreatListSection {
    /// The name of the list in records and metrics: letters, digits, `.`, `_` and `-`.
    name: ListName,
    /// The list: an address or network on each line, with comments behind `#`. A mistake ends the
    /// start, with the numbers of the lines.
    file: ExistingFile,
}

fn levels_and_lists(section: RiskSection, _location: ValuePointerRef<'_>) -> Result<RiskSection, Problems> {
    let mut problems = Problems::default();
    section.factors.check(&mut problems);
    let dynamics = &section.dynamics;
    if dynamics.anomaly_above.0 > dynamics.challenge_above.0 {
        problems.add(
            "risk.dynamics.anomaly_above",
            format!(
                "expected at most `risk.dynamics.challenge_above`, which is {}, found {}",
                dynamics.challenge_above.0, dynamics.anomaly_above.0
            ),
        );
    }
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

impl FactorsSection {
    fn levels(&self) -> [(&'static str, &[AcrValue]); 3] {
        [
            ("low_acr_values", self.low_acr_values.as_slice()),
            ("medium_acr_values", self.medium_acr_values.as_slice()),
            ("high_acr_values", self.high_acr_values.as_slice()),
        ]
    }

    /// Where a level asks for its factors, a higher one does too: more risk never asks for less.
    fn check(&self, problems: &mut Problems) {
        let mut lower = None;
        for (name, values) in self.levels() {
            let field = format!("risk.factors.{name}");
            if values.len() > ACR_VALUES_MAX {
                let message = format!("expected at most {ACR_VALUES_MAX} values, found {}", values.len());
                problems.add(field, message);
            } else if let (Some(lower), true) = (lower, values.is_empty()) {
                problems.add(field, format!("is required where `risk.factors.{lower}` is given"));
            }
            lower = lower.or((!values.is_empty()).then_some(name));
        }
    }

    fn settings(&self) -> FactorSettings {
        let texts = |values: &[AcrValue]| values.iter().map(|value| value.0.clone()).collect();
        FactorSettings::new(self.levels().map(|(_, values)| texts(values)))
    }
}

impl Deserr<Problems> for AcrValue {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            is_acr_value(text).then(|| Self(text.to_owned())).ok_or_else(|| {
                format!(
                    "expected 1 to {ACR_VALUE_BYTES_MAX} letters, digits and signs without quotation mark and backslash, found `{}`",
                    shortened(text)
                )
            })
        })
    }
}

impl AssessorSettings {
    /// What the section says, in a service that keeps devices or does not.
    pub(super) fn new(section: RiskSection, keeps_devices: bool) -> Self {
        Self {
            settings: settings(&section, keeps_devices),
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

fn settings(section: &RiskSection, keeps_devices: bool) -> RiskSettings {
    RiskSettings {
        mode: match section.mode {
            ModeField::Learning => RiskMode::Learning,
            ModeField::Effective => RiskMode::Effective,
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
        location: section.location.settings(),
        device: section.device.settings(keeps_devices),
        time: section.time.settings(),
        behaviour: section.behaviour.settings(),
        threat_list: section.threats.settings(),
        authentication: section.authentication.settings(),
        token: section.token.settings(),
        dynamics: section.dynamics.settings(),
        factors: section.factors.settings(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_a_key_has_the_defaults_of_the_rules() {
        use picket_model::problems;
        let folder = tempfile::tempdir().unwrap();
        let section = serde_json::json!({"state_file": folder.path().join("state")});
        let section = problems::read::<RiskSection>(section).unwrap();
        assert_eq!(AssessorSettings::new(section, false).settings, RiskSettings::defaults());
    }
}
