//! `picket explain`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_core::access::AccessRequest;
use picket_core::decision::{Attribute, Effect};
use picket_policy_service::audit::{self, DecisionRecord, EffectRecord, VerifyError};
use picket_policy_service::policy::{Evaluation, Outcome, PolicyEngine, PolicyTrace, Trace, TracedPolicy, Tracer};
use picket_policy_service::policy_tests;
use serde::Serialize;

use super::CommandError;
use super::audit::read_key;
use super::policy::{Problem, load, mistakes};
use crate::exit::Exit;
use crate::output::{Output, Paint, printable};

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
  picket explain 019aa5a0-5f7c-7cc2-a3f7-7c1d4f1fa0b3 --database audit.sqlite3 --key keys/audit-key --policies policies";

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
    /// What was decided then.
    recorded: Option<Recorded>,
    effect: &'static str,
    policy_ids: Vec<String>,
    reasons: Vec<String>,
    errors: Vec<String>,
    /// What it could have depended on, besides route rule and token.
    vary: Vec<&'static str>,
    /// `None`: the request cannot be put to Cedar, and `errors` says why.
    trace: Option<Traced>,
}

#[derive(Serialize)]
struct RequestLine {
    method: String,
    host: String,
    path: String,
    route_rule: String,
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
    let engine = load(&arguments.policies)?;
    let asked = match (&arguments.database, &arguments.key) {
        (Some(database), Some(key)) => recorded(arguments, database, key)?,
        (None, _) | (_, None) => named(arguments)?,
    };
    let (explanation, problems) = match (&engine, asked) {
        (Ok(engine), Ok((request, recorded))) => (Some(explain(engine, &request, recorded)?), Vec::new()),
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
    output.print(&text_of(&answer, output), &answer)?;
    Ok(Exit::of_check(&problems))
}

/// The request to explain, and what was decided about it once.
type Asked = (AccessRequest, Option<Recorded>);

/// The request of a recorded decision.
fn recorded(arguments: &Arguments, database: &Path, key: &Path) -> Result<Result<Asked, Vec<Problem>>, CommandError> {
    match audit::find_decision(database, &read_key(key)?, &arguments.request) {
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
    let request = record
        .request()
        .ok_or_else(|| CommandError::DecisionUnreadable(printable(&record.decision_id)))?;
    let recorded = Recorded {
        decision_id: record.decision_id.clone(),
        effect: record.effect,
        policy_ids: record.policy_ids.clone(),
        policy_revision: record.policy_revision.clone(),
    };
    Ok((request, Some(recorded)))
}

fn named(arguments: &Arguments) -> Result<Result<Asked, Vec<Problem>>, CommandError> {
    let file = Path::new(&arguments.request);
    let mut requests = match policy_tests::read_requests(file) {
        Ok(requests) => requests,
        Err(errors) => return Ok(Err(mistakes(None, Some(&errors)))),
    };
    let total = requests.len();
    if let Some(name) = &arguments.name {
        requests.retain(|request| request.name == *name);
    }
    match (requests.pop(), requests.is_empty()) {
        (Some(found), true) => Ok(Ok((found.request, None))),
        (Some(_) | None, _) => Err(CommandError::Usage(format!(
            "`{}` has {total} requests: name one of them with --name",
            file.display()
        ))),
    }
}

fn explain(
    engine: &PolicyEngine,
    request: &AccessRequest,
    recorded: Option<Recorded>,
) -> Result<Explanation, CommandError> {
    let tracer = Tracer::new(engine)?;
    let evaluation = engine.evaluate(request);
    let traced = tracer
        .trace(request)
        .ok()
        .map(|trace| traced(&tracer, trace, &evaluation));
    Ok(Explanation {
        revision: engine.revision().to_owned(),
        request: RequestLine {
            method: request.action.method.clone(),
            host: request.resource.host.clone(),
            path: request.resource.path.clone(),
            route_rule: request.route_rule.clone(),
        },
        recorded,
        effect: match evaluation.effect {
            Effect::Permit => "permit",
            Effect::Deny => "deny",
        },
        vary: evaluation.vary.attributes().map(attribute_name).collect(),
        policy_ids: evaluation.policy_ids,
        reasons: evaluation.caller_reasons,
        errors: evaluation.errors,
        trace: traced,
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
    }
}

fn text_of(answer: &Answer<'_>, output: Output) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for problem in answer.problems {
        let _ = writeln!(text, "{}", output.paint(Paint::Bad, &printable(&problem.to_string())));
    }
    if let Some(explanation) = answer.explanation {
        add_request(&mut text, explanation);
        if let Some(trace) = &explanation.trace {
            add_trace(&mut text, trace, output);
        }
        add_decision(&mut text, explanation, output);
    }
    text
}

fn add_request(text: &mut String, explanation: &Explanation) {
    let RequestLine {
        method,
        host,
        path,
        route_rule,
    } = &explanation.request;
    let line = format!("{method} {host}{path}, route rule {route_rule}");
    let _ = writeln!(text, "request    {}", printable(&line));
}

fn add_trace(text: &mut String, trace: &Traced, output: Output) {
    let _ = writeln!(text, "principal  {}", printable(&trace.principal));
    for parent in &trace.principal_in {
        let _ = writeln!(text, "  in       {}", printable(parent));
    }
    let _ = writeln!(text, "action     {}", printable(&trace.action));
    let _ = writeln!(text, "resource   {}", printable(&trace.resource));
    let (candidates, others): (Vec<_>, Vec<_>) = trace.policies.iter().partition(|policy| policy.trace.is_candidate);
    for explained in candidates {
        add_policy(text, explained, output);
    }
    if !others.is_empty() {
        let ids: Vec<&str> = others.iter().map(|explained| explained.policy.id.as_str()).collect();
        let line = format!("not looked at, as they ask for other route rules: {}", ids.join(", "));
        let _ = writeln!(text, "{}", output.paint(Paint::Dim, &line));
    }
}

fn add_policy(text: &mut String, explained: &ExplainedPolicy, output: Output) {
    let ExplainedPolicy {
        policy,
        trace,
        is_determining,
    } = explained;
    let verdict = match (&trace.whole, is_determining) {
        (Outcome::True, true) => output.paint(Paint::Good, "applies, and decides"),
        (Outcome::True, false) => "applies".to_owned(),
        (Outcome::False, _) => "does not apply".to_owned(),
        (Outcome::Failed(_), _) => output.paint(Paint::Bad, "fails, which is a deny"),
    };
    let place = format!("{}:{}", policy.place.file.display(), policy.place.line);
    let _ = writeln!(text, "{place}: {} ({}) {verdict}", policy.id, policy.kind.word());
    let _ = writeln!(text, "  scope: {}", value(Some(&trace.scope)));
    for (clause, outcome) in policy.clauses.iter().zip(&trace.clauses) {
        let _ = writeln!(text, "  {}: {}", printable(&clause.text), value(outcome.as_ref()));
    }
}

fn value(outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::True) => "true".to_owned(),
        Some(Outcome::False) => "false".to_owned(),
        Some(Outcome::Failed(error)) => format!("fails: {}", printable(error)),
        None => "not reached".to_owned(),
    }
}

fn add_decision(text: &mut String, explanation: &Explanation, output: Output) {
    let by = |ids: &[String]| match ids {
        [] => "no policy".to_owned(),
        ids => ids.join(", "),
    };
    let paint = if explanation.effect == "permit" {
        Paint::Good
    } else {
        Paint::Bad
    };
    let effect = output.paint(paint, explanation.effect);
    let _ = writeln!(
        text,
        "decision   {effect} by {}, revision {}",
        by(&explanation.policy_ids),
        explanation.revision
    );
    for reason in &explanation.reasons {
        let _ = writeln!(text, "  reason   {}", printable(reason));
    }
    for error in &explanation.errors {
        let _ = writeln!(text, "  error    {}", printable(error));
    }
    let vary = match explanation.vary.as_slice() {
        [] => String::new(),
        attributes => format!(", {}", attributes.join(", ")),
    };
    let _ = writeln!(text, "depends on route rule, token{vary}");
    let valid = match explanation.errors.is_empty() {
        true => "as `decisions` of the service's configuration says",
        false => "not at all, as a failure is not repeated",
    };
    let _ = writeln!(text, "valid      {valid}");
    if let Some(recorded) = &explanation.recorded {
        let effect = match recorded.effect {
            EffectRecord::Permit => "permit",
            EffectRecord::Deny => "deny",
        };
        let revision = match recorded.policy_revision == explanation.revision {
            true => "the same revision".to_owned(),
            false => format!("another revision, {}", printable(&recorded.policy_revision)),
        };
        let _ = writeln!(
            text,
            "recorded   {effect} by {}, {revision}",
            printable(&by(&recorded.policy_ids))
        );
    }
}
