//! Loading policies: every mistake of every file, each with its line.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Authorizer, Entities, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use jiff::tz::TimeZone;
use picket_risk::Levels;
use ring::digest;

use super::annotations::Annotations;
use super::engine::{Loaded, PolicyEngine};
use super::entities::LoadedEntities;
use super::errors::{Mistakes, PolicyErrors, line_at, line_of, message, with_causes};
use super::files::{ENTITIES_FILE, POLICY_EXTENSION, PolicyFiles, SCHEMA_FILE};
use super::impossible_names::{self, PossibleRequests};
use super::index::Index;
use super::model::Model;
use super::roles::NamedRoles;
use super::schema;
use super::source::{File, SourceLocation};

/// SHA-256 cut to this many hexadecimal digits names a revision.
const REVISION_DIGITS: usize = 16;

/// Loads and validates a folder of policies: `*.cedar` and, if there, `entities.json` and
/// `schema.cedarschema`; without the latter they are held to [`schema::SCHEMA`].
///
/// Each policy carries a unique `@id`; an `@reason` may be told to the caller, an `@obligation`
/// goes to the upstream with a permit, `@mode("observe")` keeps it from deciding, and `@tenant`
/// from anybody but that tenant's principals.
///
/// # Errors
/// Every mistake in the folder, with file and line.
pub fn load(directory: &Path) -> Result<PolicyEngine, PolicyErrors> {
    let mut found = Mistakes::default();
    let files = PolicyFiles::read_policies(directory, &mut found);
    load_into(&files, found)
}

/// Does the same with files that are in memory.
///
/// # Errors
/// Every mistake in them, with file and line.
pub fn load_files(files: &PolicyFiles) -> Result<PolicyEngine, PolicyErrors> {
    load_into(files, Mistakes::default())
}

fn load_into(files: &PolicyFiles, mut found: Mistakes) -> Result<PolicyEngine, PolicyErrors> {
    let mut warnings = Mistakes::default();
    let directory = files.origin();
    let files = placed(files, &mut found);
    let own_schema = files.get(SCHEMA_FILE);
    let schema = schema::load(own_schema, &mut found, &mut warnings);
    let policies = Policies::parse(&files, &mut found);
    let prepared = schema.and_then(|schema| {
        policies.validate(&schema, &mut found, &mut warnings);
        if found.is_empty() {
            policies.warn_of_impossible(&schema, own_schema, &mut warnings);
        }
        let entities = load_entities(directory, &files, &schema, &mut found);
        let model = schema::check(directory, own_schema, &schema, &mut found);
        Some((entities?, model?))
    });
    let declared = prepared.iter().flat_map(|(entities, _)| entities.iter());
    let declared: BTreeSet<String> = declared
        .filter_map(|entity| impossible_names::role_name(&entity.uid()))
        .collect();
    // The index relies on policies that the validator has accepted.
    let prepared = prepared.filter(|_| found.is_empty()).and_then(|(entities, model)| {
        let entities = or_mistake(directory, LoadedEntities::new(entities, model.actions()), &mut found);
        let index = or_mistake(directory, Index::new(&policies.set, &policies.annotations), &mut found);
        Some((entities?, model, index?))
    });
    match prepared {
        Some((entities, model, index)) => Ok(PolicyEngine {
            loaded: Arc::new(Loaded {
                authorizer: Authorizer::new(),
                index,
                entities,
                model,
                places: policies.places(),
                roles: NamedRoles {
                    declared,
                    in_policies: policies.roles(),
                },
                revision: revision(&files),
                warnings: warnings.into_warnings(),
            }),
            time_zone: TimeZone::UTC,
            levels: Levels::DEFAULT,
        }),
        None => Err(found.into_errors()),
    }
}

fn or_mistake<T, E: std::error::Error>(directory: &Path, made: Result<T, E>, found: &mut Mistakes) -> Option<T> {
    made.map_err(|error| found.add(directory, None, with_causes(&error)))
        .ok()
}

/// Contents by file name.
type Files = BTreeMap<String, File>;

fn placed(files: &PolicyFiles, found: &mut Mistakes) -> Files {
    let directory = files.origin();
    let place = |(name, text): (&str, &str)| {
        let file = File {
            path: directory.join(name),
            text: text.to_owned(),
        };
        (name.to_owned(), file)
    };
    let files: Files = files.policies().map(place).collect();
    let is_policy = |name: &String| name.ends_with(&format!(".{POLICY_EXTENSION}"));
    if found.is_empty() && !files.keys().any(is_policy) {
        found.add(directory, None, format!("no policy file (`*.{POLICY_EXTENSION}`)"));
    }
    files
}

/// Entities that the service makes from each request; a second one of the same name would
/// contradict it.
fn load_entities(directory: &Path, files: &Files, schema: &Schema, found: &mut Mistakes) -> Option<Entities> {
    let path = directory.join(ENTITIES_FILE);
    let text = files.get(ENTITIES_FILE).map_or("[]", |file| file.text.as_str());
    let entities = match Entities::from_json_str(text, Some(schema)) {
        Ok(entities) => entities,
        Err(error) => {
            found.add(&path, line_of(&error, text), with_causes(&error));
            return None;
        }
    };
    for entity in entities.iter() {
        let uid = entity.uid();
        if Model::is_made_from_requests(uid.type_name()) {
            found.add(
                &path,
                None,
                format!("`{uid}`: the policy service makes these entities from each request"),
            );
        }
    }
    Some(entities)
}

/// The policies of all files under their `@id`s, and where each one came from.
struct Policies<'a> {
    set: PolicySet,
    origins: BTreeMap<PolicyId, Origin<'a>>,
    annotations: HashMap<PolicyId, Annotations>,
}

struct Origin<'a> {
    file: &'a File,
    line: usize,
}

impl<'a> Policies<'a> {
    fn parse(files: &'a Files, found: &mut Mistakes) -> Self {
        let mut policies = Self {
            set: PolicySet::new(),
            origins: BTreeMap::new(),
            annotations: HashMap::new(),
        };
        for file in files.values() {
            if file
                .path
                .extension()
                .is_none_or(|extension| extension != POLICY_EXTENSION)
            {
                continue;
            }
            if !file.is_shallow(false, found) {
                continue;
            }
            match PolicySet::from_str(&file.text) {
                Ok(set) => policies.add_all(file, &set, found),
                Err(errors) => {
                    for error in errors.iter() {
                        found.add(&file.path, line_of(error, &file.text), message(error));
                    }
                }
            }
        }
        policies
    }

    fn add_all(&mut self, file: &'a File, set: &PolicySet, found: &mut Mistakes) {
        for template in set.templates() {
            let line = line_of_source(&file.text, &template.to_cedar(), &mut 0);
            found.add(
                &file.path,
                Some(line),
                "templates are not supported: write the policy out",
            );
        }
        let mut searched = 0;
        for policy in set.policies() {
            let line = line_of_source(&file.text, &policy.to_cedar().unwrap_or_default(), &mut searched);
            match self.add(file, line, policy) {
                Ok(()) => {}
                Err(mistake) => found.add(&file.path, Some(line), mistake),
            }
        }
    }

    fn add(&mut self, file: &'a File, line: usize, policy: &Policy) -> Result<(), String> {
        let annotations = Annotations::of(policy)?;
        let id = PolicyId::new(&annotations.id);
        if let Some(other) = self.origins.get(&id) {
            let other = format!("{}:{}", other.file.path.display(), other.line);
            return Err(format!("the @id `{id}` is taken by {other}"));
        }
        self.set
            .add(policy.new_id(id.clone()))
            .map_err(|error| error.to_string())?;
        self.origins.insert(id.clone(), Origin { file, line });
        self.annotations.insert(id, annotations);
        Ok(())
    }

    fn validate(&self, schema: &Schema, found: &mut Mistakes, warnings: &mut Mistakes) {
        let result = Validator::new(schema.clone()).validate(&self.set, ValidationMode::Strict);
        for error in result.validation_errors() {
            self.add_diagnostic(error.policy_id(), error, found);
        }
        for warning in result.validation_warnings() {
            self.add_diagnostic(warning.policy_id(), warning, warnings);
        }
    }

    /// What is true of no request is not wrong, but hardly meant.
    fn warn_of_impossible(&self, schema: &Schema, own_schema: Option<&File>, warnings: &mut Mistakes) {
        let requests = PossibleRequests::new(schema, own_schema);
        for policy in self.set.policies() {
            for impossible in requests.impossible_in(policy) {
                if let Some(place) = self.place_of(policy.id(), &impossible.name) {
                    let message = format!("for policy `{}`, {}", policy.id(), impossible.message);
                    warnings.add(&place.file, Some(place.line), message);
                }
            }
        }
    }

    /// Each role with the place where each policy names it first.
    fn roles(&self) -> BTreeMap<String, Vec<SourceLocation>> {
        let mut roles: BTreeMap<String, Vec<SourceLocation>> = BTreeMap::new();
        for policy in self.set.policies() {
            for role in impossible_names::roles_in(policy) {
                let place = self.place_of(policy.id(), &format!("{role:?}"));
                roles.entry(role).or_default().extend(place);
            }
        }
        roles
    }

    /// Where a policy has a text first; else where it begins.
    fn place_of(&self, id: &PolicyId, text: &str) -> Option<SourceLocation> {
        let origin = self.origins.get(id)?;
        let mut lines = origin.file.text.lines().skip(origin.line.saturating_sub(1));
        let behind = lines.position(|line| line.contains(text)).unwrap_or(0);
        Some(SourceLocation {
            file: origin.file.path.clone(),
            line: origin.line.saturating_add(behind),
        })
    }

    fn places(&self) -> HashMap<PolicyId, SourceLocation> {
        let place = |origin: &Origin<'_>| SourceLocation {
            file: origin.file.path.clone(),
            line: origin.line,
        };
        let places = self.origins.iter().map(|(id, origin)| (id.clone(), place(origin)));
        places.collect()
    }

    fn add_diagnostic(&self, id: &PolicyId, diagnostic: &impl miette::Diagnostic, found: &mut Mistakes) {
        if let Some(origin) = self.origins.get(id) {
            let line = line_of(diagnostic, &origin.file.text).unwrap_or(origin.line);
            found.add(&origin.file.path, Some(line), message(diagnostic));
        }
    }
}

/// Cedar keeps a policy's text but not its place; policies come in the order of the file.
fn line_of_source(text: &str, policy: &str, searched: &mut usize) -> usize {
    let rest = text.get(*searched..).unwrap_or_default();
    let offset = *searched + rest.find(policy).unwrap_or(0);
    *searched = offset + policy.len().min(rest.len());
    line_at(text, offset)
}

/// Lengths before names and contents keep two different folders from giving the same bytes.
fn revision(files: &Files) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, file) in files {
        for part in [name.as_bytes(), file.text.as_bytes()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    let mut revision = hex::encode(context.finish());
    revision.truncate(REVISION_DIGITS);
    revision
}
