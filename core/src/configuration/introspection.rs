//! The checks of token introspection in the configuration.

use std::rc::Rc;

use picket_model::problems::Problems;

use super::document::introspection::{
    CACHE_INACTIVE_S_DEFAULT, CACHE_INACTIVE_S_MAX, CACHE_S_MAX_DEFAULT, CACHE_S_MAX_MAX, CLIENT_ID_BYTES_MAX,
    TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX,
};
use super::document::{IntrospectionDocument, NeedDocument, ProviderDocument};
use super::values::{check_cluster, in_range};
use crate::token::introspection::{AudienceNeed, IntrospectionSettings};
use crate::token::provider::{Provider, ProviderKeys};
use crate::token::remote_keys::location::{AllowedSchemes, Location};

/// `None`: it has no place, which is a mistake.
pub(super) fn check_introspection(
    document: IntrospectionDocument,
    path: &str,
    check: &mut Problems,
) -> Option<IntrospectionSettings> {
    let at = |name: &str| format!("{path}.{name}");
    check_cluster(&document.cluster, &at("cluster"), check);
    // RFC 6749 Appendix A.1.
    let is_visible = |b: u8| b.is_ascii_graphic() || b == b' ';
    if !(1..=CLIENT_ID_BYTES_MAX).contains(&document.client_id.len()) || !document.client_id.bytes().all(is_visible) {
        check.add(
            at("client_id"),
            format_args!("expected 1 to {CLIENT_ID_BYTES_MAX} visible ASCII characters"),
        );
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if document.secret_variable.is_empty() || !document.secret_variable.bytes().all(is_name) {
        let expected = "expected the name of an environment variable: letters, digits and `_`";
        check.add(at("secret_variable"), expected);
    }
    let mut number = |value, range, default, name: &str| in_range(value, range, default, &at(name), check);
    let timeout_ms = number(
        document.timeout_ms,
        1..=TIMEOUT_MS_MAX,
        TIMEOUT_MS_DEFAULT,
        "timeout_ms",
    );
    let cache_s_max = number(
        document.cache_s_max,
        0..=CACHE_S_MAX_MAX,
        CACHE_S_MAX_DEFAULT,
        "cache_s_max",
    );
    let cache_inactive_s = number(
        document.cache_inactive_s,
        0..=CACHE_INACTIVE_S_MAX,
        CACHE_INACTIVE_S_DEFAULT,
        "cache_inactive_s",
    );
    // Tokens and the client's secret go there: nobody means to send them in the clear.
    let location = check.take(&at("uri"), Location::parse(&document.uri, AllowedSchemes::Https))?;
    Some(IntrospectionSettings {
        location,
        cluster: document.cluster,
        timeout_ms,
        client_id: document.client_id,
        secret_variable: document.secret_variable,
        cache_ms_max: u64::from(cache_s_max) * 1000,
        cache_inactive_ms: u64::from(cache_inactive_s) * 1000,
        audience: match document.audience {
            Some(NeedDocument::None) => AudienceNeed::Optional,
            Some(NeedDocument::Required) | None => AudienceNeed::Required,
        },
        // It comes from the environment, with `read_secrets`.
        authorization: None,
    })
}

/// What is said of JWTs means nothing to opaque tokens.
pub(super) fn check_no_jws_fields(document: &ProviderDocument, path: &str, check: &mut Problems) {
    let said = [
        ("algorithms", document.algorithms.is_some()),
        // It has a field of its own there.
        ("audience", document.audience.is_some()),
        ("types", document.types.is_some()),
        ("payload_header", document.payload_header.is_some()),
    ];
    for (name, is_said) in said {
        if document.introspection.is_some() && is_said {
            check.add(format!("{path}.{name}"), "expected none beside `introspection`");
        }
    }
}

/// An opaque token does not say whose it is: its place must.
pub(super) fn check_places(providers: &[(usize, Provider)], check: &mut Problems) {
    let looked_up = || {
        providers
            .iter()
            .filter(|(_, provider)| provider.keys.introspection().is_some())
    };
    for (at, (index, provider)) in looked_up().enumerate() {
        let tie = looked_up()
            .take(at)
            .find(|(_, other)| other.sources.overlaps(provider.sources));
        if let Some((_, other)) = tie {
            let message = format!(
                "expected places that provider `{}` does not take opaque tokens from",
                other.name
            );
            check.add(format!("providers[{index}].sources"), message);
        }
    }
}

/// Reads the client's secret of each provider that looks tokens up.
pub(super) fn read_secrets(
    providers: &mut [Provider],
    variable: &impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    for (index, provider) in providers.iter_mut().enumerate() {
        let ProviderKeys::Introspection(settings) = &mut provider.keys else {
            continue;
        };
        let name = &settings.secret_variable;
        let read = variable(name)
            .ok_or_else(|| format!("the environment variable `{name}` is not set in `vm_config.environment_variables`"))
            .and_then(|secret| {
                settings
                    .with_secret(&secret)
                    .map_err(|error| format!("the environment variable `{name}`: {error}"))
            });
        let path = format!("providers[{index}].introspection.secret_variable");
        if let Some(with_secret) = problems.take(&path, read) {
            *settings = Rc::new(with_secret);
        }
    }
}
