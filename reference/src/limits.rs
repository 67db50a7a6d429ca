//! The fixed limits.

use anyhow::bail;
use picket_model::limits::{Limit, LimitUnit};

use crate::Page;
use crate::markdown::{COLUMNS_MAX, number};

const INTRODUCTION: &str = "\
Bounds that no configuration changes. The bounds of configuration keys are in \
[the reference of the filter](filter.md) and [of the policy service](policy-service.md).

The last column says what happens to what is larger, more or later. A word in code is a deny reason, and a word in \
capitals is a gRPC status.";

pub(crate) fn page() -> anyhow::Result<Page> {
    let groups = [
        picket_core::limits::LIMITS,
        picket_policy_service::limits::LIMITS,
        picket::limits::LIMITS,
    ];
    let mut body = String::new();
    for group in groups.concat() {
        let rows = group.limits.iter().map(row).collect::<anyhow::Result<String>>()?;
        body.push_str(&format!(
            "## {}\n\n| what | limit | beyond it |\n|---|---|---|\n{rows}\n",
            group.title
        ));
    }
    let source = "the tables `LIMITS` of the crates";
    Ok(Page::new("limits.md", "Fixed limits", source, INTRODUCTION, &body))
}

fn row(limit: &Limit) -> anyhow::Result<String> {
    let unit = match limit.unit {
        LimitUnit::Count => "",
        LimitUnit::Bytes => " bytes",
        LimitUnit::Seconds => " s",
        LimitUnit::Milliseconds => " ms",
    };
    let row = format!(
        "| {} | {}{unit} | {} |",
        limit.subject,
        number(limit.value),
        limit.beyond
    );
    if row.chars().count() > COLUMNS_MAX {
        bail!("the limit `{}` has more words than a row has room for", limit.subject);
    }
    Ok(format!("{row}\n"))
}
