//! Networks of IP addresses (CIDR).

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Bits of `::ffff:0:0/96`, under which IPv4 addresses are mapped (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// A network of one family, or a single address. IPv4 that is mapped to IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a string is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor an address with a prefix length.
    #[error("expected a network such as `10.0.0.0/8` or `2001:db8::/32`, or an address")]
    Syntax,
    /// Bits behind the prefix: it is not clear which was meant, the network or the address.
    #[error("expected no address bits behind the prefix")]
    HostBits,
}

impl Network {
    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.0.network()
    }

    /// How many leading bits its addresses share.
    #[must_use]
    pub fn prefix_bits(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let network = match text.contains('/') {
            true => text.parse::<IpNet>().map_err(|_| NetworkError::Syntax)?,
            false => text.parse::<IpAddr>().map_err(|_| NetworkError::Syntax)?.into(),
        };
        if network.trunc() != network {
            return Err(NetworkError::HostBits);
        }
        let mapped = match network.addr().to_canonical() {
            IpAddr::V4(address) => network
                .prefix_len()
                .checked_sub(MAPPED_PREFIX_BITS)
                .filter(|_| network.addr().is_ipv6())
                .and_then(|prefix| Ipv4Net::new(address, prefix).ok()),
            IpAddr::V6(_) => None,
        };
        Ok(Self(mapped.map_or(network, IpNet::V4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = network.parse().unwrap();
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(
                    network.contains(address.parse().unwrap()),
                    expected,
                    "{network:?} {address}"
                );
            }
        }
    }

    #[test]
    fn a_network_ends_at_its_borders() {
        check(
            "10.1.0.0/16",
            &["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"],
            &["10.0.255.255", "10.2.0.0", "::10.1.2.3", "::1"],
        );
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]);
        check("10.1.2.2/31", &["10.1.2.2", "10.1.2.3"], &["10.1.2.1", "10.1.2.4"]);
        check(
            "0.0.0.0/0",
            &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"],
            &["::", "::1"],
        );
        check(
            "2001:db8::/33",
            &["2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"],
            &[
                "2001:db8:8000::",
                "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
                "32.1.13.184",
            ],
        );
        check("::1", &["::1"], &["::", "::2", "0.0.0.1"]);
        check("::/0", &["::", "2001:db8::1"], &["1.2.3.4", "::ffff:1.2.3.4"]);
    }

    #[test]
    fn ipv4_that_is_mapped_to_ipv6_is_ipv4() {
        check("::ffff:10.1.0.0/112", &["10.1.2.3", "::ffff:10.1.2.3"], &["10.2.0.0"]);
        check("::ffff:0:0/96", &["0.0.0.0", "255.255.255.255"], &["::"]);
        check("::ffff:10.1.2.3", &["10.1.2.3"], &["10.1.2.4"]);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
            "/8",
            "10.0.0.0/",
            "010.0.0.1",
            "a",
            "[::1]",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            "fe80::1%eth0",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Syntax), "{bad}");
        }
        for bad in ["10.0.0.1/8", "2001:db8::1/32", "::ffff:10.1.2.3/112"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::HostBits), "{bad}");
        }
    }
}
