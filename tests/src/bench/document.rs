//! The figures of `docs/benchmarks.md`, written from a report; what people wrote around them stays.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use time::OffsetDateTime;

use super::report::{FULL, Measured, Report};
use super::scenario::{self, Growth, Ratio, Scenario};
use super::statistics::Spread;
use super::{growth, plot, scale};
use crate::report::Table;

/// The document, in the folder that the figures go to.
const FILE: &str = "benchmarks.md";
/// The lines between which everything is written by the benchmark.
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// What the columns of the scenarios mean.
const COLUMNS: &str = "\"Envoy us\" is Envoy's processor time for a request, \"added us\" the difference to the \
    scenario's baseline, \"decider us\" the processor time of the service that decides, and \"MiB\" Envoy's resident \
    memory.";
/// No line of the document is longer, but for table rows.
const COLUMNS_MAX: usize = 100;
/// Above this load before the run, others were at work.
const QUIET_LOAD_MAX: f64 = 0.5;
/// A worker's VM, after so many minutes of load.
const WORKER_VM_MIB_MAX: f64 = 30.0;
const MEMORY_MINUTES: u32 = 10;
/// Picket's module.
const MODULE_BYTES_MAX: u64 = 3 * 512 * 1024;
/// `Decide`: with how many policies, how many answers in a second, and the p99 of them in milliseconds.
const DECIDE_POLICIES: usize = 1_000;
const DECIDE_RATE_MIN: f64 = 20_000.0;
const DECIDE_P99_MS_MAX: f64 = 5.0;

/// Draws the plots into `folder`, and writes the figures into the document there.
///
/// # Errors
/// When the report is not that of a full run, the document has no place for the figures, or a file cannot be written.
pub fn write(report: &Report, root: &Path, folder: &Path) -> Result<()> {
    ensure!(
        report.kind == FULL,
        "the report is of a run of kind `{}`: `make bench` makes a full one",
        report.kind
    );
    let scenarios = scenario::scenarios(root)?;
    let ratios = scenario::ratios(root)?;
    let growths = scenario::growths(root)?;
    let ids: Vec<String> = main(&scenarios).map(|scenario| scenario.id.clone()).collect();
    let mut plots = vec![
        ("costs".to_owned(), plot::costs(report, &ids)),
        ("ratios".to_owned(), plot::ratios(report, &ratios)),
    ];
    plots.extend(
        growths
            .iter()
            .map(|wanted| (format!("by-{}", wanted.name), growth::plot(report, wanted))),
    );
    for (name, svg) in plots {
        fs::write(folder.join(format!("benchmarks-{name}.svg")), svg)?;
    }
    let file = folder.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let text = with_figures(&text, &figures(report, &scenarios, &ratios, &growths)?)?;
    fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))
}

/// `text` with `figures` in the place of what is between the marks.
fn with_figures(text: &str, figures: &str) -> Result<String> {
    let no_mark = |mark| format!("the document has no line `{mark}`");
    let (before, rest) = text.split_once(BEGIN).with_context(|| no_mark(BEGIN))?;
    let (_, after) = rest.split_once(END).with_context(|| no_mark(END))?;
    Ok(format!("{before}{BEGIN}\n{figures}{END}{after}"))
}

fn figures(report: &Report, scenarios: &[Scenario], ratios: &[Ratio], growths: &[Growth]) -> Result<String> {
    let of = |wanted: &mut dyn Iterator<Item = &Scenario>| -> Vec<&Measured> {
        wanted
            .filter_map(|scenario| report.scenarios.get(&scenario.id))
            .collect()
    };
    let parts = [
        "<!-- `make bench` writes this part: whatever is changed here is lost. -->\n## The last full run\n".to_owned(),
        ran(report)?,
        ratio_table(report, ratios),
        "![Ratios](benchmarks-ratios.svg)\n".to_owned(),
        other_aims(report),
        "### What is worse than native, or grows\n".to_owned(),
        worse(report, ratios, growths),
        "### What each scenario costs\n".to_owned(),
        wrapped(COLUMNS, ""),
        scenario_table(&of(&mut main(scenarios))),
        "![Costs](benchmarks-costs.svg)\n".to_owned(),
        "### As it grows\n".to_owned(),
        growths
            .iter()
            .map(|growth| growth_part(report, growth))
            .collect::<Vec<_>>()
            .join("\n"),
        scenario_table(&of(&mut scenarios.iter().filter(|scenario| !scenario.quick))),
        decide(report),
        held(report),
        memory(report)?,
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Ok(parts.join("\n"))
}

/// The scenarios of the first five ratios.
fn main(scenarios: &[Scenario]) -> impl Iterator<Item = &Scenario> {
    scenarios.iter().filter(|scenario| scenario.quick)
}

fn ran(report: &Report) -> Result<String> {
    let (machine, versions) = (&report.machine, &report.versions);
    let mut text = format!(
        "{}, {} rounds in {:.0} minutes, {} cores of {}, Linux {}, Envoy {}, {}, Picket {}.\n\
         The load average was {:.1} before and {:.1} after the run",
        date(report.began_at_s)?,
        report.rounds,
        report.took_s / 60.0,
        machine.cores,
        machine.processor,
        machine.kernel,
        versions.envoy.split('/').nth(1).unwrap_or(&versions.envoy),
        versions.h2load,
        versions.commit,
        machine.load_before,
        machine.load_after,
    );
    text.push_str(if machine.load_before > QUIET_LOAD_MAX {
        ": **other work was running on the machine**, so rates and p99 are worse than on a quiet one."
    } else {
        "."
    });
    Ok(wrapped(&text, ""))
}

/// The words of `text` in lines of at most `COLUMNS_MAX` columns, with `indent` before all but the first.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut columns = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if columns > 0 && columns + 1 + width > COLUMNS_MAX {
            lines.push('\n');
            lines.push_str(indent);
            columns = indent.len();
        } else if columns > 0 {
            lines.push(' ');
            columns += 1;
        }
        lines.push_str(word);
        columns += width;
    }
    lines.push('\n');
    lines
}

fn date(at_s: i64) -> Result<String> {
    Ok(OffsetDateTime::from_unix_timestamp(at_s)?.date().to_string())
}

fn verdict(is_reached: bool) -> String {
    if is_reached { "reached" } else { "**not reached**" }.to_owned()
}

fn ratio_table(report: &Report, ratios: &[Ratio]) -> String {
    let mut table = Table::new(&["ratio", "median (min to max)", "aim, at most", ""]);
    for ratio in ratios {
        if let Some(spread) = report.ratios.get(&ratio.name) {
            table.push(vec![
                ratio.name.clone(),
                with_ends(*spread, 2),
                ratio.aim_at_most.to_string(),
                verdict(ratio.is_reached(*spread)),
            ]);
        }
    }
    table.to_markdown()
}

fn other_aims(report: &Report) -> String {
    let mut table = Table::new(&["", "measured", "aim", ""]);
    let mut row = |what: String, measured: String, aim: String, verdict: String| {
        table.push(vec![what, measured, aim, verdict]);
    };
    let bytes = report.versions.module_bytes;
    row(
        "the module, bytes".to_owned(),
        grouped(bytes),
        format!("at most {}", grouped(MODULE_BYTES_MAX)),
        verdict(bytes <= MODULE_BYTES_MAX),
    );
    if let Some(decided) = report.decide.iter().find(|decided| decided.policies == DECIDE_POLICIES) {
        row(
            format!("`Decide` with {DECIDE_POLICIES} policies, answers a second"),
            format!("{:.0}", decided.requests_per_second),
            format!("at least {DECIDE_RATE_MIN}"),
            verdict(decided.requests_per_second >= DECIDE_RATE_MIN),
        );
        row(
            "its p99 at 85 % of that, ms".to_owned(),
            format!("{:.2}", decided.p99_ms),
            format!("under {DECIDE_P99_MS_MAX}"),
            verdict(decided.p99_ms < DECIDE_P99_MS_MAX),
        );
    }
    if let Some(memory) = &report.memory {
        let mib = memory.worker_vm_mib();
        let verdict = if memory.minutes < MEMORY_MINUTES {
            "too short to tell".to_owned()
        } else {
            verdict(mib <= WORKER_VM_MIB_MAX)
        };
        row(
            format!("a worker's VM after {} minutes of load, resident MiB", memory.minutes),
            format!("{mib:.1}"),
            format!("at most {WORKER_VM_MIB_MAX}"),
            verdict,
        );
    }
    table.to_markdown()
}

/// Each ratio above 1, with what else is worse there, and what costs more than native filters as it grows.
fn worse(report: &Report, ratios: &[Ratio], growths: &[Growth]) -> String {
    let mut text = String::new();
    for ratio in ratios {
        if let Some(spread) = report.ratios.get(&ratio.name).filter(|spread| spread.median > 1.0) {
            let Ratio { name, of, to, .. } = ratio;
            let line = format!("- {name}: {of} adds {} times what {to} adds.", with_ends(*spread, 2));
            text.push_str(&wrapped(&line, "  "));
        }
        let beside = worse_beside(report, ratio);
        if !beside.is_empty() {
            let line = format!("- {} beside {}: {}.", ratio.of, ratio.to, beside.join(", "));
            text.push_str(&wrapped(&line, "  "));
        }
    }
    for wanted in growths {
        let points = growth::points(report, wanted);
        let worse: Vec<String> = points
            .iter()
            .filter_map(|point| Some((point.amount, point.ratio().filter(|ratio| *ratio > 1.0)?)))
            .map(|(amount, ratio)| format!("{ratio:.2} times at {amount}"))
            .collect();
        if !worse.is_empty() {
            let line = format!(
                "- By {}, Picket adds more than native filters: {}.",
                wanted.title,
                worse.join(", ")
            );
            text.push_str(&wrapped(&line, "  "));
        }
    }
    if text.is_empty() {
        text.push_str("Nothing of this run.\n");
    }
    text
}

/// What else is worse with Picket than with the native filters that a ratio compares it to.
fn worse_beside(report: &Report, ratio: &Ratio) -> Vec<String> {
    let native = report
        .scenarios
        .get(&ratio.to)
        .filter(|_| ratio.to.starts_with("native"));
    let Some((picket, native)) = report.scenarios.get(&ratio.of).zip(native) else {
        return Vec::new();
    };
    let both = |pick: fn(&Measured) -> Option<Spread>| Some((pick(picket)?.median, pick(native)?.median));
    let memory = both(|measured| Some(measured.rss_kib)).filter(|(picket, native)| picket > native);
    let p50 = both(|measured| measured.p50_ms).filter(|(picket, native)| picket > native);
    let p99 = both(|measured| measured.p99_ms).filter(|(picket, native)| picket > native);
    let rate = both(|measured| Some(measured.requests_per_second)).filter(|(picket, native)| picket < native);
    [
        rate.map(|(picket, native)| format!("{picket:.0} requests a second in place of {native:.0}")),
        p50.map(|(picket, native)| format!("p50 {picket:.2} ms in place of {native:.2}")),
        p99.map(|(picket, native)| format!("p99 {picket:.2} ms in place of {native:.2}")),
        memory.map(|(picket, native)| {
            let mib = |kib: f64| kib / 1024.0;
            format!("{:.0} MiB resident in place of {:.0}", mib(picket), mib(native))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn scenario_table(scenarios: &[&Measured]) -> String {
    let mut table = Table::new(&[
        "scenario",
        "rounds",
        "Envoy us",
        "added us",
        "decider us",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "MiB",
    ]);
    let median = |spread: Option<Spread>, digits: usize| {
        spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.digits$}", spread.median))
    };
    for measured in scenarios {
        table.push(vec![
            measured.id.clone(),
            measured.rounds.to_string(),
            median(Some(measured.cpu_us_per_request), 1),
            measured
                .added_us_per_request
                .map_or_else(|| "-".to_owned(), |spread| with_ends(spread, 1)),
            median(measured.decider_cpu_us_per_request, 1),
            median(Some(measured.requests_per_second), 0),
            median(measured.p50_ms, 2),
            median(measured.p99_ms, 2),
            format!("{:.0}", measured.rss_kib.median / 1024.0),
        ]);
    }
    table.to_markdown()
}

fn growth_part(report: &Report, wanted: &Growth) -> String {
    let mut table = Table::new(&[&wanted.title, "native adds, us", "Picket adds, us", "Picket / native"]);
    let added = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| with_ends(spread, 1));
    for point in growth::points(report, wanted) {
        let ratio = point
            .ratio()
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        table.push(vec![
            point.amount.to_string(),
            added(point.native),
            added(point.picket),
            ratio,
        ]);
    }
    let Growth { name, title, .. } = wanted;
    format!("{}\n![By {title}](benchmarks-by-{name}.svg)\n", table.to_markdown())
}

fn decide(report: &Report) -> String {
    if report.decide.is_empty() {
        return String::new();
    }
    let table = report.decide_table();
    format!("### `Decide` alone\n\n{}", table.to_markdown())
}

fn held(report: &Report) -> String {
    if report.scale.is_empty() {
        return String::new();
    }
    let table = scale::table(&report.scale);
    format!(
        "### `Decide` with many sessions and devices\n\n{}\n{}",
        wrapped(
            "By `make bench-scale`: p50 and p99 at 1,000 decisions a second, each about another session.",
            ""
        ),
        table.to_markdown()
    )
}

fn memory(report: &Report) -> Result<String> {
    let Some(memory) = &report.memory else {
        return Ok(String::new());
    };
    let text = format!(
        "Envoy's resident MiB by minute under {} requests a second each, with one and with two workers; {}, \
         Picket {}. One worker's VM is the memory that the second worker adds with Picket, less the memory that it \
         adds without filters: {:.1} MiB.",
        memory.requests_per_second,
        date(memory.began_at_s)?,
        memory.versions.commit,
        memory.worker_vm_mib(),
    );
    let table = memory.table().to_markdown();
    Ok(format!("### Memory\n\n{}\n{table}", wrapped(&text, "")))
}

fn with_ends(spread: Spread, digits: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

/// Digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, with_figures, wrapped};

    #[test]
    fn lines_are_wrapped_at_spaces_with_an_indent() {
        assert_eq!(wrapped("- one", "  "), "- one\n");
        let (text, word) = ("- ".to_owned() + &"ab ".repeat(40), "a".repeat(120));
        let lines = wrapped(&text, "  ");
        assert!(lines.lines().all(|line| line.len() <= 100), "{lines}");
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().nth(1).unwrap().starts_with("  ab"));
        assert_eq!(wrapped(&format!("a {word} b"), ""), format!("a\n{word}\nb\n"));
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "by hand\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nby hand too\n";
        assert_eq!(
            with_figures(text, "new\n").unwrap(),
            "by hand\n<!-- figures: begin -->\nnew\n<!-- figures: end -->\nby hand too\n"
        );
        with_figures("no marks", "new\n").unwrap_err();
    }

    #[test]
    fn long_counts_are_read_in_groups() {
        assert_eq!(
            ["7", "1308", "1308700"].map(|n| grouped(n.parse().unwrap())),
            ["7", "1,308", "1,308,700"]
        );
    }
}
