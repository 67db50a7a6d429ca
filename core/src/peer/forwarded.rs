//! The peer behind a trusted hop: what a proxy that ends TLS says of its own caller's certificate.
//!
//! Whoever can write the header can be anybody, so it is read on connections of named hops alone.

mod xfcc;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{CertificateThumbprint, Peer, PeerError, certificate};
use crate::request::Header;
use crate::spiffe::SpiffeId;
use crate::time::Timestamp;

/// What is longer is refused; Envoy's default limit for all headers is 60 KiB.
const FORWARDED_BYTES_MAX: usize = 64 * 1024;

/// Which peers are trusted hops, and what they write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPeer {
    /// The trusted hops.
    pub hop_spiffe_ids: BTreeSet<SpiffeId>,
    /// The header that they write.
    pub header: ForwardedHeader,
    /// How many of them a request passes: 1, or more where each adds to what the one before has written.
    pub hops: u32,
}

/// A header that tells of a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// Envoy's `x-forwarded-client-cert`, as text or as JSON.
    XForwardedClientCert,
    /// `client-cert` (RFC 9440).
    ClientCert,
}

/// Why a trusted hop's header tells of no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// It is too long, or not what its specification says.
    #[error("the forwarded client certificate's header is malformed")]
    Syntax,
    /// Fewer elements than hops.
    #[error("the forwarded client certificate's header has not gone through all trusted hops")]
    TooFewHops,
    /// An element that should be about a hop is about another peer.
    #[error("the forwarded client certificate came through a peer that is no trusted hop")]
    UnknownHop,
    /// Neither a certificate nor exactly one SPIFFE ID that has a path.
    #[error("the forwarded client certificate's header has neither a certificate nor exactly one SPIFFE ID")]
    Nobody,
    /// Certificate, SPIFFE ID and hash belong to different peers.
    #[error("the forwarded client certificate is not the one that its header names")]
    Contradiction,
}

/// What one hop says of its own caller's certificate. A list has more than one entry only where it is malformed, or the
/// certificate has several URIs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    certificates: Vec<Certificate>,
    uris: Vec<Vec<u8>>,
    hashes: Vec<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Certificate {
    Pem(Vec<u8>),
    Der(Vec<u8>),
}

impl ForwardedPeer {
    /// Whether this peer is a trusted hop.
    #[must_use]
    pub fn is_hop(&self, peer: &SpiffeId) -> bool {
        self.hop_spiffe_ids.contains(peer)
    }

    /// The peer that a request with these headers comes from, valid now. `hop` is the one that it came on from;
    /// `canonical` replaces the aliases of trust domains.
    pub(super) fn read(
        &self,
        headers: &[Header<'_>],
        hop: &Peer,
        now: Timestamp,
        canonical: impl Fn(SpiffeId) -> SpiffeId,
    ) -> Result<Peer, PeerError> {
        // A hop adds to the end, so the last element is the direct peer's word about its own caller. The one before is
        // that caller's word, and as good as it is a hop itself.
        let mut elements = self.elements(headers)?.into_iter().rev();
        let (mut starts_at, mut ends_at) = (hop.starts_at, hop.ends_at);
        let mut hops_left = self.hops;
        loop {
            let element = elements.next().ok_or(ForwardedError::TooFewHops)?;
            let peer = element.peer()?;
            peer.check_validity(now)?;
            (starts_at, ends_at) = (starts_at.max(peer.starts_at), ends_at.min(peer.ends_at));
            let id = canonical(peer.id);
            hops_left = hops_left.saturating_sub(1);
            if hops_left == 0 {
                return Ok(Peer {
                    id,
                    thumbprint: peer.thumbprint,
                    starts_at,
                    ends_at,
                });
            }
            if !self.is_hop(&id) {
                return Err(ForwardedError::UnknownHop.into());
            }
        }
    }

    fn elements(&self, headers: &[Header<'_>]) -> Result<Vec<Element>, PeerError> {
        let name = self.header.name();
        let fields = headers.iter().filter(|(have, _)| *have == name);
        let fields: Vec<&[u8]> = fields.map(|(_, value)| *value).collect();
        if fields.is_empty() {
            return Err(PeerError::NotForwarded);
        }
        // RFC 9110 §5.3: the fields of a list are one list.
        let value = fields.join(&b',');
        if value.len() > FORWARDED_BYTES_MAX {
            return Err(ForwardedError::Syntax.into());
        }
        Ok(match self.header {
            ForwardedHeader::XForwardedClientCert => xfcc::read(&value)?,
            ForwardedHeader::ClientCert => vec![client_cert(&value)?],
        })
    }
}

impl ForwardedHeader {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedClientCert => "x-forwarded-client-cert",
            Self::ClientCert => "client-cert",
        }
    }

    /// It and the header that goes with it: no copy of either reaches the upstream.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::XForwardedClientCert => &["x-forwarded-client-cert"],
            // RFC 9440 §2.3.
            Self::ClientCert => &["client-cert", "client-cert-chain"],
        }
    }
}

impl Element {
    fn peer(&self) -> Result<Peer, PeerError> {
        let certified = match self.certificates.as_slice() {
            [] => None,
            [Certificate::Pem(pem)] => Some(certificate::read_pem(pem)?),
            [Certificate::Der(der)] => Some(certificate::read_der(der)?),
            _ => return Err(ForwardedError::Syntax.into()),
        };
        // Envoy writes an empty URI where the certificate has none.
        let uris: Vec<_> = self.uris.iter().filter(|uri| !uri.is_empty()).collect();
        let named = match uris.as_slice() {
            [] => None,
            [uri] => Some(workload(uri)?),
            _ => return Err(ForwardedError::Nobody.into()),
        };
        let thumbprint = match self.hashes.as_slice() {
            [] => None,
            [hash] => Some(thumbprint(hash).ok_or(ForwardedError::Syntax)?),
            _ => return Err(ForwardedError::Syntax.into()),
        };
        match (certified, named) {
            (Some(peer), named) => {
                let is_other = named.is_some_and(|id| id != peer.id);
                if is_other || thumbprint.is_some() && thumbprint != peer.thumbprint {
                    return Err(ForwardedError::Contradiction.into());
                }
                Ok(peer)
            }
            (None, Some(id)) => Ok(Peer {
                thumbprint,
                ..Peer::known_by_name(id)
            }),
            (None, None) => Err(ForwardedError::Nobody.into()),
        }
    }
}

/// As in a certificate: X.509-SVID §5.2.
fn workload(uri: &[u8]) -> Result<SpiffeId, ForwardedError> {
    let id: SpiffeId = std::str::from_utf8(uri)
        .ok()
        .and_then(|uri| uri.parse().ok())
        .ok_or(ForwardedError::Nobody)?;
    match id.path() {
        "" => Err(ForwardedError::Nobody),
        _ => Ok(id),
    }
}

/// 64 hexadecimal digits.
fn thumbprint(hash: &[u8]) -> Option<CertificateThumbprint> {
    let (pairs, rest) = hash.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| hex_byte(*high, *low));
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    rest.is_empty().then_some(())?;
    Some(CertificateThumbprint(bytes.try_into().ok()?))
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 9440 §2.2: one byte sequence (RFC 9651 §3.3.5), which is the certificate in DER.
fn client_cert(value: &[u8]) -> Result<Element, ForwardedError> {
    let encoded = value
        .trim_ascii()
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b":"));
    let der = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    Ok(Element {
        certificates: vec![Certificate::Der(der.ok_or(ForwardedError::Syntax)?)],
        ..Element::default()
    })
}
