//! The development certificate authority and what it issues.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use picket_model::spiffe::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

use super::{CA_FILE, CA_KEY_FILE, ORGANISATION, PkiError};
use crate::files::{self, Access, Existing};

const AUTHORITY_NAME: &str = "Picket development CA";
/// Clocks of containers and virtual machines lag: a certificate is valid a little before it was made.
const BACKDATED_BY: Duration = Duration::from_secs(5 * 60);

/// A certificate authority: its certificate and its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// What a leaf certificate says. Nothing of it is checked: tests need certificates that must be refused.
#[derive(Clone, Debug)]
pub struct LeafOptions {
    /// The common name of its subject.
    pub common_name: String,
    /// URI subject alternative names, exactly as given.
    pub uris: Vec<String>,
    /// DNS subject alternative names.
    pub dns_names: Vec<String>,
    /// IP address subject alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
}

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, in PKCS#8.
    pub key_pem: String,
}

impl LeafOptions {
    /// What `picket pki init` issues: an X.509-SVID for loopback addresses.
    #[must_use]
    pub fn workload(name: &str, spiffe_id: &str, now: SystemTime, valid_for: Duration) -> Self {
        Self {
            common_name: name.to_owned(),
            uris: vec![spiffe_id.to_owned()],
            dns_names: vec!["localhost".to_owned()],
            ip_addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            not_before: now - BACKDATED_BY,
            not_after: now + valid_for,
        }
    }
}

impl Leaf {
    /// Writes `<name>.pem` and `<name>-key.pem`, and returns their paths in this order.
    ///
    /// # Errors
    /// One of them exists, or cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf), PkiError> {
        let paths = (
            directory.join(format!("{name}.pem")),
            directory.join(format!("{name}-key.pem")),
        );
        files::write(&paths.0, &self.certificate_pem, Access::Everyone, Existing::Keep)?;
        files::write(&paths.1, &self.key_pem, Access::Owner, Existing::Keep)?;
        Ok(paths)
    }
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// The key or the certificate cannot be made.
    pub fn generate(trust_domain: &TrustDomain, now: SystemTime, valid_for: Duration) -> Result<Self, PkiError> {
        let key = new_key(AUTHORITY_NAME)?;
        let mut parameters = authority_parameters();
        (parameters.not_before, parameters.not_after) =
            (OffsetDateTime::from(now - BACKDATED_BY), (now + valid_for).into());
        // X509-SVID §3.1: a signing certificate carries the SPIFFE ID of its trust domain.
        parameters.subject_alt_names = sans(&[format!("spiffe://{trust_domain}")], &[], &[], AUTHORITY_NAME)?;
        let certificate = parameters.self_signed(&key).map_err(of(AUTHORITY_NAME))?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(authority_parameters(), key),
        })
    }

    /// Opens the authority that `picket pki init` wrote into a folder.
    ///
    /// # Errors
    /// Its files cannot be read, or the key is not a P-256 key in PKCS#8.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let certificate_pem = files::read_text(&directory.join(CA_FILE))?;
        let path = directory.join(CA_KEY_FILE);
        let key_pem = files::read_text(&path)?;
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|source| PkiError::AuthorityKey { path, source })?;
        // What an issuer gives to a leaf (name, key and its id) is the same for every development authority.
        Ok(Self {
            issuer: Issuer::new(authority_parameters(), key),
            certificate_pem,
        })
    }

    /// The authority's own certificate, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a leaf certificate for client and server, with a new P-256 key.
    ///
    /// # Errors
    /// A name cannot be written into a certificate, such as one that is not ASCII.
    pub fn issue(&self, options: &LeafOptions) -> Result<Leaf, PkiError> {
        let name = options.common_name.as_str();
        let key = new_key(name)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = distinguished_name(name);
        parameters.not_before = options.not_before.into();
        parameters.not_after = options.not_after.into();
        parameters.subject_alt_names = sans(&options.uris, &options.dns_names, &options.ip_addresses, name)?;
        // X509-SVID §4: a leaf is not an authority, signs (TLS 1.3), and serves and calls.
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(of(name))?;
        Ok(Leaf {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name(AUTHORITY_NAME);
    // It signs leaves alone: no further authority below it.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANISATION);
    name.push(DnType::CommonName, common_name);
    name
}

fn sans(uris: &[String], dns_names: &[String], ips: &[IpAddr], name: &str) -> Result<Vec<SanType>, PkiError> {
    let mut sans = Vec::new();
    for uri in uris {
        sans.push(SanType::URI(uri.as_str().try_into().map_err(of(name))?));
    }
    for dns_name in dns_names {
        sans.push(SanType::DnsName(dns_name.as_str().try_into().map_err(of(name))?));
    }
    sans.extend(ips.iter().copied().map(SanType::IpAddress));
    Ok(sans)
}

fn new_key(name: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(of(name))
}

fn of(name: &str) -> impl FnOnce(rcgen::Error) -> PkiError {
    let name = name.to_owned();
    move |source| PkiError::Certificate { name, source }
}
