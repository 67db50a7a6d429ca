//! What a request was made with: user agent and peer, until devices are enrolled.

use super::assessment::{Fired, Signal};
use super::baseline::Baseline;
use super::facts::Facts;
use super::seen::{Novelty, Windows};
use super::settings::{DeviceSettings, RiskSettings};

pub(super) fn signals(
    settings: &RiskSettings,
    device: &DeviceSettings,
    baseline: &Baseline,
    facts: &Facts,
) -> impl Iterator<Item = Fired> {
    let windows = Windows {
        settles_after_s: device.settles_after_s,
        remembered_for_s: settings.remembered_for_s,
    };
    new_device(windows, baseline, facts)
        .into_iter()
        .chain(changed_device(baseline, facts))
}

fn new_device(windows: Windows, baseline: &Baseline, facts: &Facts) -> Option<Fired> {
    if baseline.devices.is_empty() {
        return None;
    }
    let device = facts.device;
    let explanation = match baseline.devices.novelty(&device, facts.now_s, windows) {
        Novelty::Settled => return None,
        Novelty::First => format!(
            "device {device} (user agent and peer) is none of the {} that the principal has used",
            baseline.devices.len()
        ),
        Novelty::Recent(age_s) => format!(
            "device {device} (user agent and peer) was first seen {age_s} s ago, and is new for {} s",
            windows.settles_after_s
        ),
    };
    Some(Fired {
        signal: Signal::NewDevice,
        explanation,
    })
}

fn changed_device(baseline: &Baseline, facts: &Facts) -> Option<Fired> {
    let id = facts.session?;
    let session = baseline.sessions.iter().find(|session| session.id == id)?;
    (session.device != facts.device).then(|| Fired {
        signal: Signal::ChangedDevice,
        explanation: format!(
            "the session began with device {}, and the request comes from {}",
            session.device, facts.device
        ),
    })
}
