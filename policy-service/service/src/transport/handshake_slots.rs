//! Limits on concurrent handshakes, in all and from one address: clients without a verified
//! certificate use no connection slot, and one address cannot use all handshake slots.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Concurrent handshakes.
pub(crate) const HANDSHAKES_MAX: usize = 1024;
/// Concurrent handshakes from one address, or from one network of IPv6 addresses.
pub(crate) const HANDSHAKES_OF_ADDRESS_MAX: usize = 128;

/// The slots. Clones share them.
#[derive(Clone, Default)]
pub(super) struct HandshakeSlots(Arc<Mutex<SlotCounts>>);

#[derive(Default)]
struct SlotCounts {
    taken: usize,
    /// No address without a handshake, so it has at most [`HANDSHAKES_MAX`] entries.
    of_address: HashMap<IpAddr, usize>,
}

/// One slot, until it is dropped.
pub(super) struct HandshakeSlot {
    slots: HandshakeSlots,
    address: IpAddr,
}

impl HandshakeSlots {
    /// A slot for a handshake. `None`: the limit of all or of this address is reached.
    pub(super) fn acquire(&self, address: IpAddr) -> Option<HandshakeSlot> {
        let address = network(address);
        let mut counts = self.counts();
        let of_address = counts.of_address.get(&address).copied().unwrap_or_default();
        if counts.taken >= HANDSHAKES_MAX || of_address >= HANDSHAKES_OF_ADDRESS_MAX {
            return None;
        }
        counts.taken += 1;
        counts.of_address.insert(address, of_address + 1);
        let slots = self.clone();
        Some(HandshakeSlot { slots, address })
    }

    fn counts(&self) -> MutexGuard<'_, SlotCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        counts.taken = counts.taken.saturating_sub(1);
        match counts.of_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(counts.of_address.remove(&self.address)),
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
        let slots = HandshakeSlots::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held: Vec<_> = (0..HANDSHAKES_OF_ADDRESS_MAX)
            .map(|_| slots.acquire(one).unwrap())
            .collect();
        assert!(slots.acquire(one).is_none() && slots.acquire(address("::ffff:192.0.2.1")).is_none());
        assert!(slots.acquire(other).is_some());
        held.pop();
        held.push(slots.acquire(one).unwrap());
        assert!(slots.acquire(one).is_none());
        drop(held);
        let counts = slots.counts();
        assert_eq!((counts.taken, counts.of_address.len()), (0, 0));
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let slots = HandshakeSlots::default();
        let of_ten = |number: usize| address(&format!("10.0.{}.{}", number / 250, number % 250));
        let held: Vec<_> = (0..HANDSHAKES_MAX)
            .map(|number| slots.acquire(of_ten(number)).unwrap())
            .collect();
        assert!(slots.acquire(address("192.0.2.1")).is_none());
        drop(held);
        assert!(slots.acquire(address("192.0.2.1")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let same = |left, right| network(address(left)) == network(address(right));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
