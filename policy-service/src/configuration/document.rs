//! The shape of the file. Each field parses itself, so that one pass over the document finds every mistake.

use std::path::Path;

use deserr::{Deserr, ValuePointerRef};
use jiff::tz::TimeZone;
use picket_core::configuration::problems::Problems;
use serde_json::Value;

use super::fields::{Address, CallerIds, CertificateFile, DatabaseFile, Directory, ExistingFile, KeyEncryptionKeyFile};
use super::fields::{Ranged, TimeZoneName, is_development};
use super::risk::{Risk, RiskSection};
use super::{Audit, Configuration, Decisions, Grpc, Http, Log, LogLevel, Policies};

/// Enough for a sidecar's worst burst, and a bound on what is held in memory.
const CONCURRENCY_MAX: u32 = 1024;
/// A request of Picket's filter holds no headers and no token; 64 KiB leaves room for long claims.
const REQUEST_BYTES_MAX: u32 = 64 * 1024;
const PERMIT_VALID_FOR_MS: u32 = 60_000;
const DENY_VALID_FOR_MS: u32 = 5_000;
/// A decision that is repeated for longer than a day is no decision about a request.
const VALID_FOR_MS_MAX: u32 = 86_400_000;

/// The keys that hold paths, which are relative to the file's folder.
const PATHS: [(&str, &str); 10] = [
    ("grpc", "certificate_file"),
    ("grpc", "key_file"),
    ("grpc", "client_ca_file"),
    ("policies", "directory"),
    ("audit", "database_file"),
    ("audit", "key_encryption_key_file"),
    ("risk", "state_file"),
    ("risk", "geoip_country_file"),
    ("risk", "geoip_city_file"),
    ("risk", "geoip_asn_file"),
];

/// The whole file.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
pub(super) struct Document {
    grpc: GrpcSection,
    http: HttpSection,
    policies: PoliciesSection,
    #[deserr(default)]
    decisions: DecisionsSection,
    audit: AuditSection,
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
struct PoliciesSection {
    directory: Directory,
    #[deserr(default = TimeZoneName(TimeZone::UTC))]
    time_zone: TimeZoneName,
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
            grpc: Grpc {
                listen: document.grpc.listen.0,
                certificate_file: document.grpc.certificate_file.path,
                key_file: document.grpc.key_file.0,
                client_ca_file: document.grpc.client_ca_file.path,
                allowed_callers: document.grpc.allowed_callers.0,
                concurrency_max: document.grpc.concurrency_max.0,
                request_bytes_max: document.grpc.request_bytes_max.0,
            },
            http: Http {
                listen: document.http.listen.0,
            },
            policies: Policies {
                directory: document.policies.directory.0,
                time_zone: document.policies.time_zone.0,
            },
            decisions: Decisions {
                permit_valid_for_ms: document.decisions.permit_valid_for_ms.0,
                deny_valid_for_ms: document.decisions.deny_valid_for_ms.0,
            },
            audit: Audit {
                database_file: document.audit.database_file.0,
                key_encryption_key_file: document.audit.key_encryption_key_file.0,
            },
            log: Log {
                level: document.log.level,
            },
            risk: document.risk.map(Risk::from),
        }
    }
}

/// Makes the relative paths of a document relative to the working directory, by the folder of its file.
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

/// A development certificate's key has lain about on some machine: it serves nobody but that machine.
fn development_stays_on_loopback(grpc: GrpcSection, _location: ValuePointerRef<'_>) -> Result<GrpcSection, Problems> {
    let development = [
        ("grpc.certificate_file", &grpc.certificate_file),
        ("grpc.client_ca_file", &grpc.client_ca_file),
    ];
    let mut problems = Problems::default();
    if !grpc.listen.0.ip().is_loopback() {
        for (path, file) in development {
            if is_development(file) {
                problems.add(
                    path,
                    format!(
                        "a development certificate serves loopback addresses only, and `grpc.listen` is `{}`",
                        grpc.listen.0
                    ),
                );
            }
        }
    }
    problems.none_or(Some(grpc))
}
