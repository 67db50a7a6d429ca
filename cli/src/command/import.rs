//! `picket import`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;
use picket_model::spiffe::TrustDomain;

use super::CommandError;
use crate::exit::Exit;
use crate::files;
use crate::istio::{self, ConnectionAddress, Finding, Import, Workload};
use crate::output::{Format, Output, printable, report_line};

const ISTIO_ABOUT: &str = "\
Makes a configuration of the filter of Istio's RequestAuthentications and AuthorizationPolicies, for the sidecar of one workload.

The files are YAML, of one or more documents, such as `kubectl get -o yaml` writes. Those count that are about the workload: by \
--namespace or the root namespace, and by the labels that their selectors name. The configuration goes to standard output; what it \
cannot express goes to standard error, and then the command exits with 1. Nothing that cannot be expressed lets more pass: what \
Istio would refuse is refused, and some of what it would let pass may be refused as well. Where that cannot be, no configuration \
is printed. A line that begins with `note:` is about something that is imported and may mean something else than it seems.

Addresses depend on the listener, which the command does not see: --use-remote-address and --forwarded-for-trusted-hops say what \
it is. Without them `ipBlocks` and `remoteIpBlocks` cannot be expressed.

The verdicts are those of Istio's reference for requests that Picket takes at all: it is stricter about malformed ones, and about \
tokens, which need a `sub`.";

const ISTIO_EXAMPLES: &str = "\
Examples:
  kubectl get requestauthentication,authorizationpolicy -A -o yaml > policies.yaml
  picket import istio policies.yaml --namespace shop --labels app=orders,version=v1 > filter.json
  picket import istio policies.yaml --namespace shop --trust-domain example.org --keys-cluster issuer
  picket import istio policies.yaml --namespace shop --output json | jq '.problems'";

/// Make configurations of what other systems have
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a configuration of Istio's RequestAuthentications and AuthorizationPolicies
    #[command(long_about = ISTIO_ABOUT, after_long_help = ISTIO_EXAMPLES)]
    Istio(IstioArguments),
}

#[derive(clap::Args)]
pub(super) struct IstioArguments {
    /// YAML files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The workload's Kubernetes namespace
    #[arg(long)]
    namespace: String,
    /// The workload's labels, which selectors look at
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// The namespace whose documents hold in all namespaces
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// The mesh's trust domain
    #[arg(long, value_name = "TRUST_DOMAIN", default_value = "cluster.local", value_parser = trust_domain)]
    trust_domain: String,
    /// What the filter calls the workload; its namespace where this is left out
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// The Envoy cluster through which key sets are fetched
    #[arg(long, value_name = "CLUSTER")]
    keys_cluster: Option<String>,
    /// The listener has `use_remote_address: true`, `xff_num_trusted_hops: 0` and no `original_ip_detection_extensions`, so that
    /// `source.address` is the connection's own: needed for `ipBlocks` and `source.ip`. On another listener a caller that writes
    /// `x-forwarded-for` would choose its address
    #[arg(long)]
    use_remote_address: bool,
    /// Which address of `x-forwarded-for` is the request's, from the right: needed for `remoteIpBlocks` and `remote.ip`, and written
    /// as `forwarded_for_trusted_hops`. With `use_remote_address: true` 1 is the connection's own and 2 what the nearest proxy wrote;
    /// 0 is what the listener itself takes for the caller's address
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=32))]
    forwarded_for_trusted_hops: Option<u32>,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Istio(arguments) => import_istio(arguments, output),
    }
}

fn import_istio(arguments: IstioArguments, output: Output) -> Result<Exit, CommandError> {
    let mut texts = Vec::new();
    for file in &arguments.files {
        texts.push((file.display().to_string(), files::read_text(file)?));
    }
    let workload = Workload {
        name: arguments.workload.unwrap_or_else(|| arguments.namespace.clone()),
        namespace: arguments.namespace,
        labels: arguments.labels.into_iter().collect::<BTreeMap<_, _>>(),
        root_namespace: arguments.root_namespace,
        trust_domain: arguments.trust_domain,
        keys_cluster: arguments.keys_cluster,
        connection_address: match arguments.use_remote_address {
            true => ConnectionAddress::Own,
            false => ConnectionAddress::Forwarded,
        },
        forwarded_for_trusted_hops: arguments.forwarded_for_trusted_hops,
    };
    let import = istio::import(&texts, &workload);
    match output.format() {
        Format::Json => output.print_json(&import)?,
        Format::Text => print(&import, output)?,
    }
    Ok(Exit::of_check(&import.problems))
}

fn print(import: &Import, output: Output) -> Result<(), CommandError> {
    if let Some(configuration) = &import.configuration {
        output.print_json(configuration)?;
    }
    for finding in &import.problems {
        report_line("cannot express", &line(finding));
    }
    for finding in &import.notes {
        report_line("note", &line(finding));
    }
    Ok(())
}

fn line(finding: &Finding) -> String {
    let parts = [&finding.document, &finding.path, &finding.message];
    let parts: Vec<&str> = parts
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    printable(&parts.join(": "))
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE"),
    }
}

fn trust_domain(text: &str) -> Result<String, String> {
    text.parse::<TrustDomain>()
        .map(|domain| domain.to_string())
        .map_err(|error| error.to_string())
}
