//! `picket explain`.

mod text;

use std::path::{Path, PathBuf};

use picket_audit::{
    ChallengeRecord, DecisionRecord, DeviceRecord, EffectRecord, ObservedRecord, RiskRecord, VerifyError,
};
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Effect};
use picket_model::device::DeviceFacts;
use picket_model::time::Timestamp;
use picket_policy::testing;
use picket_policy::{Evaluation, EvaluationContext, PolicyEngine, PolicyTrace, Trace, TracedPolicy, Tracer};
use picket_risk::Assessment;
use serde::Serialize;

use super::CommandError;
use super::audit::read_key;
use super::policy::{EvaluationArguments, Problem, mistakes};
use crate::exit::Exit;
use crate::output::{Output, printable};

pub(super) const ABOUT: &str = "\
Explains a decision step by step: who the principal is and which roles its roles include, what each policy says about the request, \
clause by clause, which of them decided, and on what the decision could have depended.

The request is one of a file: a file of policy tests, a matrix, or one request in the words of picket.v1.AccessRequest. With --database \
and --key it is that of a recorded decision, from an audit log that verifies; the policies are those of --policies, and where they are not \
of the revision that decided then, it says so.

A clause is `true` or `false` by what stands in its braces. Cedar evaluates a policy's scope, then clause after clause, up to the first \
that does not hold; what comes after it is not reached. It exits with 1 where policies or file have a mistake, or the log does not \
verify.";

pub(super) const EXAMPLES: &str = "\
Examples:
  picket explain request.yaml --policies policies
  picket explain policies/tests/orders.yaml --name 'a reader writes none' --policies policies
  picket explain 019aa5a0-5f7c-7cc2-a3f7-7c1d4f1fa0b3 --database audit.sqlite3 \\
      --key keys/audit-key --policies policies";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A file with a request, or with --database the id of a decision
    request: String,
    /// The folder of policies
    #[arg(long, value_name = "DIRECTORY")]
    policies: PathBuf,
    /// Which request of the file, where it has several
    #[arg(long, conflicts_with = "database")]
    name: Option<String>,
    /// The audit log's SQLite database
    #[arg(long, value_name = "FILE", requires = "key")]
    database: Option<PathBuf>,
    /// The audit log's key-encryption key: 64 hexadecimal digits
    #[arg(long, value_name = "FILE", requires = "database")]
    key: Option<PathBuf>,
    #[command(flatten)]
    evaluation: EvaluationArguments,
}

#[derive(Serialize)]
struct Answer<'a> {
    problems: &'a [Problem],
    #[serde(flatten)]
    explanation: Option<&'a Explanation>,
}

#[derive(Serialize)]
struct Explanation {
    /// The revision of the policies.
    revision: String,
    request: RequestLine,
    /// The device that it came from, or is said to; `None`: none that is known.
    device: Option<DeviceRecord>,
    /// How unusual it was, or is said to be; `None`: it was not assessed.
    risk: Option<RiskRecord>,
    /// What was decided then.
    recorded: Option<Recorded>,
    effect: &'static str,
    policy_ids: Vec<String>,
    reasons: Vec<String>,
    obligations: Vec<String>,
    challenge: Option<ChallengeRecord>,
    /// What policies in observe mode would have changed.
    observed: Option<ObservedRecord>,
    errors: Vec<String>,
    /// What it could have depended on, besides route rule and token.
    vary: Vec<&'static str>,
    /// For how long the time changes nothing; `None`: for ever.
    same_for_ms: Option<u64>,
    /// `None`: the request cannot be put to Cedar, and `errors` says why.
    trace: Option<Traced>,
}

#[derive(Serialize)]
struct RequestLine {
    method: String,
    host: String,
    path: String,
    route_rule: String,
    time_us: u64,
}

#[derive(Serialize)]
struct Recorded {
    decision_id: String,
    effect: EffectRecord,
    policy_ids: Vec<String>,
    policy_revision: String,
}

#[derive(Serialize)]
struct Traced {
    principal: String,
    principal_in: Vec<String>,
    action: String,
    resource: String,
    policies: Vec<ExplainedPolicy>,
}

#[derive(Serialize)]
struct ExplainedPolicy {
    policy: TracedPolicy,
    #[serde(flatten)]
    trace: PolicyTrace,
    is_determining: bool,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<Exit, CommandError> {
    let engine = arguments.evaluation.load(&arguments.policies)?;
    let asked = match (&arguments.database, &arguments.key) {
        (Some(database), Some(key)) => recorded(arguments, database, key)?,
        (None, _) | (_, None) => named(arguments, engine.as_ref().ok())?,
    };
    let (explanation, problems) = match (&engine, asked) {
        (Ok(engine), Ok(asked)) => (Some(explain(engine, asked)?), Vec::new()),
        (engine, asked) => {
            let mut problems = mistakes(engine.as_ref().err(), None);
            problems.extend(asked.err().unwrap_or_default());
            (None, problems)
        }
    };
    let answer = Answer {
        problems: &problems,
        explanation: explanation.as_ref(),
    };
    output.print(&text::of(&answer, output), &answer)?;
    Ok(Exit::of_check(&problems))
}

/// The request to explain.
struct Asked {
    request: AccessRequest,
    time_us: u64,
    /// As it was assessed, or is stated.
    risk: Option<Assessment>,
    /// As it was known, or is stated.
    device: Option<DeviceFacts>,
    /// What was decided about it once.
    recorded: Option<Recorded>,
}

/// The request of a recorded decision.
fn recorded(arguments: &Arguments, database: &Path, key: &Path) -> Result<Result<Asked, Vec<Problem>>, CommandError> {
    match picket_audit::find_decision(database, &read_key(key)?, &arguments.request) {
        Ok(Some(record)) => asked_in(&record).map(Ok),
        Ok(None) => Err(CommandError::DecisionUnknown(printable(&arguments.request))),
        Err(VerifyError::Broken(problem)) => {
            let message = format!("{}: does not verify: {problem}", database.display());
            Ok(Err(vec![Problem::Demand { message }]))
        }
        Err(VerifyError::Store(error)) => Err(CommandError::Audit(error)),
    }
}

fn asked_in(record: &DecisionRecord) -> Result<Asked, CommandError> {
    let unreadable = || CommandError::DecisionUnreadable(printable(&record.decision_id));
    let request = record.request().ok_or_else(unreadable)?;
    let risk = match &record.risk {
        Some(risk) => Some(risk.assessment().ok_or_else(unreadable)?),
        None => None,
    };
    let recorded = Recorded {
        decision_id: record.decision_id.clone(),
        effect: record.effect,
        policy_ids: record.policy_ids.clone(),
        policy_revision: record.policy_revision.clone(),
    };
    Ok(Asked {
        request,
        time_us: record.time_us,
        risk,
        device: record.device.clone().map(DeviceFacts::from),
        recorded: Some(recorded),
    })
}

/// The request of a file. Its risk is what the engine makes of it.
fn named(arguments: &Arguments, engine: Option<&PolicyEngine>) -> Result<Result<Asked, Vec<Problem>>, CommandError> {
    let file = Path::new(&arguments.request);
    let mut requests = match testing::read_requests(file) {
        Ok(requests) => requests,
        Err(errors) => return Ok(Err(mistakes(None, Some(&errors)))),
    };
    let total = requests.len();
    if let Some(name) = &arguments.name {
        requests.retain(|request| request.name == *name);
    }
    match (requests.pop(), requests.is_empty()) {
        (Some(found), true) => Ok(Ok(Asked {
            risk: engine.and_then(|engine| found.request.assessment(engine)),
            device: found.request.device,
            request: found.request.request,
            time_us: found.request.time.as_us(),
            recorded: None,
        })),
        (Some(_) | None, _) => Err(CommandError::Usage(format!(
            "`{}` has {total} requests: name one of them with --name",
            file.display()
        ))),
    }
}

fn explain(engine: &PolicyEngine, asked: Asked) -> Result<Explanation, CommandError> {
    let Asked {
        request,
        time_us,
        risk,
        device,
        recorded,
    } = asked;
    let context = EvaluationContext {
        now: Timestamp::from_us(time_us),
        risk: risk.as_ref(),
        device: device.as_ref(),
    };
    let tracer = Tracer::new(engine)?;
    let evaluation = engine.evaluate(&request, &context);
    let trace = tracer.trace(&request, &context).ok();
    let trace = trace.map(|trace| traced(&tracer, trace, &evaluation));
    Ok(Explanation {
        revision: engine.revision().to_owned(),
        request: RequestLine {
            method: request.action.method,
            host: request.resource.host,
            path: request.resource.path,
            route_rule: request.route_rule,
            time_us,
        },
        device: device.map(DeviceRecord::from),
        risk: risk.map(RiskRecord::from),
        recorded,
        effect: match (evaluation.effect, &evaluation.challenge) {
            (Effect::Permit, _) => "permit",
            (Effect::Deny, Some(_)) => "challenge",
            (Effect::Deny, None) => "deny",
        },
        vary: evaluation.vary.attributes().map(attribute_name).collect(),
        same_for_ms: evaluation.same_for_ms,
        policy_ids: evaluation.policy_ids,
        reasons: evaluation.caller_reasons,
        obligations: evaluation.obligations,
        challenge: evaluation.challenge.as_ref().map(ChallengeRecord::from),
        observed: evaluation
            .observed
            .map(|observed| ObservedRecord::new(observed.effect, observed.policy_ids)),
        errors: evaluation.errors,
        trace,
    })
}

fn traced(tracer: &Tracer, trace: Trace, evaluation: &Evaluation) -> Traced {
    let explained = |(policy, trace): (&TracedPolicy, PolicyTrace)| ExplainedPolicy {
        is_determining: evaluation.policy_ids.contains(&policy.id),
        policy: policy.clone(),
        trace,
    };
    Traced {
        principal: trace.principal,
        principal_in: trace.principal_in,
        action: trace.action,
        resource: trace.resource,
        policies: tracer.policies().iter().zip(trace.policies).map(explained).collect(),
    }
}

fn attribute_name(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Peer => "peer",
        Attribute::Method => "method",
        Attribute::Host => "host",
        Attribute::Path => "path",
        Attribute::SourceAddress => "source_address",
        Attribute::UserAgent => "user_agent",
        Attribute::Device => "device",
    }
}
