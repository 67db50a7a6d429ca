//! Reports about principals: checks of their fields, and their description in the audit log.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_model::access::principal_name;
use picket_model::time::Timestamp;
use picket_proto::v1;
use picket_proto::v1::dynamics_report::Session;
use picket_risk::{AuthenticationOutcome, Measure, Measurements, PrincipalKey, ReportOutcome, SessionKey, SessionName};

use crate::administration::AdminError;
use crate::assessor::Assessor;

/// Names are no longer than a token.
const NAME_BYTES_MAX: usize = 8 * 1024;
/// The length of a name in a record at most.
const RECORDED_BYTES_MAX: usize = 256;
/// No window is longer.
const AGE_S_MAX: u64 = 86_400;
/// By how much clocks may differ.
const AHEAD_S_MAX: u64 = 60;

/// An authentication elsewhere.
pub(super) struct AuthenticationReport {
    principal: Principal,
    outcome: AuthenticationOutcome,
    at: Timestamp,
    source: Option<IpAddr>,
}

/// Measures of how a client was handled.
pub(super) struct DynamicsReport {
    principal: Principal,
    session: SessionKey,
    measured: Measurements,
}

struct Principal {
    issuer: String,
    subject: String,
}

/// A field of a report with a mistake, and the expected value.
type FieldMistake = (&'static str, &'static str);

/// Reads all reports, or returns the first mistake.
pub(super) fn read_all<R, T>(
    reports: Vec<R>,
    read: impl Fn(R) -> Result<T, FieldMistake>,
) -> Result<Vec<T>, AdminError> {
    let read =
        |(index, report)| read(report).map_err(|(field, expected)| AdminError::Report { index, field, expected });
    reports.into_iter().enumerate().map(read).collect()
}

impl AuthenticationReport {
    pub(super) fn read(report: v1::AuthenticationReport, now: Timestamp) -> Result<Self, FieldMistake> {
        let outcome = match report.outcome() {
            v1::AuthenticationOutcome::Unspecified => {
                return Err((
                    "outcome",
                    "AUTHENTICATION_OUTCOME_FAILED or AUTHENTICATION_OUTCOME_SUCCEEDED",
                ));
            }
            v1::AuthenticationOutcome::Failed => AuthenticationOutcome::Failed,
            v1::AuthenticationOutcome::Succeeded => AuthenticationOutcome::Succeeded,
        };
        let at = match u64::try_from(report.time_us) {
            Ok(0) => Some(now),
            Ok(at_us) => {
                let possible = now.minus_s(AGE_S_MAX)..=now.plus_s(AHEAD_S_MAX);
                Some(Timestamp::from_us(at_us)).filter(|at| possible.contains(at))
            }
            Err(_) => None,
        };
        let source = match report.source_address.as_str() {
            "" => None,
            address => Some(
                address
                    .parse()
                    .map_err(|_| ("source_address", "an IP address, or nothing"))?,
            ),
        };
        Ok(Self {
            principal: Principal::read(report.issuer, report.subject)?,
            outcome,
            at: at.ok_or((
                "time_us",
                "a time in microseconds, at most a day ago and a minute ahead, or 0",
            ))?,
            source,
        })
    }

    pub(super) fn report_to(&self, risk: &Assessor) -> ReportOutcome {
        risk.report_authentication(self.principal.key(), self.outcome, self.at, self.source)
    }
}

impl DynamicsReport {
    pub(super) fn read(report: v1::DynamicsReport) -> Result<Self, FieldMistake> {
        let name = match &report.session {
            Some(Session::SessionId(id)) if is_name(id) => SessionName::SessionId(id),
            Some(Session::TokenId(id)) if is_name(id) => SessionName::TokenId(id),
            Some(Session::SessionId(_)) => return Err(("session_id", "1 to 8192 bytes")),
            Some(Session::TokenId(_)) => return Err(("token_id", "1 to 8192 bytes")),
            None => return Err(("session_id", "the tokens' `sid`, or `token_id`")),
        };
        let measures = [
            (Measure::MouseVelocity, report.mouse_velocity),
            (Measure::KeystrokeVariance, report.keystroke_variance),
            (Measure::TouchPressure, report.touch_pressure),
            (Measure::TouchArea, report.touch_area),
        ];
        let mut measured = Measurements::default();
        for (measure, value) in measures {
            if let Some(value) = value {
                measured = measured
                    .with(measure, value)
                    .ok_or((measure.name(), "a number from 0 to 1,000,000"))?;
            }
        }
        if measured.is_empty() {
            return Err(("mouse_velocity", "at least one measure"));
        }
        Ok(Self {
            session: SessionKey::of(&report.issuer, name),
            measured,
            principal: Principal::read(report.issuer, report.subject)?,
        })
    }

    pub(super) fn report_to(&self, risk: &Assessor, now: Timestamp) -> Option<u32> {
        risk.report_dynamics(self.principal.key(), self.session, now, self.measured)
    }
}

impl Principal {
    fn read(issuer: String, subject: String) -> Result<Self, FieldMistake> {
        match (is_name(&issuer), is_name(&subject)) {
            (false, _) => Err(("issuer", "1 to 8192 bytes")),
            (true, false) => Err(("subject", "1 to 8192 bytes")),
            (true, true) => Ok(Self { issuer, subject }),
        }
    }

    fn key(&self) -> PrincipalKey {
        PrincipalKey::of_user(&self.issuer, &self.subject)
    }

    fn name(&self) -> String {
        let name = principal_name(&self.issuer, &self.subject);
        name.get(..name.floor_char_boundary(RECORDED_BYTES_MAX))
            .unwrap_or_default()
            .to_owned()
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

/// The principals of authentications by outcome, each once.
pub(super) fn describe_authentications(reports: &[AuthenticationReport]) -> String {
    let of = |outcome| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for report in reports.iter().filter(|report| report.outcome == outcome) {
            let count = counts.entry(report.principal.name()).or_default();
            *count = count.saturating_add(1);
        }
        let named = |(name, count): (String, usize)| match count {
            1 => name,
            count => format!("{name} ×{count}"),
        };
        counts.into_iter().map(named).collect::<Vec<_>>()
    };
    listed([
        ("failed", of(AuthenticationOutcome::Failed)),
        ("succeeded", of(AuthenticationOutcome::Succeeded)),
    ])
}

/// The principals with an anomaly by name, with their scores, and the number of the other reports,
/// which are many and change little.
pub(super) fn describe_dynamics(reports: &[DynamicsReport], scores: &[Option<u32>]) -> String {
    let off = |(report, score): (&DynamicsReport, &Option<u32>)| {
        let score = score.filter(|score| *score > 0)?;
        Some(format!("{} ({score})", report.principal.name()))
    };
    let off: Vec<String> = reports.iter().zip(scores).filter_map(off).collect();
    let others = reports.len().saturating_sub(off.len());
    let others = (others > 0).then(|| others.to_string());
    listed([("off", off), ("others", others.into_iter().collect())])
}

fn listed<const N: usize>(lists: [(&str, Vec<String>); N]) -> String {
    let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
    let lists: Vec<String> = lists
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect();
    lists.join("; ")
}
