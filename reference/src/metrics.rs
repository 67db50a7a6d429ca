//! The metrics of the filter and of the policy service.

use std::collections::BTreeMap;

use picket_core::metrics::{FILTER_METRICS, FilterMetric, MetricKind};
use picket_core::reason::DenyReason;
use picket_policy_service::metrics::Metrics;

use crate::Page;
use crate::markdown::wrapped;

const INTRODUCTION: &str = "\
The metrics of the filter are on Envoy's `/stats/prometheus`, those of the policy service on `/metrics` of `http.listen`.

Envoy's interface for modules knows no labels. The names of its statistics carry them as pairs, such as \
`picket_requests.outcome.deny.reason.no_rule`, of which the `stats_tags` in `envoy/sidecar-inbound.yaml` make labels. \
Copy them with the filter. Workers add what they counted four times a second.";

pub(crate) fn page() -> anyhow::Result<Page> {
    let mut body = "## Filter\n\n".to_owned();
    for metric in FILTER_METRICS {
        body.push_str(&filter_entry(metric));
    }
    body.push_str("## Policy service\n\n");
    for metric in service_metrics(&Metrics::every_series()?) {
        body.push_str(&metric.entry());
    }
    let source = "`core/src/metrics.rs` and the registry in `policy-service/service/src/metrics.rs`";
    Ok(Page::new("metrics.md", "Metrics", source, INTRODUCTION, &body))
}

fn filter_entry(metric: &FilterMetric) -> String {
    let kind = match metric.kind {
        MetricKind::Counter => "Counter",
        MetricKind::Gauge => "Gauge",
        MetricKind::Histogram => "Histogram",
    };
    let labels = metric.labels.iter().map(|label| {
        let values = label.values.map_or_else(Vec::new, |values| values());
        label_text(&format!("picket_{}", label.name), &values)
    });
    entry(metric.name, kind, &labels.collect::<Vec<_>>(), metric.help)
}

fn entry(name: &str, kind: &str, labels: &[String], help: &str) -> String {
    let labels = match labels.is_empty() {
        true => String::new(),
        false => format!("{}\n", wrapped(&labels.join("\n"))),
    };
    let help = if help.ends_with('.') {
        help.to_owned()
    } else {
        format!("{help}.")
    };
    format!("### `{name}`\n\n{kind}.\n\n{}\n{labels}", wrapped(&help))
}

/// A label as an item of a list. Reasons have a page of their own.
fn label_text(name: &str, values: &[&str]) -> String {
    if values.contains(&DenyReason::RequestMalformed.code()) {
        return format!("- Label `{name}`: a [reason](deny-reasons.md)");
    }
    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    match values.is_empty() {
        true => format!("- Label `{name}`"),
        false => format!("- Label `{name}`: {}", values.join(", ")),
    }
}

/// A metric of the policy service, read from its page.
struct ServiceMetric<'p> {
    /// As samples have it.
    name: String,
    kind: &'p str,
    help: &'p str,
    labels: Vec<(&'p str, Vec<&'p str>)>,
}

impl ServiceMetric<'_> {
    fn entry(&self) -> String {
        let labels = self.labels.iter().map(|(name, values)| {
            // Numbers and names of others are no fixed values.
            let is_fixed = |value: &&&str| !value.starts_with(['<', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
            let mut fixed: Vec<&str> = values.iter().filter(is_fixed).copied().collect();
            // The page has them in no order.
            fixed.sort_unstable();
            label_text(name, &fixed)
        });
        let kind = match self.kind {
            "counter" => "Counter",
            "gauge" => "Gauge",
            "histogram" => "Histogram",
            "info" => "Info, with the value 1",
            other => other,
        };
        entry(&self.name, kind, &labels.collect::<Vec<_>>(), self.help)
    }
}

/// The metrics of a page in the OpenMetrics text format.
fn service_metrics(page: &str) -> Vec<ServiceMetric<'_>> {
    let mut help = BTreeMap::new();
    let mut metrics: Vec<ServiceMetric<'_>> = Vec::new();
    for line in page.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, text.trim_end_matches('.'));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            metrics.push(ServiceMetric {
                name: format!("{name}{suffix}"),
                kind,
                help: help.get(name).copied().unwrap_or_default(),
                labels: Vec::new(),
            });
        } else if let (Some(metric), Some((_, rest))) = (metrics.last_mut(), line.split_once('{'))
            && let Some((labels, _)) = rest.rsplit_once('}')
        {
            add_labels(metric, labels);
        }
    }
    metrics
}

/// Adds the labels of a sample, but for the buckets of histograms.
fn add_labels<'p>(metric: &mut ServiceMetric<'p>, labels: &'p str) {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    for (name, value) in pairs.filter(|(name, _)| *name != "le") {
        let value = value.trim_matches('"');
        match metric.labels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => metric.labels.push((name, vec![value])),
        }
    }
}
