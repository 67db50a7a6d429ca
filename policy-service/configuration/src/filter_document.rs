//! The filter's configuration, as far as the front for external authorization can enforce it.

use std::path::Path;

use picket_core::configuration::limits::DOCUMENT_BYTES_MAX;
use picket_core::enforcement::FilterConfiguration;
use picket_core::token::provider::ProviderKeys;
use picket_model::problems::Problems;

/// Reads and checks a document of the filter: JSON, as `picket config check` takes it.
///
/// # Errors
/// Every mistake in it, and everything that only the filter can do, each with the path to the
/// field.
pub fn read_filter_configuration(file: &Path) -> Result<FilterConfiguration, Problems> {
    let mut problems = Problems::default();
    let bytes = std::fs::metadata(file)
        .and_then(|metadata| match usize::try_from(metadata.len()) {
            Ok(length) if length <= DOCUMENT_BYTES_MAX => std::fs::read(file).map(Some),
            Ok(_) | Err(_) => Ok(None),
        })
        .map_err(|error| format!("cannot read it: {error}"))
        .and_then(|bytes| bytes.ok_or_else(|| format!("expected at most {DOCUMENT_BYTES_MAX} bytes")));
    let Some(bytes) = problems.take("", bytes) else {
        return Err(problems);
    };
    let configuration = FilterConfiguration::parse(&bytes)?;
    add_unsupported(&configuration, &mut problems);
    problems.none_or(Some(configuration))
}

/// Adds a mistake for each provider that needs calls to its issuer. The filter makes them through
/// Envoy's clusters, which this front has not.
fn add_unsupported(configuration: &FilterConfiguration, problems: &mut Problems) {
    for (index, provider) in configuration.providers.iter().enumerate() {
        let (key, what) = match provider.keys {
            ProviderKeys::Inline(_) => continue,
            ProviderKeys::Remote(_) => ("remote_keys", "keys are not fetched here"),
            ProviderKeys::Introspection(_) => ("introspection", "issuers are not asked about opaque tokens here"),
        };
        problems.add(
            format!("providers[{index}].{key}"),
            format_args!("{what}, only in the filter; expected `keys`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(document: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("filter.json");
        std::fs::write(&file, document).unwrap();
        read_filter_configuration(&file).map(|_| ()).unwrap_err().to_string()
    }

    fn document(provider: &str) -> String {
        format!(
            r#"{{"workload": "orders", "providers": [{{"name": "main", "issuer": "https://issuer.example", {provider}}}],
                "rules": [{{"id": "a", "hosts": ["*"], "paths": ["/"], "peer": "none", "decision": "permit"}}]}}"#
        )
    }

    #[test]
    fn what_only_the_filter_can_do_is_refused_by_the_key_that_asks_for_it() {
        let remote =
            r#""audiences": ["orders"], "remote_keys": {"uri": "https://issuer.example/keys", "cluster": "issuer"}"#;
        assert_eq!(
            problems(&document(remote)),
            "providers[0].remote_keys: keys are not fetched here, only in the filter; expected `keys`"
        );
        let introspection = r#""introspection": {"uri": "https://issuer.example/introspect", "cluster": "issuer",
            "client_id": "picket", "secret_variable": "SECRET", "audience": "required"}, "audiences": ["orders"]"#;
        assert_eq!(
            problems(&document(introspection)),
            "providers[0].introspection: issuers are not asked about opaque tokens here, only in the filter; expected `keys`"
        );
    }

    #[test]
    fn a_mistake_in_the_document_keeps_its_path() {
        assert_eq!(problems("{}"), "workload: is required; rules: is required");
        let missing = read_filter_configuration(Path::new("none.json"))
            .map(|_| ())
            .unwrap_err();
        assert!(missing.to_string().starts_with("cannot read it: "), "{missing}");
    }
}
