//! The peer behind a trusted hop: the client certificate that a proxy forwards after it ended TLS.
//!
//! A caller that can write the header can name any peer, so it is read on connections of named hops
//! alone.

mod xfcc;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use picket_model::spiffe::{SpiffeId, SpiffeIdError};
use picket_model::time::Timestamp;

use super::{CertificateThumbprint, Peer, PeerError, certificate, workload};
use crate::request::Header;

/// What is longer is refused; Envoy's default limit for all headers is 60 KiB.
pub(crate) const FORWARDED_BYTES_MAX: usize = 64 * 1024;
/// More proxies in a row would be a loop.
pub(crate) const ELEMENTS_MAX: usize = 32;

/// The trusted hops, and the header that they write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPeer {
    /// The trusted hops.
    pub hop_spiffe_ids: BTreeSet<SpiffeId>,
    /// The header that they write.
    pub header: ForwardedHeader,
    /// How many of them a request passes: 1, or more where each adds to what the one before has
    /// written.
    pub hops: u32,
}

/// A header with a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// Envoy's `x-forwarded-client-cert`, as text or as JSON.
    XForwardedClientCert,
    /// `client-cert` (RFC 9440).
    ClientCert,
}

/// Why a trusted hop's header names no peer. Positions count bytes of all fields, joined by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// Over [`FORWARDED_BYTES_MAX`].
    #[error("the header `{0}` is longer than {FORWARDED_BYTES_MAX} bytes")]
    TooLong(&'static str),
    /// Envoy's text form is broken.
    #[error("the header `x-forwarded-client-cert` is malformed at byte {at}: expected {expected}")]
    Text {
        /// How many bytes stand before the place.
        at: usize,
        /// In words.
        expected: &'static str,
    },
    /// It begins like Envoy's JSON form, and is not JSON, or an object has two members of one name.
    #[error("the header `x-forwarded-client-cert` is malformed at byte {at}: expected JSON without repeated members")]
    Json {
        /// How many bytes stand before the place.
        at: usize,
    },
    /// More proxies in a row would be a loop.
    #[error("the header `x-forwarded-client-cert` has more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    /// An element has another form than a hop writes, or names no workload.
    #[error("element {number} of the header `x-forwarded-client-cert`: {defect}")]
    Element {
        /// Its number from the left, where the first is 1.
        number: usize,
        /// The mistake.
        defect: ElementDefect,
    },
    /// RFC 9440 §2.2, RFC 9651 §3.3.5.
    #[error("the header `client-cert` is not one byte sequence between colons")]
    ByteSequence,
    /// RFC 9651 §4.2.7, RFC 4648 §4.
    #[error("the byte sequence of the header `client-cert` is not base64 with its padding")]
    Base64,
    /// Fewer elements than hops.
    #[error("the forwarded client certificate's header has not gone through all trusted hops")]
    TooFewHops,
    /// An element that should be about a hop is about another peer.
    #[error("the forwarded client certificate came through a peer that is no trusted hop")]
    UnknownHop,
}

/// A mistake in an element of `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementDefect {
    /// In the JSON form.
    #[error("expected an object")]
    NoObject,
    /// In the JSON form.
    #[error("expected `{0}` to be a string")]
    NoString(&'static str),
    /// In the JSON form.
    #[error("expected `uri` to be an array of strings")]
    NoArray,
    /// In the text form.
    #[error("`Cert` is not percent-encoded")]
    PercentEncoding,
    /// A member that an element has once is there again.
    #[error("`{0}` is there more than once")]
    Repeated(&'static str),
    /// Not the SHA-256 digest that Envoy writes.
    #[error("`Hash` is not 64 hexadecimal digits")]
    Hash,
    /// Neither a certificate nor a name.
    #[error("it has neither `Cert` nor `URI`")]
    Nobody,
    /// X.509-SVID §2: a workload has exactly one.
    #[error("it has {0} times `URI`, and an X.509-SVID has exactly one")]
    SeveralUris(usize),
    /// SPIFFE-ID §2.
    #[error("`URI` is not a SPIFFE ID: {0}")]
    SpiffeId(#[from] SpiffeIdError),
    /// X.509-SVID §5.2.
    #[error("the SPIFFE ID in `URI` has no path, and so names no workload")]
    NoPath,
    /// They belong to different peers.
    #[error("`URI` is not the one in `Cert`")]
    OtherUri,
    /// They belong to different peers.
    #[error("`Hash` is not the one of `Cert`")]
    OtherHash,
}

/// What one hop says of its own caller's certificate. A list has more than one entry only where it
/// is malformed, or the certificate has several URIs.
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

    /// The peer that a request with these headers comes from, valid now. `hop` is the one that it
    /// came on from; `canonical` replaces the aliases of trust domains.
    pub(super) fn read(
        &self,
        headers: &[Header<'_>],
        hop: &Peer,
        now: Timestamp,
        canonical: impl Fn(SpiffeId) -> SpiffeId,
    ) -> Result<Peer, PeerError> {
        // A hop adds to the end, so the last element is the direct peer's word about its own
        // caller. The one before is that caller's word, and as good as it is a hop itself.
        let mut elements = self.elements(headers)?.into_iter().enumerate().rev();
        let (mut starts_at, mut ends_at) = (hop.starts_at, hop.ends_at);
        let mut hops_left = self.hops;
        loop {
            let (index, element) = elements.next().ok_or(ForwardedError::TooFewHops)?;
            let peer = element.peer(index + 1)?;
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
            return Err(ForwardedError::TooLong(name).into());
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
    fn peer(&self, number: usize) -> Result<Peer, PeerError> {
        let certified = match self.certificates.as_slice() {
            [] => None,
            [Certificate::Pem(pem)] => Some(certificate::read_pem(pem)?),
            [Certificate::Der(der)] => Some(certificate::read_der(der)?),
            _ => return Err(ElementDefect::Repeated("Cert").of(number).into()),
        };
        let peer = self.agree(certified);
        peer.map_err(|defect| defect.of(number).into())
    }

    /// The peer of the certificate, where there is one and all else that is said agrees; else the
    /// one that is named.
    fn agree(&self, certified: Option<Peer>) -> Result<Peer, ElementDefect> {
        // Envoy writes an empty URI where the certificate has none.
        let uris: Vec<_> = self.uris.iter().filter(|uri| !uri.is_empty()).collect();
        let named = match uris.as_slice() {
            [] => None,
            [uri] => Some(named(uri)?),
            several => return Err(ElementDefect::SeveralUris(several.len())),
        };
        let thumbprint = match self.hashes.as_slice() {
            [] => None,
            [hash] => Some(thumbprint(hash).ok_or(ElementDefect::Hash)?),
            _ => return Err(ElementDefect::Repeated("Hash")),
        };
        match (certified, named) {
            (Some(peer), Some(id)) if id != peer.id => Err(ElementDefect::OtherUri),
            (Some(peer), _) if thumbprint.is_some() && thumbprint != peer.thumbprint => Err(ElementDefect::OtherHash),
            (Some(peer), _) => Ok(peer),
            (None, Some(id)) => Ok(Peer {
                thumbprint,
                ..Peer::known_by_name(id)
            }),
            (None, None) => Err(ElementDefect::Nobody),
        }
    }
}

impl ElementDefect {
    fn of(self, number: usize) -> ForwardedError {
        ForwardedError::Element { number, defect: self }
    }
}

/// As in a certificate: X.509-SVID §5.2.
fn named(uri: &[u8]) -> Result<SpiffeId, ElementDefect> {
    // What is not UTF-8 has another character than a SPIFFE ID, wherever that stands.
    let id: SpiffeId = String::from_utf8_lossy(uri).parse()?;
    workload(id).ok_or(ElementDefect::NoPath)
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
    let encoded = trim_spaces(value)
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b":"));
    let encoded = encoded.filter(|encoded| !encoded.contains(&b':'));
    let encoded = encoded.ok_or(ForwardedError::ByteSequence)?;
    let der = STANDARD.decode(encoded).map_err(|_| ForwardedError::Base64)?;
    Ok(Element {
        certificates: vec![Certificate::Der(der)],
        ..Element::default()
    })
}

/// RFC 9651 §4.2: spaces around a field's value are discarded, and no other white space is.
fn trim_spaces(value: &[u8]) -> &[u8] {
    let is_other = |byte: &u8| *byte != b' ';
    let (start, last) = (value.iter().position(is_other), value.iter().rposition(is_other));
    let inner = start.zip(last).and_then(|(start, last)| value.get(start..=last));
    inner.unwrap_or_default()
}
