//! A sidecar without the filter: Envoy asks the policy service about each request, by `envoy/sidecar-ext-authz.yaml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

const FILTERS: &str = "envoy/sidecar-ext-authz.yaml";
/// How far HTTP filters are indented in `envoy/sidecar-inbound.yaml`.
const INDENT: &str = "          ";
const PICKET: &str = "- name: envoy.filters.http.wasm\n";
const ROUTER: &str = "- name: envoy.filters.http.router\n";

/// A callee's sidecar whose Envoy asks.
#[derive(Debug)]
pub struct External {
    /// The bootstrap.
    pub bootstrap: String,
    /// What the filter's configuration was, in JSON.
    pub filter_configuration: String,
}

/// Puts the filters of `envoy/sidecar-ext-authz.yaml` in the place of Picket's filter, and takes out the configuration of that.
///
/// # Errors
/// When the bootstrap does not have the filter, or not before the router.
pub fn without_filter(root: &Path, bootstrap: &str) -> Result<External> {
    let marked = |name: &str| format!("{INDENT}{name}");
    let (before, rest) = bootstrap
        .split_once(&marked(PICKET))
        .context("the bootstrap has no Wasm filter")?;
    let (filter, after) = rest
        .split_once(&marked(ROUTER))
        .context("no router after the Wasm filter")?;
    let filter: Value = serde_saphyr::from_str(&format!("{}{filter}", marked(PICKET)))?;
    let configuration = filter
        .pointer("/0/typed_config/config/configuration/value")
        .context("the filter has no configuration")?;
    let filters = fs::read_to_string(root.join(FILTERS)).with_context(|| format!("cannot read `{FILTERS}`"))?;
    let indented: String = filters.lines().map(|line| format!("{INDENT}{line}\n")).collect();
    Ok(External {
        bootstrap: format!("{before}{indented}{}{after}", marked(ROUTER)),
        filter_configuration: configuration.to_string(),
    })
}
