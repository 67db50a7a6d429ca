//! The kinds of fields in the file, each parsed where it is read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Sequence, Value, ValueKind, ValuePointerRef};
use picket_audit::KeyEncryptionKey;
use picket_model::problems::{Problems, parsed_text, problem_at, shortened};
use picket_model::spiffe::SpiffeId;
use picket_policy::{TimeZone, time_zone};

use super::filter_document::read_filter_configuration;
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

/// What `picket pki init` writes as organisation into its authority's name, and so into every
/// issuer.
pub(super) const DEVELOPMENT_ORGANISATION: &str = "Picket development only";
/// How many callers a list may name; a mesh names its workloads, not its pods.
pub(super) const CALLERS_MAX: usize = 10_000;
/// Names of lists travel with records.
pub(super) const LIST_NAME_BYTES_MAX: usize = 64;

/// An address with port.
#[derive(Debug)]
pub(super) struct Address(pub(super) SocketAddr);

/// The SPIFFE IDs that may ask.
#[derive(Debug)]
pub(super) struct CallerIds(pub(super) Vec<SpiffeId>);

/// A SPIFFE ID.
#[derive(Debug)]
pub(super) struct CallerId(pub(super) SpiffeId);

/// A file that can be opened.
#[derive(Debug)]
pub(super) struct ExistingFile(pub(super) PathBuf);

/// A PEM file whose first certificate was read.
#[derive(Debug)]
pub(super) struct CertificateFile {
    pub(super) path: PathBuf,
    issuer: String,
}

/// The name of a time zone in the IANA database, such as `Europe/Berlin`.
#[derive(Debug)]
pub(super) struct TimeZoneName(pub(super) TimeZone);

/// A folder that exists.
#[derive(Debug)]
pub(super) struct Directory(pub(super) PathBuf);

/// A file whose folder exists.
#[derive(Debug)]
pub(super) struct DatabaseFile(pub(super) PathBuf);

/// A file that holds a key-encryption key.
#[derive(Debug)]
pub(super) struct KeyEncryptionKeyFile(pub(super) PathBuf);

/// What a list is called in records and metrics.
#[derive(Debug)]
pub(super) struct ListName(pub(super) String);

/// A file that holds a configuration of the filter which can be enforced here.
#[derive(Debug)]
pub(super) struct FilterConfigurationFile(pub(super) PathBuf);

/// `https://`, a host and a port if need be, with nothing after it.
#[derive(Debug)]
pub(super) struct HttpsOrigin(pub(super) String);

/// A whole number between two bounds, both included.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "schema", derive(serde::Serialize), serde(transparent))]
pub(super) struct Ranged<const MIN: u32, const MAX: u32>(pub(super) u32);

/// The value, whose type is given where it is used.
#[cfg(feature = "schema")]
pub(super) fn of_type<T>(value: T) -> T {
    value
}

/// True where the certificate was made by `picket pki init`.
pub(super) fn is_development(file: &CertificateFile) -> bool {
    file.issuer.contains(DEVELOPMENT_ORGANISATION)
}

impl Deserr<Problems> for Address {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            text.parse().map(Self).map_err(|_| {
                format!(
                    "`{}` is not an address, expected one such as `127.0.0.1:9191` or `[::1]:9191`",
                    shortened(text)
                )
            })
        })
    }
}

impl Deserr<Problems> for TimeZoneName {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| time_zone(text).map(Self))
    }
}

impl Deserr<Problems> for CallerIds {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        let Value::Sequence(sequence) = value else {
            return Err(deserr::take_cf_content(Problems::error(
                None,
                ErrorKind::IncorrectValueKind {
                    actual: value,
                    accepted: &[ValueKind::Sequence],
                },
                location,
            )));
        };
        if sequence.len() == 0 || sequence.len() > CALLERS_MAX {
            let message = format!("expected 1 to {CALLERS_MAX} SPIFFE IDs, found {}", sequence.len());
            return Err(problem_at(location, message));
        }
        let mut found: Option<Problems> = None;
        let mut callers = Vec::with_capacity(sequence.len());
        for (index, value) in sequence.into_iter().enumerate() {
            match caller(value.into_value(), location.push_index(index)) {
                Ok(caller) => callers.push(caller),
                Err(more) => {
                    found = Some(deserr::take_cf_content(deserr::MergeWithError::merge(
                        found, more, location,
                    )));
                }
            }
        }
        found.map_or(Ok(Self(callers)), Err)
    }
}

fn caller<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<SpiffeId, Problems> {
    parsed_text(value, location, |text| {
        text.parse()
            .map_err(|error| format!("`{}` is not a SPIFFE ID: {error}", shortened(text)))
    })
}

impl Deserr<Problems> for CallerId {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        caller(value, location).map(Self)
    }
}

impl Deserr<Problems> for ExistingFile {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |path| readable(path).map(Self))
    }
}

impl Deserr<Problems> for CertificateFile {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |path| {
            let path = readable(path)?;
            let issuer = issuer_of_first(&path)?;
            Ok(Self { path, issuer })
        })
    }
}

impl Deserr<Problems> for Directory {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |path| {
            if Path::new(path).is_dir() {
                Ok(Self(path.into()))
            } else {
                Err(format!("`{}` is not a folder", shortened(path)))
            }
        })
    }
}

impl Deserr<Problems> for DatabaseFile {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let path = Path::new(text);
            let folder = match path.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => return Err("expected the path of a file".to_owned()),
            };
            if text.is_empty() || path.is_dir() {
                Err("expected the path of a file".to_owned())
            } else if folder.is_dir() {
                Ok(Self(path.into()))
            } else {
                Err(format!(
                    "its folder `{}` does not exist",
                    shortened(&folder.to_string_lossy())
                ))
            }
        })
    }
}

impl Deserr<Problems> for KeyEncryptionKeyFile {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let path = readable(text)?;
            KeyEncryptionKey::read(&path).map_err(|error| error.to_string())?;
            Ok(Self(path))
        })
    }
}

impl Deserr<Problems> for ListName {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            match (1..=LIST_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
                true => Ok(Self(text.to_owned())),
                false => Err(format!(
                    "expected a name of 1 to {LIST_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`, found `{}`",
                    shortened(text)
                )),
            }
        })
    }
}

impl Deserr<Problems> for FilterConfigurationFile {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let path = readable(text)?;
            let shown = shortened(text);
            read_filter_configuration(&path).map_err(|problems| format!("`{shown}`: {problems}"))?;
            Ok(Self(path))
        })
    }
}

impl Deserr<Problems> for HttpsOrigin {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        parsed_text(value, location, |text| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
            match text.strip_prefix("https://") {
                Some(host) if !host.is_empty() && host.bytes().all(allowed) => Ok(Self(text.to_owned())),
                Some(_) | None => Err(format!(
                    "`{}` is not `https://` with a host, as in `https://pdp.example.org`",
                    shortened(text)
                )),
            }
        })
    }
}

impl<const MIN: u32, const MAX: u32> Deserr<Problems> for Ranged<MIN, MAX> {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<Self, Problems> {
        let out_of_range = |found: String| problem_at(location, format!("expected {MIN} to {MAX}, found {found}"));
        match value {
            Value::Integer(number) => match u32::try_from(number) {
                Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
                Ok(_) | Err(_) => Err(out_of_range(number.to_string())),
            },
            Value::NegativeInteger(number) => Err(out_of_range(number.to_string())),
            other @ (Value::Null
            | Value::Boolean(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Sequence(_)
            | Value::Map(_)) => Err(deserr::take_cf_content(Problems::error(
                None,
                ErrorKind::IncorrectValueKind {
                    actual: other,
                    accepted: &[ValueKind::Integer],
                },
                location,
            ))),
        }
    }
}

fn readable(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("expected the path of a file".to_owned());
    }
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => Ok(path.into()),
        Ok(_) => Err(format!("`{}` is not a file", shortened(path))),
        Err(error) => Err(format!("cannot read `{}`: {error}", shortened(path))),
    }
}

fn issuer_of_first(path: &Path) -> Result<String, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let shown = path.to_string_lossy();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", shortened(&shown)))?;
    let pem = String::from_utf8_lossy(&bytes);
    let first = pem
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(body, _)| format!("{BEGIN}{body}{END}\n"))
        .ok_or_else(|| format!("`{}` holds no PEM certificate", shortened(&shown)))?;
    Certificate::from_pem(first)
        .map(|certificate| certificate.tbs_certificate.issuer.to_string())
        .map_err(|error| format!("`{}` holds no X.509 certificate: {error}", shortened(&shown)))
}
