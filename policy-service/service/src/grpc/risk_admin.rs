//! `picket.v1.RiskAdmin`: reports about principals, and explanations of their risk.

mod reports;

use std::sync::Arc;

use picket_audit::{Act, ActOutcome};
use picket_model::spiffe::SpiffeId;
use picket_proto::v1;
use picket_proto::v1::risk_admin_server::RiskAdmin;
use picket_risk::{AssessmentPeriod, Baseline, Factor, PrincipalKey, ReportOutcome};
use tonic::{Request, Response};

use super::{GrpcResult, admitted_for};
use crate::administration::{AdminAction, AdminError, Administration, Performed, ReportKind};
use crate::assessor::Assessor;
use crate::clock;
use crate::transport::AdmittedCall;
use picket_service_configuration::CallerRole;
use reports::{AuthenticationReport, DynamicsReport};

/// The reports in one call at most.
pub(crate) const REPORTS_MAX: usize = 100;

/// Serves `RiskAdmin`.
#[derive(Clone)]
pub(super) struct RiskAdminService {
    administration: Arc<Administration>,
}

impl RiskAdminService {
    pub(super) fn new(administration: Arc<Administration>) -> Self {
        Self { administration }
    }

    /// The call and the assessor, where the caller has the role.
    fn authorized<T>(
        &self,
        request: &Request<T>,
        role: CallerRole,
    ) -> Result<(AdmittedCall, Arc<Assessor>), AdminError> {
        let call = admitted_for(request, role)?;
        let risk = self.administration.risk(&call, role)?;
        Ok((call, risk))
    }

    /// Checks the number of reports against the limits of one call and of the caller's rate.
    fn count_reports(&self, call: &AdmittedCall, count: usize) -> Result<(), AdminError> {
        match count {
            1..=REPORTS_MAX => self.administration.count_reports(ReportKind::Risk, call, count),
            _ => Err(AdminError::Field("reports", "1 to 100 reports")),
        }
    }
}

#[tonic::async_trait]
impl RiskAdmin for RiskAdminService {
    async fn report_authentication(
        &self,
        request: Request<v1::ReportAuthenticationRequest>,
    ) -> GrpcResult<v1::ReportAuthenticationResponse> {
        let (call, risk) = self.authorized(&request, CallerRole::Reporter)?;
        let messages = request.into_inner().reports;
        self.count_reports(&call, messages.len())?;
        let reports = reports::read_all(messages, |report| AuthenticationReport::read(report, clock::now()))?;
        let action = AdminAction {
            call,
            act: Act::ReportAuthentication,
            target: reports::describe_authentications(&reports),
        };
        let work = async move {
            let mut response = v1::ReportAuthenticationResponse::default();
            for report in &reports {
                let count = match report.report_to(&risk) {
                    ReportOutcome::Learned => &mut response.remembered,
                    ReportOutcome::KeptAside => &mut response.kept_aside,
                    ReportOutcome::Ignored => &mut response.dropped,
                };
                *count = count.saturating_add(1);
            }
            let outcome = match response.remembered > 0 || response.kept_aside > 0 {
                true => ActOutcome::Done,
                false => ActOutcome::Unchanged,
            };
            Ok(Performed::new(outcome, response))
        };
        Ok(Response::new(self.administration.perform_audited(action, work).await?))
    }

    async fn report_dynamics(
        &self,
        request: Request<v1::ReportDynamicsRequest>,
    ) -> GrpcResult<v1::ReportDynamicsResponse> {
        let (call, risk) = self.authorized(&request, CallerRole::Reporter)?;
        let messages = request.into_inner().reports;
        self.count_reports(&call, messages.len())?;
        let reports = reports::read_all(messages, DynamicsReport::read)?;
        // What the record says depends on what they come to, which takes no time to find out.
        let now = clock::now();
        let scores: Vec<Option<u32>> = reports.iter().map(|report| report.report_to(&risk, now)).collect();
        let action = AdminAction {
            call,
            act: Act::ReportDynamics,
            target: reports::describe_dynamics(&reports, &scores),
        };
        let work = async move {
            let outcome = match scores.iter().any(Option::is_some) {
                true => ActOutcome::Done,
                false => ActOutcome::Unchanged,
            };
            let results = scores
                .into_iter()
                .map(|anomaly_score| v1::DynamicsResult { anomaly_score });
            let response = v1::ReportDynamicsResponse {
                results: results.collect(),
            };
            Ok(Performed::new(outcome, response))
        };
        Ok(Response::new(self.administration.perform_audited(action, work).await?))
    }

    async fn explain_risk(&self, request: Request<v1::ExplainRiskRequest>) -> GrpcResult<v1::RiskExplanation> {
        let (_call, risk) = self.authorized(&request, CallerRole::Reader)?;
        let principal = principal(request.get_ref())?;
        let found = risk.baseline(principal);
        Ok(Response::new(found.as_ref().map(explained).unwrap_or_default()))
    }
}

fn principal(message: &v1::ExplainRiskRequest) -> Result<PrincipalKey, AdminError> {
    match (
        message.issuer.as_str(),
        message.subject.as_str(),
        message.workload.as_str(),
    ) {
        ("", "", workload) => {
            let workload: SpiffeId = workload.parse().map_err(|_| {
                AdminError::Field("workload", "a SPIFFE ID, where `issuer` and `subject` are not given")
            })?;
            Ok(PrincipalKey::of_workload(workload.as_str()))
        }
        (_, _, workload) if !workload.is_empty() => Err(AdminError::Field(
            "workload",
            "nothing, where `issuer` and `subject` are given",
        )),
        ("", _, _) => Err(AdminError::Field("issuer", "the issuer of the principal's tokens")),
        (_, "", _) => Err(AdminError::Field("subject", "the principal, as its tokens' `sub`")),
        (issuer, subject, _) => Ok(PrincipalKey::of_user(issuer, subject)),
    }
}

fn explained(baseline: &Baseline) -> v1::RiskExplanation {
    let last = baseline.history().next_back();
    let (usual_rate, usual_rate_deviation) = baseline.usual_rate();
    let factors = last.map_or(&[][..], |past| Factor::required_at(past.level));
    let seen = |(name, first_seen_s, last_seen_s)| v1::SeenBefore {
        name,
        first_seen_s,
        last_seen_s,
    };
    let places = baseline
        .places()
        .map(|(place, first_s, last_s)| (place.to_string(), first_s, last_s));
    v1::RiskExplanation {
        remembered: true,
        score: last.map(|past| past.score.into()),
        level: last.map(|past| past.level.name().to_owned()).unwrap_or_default(),
        factors: factors.iter().map(|factor| factor.name().to_owned()).collect(),
        signals: last.map(signals).unwrap_or_default(),
        permitted_requests: baseline.permits(),
        usual_rate,
        usual_rate_deviation,
        hours: baseline.hours().to_vec(),
        locations: places.map(seen).collect(),
        devices: baseline.devices().map(seen).collect(),
        history: baseline.history().rev().map(spell).collect(),
    }
}

fn spell(past: &AssessmentPeriod) -> v1::RiskSpell {
    v1::RiskSpell {
        first_s: past.first_s,
        last_s: past.last_s,
        requests: past.requests,
        score: past.score.into(),
        level: past.level.name().to_owned(),
        signals: signals(past),
    }
}

fn signals(past: &AssessmentPeriod) -> Vec<String> {
    past.signals().map(|signal| signal.name().to_owned()).collect()
}
