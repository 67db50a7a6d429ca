//! The matrix: what the policies decide about each of some principals, methods and resources, as a
//! text to be reviewed.

mod text;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use deserr::Deserr;
use picket_model::decision::Effect;
use picket_model::problems::{self, Problems, shortened};
use serde::Serialize;

use super::document::{DocumentErrors, read_yaml};
use super::request::{
    ActionDocument, ContextDocument, DeviceDocument, Peer, PeerDocument, PrincipalDocument, RequestDocument,
};
use super::request::{NamedRequest, ResourceDocument, RiskDocument, TestRequest, Text};
use crate::{Evaluation, PolicyEngine};

/// The file beside the policies that says what the matrix is of.
pub const MATRIX_FILE: &str = "matrix.yaml";
/// How many cells a matrix may have; more is nothing that anybody reviews.
pub const CELLS_MAX: usize = 100_000;

/// The requests of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix(Vec<MatrixTable<TestRequest>>);

/// A matrix with the decisions of some policies. Its text has a table for each resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixReport {
    /// The revision of the policies. It is not in the text, which changes with decisions alone.
    pub revision: String,
    /// One for each resource, in the order of the file.
    pub tables: Vec<MatrixTable<MatrixCell>>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixTable<T> {
    /// Its name in the file.
    pub resource: String,
    /// Its route rule, host, path and classification, for people.
    pub description: String,
    /// The columns.
    pub methods: Vec<String>,
    /// One for each principal, in the order of the file.
    pub rows: Vec<MatrixRow<T>>,
}

/// One principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixRow<T> {
    /// Its name in the file.
    pub principal: String,
    /// One for each method.
    pub cells: Vec<T>,
}

/// The decision in one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixCell {
    /// In a word.
    pub verdict: CellDecision,
    /// The policies that decide.
    pub policy_ids: Vec<String>,
}

/// A decision in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellDecision {
    /// A policy permits.
    Permit,
    /// A stronger authentication would be permitted, which is a deny until then.
    Challenge,
    /// A policy forbids.
    Forbid,
    /// None permits, which is a deny.
    None,
    /// A policy fails, which is a deny.
    Error,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct MatrixDocument {
    #[deserr(default)]
    peers: Vec<NamedPeerDocument>,
    principals: Vec<NamedPrincipalDocument>,
    methods: Vec<Text>,
    resources: Vec<NamedResourceDocument>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct NamedPeerDocument {
    name: Text,
    spiffe_id: Peer,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct NamedPrincipalDocument {
    name: Text,
    #[deserr(default)]
    principal: Option<PrincipalDocument>,
    #[deserr(default)]
    peer: Option<Text>,
    #[deserr(default)]
    context: ContextDocument,
    #[deserr(default)]
    device: Option<DeviceDocument>,
    #[deserr(default)]
    risk: Option<RiskDocument>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct NamedResourceDocument {
    name: Text,
    route_rule: Text,
    #[deserr(default)]
    resource: ResourceDocument,
    #[deserr(default)]
    methods: Option<Vec<Text>>,
}

/// Reads what a matrix is of.
///
/// # Errors
/// Every mistake of the file, with the way to the field.
pub fn read_matrix(file: &Path) -> Result<Matrix, DocumentErrors> {
    let mut found = DocumentErrors::default();
    let document = read_yaml(file, &mut found);
    let matrix =
        document.and_then(|document| found.take(file, problems::read(document).and_then(|document| matrix(&document))));
    found.none_or(matrix.unwrap_or(Matrix(Vec::new())))
}

impl Matrix {
    /// The request of each cell, named by resource, principal and method.
    pub(super) fn requests(&self) -> Vec<NamedRequest> {
        let mut requests = Vec::new();
        for table in &self.0 {
            for row in &table.rows {
                for (method, request) in table.methods.iter().zip(&row.cells) {
                    requests.push(NamedRequest {
                        name: format!("{}, {}, {method}", table.resource, row.principal),
                        request: request.clone(),
                    });
                }
            }
        }
        requests
    }

    /// Decides about each cell as the service would.
    #[must_use]
    pub fn evaluate(&self, engine: &PolicyEngine) -> MatrixReport {
        let row = |row: &MatrixRow<TestRequest>| MatrixRow {
            principal: row.principal.clone(),
            cells: row
                .cells
                .iter()
                .map(|request| MatrixCell::from(request.evaluate(engine)))
                .collect(),
        };
        let table = |table: &MatrixTable<TestRequest>| MatrixTable {
            resource: table.resource.clone(),
            description: table.description.clone(),
            methods: table.methods.clone(),
            rows: table.rows.iter().map(row).collect(),
        };
        MatrixReport {
            revision: engine.revision().to_owned(),
            tables: self.0.iter().map(table).collect(),
        }
    }
}

/// The matrix of a document, with names and sizes checked.
pub(super) fn matrix(document: &MatrixDocument) -> Result<Matrix, Problems> {
    let mut problems = Problems::default();
    check_names(&mut problems, "peers", document.peers.iter().map(|one| &one.name));
    check_names(
        &mut problems,
        "principals",
        document.principals.iter().map(|one| &one.name),
    );
    check_names(
        &mut problems,
        "resources",
        document.resources.iter().map(|one| &one.name),
    );
    let peers: BTreeMap<&str, &Peer> = document
        .peers
        .iter()
        .map(|one| (one.name.0.as_str(), &one.spiffe_id))
        .collect();
    for (index, principal) in document.principals.iter().enumerate() {
        if let Some(peer) = principal
            .peer
            .as_ref()
            .filter(|peer| !peers.contains_key(peer.0.as_str()))
        {
            let message = format!("`{}` is none of `peers`", shortened(&peer.0));
            problems.add(format!("principals[{index}].peer"), message);
        }
    }
    let columns = |resource: &NamedResourceDocument| resource.methods.as_ref().unwrap_or(&document.methods).len();
    let cells = document
        .resources
        .iter()
        .map(columns)
        .sum::<usize>()
        .saturating_mul(document.principals.len());
    if cells == 0 || cells > CELLS_MAX {
        problems.add(
            "",
            format!("expected 1 to {CELLS_MAX} cells, which are principals by methods by resources, found {cells}"),
        );
    }
    // What is large is not made, and what has a mistake is not used.
    if !problems.as_slice().is_empty() {
        return Err(problems);
    }
    let tables = document
        .resources
        .iter()
        .map(|resource| table(resource, document, &peers, &mut problems));
    let tables = tables.collect();
    problems.none_or(Some(Matrix(tables)))
}

fn table(
    resource: &NamedResourceDocument,
    document: &MatrixDocument,
    peers: &BTreeMap<&str, &Peer>,
    problems: &mut Problems,
) -> MatrixTable<TestRequest> {
    let methods = resource.methods.as_ref().unwrap_or(&document.methods);
    let request = |principal: &NamedPrincipalDocument, method: &Text, problems: &mut Problems| {
        let peer = principal.peer.as_ref().and_then(|peer| peers.get(peer.0.as_str()));
        let request = RequestDocument {
            route_rule: Some(resource.route_rule.clone()),
            principal: principal.principal.clone(),
            peer: peer.map(|peer| PeerDocument {
                spiffe_id: (*peer).clone(),
            }),
            action: ActionDocument {
                method: Some(method.clone()),
            },
            resource: resource.resource.clone(),
            context: principal.context.clone(),
            device: principal.device.clone(),
            risk: principal.risk.clone(),
        };
        request.complete("matrix", "resources", problems)
    };
    let rows: Vec<MatrixRow<TestRequest>> = document
        .principals
        .iter()
        .map(|principal| MatrixRow {
            principal: principal.name.0.clone(),
            cells: methods
                .iter()
                .filter_map(|method| request(principal, method, problems))
                .collect(),
        })
        .collect();
    let described = rows.iter().flat_map(|row| &row.cells).next().map(description);
    MatrixTable {
        resource: resource.name.0.clone(),
        description: described.unwrap_or_default(),
        methods: methods.iter().map(|method| method.0.clone()).collect(),
        rows,
    }
}

fn description(request: &TestRequest) -> String {
    let request = &request.request;
    let resource = &request.resource;
    let classification = resource
        .classification
        .iter()
        .map(|classification| format!(", {classification}"));
    let classification: String = classification.collect();
    format!(
        "{}, {}{}{classification}",
        request.route_rule, resource.host, resource.path
    )
}

fn check_names<'a>(problems: &mut Problems, path: &str, names: impl Iterator<Item = &'a Text>) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(&name.0) {
            problems.add(
                format!("{path}[{index}].name"),
                format!("`{}` is there twice", shortened(&name.0)),
            );
        }
    }
}

impl From<Evaluation> for MatrixCell {
    fn from(evaluation: Evaluation) -> Self {
        let verdict = match evaluation.effect {
            Effect::Permit => CellDecision::Permit,
            Effect::Deny if !evaluation.errors.is_empty() => CellDecision::Error,
            Effect::Deny if evaluation.challenge.is_some() => CellDecision::Challenge,
            Effect::Deny if evaluation.policy_ids.is_empty() => CellDecision::None,
            Effect::Deny => CellDecision::Forbid,
        };
        Self {
            verdict,
            policy_ids: evaluation.policy_ids,
        }
    }
}
