//! Where a request comes from: the address in X-Forwarded-For that counts, and the networks that a
//! rule allows.

use std::net::IpAddr;

use picket_model::network::Network;

use crate::request::Header;

/// The header whose entries are the addresses that a request passed.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// So much of an entry is repeated to the caller: the longest address in brackets with a port.
const REPEATED_BYTES_MAX: usize = 53;
/// Why the source address of a request is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceAddressError {
    /// The connection has no IP address, such as one from a Unix domain socket.
    #[error("the proxy gives no IP address of the connection's source")]
    NoConnectionAddress,
    /// The request did not come through all trusted hops.
    #[error("`x-forwarded-for` has fewer than {0} entries")]
    TooFewEntries(u32),
    /// The entry that counts is no address.
    #[error(
        "entry {position} from the right of `x-forwarded-for`, `{entry}`, is not an IP address with or without a port"
    )]
    NoAddress {
        /// 1 is the last entry.
        position: u32,
        /// Its beginning, of visible ASCII; other bytes are `?`.
        entry: Box<str>,
    },
}

/// From where a rule lets requests come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRequirement {
    /// From these alone; `None`: from anywhere.
    pub allowed: Option<Vec<Network>>,
    /// Not from these.
    pub refused: Vec<Network>,
}

impl SourceRequirement {
    /// Whether the rule asks at all.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.allowed.is_none() && self.refused.is_empty()
    }

    /// Whether a request may come from there.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !is_in(&self.refused) && self.allowed.as_deref().is_none_or(is_in)
    }
}

/// The address in the entry of X-Forwarded-For at this position from the right, where 1 is the last
/// one. Several fields are one list (RFC 9110 §5.3).
///
/// An empty entry counts, as it does for Envoy. Without it a caller's own entry would move to the
/// place of a trusted hop's.
pub(crate) fn forwarded_for(headers: &[Header<'_>], position: u32) -> Result<IpAddr, SourceAddressError> {
    let fields = headers.iter().rev().filter(|(name, _)| *name == FORWARDED_FOR);
    let mut entries = fields.flat_map(|(_, value)| value.rsplit(|byte| *byte == b','));
    let before = usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1);
    let entry = entries.nth(before);
    let entry = entry.ok_or(SourceAddressError::TooFewEntries(position))?;
    address_of(entry).ok_or_else(|| SourceAddressError::NoAddress {
        position,
        entry: visible_beginning(entry),
    })
}

/// `203.0.113.7`, `203.0.113.7:51342`, `2001:db8::7`, `[2001:db8::7]` or `[2001:db8::7]:51342`. No
/// specification fixes the form; these are what proxies write.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    text.parse().ok().or_else(|| address_with_port(text))
}

fn address_with_port(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            (address.parse().map(IpAddr::V6).ok()?, after)
        }
        None => {
            let (address, after) = text.split_at_checked(text.find(':')?)?;
            (address.parse().map(IpAddr::V4).ok()?, after)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address)
}

fn visible_beginning(entry: &[u8]) -> Box<str> {
    let visible = |byte: &u8| match byte {
        b'`' => '?',
        byte if byte.is_ascii_graphic() || *byte == b' ' => char::from(*byte),
        _ => '?',
    };
    let shown: String = entry
        .trim_ascii()
        .iter()
        .take(REPEATED_BYTES_MAX)
        .map(visible)
        .collect();
    shown.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_network_is_looked_at_first() {
        let list = |networks: &[&str]| {
            networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect::<Vec<_>>()
        };
        let rule = |allowed: Option<&[&str]>, refused: &[&str]| SourceRequirement {
            allowed: allowed.map(list),
            refused: list(refused),
        };
        let near = IpAddr::from([10, 0, 0, 1]);
        assert!(rule(None, &[]).allows(near));
        assert!(rule(Some(&["10.0.0.0/8"]), &[]).allows(near));
        assert!(!rule(Some(&["10.0.0.0/8"]), &["10.0.0.1"]).allows(near));
        assert!(!rule(Some(&["11.0.0.0/8"]), &[]).allows(near));
        assert!(rule(None, &["11.0.0.0/8"]).allows(near));
    }
}
