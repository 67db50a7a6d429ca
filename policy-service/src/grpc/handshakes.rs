//! Places for handshakes: who has shown no certificate yet takes no place of those who have, and leaves some for others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handshakes at once.
pub(super) const HANDSHAKES_MAX: usize = 1024;
/// Handshakes at once from one address, or from one network of IPv6 addresses.
pub(super) const HANDSHAKES_OF_ADDRESS_MAX: usize = 128;

/// How many handshakes are under way, and from where.
#[derive(Clone, Default)]
pub(super) struct Handshakes(Arc<Mutex<Places>>);

#[derive(Default)]
struct Places {
    taken: usize,
    /// No address without a handshake, so there are no more of them than places.
    of_address: HashMap<IpAddr, usize>,
}

/// One of the places, until it is dropped.
pub(super) struct Place {
    handshakes: Handshakes,
    address: IpAddr,
}

impl Handshakes {
    /// A place for a handshake. `None`: there is none, or none for this address.
    pub(super) fn begin(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut places = self.places();
        let of_address = places.of_address.get(&address).copied().unwrap_or_default();
        if places.taken >= HANDSHAKES_MAX || of_address >= HANDSHAKES_OF_ADDRESS_MAX {
            return None;
        }
        places.taken += 1;
        places.of_address.insert(address, of_address + 1);
        let handshakes = self.clone();
        Some(Place { handshakes, address })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.handshakes.places();
        places.taken = places.taken.saturating_sub(1);
        match places.of_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(places.of_address.remove(&self.address)),
        }
    }
}

/// A host chooses among the IPv6 addresses of its network of 64 bits as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_takes_its_share_and_what_ends_makes_room() {
        let handshakes = Handshakes::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held: Vec<_> = (0..HANDSHAKES_OF_ADDRESS_MAX)
            .map(|_| handshakes.begin(one).unwrap())
            .collect();
        assert!(handshakes.begin(one).is_none() && handshakes.begin(address("::ffff:192.0.2.1")).is_none());
        assert!(handshakes.begin(other).is_some());
        held.pop();
        held.push(handshakes.begin(one).unwrap());
        assert!(handshakes.begin(one).is_none());
        drop(held);
        let places = handshakes.places();
        assert_eq!((places.taken, places.of_address.len()), (0, 0));
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let handshakes = Handshakes::default();
        let of_ten = |number: usize| address(&format!("10.0.{}.{}", number / 250, number % 250));
        let held: Vec<_> = (0..HANDSHAKES_MAX)
            .map(|number| handshakes.begin(of_ten(number)).unwrap())
            .collect();
        assert!(handshakes.begin(address("192.0.2.1")).is_none());
        drop(held);
        assert!(handshakes.begin(address("192.0.2.1")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let same = |left, right| network(address(left)) == network(address(right));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
