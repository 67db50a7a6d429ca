//! Where requests come from.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keys::FormatError;
use super::numbers::Finite;

/// The country, network and coordinates of an address, from databases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AddressInfo {
    /// The country.
    pub country: Option<Country>,
    /// The number of the autonomous system.
    pub autonomous_system: Option<u32>,
    /// About where it is.
    pub coordinates: Option<Coordinates>,
}

/// A country by its two letters (ISO 3166-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// A place on the globe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    latitude: Finite,
    longitude: Finite,
}

/// Where a request comes from, as finely as locations are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// From a database: country and autonomous system.
    Known(Option<Country>, Option<u32>),
    /// The first 24 bits of an IPv4 address that no database knows.
    V4([u8; 3]),
    /// The first 48 bits of an IPv6 address that no database knows.
    V6([u8; 6]),
}

impl Place {
    /// The country, where it is known.
    #[must_use]
    pub fn country(self) -> Option<Country> {
        match self {
            Self::Known(country, _) => country,
            Self::V4(_) | Self::V6(_) => None,
        }
    }

    /// Where an address is, as finely as locations are compared; `None` where there is none.
    #[must_use]
    pub fn of(source: Option<IpAddr>, known: AddressInfo) -> Option<Self> {
        if known.country.is_some() || known.autonomous_system.is_some() {
            return Some(Self::Known(known.country, known.autonomous_system));
        }
        Some(match source? {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(Some(country), Some(number)) => write!(f, "{country} AS{number}"),
            Self::Known(Some(country), None) => country.fmt(f),
            Self::Known(None, Some(number)) => write!(f, "AS{number}"),
            Self::Known(None, None) => f.write_str("nowhere"),
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let address = [*a, *b, *c, *d, *e, *g, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                write!(f, "{}/48", std::net::Ipv6Addr::from(address))
            }
        }
    }
}

impl Coordinates {
    /// Degrees north and east; `None` for what is not on the globe.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let is_on_the_globe = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_on_the_globe.then(|| Self {
            latitude: Finite::new(latitude),
            longitude: Finite::new(longitude),
        })
    }

    /// The way along the surface, in kilometres (haversine on a sphere; the earth's flattening
    /// makes half a percent).
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        const EARTH_RADIUS_KM: f64 = 6371.0;
        let [from, to] = [self, other].map(|at| (at.latitude.get().to_radians(), at.longitude.get().to_radians()));
        let square_of_half_sine = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
        let h = square_of_half_sine(from.0, to.0) + from.0.cos() * to.0.cos() * square_of_half_sine(from.1, to.1);
        2.0 * EARTH_RADIUS_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0.map(char::from);
        write!(f, "{first}{second}")
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl TryFrom<String> for Country {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => Ok(Self([*first, *second])),
            _ => Err(FormatError("a country's two letters, such as `DE`")),
        }
    }
}
