//! Certificates: one that is accepted is read alike by another reader, and has exactly one URI.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use picket_core::peer::{Peer, PeerError, PeerEvidence, identify, spiffe_id_of_der};
use picket_model::spiffe::SpiffeId;
use picket_model::thumbprint::CertificateThumbprint;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

fn of_pem(pem: &[u8], is_validated: Option<bool>) -> Result<Peer, PeerError> {
    identify(PeerEvidence {
        is_validated,
        certificate_pem: Some(pem),
    })
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// What x509-parser sees in it; it refuses much that core's reader takes, and says nothing of that.
fn check_read_by_another(der: &[u8], id: &SpiffeId) {
    let Ok((rest, certificate)) = X509Certificate::from_der(der) else {
        return;
    };
    assert!(rest.is_empty(), "something follows the certificate");
    assert!(!certificate.is_ca(), "an authority");
    if let Ok(Some(usage)) = certificate.key_usage() {
        let usage = usage.value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    }
    if let Ok(Some(uses)) = certificate.extended_key_usage() {
        assert!(uses.value.client_auth, "not for clients");
    }
    if let Ok(names) = certificate.subject_alternative_name() {
        let names = names.expect("names").value;
        let uris: Vec<&str> = names
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        assert_eq!(uris, [id.as_str()]);
    }
}

fn check_peer(peer: &Peer, der: &[u8]) {
    assert_eq!(peer.thumbprint, Some(CertificateThumbprint::of_der(der)));
    assert!(!peer.id.path().is_empty(), "an authority's own ID");
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    for der in [
        &include_bytes!("../seeds/certificate/workload.der")[..],
        include_bytes!("../seeds/certificate/plain.der"),
        include_bytes!("../seeds/certificate/names.der"),
    ] {
        spiffe_id_of_der(der).expect("a workload's certificate");
        let (_, certificate) = X509Certificate::from_der(der).expect("the other reader takes it too");
        assert!(certificate.subject_alternative_name().is_ok());
    }
    of_pem(include_bytes!("../seeds/certificate/workload.pem"), Some(true)).expect("a workload's certificate");
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    // As text.
    if let Ok(peer) = of_pem(data, Some(true)) {
        assert!(peer.thumbprint.is_some() && !peer.id.path().is_empty());
    }
    // As the bytes within the text: both ways to read them agree.
    let by_der = spiffe_id_of_der(data);
    let text = pem(data);
    let by_pem = of_pem(text.as_bytes(), Some(true));
    match (&by_der, &by_pem) {
        (Ok(id), Ok(peer)) => {
            assert_eq!(*id, peer.id);
            check_peer(peer, data);
            check_read_by_another(data, id);
        }
        (Err(one), Err(other)) => assert!(one == other || data.is_empty(), "{one:?} {other:?}"),
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => assert!(text.len() > 64 * 1024, "{error:?}"),
    }
    // What the proxy did not validate is nobody's.
    for unsure in [None, Some(false)] {
        assert_eq!(of_pem(text.as_bytes(), unsure), Err(PeerError::Unverified));
    }
});
