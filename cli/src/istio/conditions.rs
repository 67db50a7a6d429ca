//! The values of conditions: each in the filter's form, or named where it has none.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use picket_core::access_rules::{
    AuthorityPattern, NamePattern, PathPattern, PeerPattern, PrincipalPattern, ServiceAccountName,
};
use picket_model::network::Network;
use serde_json::{Map, Value, json};

use super::{ConnectionAddress, Findings, Workload};

/// In Istio's documents this is the mesh's own trust domain, whatever its name is.
const OWN_TRUST_DOMAIN: &str = "cluster.local";

/// Why an address of a connection cannot be looked at.
const CONNECTION_ADDRESS_UNKNOWN: &str = "without `use_remote_address: true`, and with `xff_num_trusted_hops` above 0, the listener takes the \
     connection's address from `x-forwarded-for`, which its caller may have written: set the first and not the second, and say so by \
     --use-remote-address; or ask for the address of the request (`remoteIpBlocks`, `remote.ip`), and name by \
     --forwarded-for-trusted-hops (`forwarded_for_trusted_hops`) which one counts";

const CONNECTION_ADDRESS_NOTE: &str = "is the connection's own address only while the listener has `use_remote_address: true`, \
     `xff_num_trusted_hops: 0` and no `original_ip_detection_extensions`";

/// Why an address of a request cannot be looked at.
const REQUEST_ADDRESS_UNKNOWN: &str = "Istio takes this address from `x-forwarded-for`, and the shipped listener (`use_remote_address: true`) does \
     not: name by --forwarded-for-trusted-hops which address of the header counts, from the right. With `use_remote_address: true` 1 is \
     the connection's own and 2 what the nearest proxy wrote; 0 is what the listener itself takes for the caller's address";

/// What becomes of a rule of which a part cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaning {
    /// It matches more: a rule that refuses.
    Wider,
    /// It matches less: a rule that lets pass, or that is only counted.
    Narrower,
}

/// A pair of lists in the filter's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// Nothing is asked.
    Absent,
    /// It can never hold.
    Never,
    /// Values, and those that must not fit.
    Some(Vec<String>, Vec<String>),
}

/// What the values of a field or of a condition are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    Claim,
    Host,
    Method,
    Path,
    Port,
    Peer,
    TrustDomain,
    ServiceAccount,
    Principal,
    ConnectionAddress,
    RequestAddress,
    DestinationAddress,
}

/// What values are written with.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    pub(super) workload: &'c Workload,
    /// The document's.
    pub(super) namespace: &'c str,
    pub(super) issuers: &'c BTreeSet<String>,
}

/// Reads values of one document.
pub(super) struct Reader<'r> {
    pub(super) title: &'r str,
    pub(super) leaning: Leaning,
    pub(super) context: Context<'r>,
    pub(super) findings: &'r mut Findings,
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.findings.problem(self.title, path, message);
    }

    /// The values that the filter has a form for; of the others, what the leaning makes of them.
    ///
    /// INVARIANT: with [`Leaning::Wider`] the lists hold wherever all the values would, with [`Leaning::Narrower`] nowhere else.
    pub(super) fn lists(
        &mut self,
        kind: ValueKind,
        (values, path): (&[String], &str),
        (not_values, not_path): (&[String], &str),
    ) -> Lists {
        let written = self.written(kind, values, path);
        let not_written = self.written(kind, not_values, not_path);
        let is_short = written.len() < values.len();
        let any_of = match (is_short, self.leaning) {
            (true, Leaning::Wider) => Vec::new(),
            (true, Leaning::Narrower) if written.is_empty() => return Lists::Never,
            (_, _) => written,
        };
        if not_written.len() < not_values.len() && self.leaning == Leaning::Narrower {
            return Lists::Never;
        }
        match any_of.is_empty() && not_written.is_empty() {
            true => Lists::Absent,
            false => Lists::Some(any_of, not_written),
        }
    }

    fn written(&mut self, kind: ValueKind, values: &[String], path: &str) -> Vec<String> {
        let mut written = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match self.context.write(kind, value) {
                Ok(text) => {
                    if let Some(note) = note(kind, value) {
                        self.findings.note(self.title, path, note);
                    }
                    written.push(text);
                }
                Err(message) => self.problem(&path, message),
            }
        }
        written
    }
}

impl Context<'_> {
    /// A value in the filter's form, or why it has none.
    fn write(&self, kind: ValueKind, value: &str) -> Result<String, String> {
        match kind {
            ValueKind::Text | ValueKind::Claim | ValueKind::Method => parsed::<NamePattern>(value),
            ValueKind::Host => parsed::<AuthorityPattern>(value),
            ValueKind::Path => parsed::<PathPattern>(value),
            ValueKind::Port => port(value),
            ValueKind::Peer => self.peer(value),
            ValueKind::TrustDomain => self.peers_of(value),
            ValueKind::ServiceAccount => self.service_account(value),
            ValueKind::Principal => self.principal(value),
            ValueKind::ConnectionAddress => match self.workload.connection_address {
                ConnectionAddress::Own => network(value),
                ConnectionAddress::Forwarded => Err(CONNECTION_ADDRESS_UNKNOWN.to_owned()),
            },
            ValueKind::RequestAddress => match self.workload.forwarded_for_trusted_hops {
                Some(_) => network(value),
                None => Err(REQUEST_ADDRESS_UNKNOWN.to_owned()),
            },
            ValueKind::DestinationAddress => network(value),
        }
    }

    fn is_own(&self, trust_domain: &str) -> bool {
        trust_domain == self.workload.trust_domain || trust_domain == OWN_TRUST_DOMAIN
    }

    /// Istio writes SPIFFE IDs without their scheme.
    fn peer(&self, value: &str) -> Result<String, String> {
        if value.starts_with('*') {
            return parsed::<PeerPattern>(value);
        }
        let own = &self.workload.trust_domain;
        match value.split_once('/') {
            Some((domain, rest)) if self.is_own(domain) => parsed::<PeerPattern>(&format!("spiffe://{own}/{rest}")),
            Some(_) | None => Err(format!(
                "expected the trust domain `{own}` (--trust-domain) before the first slash, found `{value}`"
            )),
        }
    }

    /// The pattern of all peers of a trust domain. The filter knows peers of the mesh's own alone.
    fn peers_of(&self, trust_domain: &str) -> Result<String, String> {
        match trust_domain == "*" || self.is_own(trust_domain) {
            true => Ok("*".to_owned()),
            false => Err(format!(
                "expected the trust domain `{}` (--trust-domain), as the filter takes no peer of another, found `{trust_domain}`",
                self.workload.trust_domain
            )),
        }
    }

    /// Istio's default namespace is the document's.
    fn service_account(&self, value: &str) -> Result<String, String> {
        match value.contains('/') {
            true => parsed::<ServiceAccountName>(value),
            false => parsed::<ServiceAccountName>(&format!("{}/{value}", self.namespace)),
        }
    }

    /// The filter splits it as it is split here, as its providers are of the same issuers.
    fn principal(&self, value: &str) -> Result<String, String> {
        let issuers: Vec<&str> = self.issuers.iter().map(String::as_str).collect();
        PrincipalPattern::parse(value, &issuers)
            .map(|_| value.to_owned())
            .map_err(|error| format!("{error}, found `{value}`"))
    }
}

/// What Istio and the filter both make of a value, and its author may not expect.
fn note(kind: ValueKind, value: &str) -> Option<String> {
    let is_no_text = |value: Value| value.is_boolean() || value.is_number() || value.is_null();
    match kind {
        ValueKind::Claim => serde_json::from_str(value).is_ok_and(is_no_text).then(|| {
            format!("`{value}` fits a claim that is this text, and no boolean or number: neither here nor in Istio")
        }),
        ValueKind::Method => value.bytes().any(|byte| byte.is_ascii_lowercase()).then(|| {
            format!("methods are compared with their case, and sent in upper case: `{value}` fits no usual method")
        }),
        ValueKind::Host => note_of_host(value),
        ValueKind::ConnectionAddress => Some(CONNECTION_ADDRESS_NOTE.to_owned()),
        ValueKind::Text
        | ValueKind::Path
        | ValueKind::Port
        | ValueKind::Peer
        | ValueKind::TrustDomain
        | ValueKind::ServiceAccount
        | ValueKind::Principal
        | ValueKind::RequestAddress
        | ValueKind::DestinationAddress => None,
    }
}

fn note_of_host(value: &str) -> Option<String> {
    if value.ends_with('*') || has_port(value) {
        return None;
    }
    let with_port = match value.starts_with('*') {
        true => String::new(),
        false => format!("; `{value}:*` fits one with a port"),
    };
    Some(format!(
        "`{value}` fits an authority without a port alone, as in Istio{with_port}"
    ))
}

fn has_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Puts two lists into an object, those that are not empty. A list of peers that is there says more than one of trust domains.
pub(super) fn insert(
    object: &mut Map<String, Value>,
    name: &str,
    not_name: &str,
    any_of: &[String],
    none_of: &[String],
) {
    if !any_of.is_empty() && !object.contains_key(name) {
        object.insert(name.to_owned(), json!(any_of));
    }
    if none_of.is_empty() {
        return;
    }
    match object.get_mut(not_name).and_then(Value::as_array_mut) {
        Some(list) => list.extend(none_of.iter().map(|text| json!(text))),
        None => drop(object.insert(not_name.to_owned(), json!(none_of))),
    }
}

fn parsed<T>(text: &str) -> Result<String, String>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse::<T>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}, found `{text}`"))
}

fn port(value: &str) -> Result<String, String> {
    let port = value.parse::<u16>();
    port.map(|port| port.to_string())
        .map_err(|_| format!("expected a port, found `{value}`"))
}

/// Istio takes an address with a prefix length for the network that it is in.
fn network(value: &str) -> Result<String, String> {
    let wrong = || format!("expected a network or an address, found `{value}`");
    let (address, length) = match value.split_once('/') {
        None => return parsed::<Network>(value),
        Some((address, length)) => (
            address.parse::<IpAddr>().map_err(|_| wrong())?,
            length.parse::<u32>().map_err(|_| wrong())?,
        ),
    };
    let address = match address {
        IpAddr::V4(v4) => {
            let behind = 32_u32.checked_sub(length).ok_or_else(wrong)?;
            IpAddr::from((v4.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let behind = 128_u32.checked_sub(length).ok_or_else(wrong)?;
            IpAddr::from((v6.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).to_be_bytes())
        }
    };
    parsed::<Network>(&format!("{address}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_lose_what_is_behind_their_prefix() {
        for (value, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("2001:db8::1/0", "::/0"),
        ] {
            assert_eq!(network(value).as_deref(), Ok(expected));
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "::/129", "x", "10.0.0.0/x"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_written_widens_or_narrows() {
        let lists = |leaning, values: &[&str], not_values: &[&str]| {
            let mut findings = Findings::default();
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let workload = Workload {
                name: String::new(),
                namespace: String::new(),
                labels: std::collections::BTreeMap::new(),
                root_namespace: String::new(),
                trust_domain: "example.org".to_owned(),
                keys_cluster: None,
                connection_address: ConnectionAddress::Own,
                forwarded_for_trusted_hops: None,
            };
            let context = Context {
                workload: &workload,
                namespace: "",
                issuers: &BTreeSet::new(),
            };
            let mut reader = Reader {
                title: "t",
                leaning,
                context,
                findings: &mut findings,
            };
            let lists = reader.lists(ValueKind::Text, (&owned(values), "v"), (&owned(not_values), "n"));
            (lists, findings.problems.len())
        };
        let some = |values: &[&str], not_values: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            Lists::Some(owned(values), owned(not_values))
        };
        use Leaning::{Narrower, Wider};
        assert_eq!(lists(Wider, &["a"], &["b"]), (some(&["a"], &["b"]), 0));
        assert_eq!(lists(Wider, &["a", "b*c"], &[]), (Lists::Absent, 1));
        assert_eq!(lists(Wider, &["a"], &["b*c"]), (some(&["a"], &[]), 1));
        assert_eq!(lists(Narrower, &["a", "b*c"], &[]), (some(&["a"], &[]), 1));
        assert_eq!(lists(Narrower, &["b*c"], &["a"]), (Lists::Never, 1));
        assert_eq!(lists(Narrower, &["a"], &["b*c"]), (Lists::Never, 1));
        assert_eq!(lists(Narrower, &[], &[]), (Lists::Absent, 0));
    }
}
