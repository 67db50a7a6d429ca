//! Which certificates prove a peer.

use picket_core::peer::{PeerError, PeerEvidence, identify, spiffe_id_of_der};
use picket_core::spiffe::SpiffeId;
use rcgen::{CertificateParams, KeyPair, SanType};

fn certificate(names: &[SanType]) -> rcgen::Certificate {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[track_caller]
fn check(names: &[SanType], expected: Result<&str, PeerError>) {
    let certificate = certificate(names);
    let pem = certificate.pem();
    let evidence = PeerEvidence {
        is_validated: Some(true),
        certificate_pem: Some(pem.as_bytes()),
    };
    assert_eq!(
        identify(evidence).as_ref().map(SpiffeId::as_str).map_err(|e| *e),
        expected
    );
    assert_eq!(
        spiffe_id_of_der(certificate.der())
            .as_ref()
            .map(SpiffeId::as_str)
            .map_err(|e| *e),
        expected
    );
}

#[test]
fn exactly_one_uri_that_is_a_spiffe_id_is_needed() {
    let dns = SanType::DnsName("example.org".try_into().unwrap());
    check(
        &[dns.clone(), uri("spiffe://example.org/web")],
        Ok("spiffe://example.org/web"),
    );
    check(&[dns], Err(PeerError::Malformed));
    check(&[], Err(PeerError::Malformed));
    check(
        &[uri("spiffe://example.org/web"), uri("spiffe://example.org/admin")],
        Err(PeerError::Malformed),
    );
    check(
        &[uri("spiffe://example.org/web"), uri("https://example.org")],
        Err(PeerError::Malformed),
    );
    check(&[uri("https://example.org")], Err(PeerError::Malformed));
    check(&[uri("spiffe://example.org/a\0b")], Err(PeerError::Malformed));
}

#[test]
fn the_proxy_must_have_validated_the_certificate() {
    let pem = certificate(&[uri("spiffe://example.org/web")]).pem();
    let evidence = |is_validated, certificate_pem| {
        identify(PeerEvidence {
            is_validated,
            certificate_pem,
        })
    };
    assert_eq!(evidence(Some(false), Some(pem.as_bytes())), Err(PeerError::Unverified));
    assert_eq!(evidence(None, Some(pem.as_bytes())), Err(PeerError::Unverified));
    assert_eq!(evidence(Some(true), None), Err(PeerError::Missing));
    assert_eq!(
        evidence(
            Some(true),
            Some(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
        ),
        Err(PeerError::Malformed)
    );
    assert_eq!(evidence(Some(true), Some(b"\xff")), Err(PeerError::Malformed));
}
