//! The policy service's configuration: a TOML file with overrides from the environment. Reading it
//! reports all mistakes at once, each with the path to the field.
//!
//! It has no code of the server, so that the command line can check a file. The settings of the
//! crates risk, policy, audit and state are theirs; those of the program's own parts are here.

mod callers;
mod devices;
mod document;
mod fields;
mod filter_document;
mod overlay;
mod policies;
mod risk;
mod roles;
#[cfg(feature = "schema")]
mod schema;
mod sessions;
mod storage;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use picket_model::problems::{self, Problem, Problems};
use picket_model::spiffe::SpiffeId;
use serde_json::Value;

pub use callers::{AllowedCaller, CallerRole, CallerRoles};
use document::Document;
pub use filter_document::read_filter_configuration;
pub use overlay::ENVIRONMENT_PREFIX;
pub use risk::{AssessorSettings, GeoipFiles, ThreatListFile};
#[cfg(feature = "schema")]
pub use schema::schema;

use picket_state::StorageLocation;
use picket_state::sessions::SessionSettings;

/// The size of a configuration file at most; it is a page or two of text.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A checked configuration. Paths are absolute or relative to the working directory, no longer to
/// the file.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The gRPC front.
    pub grpc: GrpcSettings,
    /// The HTTP front.
    pub http: HttpSettings,
    /// The front for the AuthZEN API; `None`: it is not served.
    pub authzen: Option<AuthzenSettings>,
    /// The front for Envoy's external authorization; `None`: it is not served.
    pub ext_authz: Option<ExtAuthzSettings>,
    /// The source of policies.
    pub policies: PolicySettings,
    /// The source of principals' roles.
    pub roles: RoleSource,
    /// The validity of decisions.
    pub decisions: DecisionSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// The storage of sessions, devices, roles and policies; `None`: none of them is stored.
    pub storage: Option<StorageLocation>,
    /// Sessions; `None`: they are not kept.
    pub sessions: Option<SessionSettings>,
    /// Devices; `None`: they are not kept.
    pub devices: Option<picket_state::devices::DeviceSettings>,
    /// The log on standard output.
    pub log: LogSettings,
    /// Risk assessment; `None`: risk is not assessed.
    pub risk: Option<AssessorSettings>,
}

/// `[grpc]`: the front that answers `Decide` over mutual TLS.
#[derive(Clone, Debug)]
pub struct GrpcSettings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The service's certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The authorities that sign callers' certificates, PEM.
    pub client_ca_file: PathBuf,
    /// Callers with the role `sidecar`; never empty.
    pub allowed_callers: Vec<SpiffeId>,
    /// Further callers with their roles.
    pub callers: Vec<AllowedCaller>,
    /// How many calls are served at once; more are refused.
    pub concurrency_max: u32,
    /// The largest request that is read.
    pub request_bytes_max: u32,
}

/// `[http]`: the plain front for probes and metrics.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// `[authzen]`: the AuthZEN API over HTTPS, with the certificates and for the callers of `[grpc]`.
#[derive(Clone, Debug)]
pub struct AuthzenSettings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The identifier of this service: `https://`, a host, and an optional port.
    pub policy_decision_point: String,
    /// How many calls are served at once; more are refused.
    pub concurrency_max: u32,
    /// The largest body that is read.
    pub request_bytes_max: u32,
    /// How many evaluations one call may ask for.
    pub evaluations_max: u32,
    /// The resources that a search can find, JSON; `None`: there is no search for resources.
    pub resources_file: Option<PathBuf>,
}

/// `[ext_authz]`: Envoy's `Check`, on the gRPC front and for the same callers.
#[derive(Clone, Debug)]
pub struct ExtAuthzSettings {
    /// The filter's configuration, JSON.
    pub filter_configuration_file: PathBuf,
    /// The authorities that sign the certificates of the mesh's workloads, PEM.
    pub peer_ca_file: PathBuf,
    /// The largest message that is read.
    pub request_bytes_max: u32,
}

/// `[policies]`.
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// The source of policies.
    pub source: PolicySource,
    /// The time zone of the clock and calendar that policies see.
    pub time_zone: TimeZone,
}

/// The source of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// In the folder with `*.cedar`, `entities.json` and a schema, if it has its own.
    Folder(PathBuf),
    /// In `[storage]`, as numbered revisions.
    Store,
}

/// `[roles]`: the source of principals' roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleSource {
    /// From their tokens.
    Token,
    /// From their tokens, and from `[storage]` where operators assign them.
    TokenAndStore,
}

/// `[decisions]`.
#[derive(Clone, Debug)]
pub struct DecisionSettings {
    /// The validity of a permit in a sidecar's cache.
    pub permit_valid_for_ms: u32,
    /// The validity of a deny in a sidecar's cache.
    pub deny_valid_for_ms: u32,
}

/// `[audit]`.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The SQLite database; created where it does not exist.
    pub database_file: PathBuf,
    /// The key-encryption key, 64 hexadecimal characters.
    pub key_encryption_key_file: PathBuf,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, deserr::Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For development.
    Debug,
    /// One line for each decision.
    Info,
    /// Events that need attention.
    Warn,
    /// Failures that need an action.
    Error,
}

/// Reads and checks a configuration file as it stands, without the environment.
///
/// # Errors
/// All of its mistakes, each with the path to the field.
pub fn check(file: &Path) -> Result<Configuration, Problems> {
    load(file, std::iter::empty())
}

/// Reads and checks a configuration file with the overrides of an environment:
/// `PICKET__SECTION__KEY=value`, where the value is read as TOML, else as a string.
///
/// # Errors
/// All of its mistakes, each with the path to the field.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Configuration, Problems> {
    let document = parse(&read_file(file)?)?;
    let mut found = Problems::default();
    let (mut document, overridden) = overlay::apply(document, environment, &mut found);
    let folder = file.parent().unwrap_or(Path::new(""));
    document::resolve_paths(&mut document, folder);
    let read = match problems::read::<Document>(document) {
        Ok(read) => Some(Configuration::from(read)),
        Err(more) => {
            overlay::add_with_origin(&mut found, &more, &overridden);
            None
        }
    };
    found.none_or(read)
}

fn read_file(file: &Path) -> Result<String, Problems> {
    let of_document = |message: String| {
        Problems::from(Problem {
            path: String::new(),
            message,
        })
    };
    let size = std::fs::metadata(file)
        .map_err(|error| of_document(format!("cannot read `{}`: {error}", file.display())))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(of_document(format!(
            "`{}` is larger than {FILE_BYTES_MAX} bytes",
            file.display()
        )));
    }
    std::fs::read_to_string(file).map_err(|error| of_document(format!("cannot read `{}`: {error}", file.display())))
}

fn parse(text: &str) -> Result<Value, Problems> {
    toml::from_str::<Value>(text).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        Problems::from(Problem {
            path: String::new(),
            message: format!("line {line}: not TOML: {}", error.message()),
        })
    })
}

#[cfg(test)]
mod tests;
