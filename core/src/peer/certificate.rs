//! An X.509-SVID, read whole: its one SPIFFE ID, what it may be used for, and when (X.509-SVID §2
//! to §5).
//!
//! Signature and chain are the proxy's to validate. What is checked here is what it leaves open, or
//! tells incompletely: Envoy's own property shows the first of several URIs alone.

use std::fmt;

use picket_model::spiffe::{SpiffeId, SpiffeIdError};
use picket_model::time::Timestamp;
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Tag, Tagged, pem};
use x509_cert::ext::pkix::name::{DirectoryString, EdiPartyName, GeneralName};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate};

use super::{CERTIFICATE_BYTES_MAX, CertificateThumbprint, Peer, workload};

/// RFC 7468 §5.1.
const PEM_LABEL: &str = "CERTIFICATE";
/// `id-kp-clientAuth` (RFC 5280 §4.2.1.12).
const CLIENT_AUTHENTICATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Why a certificate is not an X.509-SVID for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Over [`CERTIFICATE_BYTES_MAX`].
    #[error("the client certificate is longer than {CERTIFICATE_BYTES_MAX} bytes")]
    TooLong,
    /// Not exactly one block of RFC 7468 with this label.
    #[error("the client certificate is not exactly one PEM block `{PEM_LABEL}`")]
    Pem,
    /// Not what RFC 5280 §4.1 says.
    #[error("the client certificate is not an X.509 certificate in DER")]
    Der,
    /// An extension is there twice.
    #[error("the client certificate has its extension `{0}` more than once")]
    RepeatedExtension(Extension),
    /// An extension is not what RFC 5280 §4.2.1 says.
    #[error("the client certificate's extension `{0}` is malformed")]
    MalformedExtension(Extension),
    /// X.509-SVID §2: none where there must be exactly one.
    #[error("the client certificate has no URI in `subjectAltName`, where an X.509-SVID has its SPIFFE ID")]
    NoUri,
    /// X.509-SVID §2: so many where there must be exactly one.
    #[error("the client certificate has {0} URIs in `subjectAltName`, where an X.509-SVID has exactly one")]
    SeveralUris(usize),
    /// SPIFFE-ID §2.
    #[error("the URI in the client certificate is not a SPIFFE ID: {0}")]
    SpiffeId(#[from] SpiffeIdError),
    /// X.509-SVID §5.2: a SPIFFE ID without a path is the trust domain's own.
    #[error("the SPIFFE ID in the client certificate has no path, and so names no workload")]
    NoPath,
    /// A name in the subject holds a control character.
    #[error("a name in the client certificate's subject holds a control character")]
    SubjectName,
    /// A name of this extension holds a control character.
    #[error("a name in the client certificate's `subjectAltName` holds a control character")]
    AlternativeName,
    /// X.509-SVID §5.2: `CA: TRUE`.
    #[error("the client certificate is one of a certificate authority: its basic constraints say `CA: TRUE`")]
    Authority,
    /// X.509-SVID §5.2.
    #[error("the client certificate is one of a certificate authority: its key usage has `keyCertSign` or `cRLSign`")]
    AuthorityKeyUsage,
    /// X.509-SVID §4.3.
    #[error("the client certificate is not for clients: its key usage has no `digitalSignature`")]
    KeyUsage,
    /// X.509-SVID §4.4.
    #[error("the client certificate is not for clients: its extended key usage has no `clientAuth`")]
    ExtendedKeyUsage,
}

/// An extension that is read (RFC 5280 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Its names.
    SubjectAltName,
    /// Whether it is an authority's.
    BasicConstraints,
    /// What its key may do.
    KeyUsage,
    /// What it may be used for.
    ExtendedKeyUsage,
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SubjectAltName => "subjectAltName",
            Self::BasicConstraints => "basicConstraints",
            Self::KeyUsage => "keyUsage",
            Self::ExtendedKeyUsage => "extKeyUsage",
        })
    }
}

pub(super) fn read_pem(text: &[u8]) -> Result<Peer, CertificateError> {
    if text.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLong);
    }
    match pem::decode_vec(text) {
        Ok((PEM_LABEL, der)) => read_der(&der),
        Ok(_) | Err(_) => Err(CertificateError::Pem),
    }
}

pub(super) fn read_der(der: &[u8]) -> Result<Peer, CertificateError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLong);
    }
    let certificate = Certificate::from_der(der).map_err(|_| CertificateError::Der)?;
    let tbs = &certificate.tbs_certificate;
    check_usage(tbs)?;
    let names = extension::<SubjectAltName>(tbs, Extension::SubjectAltName)?;
    let names = names.map(|names| names.0).unwrap_or_default();
    if !is_clean_name(&tbs.subject) {
        return Err(CertificateError::SubjectName);
    }
    if !names.iter().all(is_clean) {
        return Err(CertificateError::AlternativeName);
    }
    let (starts_at, ends_at) = times(&tbs.validity);
    Ok(Peer {
        id: spiffe_id(&names)?,
        thumbprint: Some(CertificateThumbprint::of_der(der)),
        starts_at,
        ends_at,
    })
}

/// X.509-SVID §2: exactly one URI. §5.2: it is a SPIFFE ID with a path; one without is the
/// authority's own.
fn spiffe_id(names: &[GeneralName]) -> Result<SpiffeId, CertificateError> {
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        GeneralName::OtherName(_)
        | GeneralName::Rfc822Name(_)
        | GeneralName::DnsName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::IpAddress(_)
        | GeneralName::RegisteredId(_) => None,
    });
    let uri = uris.next().ok_or(CertificateError::NoUri)?;
    match uris.count() {
        0 => workload(uri.parse()?).ok_or(CertificateError::NoPath),
        more => Err(CertificateError::SeveralUris(1 + more)),
    }
}

/// X.509-SVID §5.2: no authority. §4.3: `digitalSignature` is set; where there is no key usage at
/// all, which §4.3 forbids issuers, §5.2 has nothing to refuse. §4.4: where uses are named, being a
/// client is among them.
fn check_usage(tbs: &TbsCertificate) -> Result<(), CertificateError> {
    let constraints = extension::<BasicConstraints>(tbs, Extension::BasicConstraints)?;
    if constraints.is_some_and(|constraints| constraints.ca) {
        return Err(CertificateError::Authority);
    }
    let usage = extension::<KeyUsage>(tbs, Extension::KeyUsage)?;
    if let Some(usage) = usage {
        if usage.key_cert_sign() || usage.crl_sign() {
            return Err(CertificateError::AuthorityKeyUsage);
        }
        if !usage.digital_signature() {
            return Err(CertificateError::KeyUsage);
        }
    }
    let uses = extension::<ExtendedKeyUsage>(tbs, Extension::ExtendedKeyUsage)?;
    match uses.is_none_or(|uses| uses.0.contains(&CLIENT_AUTHENTICATION)) {
        true => Ok(()),
        false => Err(CertificateError::ExtendedKeyUsage),
    }
}

/// RFC 5280 §4.2: an extension occurs once; a second one is an error here.
fn extension<'a, T>(tbs: &'a TbsCertificate, name: Extension) -> Result<Option<T>, CertificateError>
where
    T: Decode<'a> + AssociatedOid,
{
    let found = tbs.get::<T>().map_err(|_| {
        let all = tbs.extensions.iter().flatten();
        match all.filter(|extension| extension.extn_id == T::OID).count() {
            0 | 1 => CertificateError::MalformedExtension(name),
            _ => CertificateError::RepeatedExtension(name),
        }
    })?;
    Ok(found.map(|(_, value)| value))
}

/// RFC 5280 §4.1.2.5: both ends belong to the validity, in whole seconds.
fn times(validity: &Validity) -> (Timestamp, Timestamp) {
    let ms = |time: Time| time.to_unix_duration().as_secs().saturating_mul(1000);
    let (first, last) = (ms(validity.not_before), ms(validity.not_after));
    (Timestamp::from_ms(first), Timestamp::from_ms(last).plus_ms(1000))
}

/// A NUL in a name ends it for some readers and not for others (CVE-2026-47778), and a line break
/// makes two lines of one.
fn is_clean(name: &GeneralName) -> bool {
    match name {
        GeneralName::UniformResourceIdentifier(text) | GeneralName::Rfc822Name(text) | GeneralName::DnsName(text) => {
            is_clean_ascii(text.as_bytes())
        }
        GeneralName::OtherName(other) => is_clean_value(&other.value),
        GeneralName::DirectoryName(name) => is_clean_name(name),
        GeneralName::EdiPartyName(EdiPartyName {
            name_assigner,
            party_name,
        }) => name_assigner.iter().chain([party_name]).all(is_clean_directory_string),
        GeneralName::IpAddress(_) | GeneralName::RegisteredId(_) => true,
    }
}

fn is_clean_name(name: &Name) -> bool {
    let mut values = name.0.iter().flat_map(|part| part.0.iter());
    values.all(|attribute| is_clean_value(&attribute.value))
}

fn is_clean_directory_string(text: &DirectoryString) -> bool {
    match text {
        DirectoryString::PrintableString(text) => is_clean_ascii(text.as_bytes()),
        DirectoryString::TeletexString(text) => is_clean_ascii(text.as_bytes()),
        DirectoryString::Utf8String(text) => !text.chars().any(char::is_control),
    }
}

/// Whether a value is text without control characters, or no text at all.
#[expect(clippy::wildcard_enum_match_arm, reason = "the tags of ASN.1 that are no text")]
fn is_clean_value(value: &Any) -> bool {
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(value.value()).is_ok_and(|text| !text.chars().any(char::is_control)),
        Tag::BmpString => value.value().chunks(2).all(|unit| match unit {
            [0, low] => !low.is_ascii_control(),
            unit => unit.len() == 2,
        }),
        Tag::NumericString
        | Tag::PrintableString
        | Tag::TeletexString
        | Tag::VideotexString
        | Tag::Ia5String
        | Tag::VisibleString => is_clean_ascii(value.value()),
        _ => true,
    }
}

fn is_clean_ascii(text: &[u8]) -> bool {
    !text.iter().any(u8::is_ascii_control)
}
