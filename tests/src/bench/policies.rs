//! A folder of many Cedar policies, for the policy service.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bootstrap::rule_id;

/// The file of the example policies that is taken as it is.
const KEPT: &str = "entities.json";

/// The policy service refuses larger files than a megabyte.
const POLICIES_IN_A_FILE: usize = 1_000;

/// Policies that each permit clerks of acme one route rule.
#[derive(Debug, Clone, Copy)]
pub struct Generated {
    /// The first one's rule; the others' follow it.
    pub first_rule: usize,
    /// How many.
    pub policies: usize,
    /// Whether they read the path, so that each path is a decision of its own.
    pub read_path: bool,
}

/// Writes a folder of policies.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(example: &Path, folder: &Path, generated: Generated) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::copy(example.join(KEPT), folder.join(KEPT)).with_context(|| format!("cannot copy `{KEPT}`"))?;
    let first = generated.first_rule;
    let numbers: Vec<usize> = (first..first.saturating_add(generated.policies)).collect();
    for (part, numbers) in numbers.chunks(POLICIES_IN_A_FILE).enumerate() {
        let text = text(numbers, generated.read_path);
        fs::write(folder.join(format!("generated-{part}.cedar")), text)?;
    }
    Ok(())
}

fn text(numbers: &[usize], read_path: bool) -> String {
    let path = if read_path {
        " && resource.path like \"/area-*\""
    } else {
        ""
    };
    let mut text = String::new();
    for number in numbers {
        let rule = rule_id(*number);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "@id(\"{rule}\")\npermit (\n  principal is Picket::User in Picket::Role::\"clerk\",\n  \
             action in Picket::Action::\"read\",\n  resource\n)\nwhen {{\n  resource.route_rule == \"{rule}\" && \
             principal has tenant && principal.tenant == \"acme\"{path}\n}};\n\n"
        );
    }
    text
}
