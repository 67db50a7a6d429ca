//! Checking what a filter's configuration says about access rules.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use picket_model::problems::Problems;
use picket_model::spiffe::TrustDomain;

use super::document::{
    AccessConditionDocument, AccessDocument, AccessOperationDocument, AccessRuleDocument, AccessSourceDocument,
    AttributeDocument,
};
use super::limits::{ACCESS_ENTRIES_MAX, ACCESS_RULES_MAX};
use super::values::{check_name, parse_each_with};
use crate::access_rules::{AccessRule, AccessRules, ClaimIndex, Condition, Polarity, PrincipalPattern, Values};
use crate::request;
use crate::token::claim_path::ClaimPath;
use crate::token::provider::Provider;

/// More claims would make each remembered token large.
const CLAIMS_MAX: usize = 64;
/// Headers that a request's head holds in another place or form: `hosts` and `paths` look at them.
const HOST: &str = "host";

pub(super) fn check_access(
    document: Option<AccessDocument>,
    trust_domains: &BTreeSet<TrustDomain>,
    providers: &[Provider],
    check: &mut Problems,
) -> AccessRules {
    let AccessDocument {
        reject,
        accept,
        audit,
        observe,
    } = document.unwrap_or_default();
    let observe = observe.unwrap_or_default();
    let lists = [&reject, &accept, &audit, &observe.reject, &observe.accept];
    if lists.into_iter().flatten().map(Vec::len).sum::<usize>() > ACCESS_RULES_MAX {
        check.add(
            "access",
            format_args!("expected at most {ACCESS_RULES_MAX} rules in all"),
        );
        return AccessRules::default();
    }
    let issuers: Vec<&str> = providers.iter().map(|provider| provider.issuer.as_str()).collect();
    let mut reader = Reader {
        trust_domains,
        issuers: &issuers,
        ids: BTreeSet::new(),
        claims: Vec::new(),
        check: &mut *check,
    };
    let mut read = |list: Option<Vec<AccessRuleDocument>>, path: &str, polarity| {
        list.map(|list| reader.rules(&list, path, polarity))
    };
    let rules = AccessRules {
        reject: read(reject, "access.reject", Polarity::Rejecting).unwrap_or_default(),
        accept: read(accept, "access.accept", Polarity::Accepting),
        audit: read(audit, "access.audit", Polarity::Rejecting).unwrap_or_default(),
        observed_reject: read(observe.reject, "access.observe.reject", Polarity::Rejecting).unwrap_or_default(),
        observed_accept: read(observe.accept, "access.observe.accept", Polarity::Accepting),
        claims: Vec::new(),
        trust_domains: trust_domains.clone(),
    };
    let claims = reader.claims;
    if claims.len() > CLAIMS_MAX {
        check.add("access", format_args!("expected at most {CLAIMS_MAX} different claims"));
    }
    AccessRules { claims, ..rules }
}

struct Reader<'r> {
    trust_domains: &'r BTreeSet<TrustDomain>,
    /// Of the providers.
    issuers: &'r [&'r str],
    ids: BTreeSet<String>,
    claims: Vec<ClaimPath>,
    check: &'r mut Problems,
}

type List<'d> = Option<&'d [String]>;
/// Values, and those that must not fit.
type Lists<'d> = (List<'d>, List<'d>);

impl Reader<'_> {
    fn rules(&mut self, documents: &[AccessRuleDocument], path: &str, polarity: Polarity) -> Vec<AccessRule> {
        let rule = |(index, document)| self.rule(document, &format!("{path}[{index}]"), polarity);
        documents.iter().enumerate().map(rule).collect()
    }

    fn rule(&mut self, document: &AccessRuleDocument, path: &str, polarity: Polarity) -> AccessRule {
        check_name(&document.id, &mut self.ids, &format!("{path}.id"), self.check);
        let from = self.each(
            document.from.as_deref(),
            &format!("{path}.from"),
            |reader, source, path| reader.source(source, path, polarity),
        );
        let to = self.each(document.to.as_deref(), &format!("{path}.to"), Self::operation);
        let when = self.each(
            document.when.as_deref(),
            &format!("{path}.when"),
            |reader, condition, path| reader.condition(condition, path, polarity),
        );
        AccessRule {
            id: document.id.clone(),
            from,
            to,
            when: when.into_iter().flatten().collect(),
        }
    }

    fn each<D, T>(&mut self, list: Option<&[D]>, path: &str, mut read: impl FnMut(&mut Self, &D, &str) -> T) -> Vec<T> {
        self.check_length(list.map(<[D]>::len), path);
        let list = list.unwrap_or_default().iter().enumerate().take(ACCESS_ENTRIES_MAX);
        list.map(|(index, each)| read(self, each, &format!("{path}[{index}]")))
            .collect()
    }

    fn check_length(&mut self, length: Option<usize>, path: &str) {
        if length.is_some_and(|length| !(1..=ACCESS_ENTRIES_MAX).contains(&length)) {
            self.check.add(
                path,
                format_args!("expected 1 to {ACCESS_ENTRIES_MAX} entries, or no field"),
            );
        }
    }

    fn source(&mut self, document: &AccessSourceDocument, path: &str, polarity: Polarity) -> Vec<Condition> {
        let lists = |list: &'_ Option<Vec<String>>, not: &'_ Option<Vec<String>>| list.is_some() || not.is_some();
        let d = document;
        let names_peers = lists(&d.peers, &d.not_peers)
            || lists(&d.namespaces, &d.not_namespaces)
            || lists(&d.service_accounts, &d.not_service_accounts);
        if names_peers {
            self.check_trusts(path);
        }
        self.check_favour(
            path,
            "namespaces",
            d.namespaces.is_some(),
            d.not_namespaces.is_some(),
            polarity,
        );
        let (accounts, not_accounts) = (d.service_accounts.is_some(), d.not_service_accounts.is_some());
        self.check_favour(path, "service_accounts", accounts, not_accounts, polarity);
        let conditions = [
            self.pair(&d.peers, &d.not_peers, path, "peers").map(Condition::Peer),
            self.pair(&d.namespaces, &d.not_namespaces, path, "namespaces")
                .map(Condition::Namespace),
            self.pair(&d.service_accounts, &d.not_service_accounts, path, "service_accounts")
                .map(Condition::ServiceAccount),
            self.principals(d, path),
            self.pair(
                &d.connection_addresses,
                &d.not_connection_addresses,
                path,
                "connection_addresses",
            )
            .map(Condition::ConnectionAddress),
            self.pair(&d.source_addresses, &d.not_source_addresses, path, "source_addresses")
                .map(Condition::SourceAddress),
        ];
        self.some_of(conditions.into_iter().flatten().collect(), path)
    }

    fn operation(&mut self, document: &AccessOperationDocument, path: &str) -> Vec<Condition> {
        let d = document;
        let ports = (d.ports.is_some() || d.not_ports.is_some()).then(|| {
            self.check_length(d.ports.as_ref().map(Vec::len), &format!("{path}.ports"));
            self.check_length(d.not_ports.as_ref().map(Vec::len), &format!("{path}.not_ports"));
            Condition::DestinationPort(Values {
                any_of: d.ports.clone().unwrap_or_default(),
                none_of: d.not_ports.clone().unwrap_or_default(),
            })
        });
        let conditions = [
            self.pair(&d.hosts, &d.not_hosts, path, "hosts").map(Condition::Host),
            ports,
            self.pair(&d.methods, &d.not_methods, path, "methods")
                .map(Condition::Method),
            self.pair(&d.paths, &d.not_paths, path, "paths").map(Condition::Path),
        ];
        self.some_of(conditions.into_iter().flatten().collect(), path)
    }

    fn condition(&mut self, document: &AccessConditionDocument, path: &str, polarity: Polarity) -> Option<Condition> {
        let lists = (document.values.as_deref(), document.not_values.as_deref());
        if lists == (None, None) {
            self.check.add(path, "expected at least one of `values`, `not_values`");
        }
        match (&document.header, &document.claim, document.attribute) {
            (Some(header), None, None) => {
                let header = self.header(header, path);
                Some(Condition::Header(header, self.values(lists, path)))
            }
            (None, Some(claim), None) => {
                let claim = self.claim(claim, path)?;
                Some(Condition::Claim(claim, self.values(lists, path)))
            }
            (None, None, Some(attribute)) => Some(self.attribute(attribute, lists, path, polarity)),
            (_, _, _) => {
                self.check
                    .add(path, "expected exactly one of `header`, `claim`, `attribute`");
                None
            }
        }
    }

    fn attribute(
        &mut self,
        attribute: AttributeDocument,
        lists: Lists<'_>,
        path: &str,
        polarity: Polarity,
    ) -> Condition {
        match attribute {
            AttributeDocument::Peer => {
                self.check_trusts(path);
                Condition::Peer(self.values(lists, path))
            }
            AttributeDocument::Namespace => {
                self.check_trusts(path);
                self.check_favour(path, "values", lists.0.is_some(), lists.1.is_some(), polarity);
                Condition::Namespace(self.values(lists, path))
            }
            AttributeDocument::Principal => Condition::Principal(Values {
                any_of: self.principal_entries(lists.0, &format!("{path}.values")),
                none_of: self.principal_entries(lists.1, &format!("{path}.not_values")),
            }),
            AttributeDocument::ServiceAccount => {
                self.check_trusts(path);
                self.check_favour(path, "values", lists.0.is_some(), lists.1.is_some(), polarity);
                Condition::ServiceAccount(self.values(lists, path))
            }
            AttributeDocument::ConnectionAddress => Condition::ConnectionAddress(self.values(lists, path)),
            AttributeDocument::SourceAddress => Condition::SourceAddress(self.values(lists, path)),
            AttributeDocument::DestinationAddress => Condition::DestinationAddress(self.values(lists, path)),
            AttributeDocument::DestinationPort => {
                let ports: Values<Port> = self.values(lists, path);
                let plain = |ports: Vec<Port>| ports.into_iter().map(|Port(port)| port).collect();
                Condition::DestinationPort(Values {
                    any_of: plain(ports.any_of),
                    none_of: plain(ports.none_of),
                })
            }
            AttributeDocument::ServerName => Condition::ServerName(self.values(lists, path)),
        }
    }

    fn pair<T>(
        &mut self,
        list: &Option<Vec<String>>,
        not: &Option<Vec<String>>,
        path: &str,
        name: &str,
    ) -> Option<Values<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        (list.is_some() || not.is_some()).then(|| Values {
            any_of: self.entries(list.as_deref(), &format!("{path}.{name}")),
            none_of: self.entries(not.as_deref(), &format!("{path}.not_{name}")),
        })
    }

    fn values<T>(&mut self, (values, not_values): Lists<'_>, path: &str) -> Values<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        Values {
            any_of: self.entries(values, &format!("{path}.values")),
            none_of: self.entries(not_values, &format!("{path}.not_values")),
        }
    }

    fn principals(&mut self, document: &AccessSourceDocument, path: &str) -> Option<Condition> {
        let lists = (document.principals.as_deref(), document.not_principals.as_deref());
        (lists != (None, None)).then(|| {
            Condition::Principal(Values {
                any_of: self.principal_entries(lists.0, &format!("{path}.principals")),
                none_of: self.principal_entries(lists.1, &format!("{path}.not_principals")),
            })
        })
    }

    fn principal_entries(&mut self, list: List<'_>, path: &str) -> Vec<PrincipalPattern> {
        let issuers = self.issuers;
        self.entries_with(list, path, |text| PrincipalPattern::parse(text, issuers))
    }

    fn entries<T>(&mut self, list: List<'_>, path: &str) -> Vec<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.entries_with(list, path, str::parse::<T>)
    }

    fn entries_with<T, E: Display>(
        &mut self,
        list: List<'_>,
        path: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        self.check_length(list.map(<[String]>::len), path);
        let list = list.unwrap_or_default();
        // As much of a list as it may have.
        let list = list.get(..ACCESS_ENTRIES_MAX).unwrap_or(list);
        let entries = parse_each_with(list, path, parse, self.check).into_iter();
        entries.map(|(_, value)| value).collect()
    }

    fn header(&mut self, name: &str, path: &str) -> Box<str> {
        let is_token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) || name == HOST || request::is_owned(name) {
            let expected =
                "expected a header's name in lower case, other than `host` and those that begin with `x-picket-`";
            self.check.add(format!("{path}.header"), expected);
        }
        name.into()
    }

    fn claim(&mut self, text: &str, path: &str) -> Option<ClaimIndex> {
        let claim: ClaimPath = self.check.take(&format!("{path}.claim"), text.parse())?;
        let index = self
            .claims
            .iter()
            .position(|have| *have == claim)
            .unwrap_or(self.claims.len());
        if index == self.claims.len() {
            self.claims.push(claim);
        }
        Some(index)
    }

    /// A source or an operation without a list would match everything, which a missing field says
    /// as well.
    fn some_of(&mut self, conditions: Vec<Condition>, path: &str) -> Vec<Condition> {
        if conditions.is_empty() {
            self.check.add(path, "expected at least one list");
        }
        conditions
    }

    fn check_trusts(&mut self, path: &str) {
        if self.trust_domains.is_empty() {
            self.check
                .add(path, "expected the filter to have `trust_domains`, as peers are named");
        }
    }

    /// Whoever rules another trust domain gives names to namespaces there as well, so none may
    /// count in the caller's favour.
    fn check_favour(&mut self, path: &str, name: &str, values: bool, not_values: bool, polarity: Polarity) {
        let in_favour = match polarity {
            Polarity::Accepting => values,
            Polarity::Rejecting => not_values,
        };
        if in_favour && self.trust_domains.len() > 1 {
            let expected = "expected `peers` instead, as the filter has several `trust_domains`";
            let prefix = if polarity == Polarity::Rejecting { "not_" } else { "" };
            self.check.add(format!("{path}.{prefix}{name}"), expected);
        }
    }
}

/// A port that is written as text, as the values of conditions are.
struct Port(u16);

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = text.parse().ok().filter(|port: &u16| port.to_string() == text);
        port.map(Self).ok_or("expected a port, 0 to 65535")
    }
}
