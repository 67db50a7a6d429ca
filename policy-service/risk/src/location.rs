//! Where a request comes from, and whether its principal can have got there.

use super::assessment::{DetectedSignal, Signal};
use super::baseline::{Baseline, Position};
use super::facts::RequestFacts;
use super::places::Coordinates;
use super::settings::{LocationSettings, RiskSettings};
use super::sightings::{Novelty, NoveltyWindows};

const SECONDS_PER_HOUR: f64 = 3600.0;

pub(super) fn signals(
    settings: &RiskSettings,
    location: &LocationSettings,
    baseline: &Baseline,
    facts: &RequestFacts,
) -> impl Iterator<Item = DetectedSignal> {
    let windows = NoveltyWindows {
        settles_after_s: location.settles_after_s,
        remembered_for_s: settings.remembered_for_s,
    };
    let new = new_location(windows, baseline, facts);
    let travel = baseline
        .position
        .zip(facts.coordinates)
        .and_then(|(last, here)| impossible_travel(location, last, here, facts.now_s));
    new.into_iter().chain(travel)
}

fn new_location(windows: NoveltyWindows, baseline: &Baseline, facts: &RequestFacts) -> Option<DetectedSignal> {
    let place = facts.place?;
    if baseline.places.is_empty() {
        return None;
    }
    let explanation = match baseline.places.novelty(&place, facts.now_s, windows) {
        Novelty::Settled => return None,
        Novelty::First => format!(
            "{place} is none of the {} locations that the principal has been seen at",
            baseline.places.len()
        ),
        Novelty::Recent(age_s) => format!(
            "{place} was first seen {age_s} s ago, and is new for {} s",
            windows.settles_after_s
        ),
    };
    Some(DetectedSignal {
        signal: Signal::NewLocation,
        explanation,
    })
}

fn impossible_travel(
    settings: &LocationSettings,
    last: Position,
    here: Coordinates,
    now_s: u32,
) -> Option<DetectedSignal> {
    let distance_km = last.coordinates.distance_km(here);
    // Requests can arrive in another order than they were made; and no time at all is taken for a
    // second.
    let time_s = now_s.abs_diff(last.at_s).max(1);
    let speed_kmh = distance_km / f64::from(time_s) * SECONDS_PER_HOUR;
    let is_travel = distance_km >= f64::from(settings.distance_km_min) && speed_kmh > f64::from(settings.speed_kmh_max);
    is_travel.then(|| DetectedSignal {
        signal: Signal::ImpossibleTravel,
        explanation: format!(
            "{distance_km:.0} km in {time_s} s since the last permitted request are {speed_kmh:.0} km/h; nobody travels faster than {}",
            settings.speed_kmh_max
        ),
    })
}
