//! Locations and networks of addresses, from databases in MaxMind's format.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use picket_risk::{AddressInfo, Coordinates, Country};
use serde::Deserialize;

use picket_service_configuration::GeoipFiles;

/// Databases are in memory; the largest that MaxMind publishes has some hundred megabytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GeoipError {
    /// The file cannot be read.
    #[error("risk.{key}: cannot read `{}`: {source}", file.display())]
    Read {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any database.
    #[error("risk.{key}: `{}` is larger than {FILE_BYTES_MAX} bytes", file.display())]
    TooLarge {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// The file is not a database.
    #[error("risk.{key}: `{}` is no MaxMind database: {source}", file.display())]
    Format {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: MaxMindDbError,
    },
}

/// The configured databases.
pub(super) struct Geoip {
    country: Option<Database>,
    city: Option<Database>,
    asn: Option<Database>,
}

type Database = Reader<Vec<u8>>;

/// The record of an address in a database of countries or cities.
#[derive(Deserialize)]
struct PlaceRecord<'a> {
    #[serde(borrow)]
    country: Option<CountryRecord<'a>>,
    location: Option<LocationRecord>,
}

#[derive(Deserialize)]
struct CountryRecord<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Deserialize)]
struct LocationRecord {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Deserialize)]
struct AsnRecord {
    autonomous_system_number: Option<u32>,
}

impl Geoip {
    pub(super) fn open(files: &GeoipFiles) -> Result<Self, GeoipError> {
        let open = |key, file: &Option<PathBuf>| file.as_deref().map(|file| open(key, file)).transpose();
        Ok(Self {
            country: open("geoip_country_file", &files.country)?,
            city: open("geoip_city_file", &files.city)?,
            asn: open("geoip_asn_file", &files.asn)?,
        })
    }

    /// The entry of an address. A part that the databases lack or that cannot be read is `None`.
    pub(super) fn look_up(&self, address: Option<IpAddr>) -> AddressInfo {
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return AddressInfo::default();
        };
        let city: Option<PlaceRecord<'_>> = record(self.city.as_ref(), address);
        let country: Option<PlaceRecord<'_>> = record(self.country.as_ref(), address);
        let asn: Option<AsnRecord> = record(self.asn.as_ref(), address);
        let iso_code = |place: &Option<PlaceRecord<'_>>| {
            let code = place.as_ref()?.country.as_ref()?.iso_code?;
            Country::try_from(code.to_owned()).ok()
        };
        let coordinates = city.as_ref().and_then(|place| {
            let location = place.location.as_ref()?;
            Coordinates::new(location.latitude?, location.longitude?)
        });
        AddressInfo {
            country: iso_code(&country).or_else(|| iso_code(&city)),
            autonomous_system: asn.and_then(|asn| asn.autonomous_system_number),
            coordinates,
        }
    }
}

fn record<'a, T: Deserialize<'a>>(database: Option<&'a Database>, address: IpAddr) -> Option<T> {
    database?.lookup(address).ok()?.decode().ok()?
}

fn open(key: &'static str, file: &Path) -> Result<Database, GeoipError> {
    let failed = |source| GeoipError::Read {
        key,
        file: file.to_owned(),
        source,
    };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(GeoipError::TooLarge {
            key,
            file: file.to_owned(),
        });
    }
    let bytes = std::fs::read(file).map_err(failed)?;
    Reader::from_source(bytes).map_err(|source| GeoipError::Format {
        key,
        file: file.to_owned(),
        source,
    })
}
