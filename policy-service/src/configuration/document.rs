//! The shape of the file. Each field parses itself, so that one pass over the document finds every
//! mistake.

use std::path::Path;

use deserr::{Deserr, ValuePointerRef};
use picket_model::problems::Problems;
use serde_json::Value;

use super::callers::CallerSection;
use super::devices::DevicesSection;
use super::fields::{Address, CallerIds, CertificateFile, DatabaseFile, ExistingFile, FilterConfigurationFile};
use super::fields::{HttpsOrigin, KeyEncryptionKeyFile, Ranged, is_development};
use super::policies::PoliciesSection;
use super::risk::{AssessorSettings, RiskSection};
use super::roles::RolesSection;
use super::sessions::SessionsSection;
use super::storage::{StorageSection, location};
use super::{
    AuditSettings, AuthzenSettings, Configuration, DecisionSettings, ExtAuthzSettings, GrpcSettings, HttpSettings,
    LogLevel, LogSettings,
};

/// Enough for a sidecar's worst burst, and a bound on what is held in memory.
const CONCURRENCY_MAX: u32 = 1024;
/// A request of Picket's filter holds no headers and no token; 64 KiB leaves room for long claims.
const REQUEST_BYTES_MAX: u32 = 64 * 1024;
/// A message of Envoy's holds all headers, 60 KiB by Envoy's default, and a certificate.
const CHECK_BYTES_MAX: u32 = 128 * 1024;
/// Calls of enforcement points that are not sidecars, each of them up to [`EVALUATIONS_MAX`]
/// decisions.
const EVALUATION_CALLS_MAX: u32 = 256;
/// A hundred evaluations with long lists of roles.
const EVALUATION_BYTES_MAX: u32 = 256 * 1024;
const EVALUATIONS_MAX: u32 = 100;
const PERMIT_VALID_FOR_MS: u32 = 60_000;
const DENY_VALID_FOR_MS: u32 = 5_000;
/// A decision that is repeated for longer than a day is no decision about a request.
const VALID_FOR_MS_MAX: u32 = 86_400_000;

/// The keys whose values are paths relative to the file's folder.
const PATHS: [(&str, &str); 16] = [
    ("grpc", "certificate_file"),
    ("grpc", "key_file"),
    ("grpc", "client_ca_file"),
    ("authzen", "resources_file"),
    ("ext_authz", "filter_configuration_file"),
    ("ext_authz", "peer_ca_file"),
    ("policies", "directory"),
    ("audit", "database_file"),
    ("audit", "key_encryption_key_file"),
    ("risk", "state_file"),
    ("risk", "geoip_country_file"),
    ("risk", "geoip_city_file"),
    ("risk", "geoip_asn_file"),
    ("storage", "sqlite_file"),
    ("storage", "postgres_url_file"),
    ("storage", "postgres_ca_file"),
];

/// The whole file.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = sections_agree -> Problems)]
pub(super) struct Document {
    grpc: GrpcSection,
    http: HttpSection,
    #[deserr(default)]
    authzen: Option<AuthZenSection>,
    #[deserr(default)]
    ext_authz: Option<ExtAuthzSection>,
    policies: PoliciesSection,
    #[deserr(default)]
    roles: RolesSection,
    #[deserr(default)]
    decisions: DecisionsSection,
    audit: AuditSection,
    #[deserr(default)]
    sessions: Option<SessionsSection>,
    #[deserr(default)]
    devices: Option<DevicesSection>,
    #[deserr(default)]
    storage: Option<StorageSection>,
    #[deserr(default)]
    log: LogSection,
    #[deserr(default)]
    risk: Option<RiskSection>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = development_stays_on_loopback -> Problems)]
struct GrpcSection {
    listen: Address,
    certificate_file: CertificateFile,
    key_file: ExistingFile,
    client_ca_file: CertificateFile,
    allowed_callers: CallerIds,
    #[deserr(default)]
    callers: Vec<CallerSection>,
    #[deserr(default = Ranged(CONCURRENCY_MAX))]
    concurrency_max: Ranged<1, 65_536>,
    #[deserr(default = Ranged(REQUEST_BYTES_MAX))]
    request_bytes_max: Ranged<1_024, 1_048_576>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct HttpSection {
    listen: Address,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct AuthZenSection {
    listen: Address,
    policy_decision_point: HttpsOrigin,
    #[deserr(default = Ranged(EVALUATION_CALLS_MAX))]
    concurrency_max: Ranged<1, 65_536>,
    #[deserr(default = Ranged(EVALUATION_BYTES_MAX))]
    request_bytes_max: Ranged<1_024, 4_194_304>,
    #[deserr(default = Ranged(EVALUATIONS_MAX))]
    evaluations_max: Ranged<1, 1_000>,
    #[deserr(default)]
    resources_file: Option<ExistingFile>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct ExtAuthzSection {
    filter_configuration_file: FilterConfigurationFile,
    peer_ca_file: CertificateFile,
    #[deserr(default = Ranged(CHECK_BYTES_MAX))]
    request_bytes_max: Ranged<1_024, 1_048_576>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct DecisionsSection {
    #[deserr(default = Ranged(PERMIT_VALID_FOR_MS))]
    permit_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    #[deserr(default = Ranged(DENY_VALID_FOR_MS))]
    deny_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
}

impl Default for DecisionsSection {
    fn default() -> Self {
        Self {
            permit_valid_for_ms: Ranged(PERMIT_VALID_FOR_MS),
            deny_valid_for_ms: Ranged(DENY_VALID_FOR_MS),
        }
    }
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct AuditSection {
    database_file: DatabaseFile,
    key_encryption_key_file: KeyEncryptionKeyFile,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
struct LogSection {
    #[deserr(default = LogLevel::Info)]
    level: LogLevel,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: LogLevel::Info }
    }
}

impl From<Document> for Configuration {
    fn from(document: Document) -> Self {
        Self {
            grpc: GrpcSettings {
                listen: document.grpc.listen.0,
                certificate_file: document.grpc.certificate_file.path,
                key_file: document.grpc.key_file.0,
                client_ca_file: document.grpc.client_ca_file.path,
                allowed_callers: document.grpc.allowed_callers.0,
                callers: document.grpc.callers.into_iter().map(Into::into).collect(),
                concurrency_max: document.grpc.concurrency_max.0,
                request_bytes_max: document.grpc.request_bytes_max.0,
            },
            http: HttpSettings {
                listen: document.http.listen.0,
            },
            authzen: document.authzen.map(|section| AuthzenSettings {
                listen: section.listen.0,
                policy_decision_point: section.policy_decision_point.0,
                concurrency_max: section.concurrency_max.0,
                request_bytes_max: section.request_bytes_max.0,
                evaluations_max: section.evaluations_max.0,
                resources_file: section.resources_file.map(|file| file.0),
            }),
            ext_authz: document.ext_authz.map(|section| ExtAuthzSettings {
                filter_configuration_file: section.filter_configuration_file.0,
                peer_ca_file: section.peer_ca_file.path,
                request_bytes_max: section.request_bytes_max.0,
            }),
            policies: document.policies.into(),
            roles: document.roles.into(),
            decisions: DecisionSettings {
                permit_valid_for_ms: document.decisions.permit_valid_for_ms.0,
                deny_valid_for_ms: document.decisions.deny_valid_for_ms.0,
            },
            audit: AuditSettings {
                database_file: document.audit.database_file.0,
                key_encryption_key_file: document.audit.key_encryption_key_file.0,
            },
            risk: document
                .risk
                .map(|section| AssessorSettings::new(section, document.devices.is_some())),
            devices: document.devices.map(crate::devices::Settings::from),
            storage: document.storage.and_then(location),
            sessions: document.sessions.map(Into::into),
            log: LogSettings {
                level: document.log.level,
            },
        }
    }
}

/// Makes the relative paths of a document relative to the working directory, by the folder of its
/// file.
pub(super) fn resolve_paths(document: &mut Value, folder: &Path) {
    for (section, key) in PATHS {
        resolve_path(document.get_mut(section), key, folder);
    }
    let lists = document.get_mut("risk").and_then(|risk| risk.get_mut("threat_lists"));
    for list in lists.and_then(Value::as_array_mut).into_iter().flatten() {
        resolve_path(Some(list), "file", folder);
    }
}

fn resolve_path(table: Option<&mut Value>, key: &str, folder: &Path) {
    // An empty path stays empty, and is a mistake of its own; joined, it would be the folder.
    if let Some(Value::String(path)) = table.and_then(|table| table.get_mut(key))
        && !path.is_empty()
    {
        *path = folder.join(&*path).to_string_lossy().into_owned();
    }
}

/// Checks sections against each other.
fn sections_agree(document: Document, _location: ValuePointerRef<'_>) -> Result<Document, Problems> {
    let mut problems = Problems::default();
    state_has_storage(&document, &mut problems);
    development_stays_on_loopback_everywhere(&document, &mut problems);
    problems.none_or(Some(document))
}

/// State without a storage would be lost with the process, including revocations.
fn state_has_storage(document: &Document, problems: &mut Problems) {
    let keepers = [
        ("`[sessions]`", document.sessions.is_some()),
        ("`[devices]`", document.devices.is_some()),
        ("`policies.source = \"store\"`", document.policies.are_stored()),
        ("`roles.source = \"token_and_store\"`", document.roles.are_stored()),
    ];
    let keeper = keepers.iter().find(|(_, keeps)| *keeps);
    match (keeper, &document.storage) {
        (Some((keeper, _)), None) => problems.add("storage", format!("is required where there is {keeper}")),
        (None, Some(_)) => {
            let keepers = keepers.map(|(keeper, _)| keeper).join(" or ");
            problems.add("storage", format!("nothing is stored without {keepers}"));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// A development certificate's key has lain about on some machine: it serves nobody but that
/// machine.
fn development_stays_on_loopback(grpc: GrpcSection, _location: ValuePointerRef<'_>) -> Result<GrpcSection, Problems> {
    let development = [
        ("grpc.certificate_file", &grpc.certificate_file),
        ("grpc.client_ca_file", &grpc.client_ca_file),
    ];
    let mut problems = Problems::default();
    for (path, file) in development {
        check_development(path, file, ("grpc.listen", &grpc.listen), &mut problems);
    }
    problems.none_or(Some(grpc))
}

/// The same for the peers whose certificates Envoys pass on, and for the front that serves with the
/// same certificate.
fn development_stays_on_loopback_everywhere(document: &Document, problems: &mut Problems) {
    if let Some(section) = &document.ext_authz {
        let (path, listen) = ("ext_authz.peer_ca_file", ("grpc.listen", &document.grpc.listen));
        check_development(path, &section.peer_ca_file, listen, problems);
    }
    if let Some(section) = &document.authzen {
        let listen = ("authzen.listen", &section.listen);
        check_development(
            "grpc.certificate_file",
            &document.grpc.certificate_file,
            listen,
            problems,
        );
        check_development("grpc.client_ca_file", &document.grpc.client_ca_file, listen, problems);
    }
}

fn check_development(path: &str, file: &CertificateFile, listen: (&str, &Address), problems: &mut Problems) {
    let (key, Address(address)) = listen;
    if !address.ip().is_loopback() && is_development(file) {
        let message = "a development certificate serves loopback addresses only, and";
        problems.add(path, format!("{message} `{key}` is `{address}`"));
    }
}
