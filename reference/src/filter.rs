//! The keys of the filter's configuration.

use picket_core::configuration::document::FilterDocument;

use crate::Page;
use crate::keys::{self, Section};

const INTRODUCTION: &str = "\
The keys of the filter's configuration, with types, bounds and defaults. It is JSON: the plugin configuration of Envoy's \
Wasm filter, `pluginConfig` in Istio, or a protobuf Struct. Unknown keys are refused. `picket config check FILE` names \
every mistake. The JSON Schema is `envoy/picket-filter.schema.json`. \
[Configuration](../configuration.md) explains how the keys work together.

`[]` stands for the elements of an array. A worker is a worker thread of Envoy.";

/// The keys of the filter's configuration.
///
/// # Errors
/// As [`keys::sections`].
pub fn sections() -> anyhow::Result<Vec<Section>> {
    keys::sections(schemars::schema_for!(FilterDocument).as_value(), "Object")
}

pub(crate) fn page() -> anyhow::Result<Page> {
    let source = "the doc comments and schema attributes in `core/src/configuration`";
    let title = "Configuration of the filter";
    Ok(Page::new(
        "filter.md",
        title,
        source,
        INTRODUCTION,
        &keys::text(&sections()?),
    ))
}
