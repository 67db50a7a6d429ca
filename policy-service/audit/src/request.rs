//! The parts of an access request, as records of decisions and searches have them.
//!
//! Each conversion names every field of both sides, so that the compiler lists this file when the
//! access request changes.

use std::collections::BTreeMap;

use picket_model::access::{Action, Actor, Context, FurtherToken, Possession, Principal, Resource, Sidecar};
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use serde::{Deserialize, Serialize};

/// The enforcement point that asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SidecarRecord {
    /// Envoy's node id.
    pub node_id: String,
    /// The workload that it protects.
    pub workload: String,
}

/// The authenticated party.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `picket_model::access::Principal`")]
pub struct PrincipalRecord {
    pub issuer: String,
    pub subject: String,
    pub tenant: Option<String>,
    pub roles: Vec<String>,
    pub scopes: Vec<String>,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    pub auth_time_s: Option<i64>,
    pub session_id: Option<String>,
    pub token_id: Option<String>,
    pub issued_at_s: Option<i64>,
    pub expires_at_s: Option<i64>,
    /// Absent in records from before it was kept.
    #[serde(default)]
    pub actors: Vec<ActorRecord>,
    /// Absent in records from before it was kept.
    #[serde(default)]
    pub is_bound: bool,
}

/// A party that acted for the principal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRecord {
    /// Its issuer; `None`: the token's.
    pub issuer: Option<String>,
    /// Its subject.
    pub subject: String,
}

/// A token beside the principal's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are those of `picket_model::access::FurtherToken`"
)]
pub struct FurtherTokenRecord {
    pub issuer: String,
    pub subject: String,
    pub tenant: Option<String>,
    pub session_id: Option<String>,
    pub token_id: Option<String>,
    pub issued_at_s: Option<i64>,
}

/// The action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The request's method.
    pub method: String,
}

/// The resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecord {
    /// Lower case, without port.
    pub host: String,
    /// Normalised, without query.
    pub path: String,
    /// The captures of the rule's path template.
    pub path_parameters: BTreeMap<String, String>,
    /// From the route rule.
    pub classification: Option<String>,
    /// From the route rule. Absent in records from before it was kept, as are those below.
    #[serde(default)]
    pub security_zone: Option<String>,
    /// The tenant that owns it, from the route rule.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// The circumstances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextRecord {
    /// Where the connection came from.
    pub source_address: Option<String>,
    /// As sent, cut short.
    pub user_agent: Option<String>,
    /// The thumbprint of the peer's certificate in base64url (`x5t#S256`). Absent in records from
    /// before it was kept, as is the one below.
    #[serde(default)]
    pub certificate_thumbprint: Option<String>,
    /// The thumbprint of the key that the caller has proved to hold, in base64url (`jkt`).
    #[serde(default)]
    pub key_thumbprint: Option<String>,
}

/// Converts both ways between two structs whose fields have the same names, each by `From`. A field
/// that is missing on either side does not compile.
macro_rules! mirrored {
    ($record:ident, $model:ident, { $($field:ident),+ $(,)? }) => {
        impl From<$model> for $record {
            fn from($model { $($field),+ }: $model) -> Self {
                Self { $($field),+ }
            }
        }

        impl From<$record> for $model {
            fn from($record { $($field),+ }: $record) -> Self {
                Self { $($field),+ }
            }
        }
    };
}

mirrored!(SidecarRecord, Sidecar, { node_id, workload });
mirrored!(ActorRecord, Actor, { issuer, subject });
mirrored!(FurtherTokenRecord, FurtherToken, { issuer, subject, tenant, session_id, token_id, issued_at_s });
mirrored!(ActionRecord, Action, { method });
mirrored!(ResourceRecord, Resource, { host, path, path_parameters, classification, security_zone, tenant });

impl From<Principal> for PrincipalRecord {
    fn from(principal: Principal) -> Self {
        let Principal {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            session_id,
            token_id,
            issued_at_s,
            expires_at_s,
            actors,
            is_bound,
        } = principal;
        Self {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            session_id,
            token_id,
            issued_at_s,
            expires_at_s,
            actors: actors.into_iter().map(ActorRecord::from).collect(),
            is_bound,
        }
    }
}

impl From<PrincipalRecord> for Principal {
    fn from(record: PrincipalRecord) -> Self {
        let PrincipalRecord {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            session_id,
            token_id,
            issued_at_s,
            expires_at_s,
            actors,
            is_bound,
        } = record;
        Self {
            issuer,
            subject,
            tenant,
            roles,
            scopes,
            acr,
            amr,
            auth_time_s,
            session_id,
            token_id,
            issued_at_s,
            expires_at_s,
            actors: actors.into_iter().map(Actor::from).collect(),
            is_bound,
        }
    }
}

impl From<Context> for ContextRecord {
    fn from(context: Context) -> Self {
        let Context {
            source_address,
            user_agent,
            possession: Possession { certificate, key },
        } = context;
        Self {
            source_address: source_address.map(|address| address.to_string()),
            user_agent,
            certificate_thumbprint: certificate.map(CertificateThumbprint::to_base64url),
            key_thumbprint: key.map(KeyThumbprint::to_base64url),
        }
    }
}

impl ContextRecord {
    /// The circumstances; `None` where an address or a thumbprint is none.
    pub(super) fn context(&self) -> Option<Context> {
        let Self {
            source_address,
            user_agent,
            certificate_thumbprint,
            key_thumbprint,
        } = self;
        Some(Context {
            source_address: read(source_address.as_deref(), |text| text.parse().ok())?,
            user_agent: user_agent.clone(),
            possession: Possession {
                certificate: read(certificate_thumbprint.as_deref(), CertificateThumbprint::from_base64url)?,
                key: read(key_thumbprint.as_deref(), KeyThumbprint::from_base64url)?,
            },
        })
    }
}

/// Reads an optional text. The outer `None`: the text is not what it stands for.
pub(super) fn read<T>(text: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(text).map(Some),
    }
}
