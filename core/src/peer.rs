//! Who is on the other side of the connection: what mutual TLS proved.

mod certificate;
pub mod forwarded;
pub mod requirement;
pub mod resolution;

use picket_model::spiffe::SpiffeId;
use picket_model::thumbprint::CertificateThumbprint;
use picket_model::time::Timestamp;

use self::forwarded::{ElementDefect, ForwardedError};

pub use certificate::{CertificateError, Extension};

/// A larger certificate is refused; ordinary ones have 1 to 4 KiB in PEM.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// The facts of the proxy about a connection's client certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerEvidence<'a> {
    /// Whether the proxy's validation accepted the certificate. `None`: unknown.
    pub is_validated: Option<bool>,
    /// The leaf certificate in PEM; `None`: none was presented.
    pub certificate_pem: Option<&'a [u8]>,
}

/// A proved peer identity, with the time for which its certificate is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: SpiffeId,
    /// Of its certificate; `None`: no certificate is known, only the name.
    pub thumbprint: Option<CertificateThumbprint>,
    /// Not valid before.
    pub starts_at: Timestamp,
    /// Not valid from then on.
    pub ends_at: Timestamp,
}

/// Why there is no peer identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No certificate was presented.
    #[error("no client certificate was presented")]
    Missing,
    /// A certificate was presented, but the proxy did not validate it, or is too old to say so.
    #[error("the proxy did not validate the client certificate")]
    Unverified,
    /// The proxy accepted the certificate, and the mesh's authorities do not vouch for it.
    #[error(transparent)]
    Untrusted(#[from] ChainError),
    /// The certificate is not an X.509-SVID for clients.
    #[error(transparent)]
    Malformed(#[from] CertificateError),
    /// The connection is a trusted hop's, which forwards no client certificate.
    #[error("the trusted hop forwarded no client certificate")]
    NotForwarded,
    /// The connection is a trusted hop's, whose header is malformed.
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),
    /// The certificate's validity lies in the future.
    #[error("the client certificate is not yet valid")]
    NotYetValid,
    /// The certificate's validity has passed.
    #[error("the client certificate has expired")]
    Expired,
}

/// Why the mesh's authorities do not vouch for a certificate (RFC 5280 §6), where it is not the
/// proxy that checks this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No authority has the name of its issuer.
    #[error("the client certificate was issued by none of the mesh's authorities")]
    UnknownIssuer,
    /// The signature is not that authority's.
    #[error("the client certificate's signature is not by the authority that it names")]
    Signature,
    /// The signature's algorithm is none that is checked.
    #[error("the client certificate is signed with an algorithm that is not supported")]
    Algorithm,
    /// It has a name that its authority may not give (RFC 5280 §4.2.1.10).
    #[error("the client certificate has a name that its authority may not give")]
    NameConstraint,
    /// It has an extension that must be understood and is not.
    #[error("the client certificate has a critical extension that is not supported")]
    CriticalExtension,
    /// Another rule of RFC 5280.
    #[error("the client certificate fails the path validation of RFC 5280")]
    Other,
}

impl PeerError {
    /// Whether no certificate was presented, neither on the connection nor by the caller of a
    /// trusted hop.
    #[must_use]
    pub fn is_absence(self) -> bool {
        match self {
            Self::Missing | Self::NotForwarded => true,
            Self::Unverified
            | Self::Untrusted(_)
            | Self::Malformed(_)
            | Self::Forwarded(_)
            | Self::NotYetValid
            | Self::Expired => false,
        }
    }

    /// Whether no certificate that names a workload was presented: none at all, or one without a
    /// URI.
    #[must_use]
    pub fn names_no_workload(self) -> bool {
        let is_nobody = matches!(
            self,
            Self::Malformed(CertificateError::NoUri)
                | Self::Forwarded(ForwardedError::Element {
                    defect: ElementDefect::Nobody,
                    ..
                })
        );
        is_nobody || self.is_absence()
    }
}

/// Tells the peer. Its validity is left to [`Peer::check_validity`], as a connection may outlive
/// it.
///
/// # Errors
/// [`PeerError`] where nothing was proved; the connection may be used only where the rule asks for
/// no peer.
pub fn identify(evidence: PeerEvidence<'_>) -> Result<Peer, PeerError> {
    let pem = evidence.certificate_pem.ok_or(PeerError::Missing)?;
    if evidence.is_validated != Some(true) {
        return Err(PeerError::Unverified);
    }
    Ok(certificate::read_pem(pem)?)
}

/// A SPIFFE ID with a path; `None`: it is a trust domain's own, and names no workload (X.509-SVID
/// §5.2).
fn workload(id: SpiffeId) -> Option<SpiffeId> {
    (!id.path().is_empty()).then_some(id)
}

/// Tells the SPIFFE ID of a certificate in DER that TLS has already validated, its dates included.
///
/// # Errors
/// [`PeerError::Malformed`] if it is not an X.509-SVID for clients.
pub fn spiffe_id_of_der(der: &[u8]) -> Result<SpiffeId, PeerError> {
    Ok(certificate::read_der(der)?.id)
}

impl Peer {
    /// A peer of whom no more than the name is known, for as long as somebody vouches for it.
    #[must_use]
    pub fn known_by_name(id: SpiffeId) -> Self {
        Self {
            id,
            thumbprint: None,
            starts_at: Timestamp::from_ms(0),
            ends_at: Timestamp::from_ms(u64::MAX),
        }
    }

    /// Whether its certificate is valid now: checked for each request, as connections live for
    /// days.
    ///
    /// # Errors
    /// [`PeerError::NotYetValid`] and [`PeerError::Expired`].
    pub fn check_validity(&self, now: Timestamp) -> Result<(), PeerError> {
        if now < self.starts_at {
            return Err(PeerError::NotYetValid);
        }
        if now >= self.ends_at {
            return Err(PeerError::Expired);
        }
        Ok(())
    }
}
