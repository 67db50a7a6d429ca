//! What mutual TLS proved about the other side of the connection.

use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::spiffe::SpiffeId;

/// A larger certificate is refused; ordinary ones have 1 to 4 KiB in PEM.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// What the proxy says of a connection's client certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerEvidence<'a> {
    /// Whether the proxy's own validation accepted the certificate; `None`: it does not say.
    pub is_validated: Option<bool>,
    /// The leaf certificate in PEM; `None`: none was presented.
    pub certificate_pem: Option<&'a [u8]>,
}

/// Why a connection proves no peer identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No certificate was presented.
    #[error("no client certificate was presented")]
    Missing,
    /// A certificate was presented, but the proxy did not validate it, or is too old to say so.
    #[error("the proxy did not validate the client certificate")]
    Unverified,
    /// The certificate is not one, or not an X.509-SVID.
    #[error("the client certificate is not an X.509-SVID with exactly one SPIFFE ID")]
    Malformed,
}

/// Tells the peer's SPIFFE ID.
///
/// # Errors
/// [`PeerError`] where nothing was proved; the connection may be used only where the rule asks for no peer.
pub fn identify(evidence: PeerEvidence<'_>) -> Result<SpiffeId, PeerError> {
    let pem = evidence.certificate_pem.ok_or(PeerError::Missing)?;
    if evidence.is_validated != Some(true) {
        return Err(PeerError::Unverified);
    }
    if pem.len() > CERTIFICATE_BYTES_MAX {
        return Err(PeerError::Malformed);
    }
    let certificate = Certificate::from_pem(pem).map_err(|_| PeerError::Malformed)?;
    spiffe_id_of(&certificate)
}

/// Tells the SPIFFE ID of a certificate in DER that TLS has already validated.
///
/// # Errors
/// [`PeerError::Malformed`] if it is not an X.509-SVID.
pub fn spiffe_id_of_der(der: &[u8]) -> Result<SpiffeId, PeerError> {
    spiffe_id_of(&Certificate::from_der(der).map_err(|_| PeerError::Malformed)?)
}

/// X.509-SVID §2: exactly one URI SAN. Envoy's own property shows the first of several, so the certificate is read.
fn spiffe_id_of(certificate: &Certificate) -> Result<SpiffeId, PeerError> {
    let mut uris = Vec::new();
    for extension in certificate.tbs_certificate.extensions.iter().flatten() {
        if extension.extn_id != <SubjectAltName as x509_cert::der::oid::AssociatedOid>::OID {
            continue;
        }
        let names = SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(|_| PeerError::Malformed)?;
        for name in names.0 {
            if let GeneralName::UniformResourceIdentifier(uri) = name {
                uris.push(uri.to_string());
            }
        }
    }
    match uris.as_slice() {
        [uri] => uri.parse().map_err(|_| PeerError::Malformed),
        _ => Err(PeerError::Malformed),
    }
}
