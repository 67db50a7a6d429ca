//! Fetched key sets in the configuration: as they are written, and their checks.

use deserr::Deserr;

use super::filter::{check_cluster, in_range};
use super::problems::Problems;
use crate::token::remote_keys::location::{AllowedSchemes, Location, MetadataKind};
use crate::token::remote_keys::{KeySetOrigin, RemoteKeySettings};

const TIMEOUT_MS_DEFAULT: u32 = 5_000;
const TIMEOUT_MS_MAX: u32 = 60_000;
const CACHE_S_DEFAULT: u32 = 600;
const CACHE_S_MAX: u32 = 86_400;
const MAX_STALE_S_DEFAULT: u32 = 3_600;
const MAX_STALE_S_MAX: u32 = 604_800;
const REFETCH_INTERVAL_S_DEFAULT: u32 = 30;

/// A key set that is fetched; exactly one of `uri` and `discovery`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
pub struct RemoteKeysDocument {
    /// Where the JWK set is (RFC 7517 §5): an https URI.
    #[deserr(default)]
    pub uri: Option<String>,
    /// Which metadata of `issuer` say where it is. `issuer` must be an https URI then.
    #[deserr(default)]
    pub discovery: Option<DiscoveryDocument>,
    /// The name of the Envoy cluster that all its requests go through, 1 to 125 visible characters.
    pub cluster: String,
    /// How long to wait for an answer, 1 to 60000 milliseconds. Default: 5000.
    #[deserr(default)]
    pub timeout_ms: Option<u32>,
    /// The life of a key set, which is refreshed when four fifths of it are over, 1 to 86400 seconds; `Cache-Control` can make
    /// it shorter. Default: 600.
    #[deserr(default)]
    pub cache_s: Option<u32>,
    /// How long a key set serves after it was fetched, when later fetches fail, `cache_s` to 604800 seconds. Default: 3600, or
    /// `cache_s` where that is longer.
    #[deserr(default)]
    pub max_stale_s: Option<u32>,
    /// No answer's life is shorter, 1 to `cache_s` seconds. An unknown key has the set fetched
    /// again at most once in this time or in 2 seconds, whichever is less. Default: 30, or
    /// `cache_s` where that is shorter.
    #[deserr(default)]
    pub refetch_interval_s: Option<u32>,
    /// Whether URIs may be http: for keys within a trusted network. Default: false.
    #[deserr(default)]
    pub allow_http: Option<bool>,
}

/// Metadata of an issuer.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case")
)]
pub enum DiscoveryDocument {
    /// OpenID Connect Discovery 1.0 §4: the issuer with `/.well-known/openid-configuration` behind it.
    #[deserr(rename = "openid-configuration")]
    OpenidConfiguration,
    /// RFC 8414 §3: `/.well-known/oauth-authorization-server` before the issuer's path.
    #[deserr(rename = "oauth-authorization-server")]
    OauthAuthorizationServer,
}

/// `None`: it has no place, which is a mistake.
pub(super) fn check_remote_keys(
    document: RemoteKeysDocument,
    issuer: &str,
    path: &str,
    check: &mut Problems,
) -> Option<RemoteKeySettings> {
    check_cluster(&document.cluster, &format!("{path}.cluster"), check);
    let number = |value, range, default, name: &str, check: &mut Problems| {
        in_range(value, range, default, &format!("{path}.{name}"), check)
    };
    let timeout_ms = number(
        document.timeout_ms,
        1..=TIMEOUT_MS_MAX,
        TIMEOUT_MS_DEFAULT,
        "timeout_ms",
        check,
    );
    let cache_s = number(document.cache_s, 1..=CACHE_S_MAX, CACHE_S_DEFAULT, "cache_s", check);
    let stale = (cache_s..=MAX_STALE_S_MAX, cache_s.max(MAX_STALE_S_DEFAULT));
    let max_stale_s = number(document.max_stale_s, stale.0, stale.1, "max_stale_s", check);
    let refetch = (1..=cache_s, cache_s.min(REFETCH_INTERVAL_S_DEFAULT));
    let refetch_interval_s = number(
        document.refetch_interval_s,
        refetch.0,
        refetch.1,
        "refetch_interval_s",
        check,
    );
    let origin = check_origin(&document, issuer, path, check)?;
    let ms = |seconds: u32| u64::from(seconds) * 1000;
    Some(RemoteKeySettings {
        origin,
        cluster: document.cluster,
        timeout_ms,
        cache_ms: ms(cache_s),
        max_stale_ms: ms(max_stale_s),
        refetch_interval_ms: ms(refetch_interval_s),
    })
}

fn check_origin(document: &RemoteKeysDocument, issuer: &str, path: &str, check: &mut Problems) -> Option<KeySetOrigin> {
    let schemes = match document.allow_http {
        Some(true) => AllowedSchemes::HttpsAndHttp,
        Some(false) | None => AllowedSchemes::Https,
    };
    match (&document.uri, document.discovery) {
        (Some(uri), None) => {
            let location = Location::parse(uri, schemes);
            check.take(&format!("{path}.uri"), location).map(KeySetOrigin::At)
        }
        (None, Some(discovery)) => {
            let kind = match discovery {
                DiscoveryDocument::OpenidConfiguration => MetadataKind::OpenidConfiguration,
                DiscoveryDocument::OauthAuthorizationServer => MetadataKind::OauthAuthorizationServer,
            };
            let metadata = Location::of_metadata(kind, issuer, schemes)
                .map_err(|error| format!("the provider's `issuer` cannot be discovered: {error} or query"));
            let metadata = check.take(&format!("{path}.discovery"), metadata)?;
            Some(KeySetOrigin::Discovered {
                metadata,
                issuer: issuer.to_owned(),
                schemes,
            })
        }
        (Some(_), Some(_)) | (None, None) => {
            check.add(path, "expected exactly one of `uri`, `discovery`");
            None
        }
    }
}
