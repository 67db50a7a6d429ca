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

/// The file of the policy service.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = sections_agree -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Configuration of the policy service")
)]
pub(super) struct Document {
    /// The gRPC front, which answers sidecars and operators over mutual TLS 1.3.
    grpc: GrpcSection,
    /// The plain HTTP front for probes and metrics.
    http: HttpSection,
    /// The AuthZEN API over HTTPS. Default: none, and it is not served.
    #[deserr(default)]
    authzen: Option<AuthZenSection>,
    /// Envoy's external authorization, on the gRPC front and for the same callers. Default: none,
    /// and it is not served.
    #[deserr(default)]
    ext_authz: Option<ExtAuthzSection>,
    /// The policies.
    policies: PoliciesSection,
    /// The roles of principals.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    roles: RolesSection,
    /// How long sidecars may repeat a decision.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    decisions: DecisionsSection,
    /// The audit log.
    audit: AuditSection,
    /// Sessions. Default: none, and nothing can be revoked.
    #[deserr(default)]
    sessions: Option<SessionsSection>,
    /// Devices. Default: none, and no device is known.
    #[deserr(default)]
    devices: Option<DevicesSection>,
    /// The storage of sessions, devices, revisions of policies and assigned roles. Required with
    /// `sessions`, `devices`, `policies.source = "store"` and `roles.source = "token_and_store"`. A
    /// mistake without all of them.
    #[deserr(default)]
    storage: Option<StorageSection>,
    /// The log on standard output.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    log: LogSection,
    /// Risk scores. Default: none, and nothing is scored.
    #[deserr(default)]
    risk: Option<RiskSection>,
}

/// The gRPC front: `Decide`, the services of operators, and the gRPC health service, over mutual
/// TLS 1.3.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = development_stays_on_loopback -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "gRPC front")
)]
struct GrpcSection {
    /// The address to listen on. Port 0 takes a free port, which the log line `ready` names.
    listen: Address,
    /// The certificate chain of the service. A development certificate (issuer O="Picket
    /// development only") is refused unless `grpc.listen` is a loopback address.
    certificate_file: CertificateFile,
    /// The private key of the certificate, in PEM (PKCS#8, SEC 1 or PKCS#1).
    key_file: ExistingFile,
    /// The authorities that sign the certificates of callers. A development authority is refused
    /// unless `grpc.listen` is a loopback address.
    client_ca_file: CertificateFile,
    /// The callers that may ask for decisions, by the one URI SAN of their certificate. Others
    /// receive PERMISSION_DENIED.
    allowed_callers: CallerIds,
    /// Further callers, with roles.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = [])))]
    callers: Vec<CallerSection>,
    /// The calls of `Decide` that are served at once. Further calls are refused with
    /// RESOURCE_EXHAUSTED. Calls of operators have a limit of their own.
    #[deserr(default = Ranged(CONCURRENCY_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CONCURRENCY_MAX)))]
    concurrency_max: Ranged<1, 65_536>,
    /// The largest request message, in bytes. A larger one is refused with OUT_OF_RANGE.
    #[deserr(default = Ranged(REQUEST_BYTES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = REQUEST_BYTES_MAX)))]
    request_bytes_max: Ranged<1_024, 1_048_576>,
}

/// The HTTP front for `/livez`, `/readyz` and `/metrics`, without TLS.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "HTTP front")
)]
struct HttpSection {
    /// The address to listen on. Port 0 takes a free port.
    listen: Address,
}

/// The OpenID AuthZEN Authorization API over HTTPS, with the certificates and for the callers of
/// `grpc`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "AuthZEN API")
)]
struct AuthZenSection {
    /// The address to listen on. Port 0 takes a free port.
    listen: Address,
    /// The name that enforcement points use for this service. It is the identifier in the metadata,
    /// and the beginning of the endpoints there.
    policy_decision_point: HttpsOrigin,
    /// The calls that are served at once. Further calls are refused with 503.
    #[deserr(default = Ranged(EVALUATION_CALLS_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = EVALUATION_CALLS_MAX)))]
    concurrency_max: Ranged<1, 65_536>,
    /// The largest body, in bytes. A larger one is refused with 413.
    #[deserr(default = Ranged(EVALUATION_BYTES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = EVALUATION_BYTES_MAX)))]
    request_bytes_max: Ranged<1_024, 4_194_304>,
    /// The evaluations that one call of `/access/v1/evaluations` may ask for.
    #[deserr(default = Ranged(EVALUATIONS_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = EVALUATIONS_MAX)))]
    evaluations_max: Ranged<1, 1_000>,
    /// The resources that a search can find: a JSON array of
    /// `{"type": "route", "id": …, "properties": {…}}`, in the form of evaluations. It is read at
    /// the start. Default: none, and there is no search for resources.
    #[deserr(default)]
    resources_file: Option<ExistingFile>,
}

/// Envoy's external authorization (`envoy.service.auth.v3.Authorization`). The service applies the
/// filter's rules.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "External authorization")
)]
struct ExtAuthzSection {
    /// The filter's configuration, in JSON. `providers[].remote_keys` and
    /// `providers[].introspection` are refused.
    filter_configuration_file: FilterConfigurationFile,
    /// The authorities, including intermediate ones, that sign the certificates of the mesh's
    /// workloads. A development authority is refused unless `grpc.listen` is a loopback address.
    peer_ca_file: CertificateFile,
    /// The largest message of Envoy, in bytes: all headers and a certificate. A larger one is
    /// refused with OUT_OF_RANGE.
    #[deserr(default = Ranged(CHECK_BYTES_MAX))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = CHECK_BYTES_MAX)))]
    request_bytes_max: Ranged<1_024, 1_048_576>,
}

/// How long sidecars may repeat a decision. A decision that depends on time, a session or a risk
/// level can be shorter.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Validity of decisions")
)]
struct DecisionsSection {
    /// How long a permit may be repeated, in milliseconds. 0: not at all.
    #[deserr(default = Ranged(PERMIT_VALID_FOR_MS))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = PERMIT_VALID_FOR_MS)))]
    permit_valid_for_ms: Ranged<0, VALID_FOR_MS_MAX>,
    /// How long a deny may be repeated, in milliseconds. 0: not at all. A deny because of a failed
    /// evaluation is never repeated.
    #[deserr(default = Ranged(DENY_VALID_FOR_MS))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = DENY_VALID_FOR_MS)))]
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

/// The audit log.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Audit log")
)]
struct AuditSection {
    /// The SQLite database. It is created with mode 0600, with `-wal`, `-shm`, `-head` and `.lock`
    /// beside it. Its folder must exist.
    database_file: DatabaseFile,
    /// A file of 64 hexadecimal characters: the key that wraps the data keys of the records.
    key_encryption_key_file: KeyEncryptionKeyFile,
}

/// The log on standard output, one JSON object a line.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Log")
)]
struct LogSection {
    /// The least severe level that is written. `info` has one line for each decision.
    #[deserr(default = LogLevel::Info)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "info")))]
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
            devices: document.devices.map(picket_state::devices::DeviceSettings::from),
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
