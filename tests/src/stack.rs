//! Everything together: policy service, echo upstream, the callee's sidecar with the filter, the caller's sidecar.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::envoy::{self, Envoy};
use crate::external;
use crate::fake_policy_service::{FakePolicyService, Mode};
use crate::keys::Keys;
use crate::places::Places;
use crate::policy_service::{self, PolicyService};
use crate::process::Bond;
use crate::render::replaced;
use crate::session::Entrances;
use crate::upstream::Upstream;

/// Both sidecars have two workers: what one VM holds must not be taken for what Envoy holds.
pub const WORKERS: u32 = 2;

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// A fake in place of the policy service.
    pub fake_policy_service: Option<Mode>,
    /// The SPIFFE ID that the policy service answers: the callee's.
    pub allowed_caller: String,
    /// How long the policy service lets a permit be remembered.
    pub permit_valid_for_ms: u32,
    /// How long it lets a deny be remembered.
    pub deny_valid_for_ms: u32,
    /// Whether permitted responses say who decided. The vectors compare it; the shipped configuration leaves it out.
    pub explain_permits: bool,
    /// Exact replacements in `envoy/sidecar-inbound.yaml`, besides those that every stack needs.
    pub inbound_edits: Vec<(String, String)>,
    /// The issuer's keys are fetched, and not in the configuration.
    pub fetched_keys: Option<FetchedKeys>,
    /// A Cedar policy beside the shipped ones, for the real policy service.
    pub further_policy: Option<String>,
    /// Who enforces at the callee.
    pub enforcement: Enforcement,
}

/// Who enforces what is decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// Picket's filter, in Envoy.
    Filter,
    /// Envoy, which asks the policy service about each request.
    ExternalAuthorization,
}

/// How keys are fetched, through a cluster `issuer`; a cluster `empty` has no endpoint.
#[derive(Debug, Clone)]
pub struct FetchedKeys {
    /// Where the cluster's endpoint is.
    pub issuer: SocketAddr,
    /// The members of `remote_keys`, as YAML on one line.
    pub settings: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fake_policy_service: None,
            allowed_caller: "spiffe://example.org/orders".to_owned(),
            permit_valid_for_ms: 60_000,
            deny_valid_for_ms: 5_000,
            explain_permits: true,
            inbound_edits: Vec::new(),
            fetched_keys: None,
            further_policy: None,
            enforcement: Enforcement::Filter,
        }
    }
}

impl Options {
    /// Replaces `from` by `to` in the callee's bootstrap.
    #[must_use]
    pub fn edit(mut self, from: &str, to: &str) -> Self {
        self.inbound_edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// A fake policy service in `mode`.
    #[must_use]
    pub fn fake(mut self, mode: Mode) -> Self {
        self.fake_policy_service = Some(mode);
        self
    }

    /// Without the filter: Envoy asks the policy service, which must be the real one.
    #[must_use]
    pub fn externally(mut self) -> Self {
        self.enforcement = Enforcement::ExternalAuthorization;
        self
    }

    /// The issuer's keys are fetched from `issuer`, with these members of `remote_keys`.
    #[must_use]
    pub fn fetching(mut self, issuer: SocketAddr, settings: &str) -> Self {
        let settings = settings.to_owned();
        self.fetched_keys = Some(FetchedKeys { issuer, settings });
        self
    }

    /// With a Cedar policy beside the shipped ones.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        self.further_policy = Some(policy.to_owned());
        self
    }

    /// Permitted responses do not say who decided, as in the shipped configuration.
    #[must_use]
    pub fn silent_permits(mut self) -> Self {
        self.explain_permits = false;
        self
    }

    /// All replacements in the callee's bootstrap that these options ask for.
    pub fn edits(&self) -> Vec<(String, String)> {
        let mut edits = self.inbound_edits.clone();
        if self.explain_permits {
            edits.push(pair("explain_permits: false", "explain_permits: true".to_owned()));
        }
        edits
    }

    /// Lets Envoy pass on what it would refuse itself, so that Picket has to.
    #[must_use]
    pub fn lenient(self) -> Self {
        self.edit("require_client_certificate: true", "require_client_certificate: false")
            .edit(
                "trust_chain_verification: VERIFY_TRUST_CHAIN",
                "trust_chain_verification: ACCEPT_UNTRUSTED",
            )
            .edit("normalize_path: true", "normalize_path: false")
            .edit("merge_slashes: true", "merge_slashes: false")
            .edit(
                "path_with_escaped_slashes_action: REJECT_REQUEST",
                "path_with_escaped_slashes_action: KEEP_UNCHANGED",
            )
            .wide()
    }

    /// Room for large headers and for old protocols.
    #[must_use]
    pub fn wide(self) -> Self {
        self.edit("max_request_headers_kb: 60", "max_request_headers_kb: 96")
            .edit("max_headers_count: 100", "max_headers_count: 300")
            .edit(
                "codec_type: AUTO",
                "codec_type: AUTO\n          http_protocol_options: \
                 { accept_http_10: true, default_host_for_http_10: orders.example.org, enable_trailers: true }",
            )
    }
}

/// The policy service, or what stands in for it.
#[derive(Debug)]
enum Decider {
    Real(Box<PolicyService>),
    Fake(FakePolicyService),
}

/// A running stack. Dropping it ends everything in it and removes its folder.
#[derive(Debug)]
pub struct Stack {
    outbound: Envoy,
    inbound: Envoy,
    decider: Decider,
    upstream: Upstream,
    keys: Keys,
    folder: TempDir,
}

/// Where the callee's sidecar finds its files and its neighbours.
#[derive(Debug)]
pub struct InboundSites<'a> {
    /// The keys.
    pub keys: &'a Keys,
    /// The filter's module.
    pub module: &'a Path,
    /// The policy service.
    pub policy_service: SocketAddr,
    /// The application.
    pub upstream: SocketAddr,
}

impl Stack {
    /// Starts everything.
    ///
    /// # Errors
    /// When something is missing or does not start.
    pub async fn start(options: Options) -> Result<Self> {
        let places = Places::find()?;
        let folder = TempDir::with_prefix("picket-")?;
        let keys = Keys::make(&folder.path().join("pki"))?;
        let upstream = Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let mut sites = InboundSites {
            keys: &keys,
            module: &places.module,
            policy_service: SocketAddr::from(([127, 0, 0, 1], 0)),
            upstream: upstream.address(),
        };
        let decider = match options.fake_policy_service {
            Some(mode) => Decider::Fake(FakePolicyService::start(&keys, mode).await?),
            None => {
                let mut settings = policy_service_settings(&places, &keys, folder.path(), Bond::Attached, &options);
                if let Some(policy) = &options.further_policy {
                    settings.policies = with_policy(&settings.policies, policy, folder.path())?;
                }
                settings.filter_configuration = filter_configuration(&places.root, &sites, &options, folder.path())?;
                Decider::Real(Box::new(PolicyService::start(settings).await?))
            }
        };
        sites.policy_service = decider.address();
        let bootstrap = inbound_bootstrap(&places.root, &sites, &options.edits())?;
        let bootstrap = match options.enforcement {
            Enforcement::Filter => bootstrap,
            Enforcement::ExternalAuthorization => external::without_filter(&places.root, &bootstrap)?.bootstrap,
        };
        let bootstrap = match &options.fetched_keys {
            Some(fetched) => with_fetched_keys(&bootstrap, &keys, fetched)?,
            None => bootstrap,
        };
        let inbound = Envoy::start(&sidecar(&places, "inbound", &bootstrap, folder.path(), Bond::Attached)).await?;
        let bootstrap = outbound_bootstrap(&places.root, &keys, inbound.listener())?;
        let outbound = Envoy::start(&sidecar(&places, "outbound", &bootstrap, folder.path(), Bond::Attached)).await?;
        Ok(Self {
            outbound,
            inbound,
            decider,
            upstream,
            keys,
            folder,
        })
    }

    /// The callee's sidecar.
    pub fn inbound(&mut self) -> &mut Envoy {
        &mut self.inbound
    }

    /// Counters and gauges of the callee's sidecar whose name `matches`.
    ///
    /// # Errors
    /// When its administration does not answer.
    pub async fn inbound_stats(&self, matches: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>> {
        self.inbound.stats(matches).await
    }

    /// The callee's counter or gauge of the filter with this name, which holds its labels. `None`: it is not there yet.
    ///
    /// # Errors
    /// When its administration does not answer.
    pub async fn metric(&self, name: &str) -> Result<Option<u64>> {
        let is_it = |have: &str| have.strip_prefix("wasmcustom.").unwrap_or(have) == name;
        let stats = self.inbound_stats(is_it).await?;
        Ok(stats.first().map(|(_, value)| *value))
    }

    /// Where the callee's sidecar listens.
    pub fn inbound_address(&self) -> SocketAddr {
        self.inbound.listener()
    }

    /// Both, for a client.
    pub fn entrances(&self) -> Entrances {
        Entrances {
            outbound: self.outbound.listener(),
            inbound: self.inbound.listener(),
        }
    }

    /// The keys and certificates.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The application.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The policy service.
    ///
    /// # Errors
    /// When this stack has a fake.
    pub fn policy_service(&mut self) -> Result<&mut PolicyService> {
        match &mut self.decider {
            Decider::Real(service) => Ok(service),
            Decider::Fake(_) => Err(anyhow::anyhow!("this stack has no real policy service")),
        }
    }

    /// The fake.
    ///
    /// # Errors
    /// When this stack has the real policy service.
    pub fn fake(&self) -> Result<&FakePolicyService> {
        match &self.decider {
            Decider::Fake(fake) => Ok(fake),
            Decider::Real(_) => Err(anyhow::anyhow!("this stack has no fake policy service")),
        }
    }

    /// The ends of what all parts wrote: for the message of a failure.
    pub fn tails(&mut self) -> String {
        let mut text = self.inbound.process().tail();
        if let Decider::Real(service) = &self.decider
            && let Some(process) = service.process()
        {
            text.push('\n');
            text.push_str(&process.tail());
        }
        text
    }
}

impl Decider {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Real(service) => service.grpc(),
            Self::Fake(fake) => fake.address(),
        }
    }
}

/// How a sidecar is started.
pub fn sidecar<'a>(
    places: &'a Places,
    name: &'a str,
    bootstrap: &'a str,
    folder: &'a Path,
    bond: Bond,
) -> envoy::EnvoySettings<'a> {
    envoy::EnvoySettings {
        binary: &places.envoy,
        name,
        bootstrap,
        folder,
        workers: WORKERS,
        bond,
    }
}

/// How the policy service is started.
pub fn policy_service_settings(
    places: &Places,
    keys: &Keys,
    folder: &Path,
    bond: Bond,
    options: &Options,
) -> policy_service::ServiceSettings {
    policy_service::ServiceSettings {
        binary: places.policy_service.clone(),
        keys: keys.folder().to_owned(),
        policies: places.policies.clone(),
        folder: folder.to_owned(),
        allowed_caller: options.allowed_caller.clone(),
        permit_valid_for_ms: options.permit_valid_for_ms,
        deny_valid_for_ms: options.deny_valid_for_ms,
        filter_configuration: None,
        sections: String::new(),
        bond,
    }
}

/// A folder with the files of another one, and this policy.
fn with_policy(shipped: &Path, policy: &str, folder: &Path) -> Result<PathBuf> {
    let policies = folder.join("policies");
    fs::create_dir(&policies)?;
    for name in ["orders.cedar", "entities.json"] {
        fs::copy(shipped.join(name), policies.join(name))?;
    }
    fs::write(policies.join("further.cedar"), policy)?;
    Ok(policies)
}

/// What the filter would be configured with, in a file for the policy service, where that is who is asked.
fn filter_configuration(
    root: &Path,
    sites: &InboundSites<'_>,
    options: &Options,
    folder: &Path,
) -> Result<Option<PathBuf>> {
    match options.enforcement {
        Enforcement::Filter => Ok(None),
        Enforcement::ExternalAuthorization => {
            let bootstrap = inbound_bootstrap(root, sites, &options.edits())?;
            let file = folder.join("filter.json");
            fs::write(&file, external::without_filter(root, &bootstrap)?.filter_configuration)?;
            Ok(Some(file))
        }
    }
}

/// `envoy/sidecar-inbound.yaml` with this machine's addresses and files.
///
/// # Errors
/// When a text that is to be replaced is not in the file.
pub fn inbound_bootstrap(root: &Path, sites: &InboundSites<'_>, edits: &[(String, String)]) -> Result<String> {
    let pki = sites.keys.folder().display().to_string();
    let mut replacements = vec![
        pair("{ address: 0.0.0.0, port_value: 15006 }", local(0)),
        pair("{ address: 127.0.0.1, port_value: 15000 }", local(0)),
        pair("{ address: 127.0.0.1, port_value: 8080 }", local(sites.upstream.port())),
        pair(
            "{ address: 127.0.0.1, port_value: 9191 }",
            local(sites.policy_service.port()),
        ),
        pair("/etc/picket/picket_filter.wasm", sites.module.display().to_string()),
        pair("/etc/picket/pki", pki),
        pair("keys: { keys: [] }", format!("keys: {}", sites.keys.key_set()?)),
    ];
    replacements.extend_from_slice(edits);
    rendered(&root.join("envoy/sidecar-inbound.yaml"), &replacements)
}

/// A callee's bootstrap whose keys are fetched: clusters are its last part.
fn with_fetched_keys(bootstrap: &str, keys: &Keys, fetched: &FetchedKeys) -> Result<String> {
    let FetchedKeys { issuer, settings } = fetched;
    let inline = format!("keys: {}", keys.key_set()?);
    let text = replaced(bootstrap, &[(inline, format!("remote_keys: {{ {settings} }}"))])?;
    let endpoint = format!(
        "{{ endpoint: {{ address: {{ socket_address: {} }} }} }}",
        local(issuer.port())
    );
    let cluster = |name: &str, endpoints: &str| {
        format!(
            "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n    load_assignment:\n      cluster_name: {name}\n      \
             endpoints: [ {{ lb_endpoints: [ {endpoints} ] }} ]\n"
        )
    };
    Ok(format!(
        "{text}\n{}{}",
        cluster("issuer", &endpoint),
        cluster("empty", "")
    ))
}

/// `envoy/sidecar-outbound.yaml` with this machine's addresses and files.
///
/// # Errors
/// When a text that is to be replaced is not in the file.
pub fn outbound_bootstrap(root: &Path, keys: &Keys, callee: SocketAddr) -> Result<String> {
    let replacements = [
        pair("{ address: 127.0.0.1, port_value: 15001 }", local(0)),
        pair("{ address: 127.0.0.1, port_value: 15010 }", local(0)),
        pair("{ address: 127.0.0.1, port_value: 15006 }", local(callee.port())),
        pair("/etc/picket/pki", keys.folder().display().to_string()),
    ];
    rendered(&root.join("envoy/sidecar-outbound.yaml"), &replacements)
}

fn rendered(file: &PathBuf, replacements: &[(String, String)]) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    replaced(&text, replacements).with_context(|| format!("in `{}`", file.display()))
}

fn local(port: u16) -> String {
    format!("{{ address: 127.0.0.1, port_value: {port} }}")
}

fn pair(from: &str, to: String) -> (String, String) {
    (from.to_owned(), to)
}
