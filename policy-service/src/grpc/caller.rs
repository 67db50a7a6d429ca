//! Who calls: the SPIFFE ID in the client's certificate, looked up once for each connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use picket_core::peer;
use picket_core::spiffe::SpiffeId;
use rustls_pki_types::CertificateDer;

use crate::configuration::{CallerRoles, Role, Roles};
use crate::log_budget::LogBudget;
use crate::metrics::Metrics;

/// What a connection's certificate says about its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It may call what its roles allow.
    Allowed(Arc<str>, Roles),
    /// It may call nothing.
    Refused(RefusedCaller),
}

/// Who may call nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedCaller {
    pub(crate) reason: Refusal,
    /// `None`: its certificate has none.
    spiffe_id: Option<Arc<str>>,
    /// Where it calls from.
    address: IpAddr,
}

/// Why a caller may not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its certificate is no X.509-SVID for clients.
    NoSpiffeId,
    /// Its SPIFFE ID is not on the list.
    NotListed,
    /// It is, with other roles than the service needs that it calls.
    Role,
}

/// The callers that may call, each with its roles.
#[derive(Clone)]
pub(crate) struct Callers(Arc<HashMap<SpiffeId, Roles>>);

impl Callers {
    pub(crate) fn new(sidecars: &[SpiffeId], others: &[CallerRoles]) -> Self {
        let sidecars = sidecars.iter().map(|id| (id, Roles::of(&[Role::Sidecar])));
        let others = others.iter().map(|caller| (&caller.spiffe_id, caller.roles));
        let mut callers: HashMap<SpiffeId, Roles> = HashMap::new();
        for (id, roles) in sidecars.chain(others) {
            callers.entry(id.clone()).or_default().add(roles);
        }
        Self(Arc::new(callers))
    }

    /// Identifies a caller at this address by its certificate, which TLS has verified.
    pub(crate) fn identify(&self, certificate: Option<&CertificateDer<'_>>, address: IpAddr) -> Caller {
        let refused = |reason, spiffe_id| {
            Caller::Refused(RefusedCaller {
                reason,
                spiffe_id,
                address,
            })
        };
        let id = certificate.map(|certificate| peer::spiffe_id_of_der(certificate));
        let Some(Ok(id)) = id else {
            return refused(Refusal::NoSpiffeId, None);
        };
        match self.0.get(&id) {
            Some(roles) => Caller::Allowed(id.as_str().into(), *roles),
            None => refused(Refusal::NotListed, Some(id.as_str().into())),
        }
    }
}

impl RefusedCaller {
    /// Counts one of its calls, or a connection that it does not get, and tells the log who it is.
    pub(crate) fn record(&self, metrics: &Metrics) {
        record(self.reason, self.spiffe_id.as_deref(), Some(self.address), metrics);
    }
}

/// The same for a caller with other roles than it needs.
pub(crate) fn record_role_refusal(spiffe_id: &str, metrics: &Metrics) {
    record(Refusal::Role, Some(spiffe_id), None, metrics);
}

fn record(reason: Refusal, spiffe_id: Option<&str>, address: Option<IpAddr>, metrics: &Metrics) {
    static LINES: LogBudget = LogBudget::new();
    metrics.refused(reason.as_str());
    if let Some(lines_left_out) = LINES.take() {
        let address = address.map(tracing::field::display);
        let reason = reason.as_str();
        tracing::warn!(reason, spiffe_id, address, lines_left_out, "caller refused");
    }
}

impl Refusal {
    /// The label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoSpiffeId => "no_spiffe_id",
            Self::NotListed => "not_listed",
            Self::Role => "role",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for uri in uris {
            let uri = rcgen::string::Ia5String::try_from(*uri).unwrap();
            parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        }
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn refused(reason: Refusal, spiffe_id: Option<&str>) -> Caller {
        Caller::Refused(RefusedCaller {
            reason,
            spiffe_id: spiffe_id.map(Arc::from),
            address: ADDRESS,
        })
    }

    fn check(uris: &[&str], expected: &Caller) {
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
        assert_eq!(
            callers.identify(Some(&certificate(uris)), ADDRESS),
            *expected,
            "{uris:?}"
        );
    }

    #[test]
    fn a_caller_is_known_by_the_one_spiffe_id_in_its_certificate() {
        check(
            &["spiffe://example.org/orders"],
            &Caller::Allowed("spiffe://example.org/orders".into(), Roles::of(&[Role::Sidecar])),
        );
        check(
            &["spiffe://example.org/web"],
            &refused(Refusal::NotListed, Some("spiffe://example.org/web")),
        );
        check(&[], &refused(Refusal::NoSpiffeId, None));
        check(&["https://example.org/orders"], &refused(Refusal::NoSpiffeId, None));
        check(
            &["spiffe://example.org/orders", "spiffe://example.org/web"],
            &refused(Refusal::NoSpiffeId, None),
        );
    }

    #[test]
    fn a_caller_in_both_lists_has_the_roles_of_both() {
        let orders: SpiffeId = "spiffe://example.org/orders".parse().unwrap();
        let other = CallerRoles {
            spiffe_id: orders.clone(),
            roles: Roles::of(&[Role::Reader]),
        };
        let callers = Callers::new(&[orders], &[other]);
        let found = callers.identify(Some(&certificate(&["spiffe://example.org/orders"])), ADDRESS);
        let roles = Roles::of(&[Role::Sidecar, Role::Reader]);
        assert_eq!(found, Caller::Allowed("spiffe://example.org/orders".into(), roles));
    }

    #[test]
    fn an_authority_with_a_name_from_the_list_is_no_caller() {
        let mut parameters = rcgen::CertificateParams::default();
        let uri = rcgen::string::Ia5String::try_from("spiffe://example.org/orders").unwrap();
        parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
        assert_eq!(
            callers.identify(Some(certificate.der()), ADDRESS),
            refused(Refusal::NoSpiffeId, None)
        );
    }

    #[test]
    fn what_is_no_certificate_is_no_caller() {
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
        assert_eq!(callers.identify(None, ADDRESS), refused(Refusal::NoSpiffeId, None));
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(
            callers.identify(Some(&garbage), ADDRESS),
            refused(Refusal::NoSpiffeId, None)
        );
    }
}
