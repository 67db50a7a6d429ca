//! A PKI for development: a certificate authority, an X.509-SVID for each workload, token signing keys and the key of
//! the audit log. Every certificate says [`ORGANISATION`] in its issuer, so that a server can tell it by that.

mod authority;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use p256::pkcs8::EncodePrivateKey;
use picket_model::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use rsa::pkcs8::LineEnding;
use rsa::rand_core::{OsRng, RngCore};

pub use authority::{Authority, Leaf, LeafOptions};

use crate::files::{self, Access, Existing, FileError};
use crate::keys::{PrivateKey, PublicJwkSet, RSA_BITS_MADE};

/// The organisation in the subject of the authority, and so in the issuer of each certificate.
pub const ORGANISATION: &str = "Picket development only";
/// The authority's certificate.
pub const CA_FILE: &str = "ca.pem";
/// The authority's private key.
pub const CA_KEY_FILE: &str = "ca-key.pem";
/// The key that signs tokens with RS256.
pub const RS256_KEY_FILE: &str = "token-rs256-key.pem";
/// The key that signs tokens with ES256.
pub const ES256_KEY_FILE: &str = "token-es256-key.pem";
/// The public halves of both token keys.
pub const JWKS_FILE: &str = "jwks.json";
/// The audit log's key-encryption key, as 64 hexadecimal digits.
pub const AUDIT_KEY_FILE: &str = "audit-key";
/// How long certificates are valid where nothing else is said: long enough for a project, short enough to be noticed.
pub const VALID_FOR_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// More workloads than a development machine runs.
pub const WORKLOADS_MAX: usize = 1000;
/// AES-256.
const AUDIT_KEY_BYTES: usize = 32;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// The trust domain of each SPIFFE ID.
    pub trust_domain: TrustDomain,
    /// The names of the workloads: each is the path of a SPIFFE ID and the name of two files.
    pub workloads: Vec<String>,
    /// How long the certificates are valid from now.
    pub valid_for: Duration,
    /// What to do about files that exist.
    pub existing: Existing,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pki {
    /// The folder of all files.
    pub directory: PathBuf,
    /// The trust domain.
    pub trust_domain: String,
    /// The authority's certificate.
    pub ca_file: PathBuf,
    /// One for each workload, in the order of the options.
    pub workloads: Vec<WorkloadFiles>,
    /// The private token keys: RS256, then ES256.
    pub token_key_files: [PathBuf; 2],
    /// The public token keys.
    pub jwks_file: PathBuf,
    /// The audit log's key-encryption key.
    pub audit_key_file: PathBuf,
}

/// The certificate of one workload.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkloadFiles {
    /// Its name.
    pub name: String,
    /// The URI in its certificate.
    pub spiffe_id: String,
    /// Its certificate.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Why the PKI could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The name of a workload cannot be the path of a SPIFFE ID.
    #[error("workload `{name}` cannot be a SPIFFE ID")]
    Workload {
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: SpiffeIdError,
    },
    /// The name of a workload holds a slash: it is the name of a file as well.
    #[error("workload `{name}`: expected a name without `/`")]
    WorkloadSlash {
        /// The name.
        name: String,
    },
    /// Two things would be written to one file, such as the authority and a workload `ca`.
    #[error("workload `{name}` would need the file `{file}`, which something else needs")]
    WorkloadCollides {
        /// The name.
        name: String,
        /// The file.
        file: String,
    },
    /// Over [`WORKLOADS_MAX`].
    #[error("expected at most {WORKLOADS_MAX} workloads")]
    TooManyWorkloads,
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key of the authority cannot be read.
    #[error("`{}` is not the private key of a development authority", path.display())]
    AuthorityKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of `{name}`")]
    Certificate {
        /// Whose it is.
        name: String,
        /// What is wrong.
        #[source]
        source: rcgen::Error,
    },
    /// A token key could not be made.
    #[error("cannot make the {algorithm} token key: {message}")]
    TokenKey {
        /// The algorithm of its tokens.
        algorithm: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The system's source of randomness failed.
    #[error("the system gave no random bytes for the audit key")]
    Random(#[source] rsa::rand_core::Error),
}

/// A file that is to be written.
struct Draft {
    path: PathBuf,
    content: String,
    access: Access,
}

/// Makes everything, in memory first, and writes it into the folder, which is created where it does not exist.
///
/// # Errors
/// A workload's name is unfit, a file exists and is to be kept (then nothing is written), or writing fails.
pub fn create(directory: &Path, options: &PkiOptions, now: SystemTime) -> Result<Pki, PkiError> {
    let pki = layout(directory, options)?;
    files::create_folder(directory)?;
    if options.existing == Existing::Keep {
        // Before the RSA key is made, which takes a moment.
        files::check_absent(&all_files(&pki))?;
    }
    let mut drafts = certificates(&pki, options, now)?;
    drafts.extend(keys(&pki)?);
    for draft in &drafts {
        files::write(&draft.path, &draft.content, draft.access, options.existing)?;
    }
    Ok(pki)
}

/// The names of all files, with every reason why they cannot be.
fn layout(directory: &Path, options: &PkiOptions) -> Result<Pki, PkiError> {
    if options.workloads.len() > WORKLOADS_MAX {
        return Err(PkiError::TooManyWorkloads);
    }
    let mut taken: BTreeSet<String> = [CA_FILE, CA_KEY_FILE, RS256_KEY_FILE, ES256_KEY_FILE]
        .map(str::to_owned)
        .into();
    let mut workloads = Vec::new();
    for name in &options.workloads {
        let spiffe_id = spiffe_id(&options.trust_domain, name)?;
        let (certificate, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
        for file in [&certificate, &key] {
            if !taken.insert(file.clone()) {
                return Err(PkiError::WorkloadCollides {
                    name: name.clone(),
                    file: file.clone(),
                });
            }
        }
        workloads.push(WorkloadFiles {
            name: name.clone(),
            spiffe_id: spiffe_id.to_string(),
            certificate_file: directory.join(certificate),
            key_file: directory.join(key),
        });
    }
    Ok(Pki {
        directory: directory.to_owned(),
        trust_domain: options.trust_domain.to_string(),
        ca_file: directory.join(CA_FILE),
        workloads,
        token_key_files: [directory.join(RS256_KEY_FILE), directory.join(ES256_KEY_FILE)],
        jwks_file: directory.join(JWKS_FILE),
        audit_key_file: directory.join(AUDIT_KEY_FILE),
    })
}

fn spiffe_id(trust_domain: &TrustDomain, workload: &str) -> Result<SpiffeId, PkiError> {
    if workload.contains('/') {
        return Err(PkiError::WorkloadSlash {
            name: workload.to_owned(),
        });
    }
    format!("spiffe://{trust_domain}/{workload}")
        .parse()
        .map_err(|source| PkiError::Workload {
            name: workload.to_owned(),
            source,
        })
}

fn all_files(pki: &Pki) -> Vec<PathBuf> {
    let mut files = vec![pki.ca_file.clone(), pki.directory.join(CA_KEY_FILE)];
    for workload in &pki.workloads {
        files.extend([workload.certificate_file.clone(), workload.key_file.clone()]);
    }
    files.extend(pki.token_key_files.clone());
    files.extend([pki.jwks_file.clone(), pki.audit_key_file.clone()]);
    files
}

fn certificates(pki: &Pki, options: &PkiOptions, now: SystemTime) -> Result<Vec<Draft>, PkiError> {
    let authority = Authority::generate(&options.trust_domain, now, options.valid_for)?;
    let mut drafts = vec![
        public(pki.ca_file.clone(), authority.certificate_pem().to_owned()),
        private(pki.directory.join(CA_KEY_FILE), authority.key_pem()),
    ];
    for workload in &pki.workloads {
        let leaf = authority.issue(&LeafOptions::workload(
            &workload.name,
            &workload.spiffe_id,
            now,
            options.valid_for,
        ))?;
        drafts.push(public(workload.certificate_file.clone(), leaf.certificate_pem));
        drafts.push(private(workload.key_file.clone(), leaf.key_pem));
    }
    Ok(drafts)
}

fn keys(pki: &Pki) -> Result<Vec<Draft>, PkiError> {
    let failed = |algorithm, message: &dyn std::fmt::Display| PkiError::TokenKey {
        algorithm,
        message: message.to_string(),
    };
    let rs256 = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS_MADE).map_err(|error| failed("RS256", &error))?;
    let es256 = p256::SecretKey::random(&mut OsRng);
    let rs256_pem = rs256
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| failed("RS256", &error))?;
    let es256_pem = es256
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| failed("ES256", &error))?;
    let set: PublicJwkSet = [
        PrivateKey::Rs256(Box::new(rs256)).public(),
        PrivateKey::Es256(Box::new(es256)).public(),
    ]
    .into_iter()
    .collect();
    let [rs256_file, es256_file] = pki.token_key_files.clone();
    Ok(vec![
        private(rs256_file, rs256_pem.to_string()),
        private(es256_file, es256_pem.to_string()),
        public(pki.jwks_file.clone(), set.to_string()),
        private(pki.audit_key_file.clone(), audit_key()?),
    ])
}

fn audit_key() -> Result<String, PkiError> {
    let mut bytes = [0; AUDIT_KEY_BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(PkiError::Random)?;
    let mut digits = String::with_capacity(2 * AUDIT_KEY_BYTES + 1);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.push('\n');
    Ok(digits)
}

fn public(path: PathBuf, content: String) -> Draft {
    Draft {
        path,
        content,
        access: Access::Everyone,
    }
}

fn private(path: PathBuf, content: String) -> Draft {
    Draft {
        path,
        content,
        access: Access::Owner,
    }
}
