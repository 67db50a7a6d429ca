//! What a request was made with: the device that its sender has proved to have, or else user agent
//! and peer.

use super::assessment::{DetectedSignal, Signal};
use super::baseline::Baseline;
use super::facts::RequestFacts;
use super::settings::{Compliance, DeviceSettings, RiskSettings};
use super::sightings::{Novelty, NoveltyWindows};

pub(super) fn signals(
    settings: &RiskSettings,
    device: &DeviceSettings,
    baseline: &Baseline,
    facts: &RequestFacts,
) -> impl Iterator<Item = DetectedSignal> {
    let windows = NoveltyWindows {
        settles_after_s: device.settles_after_s,
        remembered_for_s: settings.remembered_for_s,
    };
    new_device(windows, baseline, facts)
        .into_iter()
        .chain(changed_device(baseline, facts))
}

fn new_device(windows: NoveltyWindows, baseline: &Baseline, facts: &RequestFacts) -> Option<DetectedSignal> {
    if baseline.devices.is_empty() {
        return None;
    }
    let device = facts.device;
    let explanation = match baseline.devices.novelty(&device, facts.now_s, windows) {
        Novelty::Settled => return None,
        Novelty::First => format!(
            "device {device} ({}) is none of the {} that the principal has used",
            known_by(facts),
            baseline.devices.len()
        ),
        Novelty::Recent(age_s) => format!(
            "device {device} ({}) was first seen {age_s} s ago, and is new for {} s",
            known_by(facts),
            windows.settles_after_s
        ),
    };
    Some(DetectedSignal {
        signal: Signal::NewDevice,
        explanation,
    })
}

fn known_by(facts: &RequestFacts) -> &'static str {
    match facts.trust {
        Some(_) => "enrolled",
        None => "user agent and peer",
    }
}

/// Signals of the device itself, whichever principal uses it.
pub(super) fn trust_signals(settings: &DeviceSettings, facts: &RequestFacts) -> impl Iterator<Item = DetectedSignal> {
    let known = facts.trust;
    let low = known
        .filter(|known| known.trust_score < settings.trust_score_min)
        .map(|known| DetectedSignal {
            signal: Signal::LowDeviceTrust,
            explanation: format!(
                "the device's trust score is {}, and {} is the least that is usual",
                known.trust_score, settings.trust_score_min
            ),
        });
    let noncompliant = known
        .filter(|known| !known.is_compliant && settings.compliance == Compliance::Counts)
        .map(|known| DetectedSignal {
            signal: Signal::NoncompliantDevice,
            explanation: format!(
                "the device is not all that devices have to be; its trust score is {}",
                known.trust_score
            ),
        });
    low.into_iter().chain(noncompliant)
}

fn changed_device(baseline: &Baseline, facts: &RequestFacts) -> Option<DetectedSignal> {
    let id = facts.session?;
    let session = baseline.sessions.iter().find(|session| session.id == id)?;
    (session.device != facts.device).then(|| DetectedSignal {
        signal: Signal::ChangedDevice,
        explanation: format!(
            "the session began with device {}, and the request comes from {}",
            session.device, facts.device
        ),
    })
}
