//! The caller of a connection: the SPIFFE ID in its client certificate and the roles that the
//! configuration gives it, looked up once for each connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use picket_core::peer;
use picket_model::spiffe::SpiffeId;
use rustls_pki_types::CertificateDer;

use super::TransportMetrics;
use crate::log_rate_limit::LogRateLimit;
use picket_service_configuration::{AllowedCaller, CallerRole, CallerRoles};

/// The other end of a connection, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A SPIFFE ID that is configured, with its roles.
    Allowed(Arc<str>, CallerRoles),
    /// Any other: its calls are refused.
    Refused(RefusedCaller),
}

/// A caller whose calls are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedCaller {
    pub(crate) reason: CallerRefusal,
    /// `None`: its certificate has none.
    spiffe_id: Option<Arc<str>>,
    /// The connection's source.
    address: IpAddr,
}

/// Why a caller's calls are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerRefusal {
    /// Its certificate is no X.509-SVID for clients.
    NoSpiffeId,
    /// Its SPIFFE ID is not on the list.
    NotListed,
    /// It lacks the role that the call needs.
    Role,
}

/// The configured callers with their roles.
#[derive(Clone)]
pub(crate) struct CallerDirectory(Arc<HashMap<SpiffeId, CallerRoles>>);

impl CallerDirectory {
    pub(crate) fn new(sidecars: &[SpiffeId], others: &[AllowedCaller]) -> Self {
        let sidecars = sidecars.iter().map(|id| (id, CallerRoles::of(&[CallerRole::Sidecar])));
        let others = others.iter().map(|caller| (&caller.spiffe_id, caller.roles));
        let mut callers: HashMap<SpiffeId, CallerRoles> = HashMap::new();
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
            return refused(CallerRefusal::NoSpiffeId, None);
        };
        match self.0.get(&id) {
            Some(roles) => Caller::Allowed(id.as_str().into(), *roles),
            None => refused(CallerRefusal::NotListed, Some(id.as_str().into())),
        }
    }
}

impl RefusedCaller {
    /// Counts and logs one refused call, or one connection that was closed.
    pub(super) fn record(&self, metrics: &TransportMetrics) {
        record(self.reason, self.spiffe_id.as_deref(), Some(self.address), metrics);
    }
}

/// Counts and logs one call of a caller that lacks the role for it.
pub(super) fn record_missing_role(spiffe_id: &str, metrics: &TransportMetrics) {
    record(CallerRefusal::Role, Some(spiffe_id), None, metrics);
}

fn record(reason: CallerRefusal, spiffe_id: Option<&str>, address: Option<IpAddr>, metrics: &TransportMetrics) {
    static LINES: LogRateLimit = LogRateLimit::new();
    metrics.count_refused_caller(reason.as_str());
    if let Some(lines_left_out) = LINES.acquire() {
        let address = address.map(tracing::field::display);
        let reason = reason.as_str();
        tracing::warn!(reason, spiffe_id, address, lines_left_out, "caller refused");
    }
}

impl CallerRefusal {
    /// Every refusal.
    #[cfg(feature = "schema")]
    pub(super) const ALL: [Self; 3] = [Self::NoSpiffeId, Self::NotListed, Self::Role];

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

    fn refused(reason: CallerRefusal, spiffe_id: Option<&str>) -> Caller {
        Caller::Refused(RefusedCaller {
            reason,
            spiffe_id: spiffe_id.map(Arc::from),
            address: ADDRESS,
        })
    }

    fn check(uris: &[&str], expected: &Caller) {
        let callers = CallerDirectory::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
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
            &Caller::Allowed(
                "spiffe://example.org/orders".into(),
                CallerRoles::of(&[CallerRole::Sidecar]),
            ),
        );
        check(
            &["spiffe://example.org/web"],
            &refused(CallerRefusal::NotListed, Some("spiffe://example.org/web")),
        );
        check(&[], &refused(CallerRefusal::NoSpiffeId, None));
        check(
            &["https://example.org/orders"],
            &refused(CallerRefusal::NoSpiffeId, None),
        );
        check(
            &["spiffe://example.org/orders", "spiffe://example.org/web"],
            &refused(CallerRefusal::NoSpiffeId, None),
        );
    }

    #[test]
    fn a_caller_in_both_lists_has_the_roles_of_both() {
        let orders: SpiffeId = "spiffe://example.org/orders".parse().unwrap();
        let other = AllowedCaller {
            spiffe_id: orders.clone(),
            roles: CallerRoles::of(&[CallerRole::Reader]),
        };
        let callers = CallerDirectory::new(&[orders], &[other]);
        let found = callers.identify(Some(&certificate(&["spiffe://example.org/orders"])), ADDRESS);
        let roles = CallerRoles::of(&[CallerRole::Sidecar, CallerRole::Reader]);
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
        let callers = CallerDirectory::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
        assert_eq!(
            callers.identify(Some(certificate.der()), ADDRESS),
            refused(CallerRefusal::NoSpiffeId, None)
        );
    }

    #[test]
    fn what_is_no_certificate_is_no_caller() {
        let callers = CallerDirectory::new(&["spiffe://example.org/orders".parse().unwrap()], &[]);
        assert_eq!(
            callers.identify(None, ADDRESS),
            refused(CallerRefusal::NoSpiffeId, None)
        );
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(
            callers.identify(Some(&garbage), ADDRESS),
            refused(CallerRefusal::NoSpiffeId, None)
        );
    }
}
