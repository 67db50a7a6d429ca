//! How many instructions the hot functions of `core` take, counted by callgrind and held to limits.
//!
//! Instructions are the same on a busy machine, so a limit can be a few per cent above what was counted. Only
//! [`sidecar`] knows `core`; limits are data (`tests/bench/instructions.json`).

pub mod callgrind;
pub mod hot_path;
pub mod sidecar;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::report::Table;
use hot_path::HotPath;

/// Below this part of its limit, a path's limit no longer holds anything.
const SLACK: f64 = 0.8;

/// How many instructions a hot path may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The path.
    pub id: HotPath,
    /// For one time.
    pub limit: u64,
    /// What it is, for people.
    pub comment: String,
}

/// What was counted for one path.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The path and what it may take.
    pub limit: Limit,
    /// What it takes.
    pub instructions: u64,
}

/// Where a count is beside its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Below it.
    Within,
    /// So far below it that the limit can be lowered.
    Slack,
    /// Above it.
    Over,
}

impl Counted {
    /// Where it is beside its limit.
    pub fn verdict(&self) -> Verdict {
        use crate::bench::statistics::number;
        if self.instructions > self.limit.limit {
            Verdict::Over
        } else if number(self.instructions) < number(self.limit.limit) * SLACK {
            Verdict::Slack
        } else {
            Verdict::Within
        }
    }
}

/// The limits, one for each path.
///
/// # Errors
/// When a path has none or two, or the file is not as it should be.
pub fn limits(root: &Path) -> Result<Vec<Limit>> {
    let file = root.join("tests/bench/instructions.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let limits: Vec<Limit> = serde_json::from_str(&text).with_context(|| format!("in `{}`", file.display()))?;
    for path in HotPath::ALL {
        let times = limits.iter().filter(|limit| limit.id == *path).count();
        ensure!(times == 1, "`{path}` has {times} limits in `{}`", file.display());
    }
    Ok(limits)
}

/// What was counted, and where it is beside its limits.
pub fn table(counted: &[Counted]) -> Table {
    let mut table = Table::new(&["hot path", "instructions", "limit", "", "what it is"]);
    for counted in counted {
        let verdict = match counted.verdict() {
            Verdict::Within => "",
            Verdict::Slack => "the limit can be lowered",
            Verdict::Over => "OVER",
        };
        table.push(vec![
            counted.limit.id.to_string(),
            counted.instructions.to_string(),
            counted.limit.limit.to_string(),
            verdict.to_owned(),
            counted.limit.comment.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::hot_path::HotPath;
    use super::{Counted, Limit, Verdict, limits};

    #[test]
    fn every_hot_path_has_a_limit() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(limits(root).unwrap().len(), HotPath::ALL.len());
    }

    #[test]
    fn a_count_is_over_within_or_far_below_its_limit() {
        let verdict = |instructions| {
            let limit = Limit {
                id: HotPath::RequestWarm,
                limit: 100,
                comment: String::new(),
            };
            Counted { limit, instructions }.verdict()
        };
        assert_eq!(verdict(101), Verdict::Over);
        assert_eq!(verdict(100), Verdict::Within);
        assert_eq!(verdict(80), Verdict::Within);
        assert_eq!(verdict(79), Verdict::Slack);
    }

    #[test]
    fn every_hot_path_runs() {
        for path in HotPath::ALL {
            path.run(2).unwrap();
        }
    }
}
