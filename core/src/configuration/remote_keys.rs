//! The checks of fetched key sets in the configuration.

use picket_model::problems::Problems;

use super::document::remote_keys::{
    CACHE_S_DEFAULT, CACHE_S_MAX, MAX_STALE_S_DEFAULT, MAX_STALE_S_MAX, REFETCH_INTERVAL_S_DEFAULT, TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
};
use super::document::{DiscoveryDocument, RemoteKeysDocument};
use super::values::{check_cluster, in_range};
use crate::token::remote_keys::location::{AllowedSchemes, Location, MetadataKind};
use crate::token::remote_keys::{KeySetOrigin, RemoteKeySettings};

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
