//! A folder of many Cedar policies, for the policy service.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bootstrap::rule_id;

/// The files of the example policies that are taken as they are.
const KEPT: [&str; 2] = ["schema.cedarschema", "entities.json"];

/// The policy service refuses larger files than a megabyte.
const POLICIES_IN_A_FILE: usize = 1_000;

/// Writes a folder with `policies` policies: each permits clerks of acme one route rule. The rule in the middle of every
/// scenario is among them as long as there are `rules` policies or more.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(example: &Path, folder: &Path, first_rule: usize, policies: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    for name in KEPT {
        fs::copy(example.join(name), folder.join(name)).with_context(|| format!("cannot copy `{name}`"))?;
    }
    let numbers: Vec<usize> = (first_rule..first_rule.saturating_add(policies)).collect();
    for (part, numbers) in numbers.chunks(POLICIES_IN_A_FILE).enumerate() {
        fs::write(folder.join(format!("generated-{part}.cedar")), text(numbers))?;
    }
    Ok(())
}

fn text(numbers: &[usize]) -> String {
    let mut text = String::new();
    for number in numbers {
        let rule = rule_id(*number);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "@id(\"{rule}\")\npermit (\n  principal is Picket::User in Picket::Role::\"clerk\",\n  \
             action in Picket::Action::\"read\",\n  resource\n)\nwhen {{\n  resource.route_rule == \"{rule}\" && \
             principal has tenant && principal.tenant == \"acme\"\n}};\n\n"
        );
    }
    text
}
