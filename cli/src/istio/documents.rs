//! Reading YAML, and telling which documents are about a workload.

use deserr::Deserr;
use picket_model::problems::{self, Problems};
use serde_json::{Map, Value};

use super::specs::{AuthorizationPolicySpec, RequestAuthenticationSpec, Selector};
use super::{Findings, Workload, add_all};

const GROUP: &str = "security.istio.io/";
const DRY_RUN: &str = "istio.io/dry-run";

/// One of Istio's documents.
pub(super) struct Document {
    /// Kind, namespace and name, for messages.
    pub(super) title: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The annotation `istio.io/dry-run`.
    pub(super) is_dry_run: bool,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    AuthorizationPolicy(AuthorizationPolicySpec),
    RequestAuthentication(RequestAuthenticationSpec),
}

/// All documents in the files. `None`: one of them has a mistake.
pub(super) fn read(files: &[(String, String)], findings: &mut Findings) -> Option<Vec<Document>> {
    let mut documents = Vec::new();
    let mut is_whole = true;
    for (file, text) in files {
        match serde_saphyr::from_multiple::<Value>(text) {
            Ok(values) => {
                for value in values.into_iter().flat_map(items) {
                    match read_one(file, value, findings) {
                        Ok(document) => documents.extend(document),
                        Err(Mistake) => is_whole = false,
                    }
                }
            }
            Err(error) => {
                findings.problem(file, "", format!("expected YAML: {error}"));
                is_whole = false;
            }
        }
    }
    is_whole.then_some(documents)
}

struct Mistake;

/// `kubectl get -o yaml` writes one list of documents.
fn items(value: Value) -> Vec<Value> {
    match value.get("items") {
        Some(Value::Array(items))
            if value
                .get("kind")
                .and_then(Value::as_str)
                .is_some_and(|k| k.ends_with("List")) =>
        {
            items.clone()
        }
        Some(_) | None => vec![value],
    }
}

/// `None`: it is about something else.
fn read_one(file: &str, value: Value, findings: &mut Findings) -> Result<Option<Document>, Mistake> {
    let mut members = match value {
        Value::Object(members) => members,
        Value::Null => return Ok(None),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            findings.problem(file, "", "expected a Kubernetes object");
            return Err(Mistake);
        }
    };
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let metadata = members.get("metadata").cloned().unwrap_or_default();
    let text = |name: &str| {
        metadata
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (namespace, name) = (text("namespace"), text("name"));
    let title = format!("{kind} {namespace}/{name}");
    let is_known = matches!(kind.as_str(), "AuthorizationPolicy" | "RequestAuthentication");
    if version.starts_with(GROUP) && kind == "PeerAuthentication" {
        let message =
            "is not imported, and the filter asks for no peer: have the listener require a client certificate";
        findings.problem(&title, "", message);
        return Ok(None);
    }
    if !version.starts_with(GROUP) || !is_known {
        findings.note(
            &title,
            "",
            "is neither a RequestAuthentication nor an AuthorizationPolicy, and not looked at",
        );
        return Ok(None);
    }
    if namespace.is_empty() || name.is_empty() {
        findings.problem(
            file,
            "metadata",
            format!("expected `namespace` and `name`, as they decide whom the {kind} is about"),
        );
        return Err(Mistake);
    }
    for member in members.keys() {
        if !matches!(member.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status") {
            findings.problem(&title, member, "unknown field");
            return Err(Mistake);
        }
    }
    let spec = match members.remove("spec") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(spec) => spec,
    };
    let kind = match kind.as_str() {
        "AuthorizationPolicy" => read_spec(&title, spec, findings).map(Kind::AuthorizationPolicy)?,
        _ => read_spec(&title, spec, findings).map(Kind::RequestAuthentication)?,
    };
    let is_dry_run = is_dry_run(&title, &metadata, findings)?;
    Ok(Some(Document {
        is_dry_run,
        title,
        namespace,
        name,
        kind,
    }))
}

/// Whether a policy holds decides too much to guess at.
fn is_dry_run(title: &str, metadata: &Value, findings: &mut Findings) -> Result<bool, Mistake> {
    let annotation = metadata
        .get("annotations")
        .and_then(|annotations| annotations.get(DRY_RUN));
    match annotation.map(Value::as_str) {
        None | Some(Some("false")) => Ok(false),
        Some(Some("true")) => Ok(true),
        Some(_) => {
            findings.problem(
                title,
                "metadata.annotations",
                format!("expected `{DRY_RUN}` to be \"true\" or \"false\""),
            );
            Err(Mistake)
        }
    }
}

fn read_spec<T: Deserr<Problems>>(title: &str, spec: Value, findings: &mut Findings) -> Result<T, Mistake> {
    problems::read(spec).map_err(|problems| {
        add_all(findings, title, &problems);
        Mistake
    })
}

impl Document {
    /// Whether it is about the workload: by its namespace, and by the labels that its selector names.
    pub(super) fn applies_to(&self, workload: &Workload, findings: &mut Findings) -> bool {
        let (selector, target, targets) = match &self.kind {
            Kind::AuthorizationPolicy(spec) => (&spec.selector, &spec.target_ref, &spec.target_refs),
            Kind::RequestAuthentication(spec) => (&spec.selector, &spec.target_ref, &spec.target_refs),
        };
        if self.namespace != workload.namespace && self.namespace != workload.root_namespace {
            return false;
        }
        if target.is_some() || targets.as_ref().is_some_and(|targets| !targets.is_empty()) {
            findings.problem(
                &self.title,
                "spec.targetRefs",
                "names gateways or services, and not workloads by their labels: the document is left out",
            );
            return false;
        }
        self.is_selected(selector.as_ref(), workload, findings)
    }

    fn is_selected(&self, selector: Option<&Selector>, workload: &Workload, findings: &mut Findings) -> bool {
        match selector.and_then(|selector| selector.match_labels.as_ref()) {
            None => true,
            Some(Value::Object(labels)) => labels.iter().all(|(name, value)| {
                let have = workload.labels.get(name).map(String::as_str);
                have.is_some() && have == value.as_str()
            }),
            Some(_) => {
                findings.problem(
                    &self.title,
                    "spec.selector.matchLabels",
                    "expected an object of strings",
                );
                true
            }
        }
    }
}
