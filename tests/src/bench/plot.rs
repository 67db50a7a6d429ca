//! Plots of a report, as SVG text.

use std::fmt::Write as _;

use super::report::Report;
use super::scenario::Ratio;
use super::statistics::{Spread, number};

/// How wide every plot is.
pub(super) const WIDTH: f64 = 860.0;
/// The colour of native filters.
pub(super) const NATIVE: &str = "#9aa5b1";
/// The colour of everything else.
pub(super) const PICKET: &str = "#2f6f9f";
const LABELS: f64 = 190.0;
const ROW: f64 = 26.0;
const TOP: f64 = 50.0;

/// A bar with what the rounds differed in, and where there is one a mark for what is aimed at.
struct Bar {
    label: String,
    spread: Spread,
    aim: Option<f64>,
}

/// What each scenario of `ids` adds to its baseline.
pub fn costs(report: &Report, ids: &[String]) -> String {
    let bars = ids.iter().filter_map(|id| {
        Some(Bar {
            label: id.clone(),
            spread: report.scenarios.get(id)?.added_us_per_request?,
            aim: None,
        })
    });
    draw(
        "Processor time of Envoy that a request adds, in microseconds (bar: median, line: min to max)",
        &bars.collect::<Vec<_>>(),
    )
}

/// The ratios, with what is aimed at.
pub fn ratios(report: &Report, wanted: &[Ratio]) -> String {
    let bars = wanted.iter().filter_map(|ratio| {
        Some(Bar {
            label: ratio.name.clone(),
            spread: *report.ratios.get(&ratio.name)?,
            aim: Some(ratio.aim_at_most),
        })
    });
    draw(
        "Ratios of what is added (bar: median, line: min to max, mark: at most, the aim)",
        &bars.collect::<Vec<_>>(),
    )
}

fn draw(title: &str, bars: &[Bar]) -> String {
    let most = bars
        .iter()
        .map(|bar| bar.spread.max.max(bar.aim.unwrap_or(0.0)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - 70.0) / most;
    let rows = u64::try_from(bars.len()).unwrap_or(u64::MAX);
    let height = number(rows).mul_add(ROW, TOP + 10.0);
    let mut svg = head(title, height);
    for (row, bar) in (0_u64..).zip(bars) {
        let y = number(row).mul_add(ROW, TOP);
        let x = |value: f64| value.max(0.0).mul_add(scale, LABELS);
        let colour = if bar.label.starts_with("native") {
            NATIVE
        } else {
            PICKET
        };
        let Spread { min, median, max } = bar.spread;
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#000\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABELS - 8.0,
            y + 13.0,
            bar.label,
            y,
            x(median) - LABELS,
            x(min),
            x(max),
            y + 8.0,
            y + 8.0,
            x(max) + 6.0,
            y + 13.0,
            figure(median),
        );
        if let Some(aim) = bar.aim {
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"#c0392b\" stroke-width=\"2\"/>",
                x(aim),
                y - 3.0,
                y + 19.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The beginning of a plot.
pub(super) fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"10\" y=\"24\" font-size=\"15\">{title}</text>\n"
    )
}

fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}
