//! Token introspection in the configuration: as it is written, and its checks.

use std::rc::Rc;

use deserr::Deserr;
use picket_model::problems::Problems;

use super::document::NeedDocument;
use super::filter::{check_cluster, in_range};
use super::providers::ProviderDocument;
use crate::token::introspection::{AudienceNeed, IntrospectionSettings};
use crate::token::provider::{Provider, ProviderKeys};
use crate::token::remote_keys::location::{AllowedSchemes, Location};

const TIMEOUT_MS_DEFAULT: u32 = 1_000;
const TIMEOUT_MS_MAX: u32 = 60_000;
const CACHE_S_MAX_DEFAULT: u32 = 60;
const CACHE_S_MAX_MAX: u32 = 3_600;
const CACHE_INACTIVE_S_DEFAULT: u32 = 5;
const CACHE_INACTIVE_S_MAX: u32 = 60;
const CLIENT_ID_BYTES_MAX: usize = 256;

/// The introspection endpoint of an issuer of opaque tokens (RFC 7662). It is asked about each
/// token that is not cached.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Opaque tokens")
)]
pub struct IntrospectionDocument {
    /// The https URI of the endpoint.
    pub uri: String,
    /// The name of the Envoy cluster that the requests go through, whatever host the URI names, in
    /// visible ASCII characters. Its existence is not checked: with an unknown name no opaque token
    /// is accepted.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::CLUSTER_BYTES_MAX)))]
    pub cluster: String,
    /// The longest wait for an answer, in milliseconds. After it the answer is 503.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = TIMEOUT_MS_MAX), extend("default" = TIMEOUT_MS_DEFAULT)))]
    pub timeout_ms: Option<u32>,
    /// The id of a client of the issuer (RFC 6749 §2.3.1), in visible ASCII characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = CLIENT_ID_BYTES_MAX)))]
    pub client_id: String,
    /// The name of the environment variable of the VM that holds the client's secret. The variable
    /// is set in `vm_config.environment_variables`.
    pub secret_variable: String,
    /// The longest time that an active token is cached, in seconds, and never beyond its `exp`. A
    /// revoked token is accepted for as long. 0: the issuer is asked for each request.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CACHE_S_MAX_MAX), extend("default" = CACHE_S_MAX_DEFAULT)))]
    pub cache_s_max: Option<u32>,
    /// How long an inactive token is cached, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CACHE_INACTIVE_S_MAX), extend("default" = CACHE_INACTIVE_S_DEFAULT)))]
    pub cache_inactive_s: Option<u32>,
    /// Whether an answer must have `aud`. An `aud` that is present must name one of `audiences` in
    /// either case. `none` accepts every token of an issuer that does not send `aud`, including
    /// tokens for other services.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub audience: Option<NeedDocument>,
}

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
