//! What is added as one thing grows, native filters and Picket side by side: plots, and tables of the same.

use std::fmt::Write as _;

use super::plot::{NATIVE, PICKET, WIDTH, head};
use super::report::Report;
use super::scenario::{Growth, Side};
use super::statistics::Spread;

const HEIGHT: f64 = 350.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = WIDTH - 100.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 300.0;
const GRID_LINES: u32 = 4;

/// How much of it there is, and what that adds on each side, where it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How much of what grows.
    pub amount: u32,
    /// What native filters add, in microseconds.
    pub native: Option<Spread>,
    /// What Picket adds.
    pub picket: Option<Spread>,
}

impl Point {
    /// What Picket adds over what native filters add, in medians.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.picket?.median / self.native?.median)
    }

    fn of(&self, side: Side) -> Option<Spread> {
        match side {
            Side::Native => self.native,
            Side::Picket => self.picket,
        }
    }
}

/// What was measured of `growth`, from the least amount to the most.
pub fn points(report: &Report, growth: &Growth) -> Vec<Point> {
    let added = |side: Side, amount: u32| {
        let lines = growth.lines.iter().filter(|line| line.side == side);
        let mut points = lines.flat_map(|line| &line.points);
        let (_, id) = points.find(|(other, _)| *other == amount)?;
        report.scenarios.get(id)?.added_us_per_request
    };
    let mut amounts: Vec<u32> = growth
        .lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(amount, _)| *amount))
        .collect();
    amounts.sort_unstable();
    amounts.dedup();
    let all = amounts.into_iter().map(|amount| Point {
        amount,
        native: added(Side::Native, amount),
        picket: added(Side::Picket, amount),
    });
    all.filter(|point| point.native.is_some() || point.picket.is_some())
        .collect()
}

/// Where values are in the plot.
struct Axes {
    logarithmic: bool,
    first: f64,
    last: f64,
    most: f64,
}

impl Axes {
    fn of(growth: &Growth, points: &[Point]) -> Self {
        let spreads = points.iter().flat_map(|point| [point.native, point.picket]).flatten();
        let mut axes = Self {
            logarithmic: growth.logarithmic,
            first: 0.0,
            last: 0.0,
            most: spreads.map(|spread| spread.max).fold(f64::MIN_POSITIVE, f64::max),
        };
        let end = |point: Option<&Point>| point.map_or(0.0, |point| axes.place(point.amount));
        (axes.first, axes.last) = (end(points.first()), end(points.last()));
        axes
    }

    fn place(&self, amount: u32) -> f64 {
        let amount = f64::from(amount);
        if self.logarithmic {
            amount.max(1.0).log10()
        } else {
            amount
        }
    }

    fn x(&self, amount: u32) -> f64 {
        let part = (self.place(amount) - self.first) / (self.last - self.first).max(f64::MIN_POSITIVE);
        part.mul_add(RIGHT - LEFT, LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        (value.max(0.0) / self.most).mul_add(TOP - BOTTOM, BOTTOM)
    }
}

/// A plot with a line for each side.
pub fn plot(report: &Report, growth: &Growth) -> String {
    let points = points(report, growth);
    let axes = Axes::of(growth, &points);
    let title = format!(
        "Microseconds of Envoy's processor time that a request adds, by {} (line: median, bar: min to max)",
        growth.title
    );
    let mut svg = head(&title, HEIGHT);
    for step in 0..=GRID_LINES {
        let value = axes.most * f64::from(step) / f64::from(GRID_LINES);
        let y = axes.y(value);
        // Writing to a string does not fail, here and below.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            LEFT - 8.0,
            y + 4.0,
        );
    }
    for point in &points {
        let (x, y) = (axes.x(point.amount), BOTTOM + 20.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            point.amount
        );
    }
    for (side, colour, name) in [(Side::Native, NATIVE, "native"), (Side::Picket, PICKET, "Picket")] {
        line(
            &mut svg,
            &axes,
            (colour, name),
            points.iter().filter_map(|point| Some((point.amount, point.of(side)?))),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, axes: &Axes, (colour, name): (&str, &str), points: impl Iterator<Item = (u32, Spread)>) {
    let mut path = String::new();
    let mut end = None;
    for (amount, spread) in points {
        let (x, y) = (axes.x(amount), axes.y(spread.median));
        let _ = write!(path, "{x:.1},{y:.1} ");
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>\
             <line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            axes.y(spread.min),
            axes.y(spread.max),
        );
        end = Some((x, y));
    }
    let Some((x, y)) = end else {
        return;
    };
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
        path.trim_end(),
        x + 10.0,
        y + 4.0,
    );
}
