//! Threat lists: addresses and networks, one per line, as they are published as netsets.

use std::net::IpAddr;

use picket_model::network::{Network, NetworkError};
use picket_model::problems::shortened;
use picket_model::time::Timestamp;

/// How many networks a list may have; the large published ones have some hundred thousand.
pub const NETWORKS_MAX: usize = 1_000_000;
/// How many bad lines are named; one is enough to refuse the list.
const BAD_LINES_MAX: usize = 20;
const COMMENT: char = '#';

/// A line that is not what a list consists of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {problem}")]
pub struct InvalidLine {
    /// Its number; the first line is 1, and 0 stands for the whole list.
    pub number: usize,
    /// The mistake.
    pub problem: String,
}

/// The networks of one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Table,
    v6: Table,
}

/// One list.
#[derive(Clone, Debug)]
pub struct ThreatList {
    /// Its name in the configuration.
    pub name: String,
    /// Where it was read from.
    pub source: String,
    /// When its file was changed last.
    pub changed_at: Timestamp,
    /// Its networks.
    pub networks: Networks,
}

/// All lists.
#[derive(Clone, Debug, Default)]
pub struct ThreatLists(pub Vec<ThreatList>);

/// An address that is listed.
#[derive(Clone, Debug)]
pub struct ThreatListMatch<'a> {
    list: &'a ThreatList,
    first: IpAddr,
    prefix_bits: u8,
}

/// Networks of one family, by their first address and then the widest first. Two networks are
/// disjoint or one is in the other, so that the smallest one around an address is the last that
/// begins before it, or one around that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    first: u128,
    last: u128,
    prefix_bits: u8,
    /// The smallest network around this one.
    within: Option<u32>,
}

impl Networks {
    /// Reads a list: an address or a network on each line, and `#` before what is a comment.
    ///
    /// # Errors
    /// The first lines that are neither, by their numbers; or there are more than [`NETWORKS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Vec<InvalidLine>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut bad = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split(COMMENT).next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match line.parse::<Network>() {
                Ok(network) if network.first().is_ipv4() => v4.push(network),
                Ok(network) => v6.push(network),
                Err(error) => bad.push(InvalidLine {
                    number: index.saturating_add(1),
                    problem: problem(line, error),
                }),
            }
            if bad.len() >= BAD_LINES_MAX {
                return Err(bad);
            }
            if v4.len().saturating_add(v6.len()) > NETWORKS_MAX {
                return Err(whole(format!("more than {NETWORKS_MAX} networks")));
            }
        }
        // A list that is empty on purpose says so in a comment; a download that failed says
        // nothing.
        if text.trim().is_empty() {
            return Err(whole("the file is empty".to_owned()));
        }
        match bad.is_empty() {
            true => Ok(Self {
                v4: Table::new(&v4, u32::BITS),
                v6: Table::new(&v6, u128::BITS),
            }),
            false => Err(bad),
        }
    }

    /// How many networks there are, each counted once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.0.len() + self.v6.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first address and the prefix length of the smallest network around an address.
    #[must_use]
    pub fn smallest_around(&self, address: IpAddr) -> Option<(IpAddr, u8)> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let entry = self.v4.smallest_around(u128::from(u32::from(address)))?;
                let first = u32::try_from(entry.first).ok()?;
                Some((IpAddr::V4(first.into()), entry.prefix_bits))
            }
            IpAddr::V6(address) => {
                let entry = self.v6.smallest_around(u128::from(address))?;
                Some((IpAddr::V6(entry.first.into()), entry.prefix_bits))
            }
        }
    }
}

impl Table {
    fn new(networks: &[Network], bits: u32) -> Self {
        let mut entries: Vec<Entry> = networks.iter().map(|network| Entry::of(network, bits)).collect();
        entries.sort_unstable_by_key(|entry| (entry.first, entry.prefix_bits));
        entries.dedup_by_key(|entry| (entry.first, entry.prefix_bits));
        // Those that the one in question may be in, each within the one before.
        let mut around: Vec<(u32, u128)> = Vec::new();
        for (index, entry) in (0_u32..).zip(&mut entries) {
            while around.last().is_some_and(|(_, last)| *last < entry.first) {
                around.pop();
            }
            entry.within = around.last().map(|(index, _)| *index);
            around.push((index, entry.last));
        }
        Self(entries)
    }

    fn smallest_around(&self, address: u128) -> Option<&Entry> {
        let after = self.0.partition_point(|entry| entry.first <= address);
        let mut entry = self.0.get(after.checked_sub(1)?)?;
        while entry.last < address {
            entry = self.0.get(usize::try_from(entry.within?).ok()?)?;
        }
        Some(entry)
    }
}

impl Entry {
    fn of(network: &Network, bits: u32) -> Self {
        let first = match network.first() {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let free_bits = bits.saturating_sub(u32::from(network.prefix_bits()));
        // All 128 bits free is the whole family.
        let rest = 1_u128.checked_shl(free_bits).map_or(u128::MAX, |size| size - 1);
        Self {
            first,
            last: first | rest,
            prefix_bits: network.prefix_bits(),
            within: None,
        }
    }
}

impl ThreatLists {
    /// The smallest network of all lists around an address, and whose it is.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<ThreatListMatch<'_>> {
        let found = self.0.iter().filter_map(|list| {
            let (first, prefix_bits) = list.networks.smallest_around(address)?;
            Some(ThreatListMatch {
                list,
                first,
                prefix_bits,
            })
        });
        // Of equals the first list.
        found.reduce(|best, next| match next.prefix_bits > best.prefix_bits {
            true => next,
            false => best,
        })
    }
}

impl ThreatListMatch<'_> {
    /// The network, the list and the age of the list, for people.
    pub(super) fn explanation(&self, now_s: u32) -> String {
        let age_s = u64::from(now_s).saturating_sub(self.list.changed_at.as_ms() / 1000);
        format!(
            "{}/{} is in the threat list `{}`, which is {age_s} s old",
            self.first, self.prefix_bits, self.list.name
        )
    }
}

fn problem(line: &str, error: NetworkError) -> String {
    format!("`{}`: {error}", shortened(line))
}

fn whole(problem: String) -> Vec<InvalidLine> {
    vec![InvalidLine { number: 0, problem }]
}
