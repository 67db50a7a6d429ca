//! Devices as they are shown.

use std::fmt::Write as _;

use picket_model::device_thumbprint::DeviceThumbprint;
use picket_proto::v1;
use serde::Serialize;

use crate::output::{Output, Paint, printable};
use crate::time_text;

#[derive(Serialize)]
pub(super) struct InviteAnswer {
    challenge: String,
    audience: String,
    ends: String,
}

#[derive(Serialize)]
pub(super) struct DeviceAnswer {
    id: String,
    state: &'static str,
    issuer: String,
    subject: String,
    tenant: Option<String>,
    label: Option<String>,
    thumbprints: Vec<String>,
    enrolled: String,
    changed: String,
    posture: Option<PostureAnswer>,
    trust: TrustAnswer,
}

#[derive(Serialize)]
struct PostureAnswer {
    os: String,
    os_version: String,
    is_disk_encrypted: bool,
    is_managed: bool,
    failures: u32,
    reported: String,
    reporter: String,
}

#[derive(Serialize)]
struct TrustAnswer {
    score: u32,
    is_compliant: bool,
    is_trusted: bool,
    parts: Vec<PartAnswer>,
}

#[derive(Serialize)]
struct PartAnswer {
    points: i32,
    reason: String,
}

#[derive(Serialize)]
pub(super) struct ListAnswer {
    devices: Vec<DeviceAnswer>,
    next: Option<String>,
}

impl InviteAnswer {
    pub(super) fn text(&self) -> String {
        let fields = [
            ("challenge", &self.challenge),
            ("audience", &self.audience),
            ("ends", &self.ends),
        ];
        let line = |(name, value): (&str, &String)| format!("{name:<11}{}\n", printable(value));
        fields.into_iter().map(line).collect()
    }
}

impl ListAnswer {
    pub(super) fn text(&self, output: Output) -> String {
        let mut text: String = self.devices.iter().map(|device| device.line(output)).collect();
        if let Some(next) = &self.next {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} --after {next}", output.paint(Paint::Dim, "more:"));
        }
        text
    }
}

impl DeviceAnswer {
    /// On one line.
    fn line(&self, output: Output) -> String {
        format!(
            "{}  {}  {:>3}  {}  {}\n",
            printable(&self.id),
            self.painted_state(output),
            self.trust.score,
            printable(&self.subject),
            printable(self.label.as_deref().unwrap_or_default()),
        )
    }

    pub(super) fn text(&self, output: Output) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let mut field = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11}{}", printable(value));
        };
        field("id", &self.id);
        field("issuer", &self.issuer);
        field("subject", &self.subject);
        for (name, value) in [("tenant", &self.tenant), ("label", &self.label)] {
            if let Some(value) = value {
                field(name, value);
            }
        }
        field("enrolled", &self.enrolled);
        field("changed", &self.changed);
        for thumbprint in &self.thumbprints {
            field("known by", thumbprint);
        }
        if let Some(posture) = &self.posture {
            field("posture", &posture.text());
            field("reported", &format!("{}, by {}", posture.reported, posture.reporter));
        }
        let _ = writeln!(text, "{:<11}{}", "state", self.painted_state(output).trim_end());
        let not = |is: bool| if is { "" } else { "not " };
        let trust = &self.trust;
        let (trusted, compliant) = (not(trust.is_trusted), not(trust.is_compliant));
        let _ = writeln!(
            text,
            "{:<11}{}, {trusted}trusted, {compliant}compliant",
            "trust", trust.score
        );
        for part in &trust.parts {
            let _ = writeln!(
                text,
                "{:>15}  {}",
                format!("{:+}", part.points),
                printable(&part.reason)
            );
        }
        text
    }

    fn painted_state(&self, output: Output) -> String {
        let paint = match self.trust.is_trusted {
            true => Paint::Good,
            false => Paint::Bad,
        };
        output.paint(paint, &format!("{:<9}", self.state))
    }
}

impl PostureAnswer {
    fn text(&self) -> String {
        let not = |is: bool| if is { "" } else { "not " };
        format!(
            "{} {}, {}encrypted, {}managed, {} failures",
            self.os,
            self.os_version,
            not(self.is_disk_encrypted),
            not(self.is_managed),
            self.failures
        )
    }
}

impl From<v1::BeginEnrollmentResponse> for InviteAnswer {
    fn from(message: v1::BeginEnrollmentResponse) -> Self {
        Self {
            challenge: message.challenge,
            audience: message.audience,
            ends: time_text::of_us(message.ends_us),
        }
    }
}

impl From<v1::ListDevicesResponse> for ListAnswer {
    fn from(message: v1::ListDevicesResponse) -> Self {
        Self {
            devices: message.devices.into_iter().map(DeviceAnswer::from).collect(),
            next: optional(message.next),
        }
    }
}

impl From<v1::Device> for DeviceAnswer {
    fn from(device: v1::Device) -> Self {
        let state = match device.state() {
            v1::DeviceState::Unspecified => "unknown",
            v1::DeviceState::Enrolled => "enrolled",
            v1::DeviceState::Trusted => "trusted",
            v1::DeviceState::Suspended => "suspended",
            v1::DeviceState::Retired => "retired",
        };
        Self {
            id: device.id,
            state,
            issuer: device.issuer,
            subject: device.subject,
            tenant: optional(device.tenant),
            label: optional(device.label),
            thumbprints: device.thumbprints.into_iter().filter_map(thumbprint).collect(),
            enrolled: time_text::of_us(device.enrolled_us),
            changed: time_text::of_us(device.changed_us),
            posture: device.posture.map(PostureAnswer::from),
            trust: device.trust.unwrap_or_default().into(),
        }
    }
}

impl From<v1::Posture> for PostureAnswer {
    fn from(posture: v1::Posture) -> Self {
        Self {
            os: posture.os,
            os_version: posture.os_version,
            is_disk_encrypted: posture.is_disk_encrypted,
            is_managed: posture.is_managed,
            failures: posture.failures,
            reported: time_text::of_us(posture.reported_us),
            reporter: posture.reporter,
        }
    }
}

impl From<v1::DeviceTrust> for TrustAnswer {
    fn from(trust: v1::DeviceTrust) -> Self {
        let part = |part: v1::DeviceTrustPart| PartAnswer {
            points: part.points,
            reason: part.reason,
        };
        Self {
            score: trust.score,
            is_compliant: trust.is_compliant,
            is_trusted: trust.is_trusted,
            parts: trust.parts.into_iter().map(part).collect(),
        }
    }
}

/// As it is written where a device is named. `None`: it is none.
fn thumbprint(message: v1::DeviceThumbprint) -> Option<String> {
    let thumbprint = match message.of? {
        v1::device_thumbprint::Of::Certificate(digest) => DeviceThumbprint::Certificate(digest.try_into().ok()?),
        v1::device_thumbprint::Of::Key(digest) => DeviceThumbprint::Key(digest.try_into().ok()?),
    };
    Some(thumbprint.to_string())
}

fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
