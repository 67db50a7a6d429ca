//! The keys of the policy service's configuration.

use picket_service_configuration as configuration;

use crate::Page;
use crate::keys::{self, Section};

const INTRODUCTION: &str = "\
The keys of the policy service's configuration, with types, bounds and defaults. It is a TOML file, given as \
`picket-policy-service --config FILE`. Unknown keys are refused. `picket config check FILE` names every mistake. \
[Configuration](../configuration.md) explains how the keys work together.

Relative paths are relative to the folder of the file. An environment variable `PICKET__SECTION__KEY=value` overrides a \
key. Its value is read as TOML where it is TOML, else as a string. `[]` stands for the elements of an array.";

/// The keys of the policy service's configuration.
///
/// # Errors
/// As [`keys::sections`].
pub fn sections() -> anyhow::Result<Vec<Section>> {
    keys::sections(configuration::schema().as_value(), "Table")
}

pub(crate) fn page() -> anyhow::Result<Page> {
    let source = "the doc comments and schema attributes in `policy-service/configuration/src`";
    let title = "Configuration of the policy service";
    Ok(Page::new(
        "policy-service.md",
        title,
        source,
        INTRODUCTION,
        &keys::text(&sections()?),
    ))
}
