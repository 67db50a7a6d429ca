//! The peer of Envoy's connection, by its certificate.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use picket_core::cache::Cache;
use picket_core::enforcement::PeerResult;
use picket_core::peer::{self, CERTIFICATE_BYTES_MAX, CertificateError, ChainError, PeerError, PeerEvidence};
use picket_model::time::Timestamp;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::transport::{TlsError, certificate_authorities, crypto_provider};

/// The certificates in the cache; others are validated again.
const CERTIFICATES_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Each byte of a certificate takes three at most when it is percent-encoded.
const ENCODED_BYTES_MAX: usize = 3 * CERTIFICATE_BYTES_MAX;

type Fingerprint = [u8; SHA256_OUTPUT_LEN];

/// Identifies peers by their certificates.
///
/// Envoy's message does not say whether Envoy has validated the certificate, only that the caller
/// has its key. So the certificate is validated here, by the mesh's own authorities.
pub(super) struct Peers {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Chain and name of a certificate never change; its dates are checked for each request.
    known: RefCell<Cache<Fingerprint, Rc<PeerResult>>>,
}

impl Peers {
    /// With the authorities in this file, which may be intermediate ones: Envoy sends the leaf
    /// only.
    pub(super) fn new(authorities_file: &Path, seed: u64) -> Result<Self, TlsError> {
        let roots = certificate_authorities("ext_authz.peer_ca_file", authorities_file)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider()).build()?;
        Ok(Self {
            verifier,
            known: RefCell::new(Cache::new(CERTIFICATES_MAX, seed)),
        })
    }

    /// The peer that presented this certificate: PEM, percent-encoded, or empty for none.
    pub(super) fn identify(&self, certificate: &str, now: Timestamp) -> Rc<PeerResult> {
        if certificate.is_empty() {
            return Rc::new(Err(PeerError::Missing));
        }
        if certificate.len() > ENCODED_BYTES_MAX {
            return Rc::new(Err(CertificateError::TooLong.into()));
        }
        let fingerprint = fingerprint(certificate.as_bytes());
        let mut known = self.known.borrow_mut();
        if let Some(peer) = known.get(&fingerprint, now) {
            return Rc::clone(peer);
        }
        let peer = Rc::new(self.read(certificate, now));
        known.put_without_end(fingerprint, Rc::clone(&peer));
        peer
    }

    /// As in the filter, a fault of the certificate itself is reported before one of its chain.
    fn read(&self, certificate: &str, now: Timestamp) -> PeerResult {
        let pem: Vec<u8> = percent_decode_str(certificate).collect();
        let peer = peer::identify(PeerEvidence {
            is_validated: Some(true),
            certificate_pem: Some(&pem),
        })?;
        // Core checks the dates for each request. The chain is checked at a time within them.
        let last = Timestamp::from_ms(peer.ends_at.as_ms().saturating_sub(1));
        self.check_chain(&pem, now.max(peer.starts_at).min(last))?;
        Ok(peer)
    }

    fn check_chain(&self, pem: &[u8], at: Timestamp) -> Result<(), ChainError> {
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at.as_ms()));
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| ChainError::Other)?;
        let checked = self.verifier.verify_client_cert(&certificate, &[], at);
        checked.map(|_| ()).map_err(|error| {
            tracing::debug!(%error, "a peer's certificate is not trusted");
            chain_error(&error)
        })
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has more of them, and may get others"
)]
fn chain_error(error: &rustls::Error) -> ChainError {
    let rustls::Error::InvalidCertificate(error) = error else {
        return ChainError::Other;
    };
    match error {
        rustls::CertificateError::UnknownIssuer => ChainError::UnknownIssuer,
        rustls::CertificateError::BadSignature => ChainError::Signature,
        rustls::CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | rustls::CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ChainError::Algorithm,
        rustls::CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(webpki::Error::UnsupportedCriticalExtension) => ChainError::CriticalExtension,
            Some(webpki::Error::NameConstraintViolation) => ChainError::NameConstraint,
            Some(_) | None => ChainError::Other,
        },
        _ => ChainError::Other,
    }
}

fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; SHA256_OUTPUT_LEN];
    for (to, from) in fingerprint.iter_mut().zip(digest(&SHA256, certificate).as_ref()) {
        *to = *from;
    }
    fingerprint
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
        Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_750_000_000_000);

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new() -> Self {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self::of(parameters)
        }

        fn of(parameters: CertificateParams) -> Self {
            let key = KeyPair::generate().unwrap();
            let pem = parameters.self_signed(&key).unwrap().pem();
            Self {
                issuer: Issuer::new(parameters, key),
                pem,
            }
        }

        fn certificate(&self, uris: &[&str], years: (i32, i32)) -> String {
            self.certificate_with(&|parameters| {
                let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
                parameters.subject_alt_names = names.collect();
                parameters.not_before = date_time_ymd(years.0, 1, 1);
                parameters.not_after = date_time_ymd(years.1, 1, 1);
            })
        }

        /// One of `web`, with a change.
        fn certificate_with(&self, change: &dyn Fn(&mut CertificateParams)) -> String {
            let mut parameters = CertificateParams::default();
            parameters.subject_alt_names = vec![SanType::URI("spiffe://example.org/web".try_into().unwrap())];
            change(&mut parameters);
            let key = KeyPair::generate().unwrap();
            let pem = parameters.signed_by(&key, &self.issuer).unwrap().pem();
            utf8_percent_encode(&pem, NON_ALPHANUMERIC).to_string()
        }

        fn peers(&self) -> Peers {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &self.pem).unwrap();
            Peers::new(file.path(), 1).unwrap()
        }
    }

    #[test]
    fn a_certificate_of_the_mesh_is_its_spiffe_id() {
        let authority = Authority::new();
        let peers = authority.peers();
        let web = authority.certificate(&["spiffe://example.org/web"], (2020, 2040));
        for _ in 0..2 {
            let peer = peers.identify(&web, NOW);
            assert_eq!(peer.as_ref().as_ref().unwrap().id.as_str(), "spiffe://example.org/web");
        }
    }

    #[test]
    fn a_certificate_of_another_authority_proves_nothing() {
        let peers = Authority::new().peers();
        let web = Authority::new().certificate(&["spiffe://example.org/web"], (2020, 2040));
        let malformed = |error| Err(PeerError::Malformed(error));
        for (certificate, expected) in [
            (web.as_str(), Err(PeerError::Untrusted(ChainError::Signature))),
            ("nonsense", malformed(CertificateError::Pem)),
            ("%", malformed(CertificateError::Pem)),
            (&"a".repeat(ENCODED_BYTES_MAX + 1), malformed(CertificateError::TooLong)),
            ("", Err(PeerError::Missing)),
        ] {
            assert_eq!(*peers.identify(certificate, NOW), expected);
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_as_the_filter_tells_it() {
        let authority = Authority::new();
        let peers = authority.peers();
        let check = |change: &dyn Fn(&mut CertificateParams), expected| {
            let certificate = authority.certificate_with(change);
            assert_eq!(*peers.identify(&certificate, NOW), Err(expected));
        };
        let malformed = PeerError::Malformed;
        check(&|to| to.subject_alt_names.clear(), malformed(CertificateError::NoUri));
        check(
            &|to| to.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            malformed(CertificateError::Authority),
        );
        check(
            &|to| to.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            malformed(CertificateError::ExtendedKeyUsage),
        );
        check(
            &|to| to.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            malformed(CertificateError::KeyUsage),
        );
        let mut critical = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        critical.set_criticality(true);
        check(
            &|to| to.custom_extensions = vec![critical.clone()],
            PeerError::Untrusted(ChainError::CriticalExtension),
        );
        check(
            &|to| {
                to.subject_alt_names
                    .push(SanType::URI("spiffe://example.org/b".try_into().unwrap()));
            },
            malformed(CertificateError::SeveralUris(2)),
        );
    }

    #[test]
    fn a_name_that_the_authority_may_not_give_is_refused() {
        let mut constrained = CertificateParams::default();
        constrained.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        constrained.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("inside.example".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let authority = Authority::of(constrained);
        let web = authority.certificate_with(&|parameters| {
            let name = SanType::DnsName("outside.example".try_into().unwrap());
            parameters.subject_alt_names.push(name);
        });
        let expected = Err(PeerError::Untrusted(ChainError::NameConstraint));
        assert_eq!(*authority.peers().identify(&web, NOW), expected);
    }

    #[test]
    fn an_authority_of_another_name_is_not_the_issuer() {
        let mut other = CertificateParams::default();
        other.distinguished_name.push(DnType::CommonName, "other");
        other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let web = Authority::of(other).certificate(&["spiffe://example.org/web"], (2020, 2040));
        let unknown = Err(PeerError::Untrusted(ChainError::UnknownIssuer));
        assert_eq!(*Authority::new().peers().identify(&web, NOW), unknown);
    }

    #[test]
    fn a_certificate_out_of_its_dates_is_left_to_core() {
        let authority = Authority::new();
        let peers = authority.peers();
        for (years, expected) in [
            ((2010, 2012), PeerError::Expired),
            ((2038, 2040), PeerError::NotYetValid),
        ] {
            let certificate = authority.certificate(&["spiffe://example.org/web"], years);
            let peer = peers.identify(&certificate, NOW);
            assert_eq!(peer.as_ref().as_ref().unwrap().check_validity(NOW), Err(expected));
        }
    }
}
