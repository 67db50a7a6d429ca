//! Who calls: the SPIFFE ID in the client's certificate, looked up once for each connection.

use std::collections::HashSet;
use std::sync::Arc;

use picket_core::peer;
use picket_core::spiffe::SpiffeId;
use rustls_pki_types::CertificateDer;

/// What a connection's certificate says about its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It may ask.
    Allowed(Arc<str>),
    /// It may not.
    Refused(Refusal),
}

/// Why a caller may not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its certificate is no X.509-SVID for clients.
    NoSpiffeId,
    /// Its SPIFFE ID is not on the list.
    NotListed,
}

/// The callers that may ask.
#[derive(Clone)]
pub(crate) struct Callers(Arc<HashSet<SpiffeId>>);

impl Callers {
    pub(crate) fn new(allowed: &[SpiffeId]) -> Self {
        Self(Arc::new(allowed.iter().cloned().collect()))
    }

    /// Identifies a caller by its certificate, which TLS has verified.
    pub(crate) fn identify(&self, certificate: Option<&CertificateDer<'_>>) -> Caller {
        let id = certificate.map(|certificate| peer::spiffe_id_of_der(certificate));
        let Some(Ok(id)) = id else {
            return Caller::Refused(Refusal::NoSpiffeId);
        };
        if self.0.contains(&id) {
            Caller::Allowed(id.as_str().into())
        } else {
            Caller::Refused(Refusal::NotListed)
        }
    }
}

impl Refusal {
    /// The label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoSpiffeId => "no_spiffe_id",
            Self::NotListed => "not_listed",
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

    fn check(uris: &[&str], expected: &Caller) {
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()]);
        assert_eq!(callers.identify(Some(&certificate(uris))), *expected, "{uris:?}");
    }

    #[test]
    fn a_caller_is_known_by_the_one_spiffe_id_in_its_certificate() {
        check(
            &["spiffe://example.org/orders"],
            &Caller::Allowed("spiffe://example.org/orders".into()),
        );
        check(&["spiffe://example.org/web"], &Caller::Refused(Refusal::NotListed));
        check(&[], &Caller::Refused(Refusal::NoSpiffeId));
        check(&["https://example.org/orders"], &Caller::Refused(Refusal::NoSpiffeId));
        check(
            &["spiffe://example.org/orders", "spiffe://example.org/web"],
            &Caller::Refused(Refusal::NoSpiffeId),
        );
    }

    #[test]
    fn an_authority_with_a_name_from_the_list_is_no_caller() {
        let mut parameters = rcgen::CertificateParams::default();
        let uri = rcgen::string::Ia5String::try_from("spiffe://example.org/orders").unwrap();
        parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()]);
        assert_eq!(
            callers.identify(Some(certificate.der())),
            Caller::Refused(Refusal::NoSpiffeId)
        );
    }

    #[test]
    fn what_is_no_certificate_is_no_caller() {
        let callers = Callers::new(&["spiffe://example.org/orders".parse().unwrap()]);
        assert_eq!(callers.identify(None), Caller::Refused(Refusal::NoSpiffeId));
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(callers.identify(Some(&garbage)), Caller::Refused(Refusal::NoSpiffeId));
    }
}
