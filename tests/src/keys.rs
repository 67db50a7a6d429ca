//! The stack's keys and certificates: what `picket pki init` makes, and certificates that must be refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket::files::Existing;
use picket::keys::{PrivateKey, PublicKey};
use picket::pki::{self, Authority, LeafOptions, PkiOptions};
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// The key that clients of the stack hold: one that signs nothing else here.
pub const CLIENT_KEY: TokenKey = TokenKey::StrangerEs256;

/// The trust domain of the stack.
pub const TRUST_DOMAIN: &str = "example.org";
/// The workloads that have a certificate: who may call, who is called, who decides, and who may not call.
const WORKLOADS: [&str; 4] = ["web", "orders", "policy-service", "billing"];
/// Long enough for a stack that is left running for a day.
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Certificates that a chain of trust accepts and Picket must not: by file name, their URIs.
const ODD_CERTIFICATES: [(&str, &[&str]); 4] = [
    ("two-names", &["spiffe://example.org/web", "spiffe://example.org/other"]),
    ("no-name", &[]),
    ("not-spiffe", &["https://example.org/web"]),
    ("foreign", &["spiffe://elsewhere.example/web"]),
];

/// A folder of keys and certificates.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Who signs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKey {
    /// The issuer's RSA key.
    #[default]
    Rs256,
    /// The issuer's P-256 key.
    Es256,
    /// An RSA key that nobody trusts.
    StrangerRs256,
    /// A P-256 key that nobody trusts.
    StrangerEs256,
}

impl Keys {
    /// Makes everything in `folder`.
    ///
    /// # Errors
    /// When there are keys already, or a file cannot be written.
    pub fn make(folder: &Path) -> Result<Self> {
        let now = picket::clock::now();
        let mut options = PkiOptions {
            trust_domain: TRUST_DOMAIN.parse()?,
            workloads: WORKLOADS.map(str::to_owned).to_vec(),
            valid_for: VALID_FOR,
            existing: Existing::Keep,
        };
        pki::create(folder, &options, now)?;
        let authority = Authority::open(folder)?;
        for (name, uris) in ODD_CERTIFICATES {
            let mut leaf = LeafOptions::workload(name, "", now, VALID_FOR);
            leaf.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
            authority.issue(&leaf)?.write(folder, name)?;
        }
        // Another authority, and another issuer: nobody trusts either.
        options.workloads = vec!["web".to_owned()];
        pki::create(&folder.join("stranger"), &options, now)?;
        Ok(Self::of(folder))
    }

    /// The keys that are in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority's certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn authority(&self) -> Result<CertificateDer<'static>> {
        read_pem(&self.folder.join(pki::CA_FILE))
    }

    /// The certificate of a workload; `stranger/web`: one that another authority issued.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn identity(&self, name: &str) -> Result<Identity> {
        Ok(Identity {
            chain: vec![read_pem(&self.folder.join(format!("{name}.pem")))?],
            key: read_pem(&self.folder.join(format!("{name}-key.pem")))?,
        })
    }

    /// The public token keys, as JSON on one line.
    ///
    /// # Errors
    /// When the file is not JSON.
    pub fn key_set(&self) -> Result<String> {
        let text = fs::read_to_string(self.folder.join(pki::JWKS_FILE)).context("no key set")?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        Ok(json.to_string())
    }

    /// A key that signs tokens.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn token_key(&self, key: TokenKey) -> Result<PrivateKey> {
        let file = self.token_key_file(key);
        let pem = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        Ok(PrivateKey::from_pem(&pem)?)
    }

    /// The file of a key that signs tokens, in PEM.
    pub fn token_key_file(&self, key: TokenKey) -> PathBuf {
        match key {
            TokenKey::Rs256 => self.folder.join(pki::RS256_KEY_FILE),
            TokenKey::Es256 => self.folder.join(pki::ES256_KEY_FILE),
            TokenKey::StrangerRs256 => self.folder.join("stranger").join(pki::RS256_KEY_FILE),
            TokenKey::StrangerEs256 => self.folder.join("stranger").join(pki::ES256_KEY_FILE),
        }
    }

    /// The RSA public key, in PEM: public, and so known to an attacker.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rsa_public_key_pem(&self) -> Result<String> {
        let public = self.token_key(TokenKey::Rs256)?.public();
        let PublicKey::Rs256(public) = public else {
            anyhow::bail!("the RS256 key is no RSA key");
        };
        Ok(public.to_public_key_pem(LineEnding::LF)?)
    }
}

fn read_pem<T: PemObject>(file: &Path) -> Result<T> {
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    ensure!(!bytes.is_empty(), "`{}` is empty", file.display());
    T::from_pem_slice(&bytes).map_err(|error| anyhow::anyhow!("`{}`: {error}", file.display()))
}
