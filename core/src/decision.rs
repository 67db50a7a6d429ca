//! Decisions: what the policy service answers about an access request.

use crate::risk::Risk;

/// What is to happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request may go on.
    Permit,
    /// It may not.
    Deny,
}

/// The policy service's answer about one access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Permit or deny.
    pub effect: Effect,
    /// The id of the decision and of its audit record.
    pub decision_id: String,
    /// The revision of the policies that decided.
    pub policy_revision: String,
    /// How long the same answer may be given to the same request, in milliseconds; 0: not at all.
    pub valid_for_ms: u32,
    /// The ids of the policies that decided, for the record.
    pub policy_ids: Vec<String>,
    /// What the caller may be told.
    pub caller_reasons: Vec<String>,
    /// What it could have depended on.
    pub vary: Vary,
    /// How unusual the request was, for the record; `None`: it was not assessed, or nothing is decided by it.
    pub risk: Option<Risk>,
}

/// An attribute in which two access requests can differ that fall under one route rule and come with one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// The peer identity.
    Peer,
    /// The method.
    Method,
    /// The host.
    Host,
    /// The path, with what the rule's template captured of it.
    Path,
    /// The source address.
    SourceAddress,
    /// The user agent.
    UserAgent,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Self; 6] = [
        Self::Peer,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::SourceAddress,
        Self::UserAgent,
    ];

    fn bit(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Method => 2,
            Self::Host => 4,
            Self::Path => 8,
            Self::SourceAddress => 16,
            Self::UserAgent => 32,
        }
    }
}

/// The attributes that a decision could have depended on besides route rule and token: what `Vary` is to HTTP
/// (RFC 9110 §12.5.5). What is not known is everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vary(u8);

impl Vary {
    /// Nothing but rule and token.
    pub const NOTHING: Self = Self(0);
    /// Every attribute.
    pub const EVERYTHING: Self = Self(63);

    /// One bit for each attribute; others mean nothing.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & Self::EVERYTHING.0)
    }

    /// These, and one more.
    #[must_use]
    pub fn with(self, attribute: Attribute) -> Self {
        Self(self.0 | attribute.bit())
    }

    /// Whether an attribute is among them.
    #[must_use]
    pub fn contains(self, attribute: Attribute) -> bool {
        self.0 & attribute.bit() != 0
    }

    /// The attributes, in the order of [`Attribute::ALL`].
    pub fn attributes(self) -> impl Iterator<Item = Attribute> {
        Attribute::ALL
            .into_iter()
            .filter(move |attribute| self.contains(*attribute))
    }
}

impl FromIterator<Attribute> for Vary {
    fn from_iter<T: IntoIterator<Item = Attribute>>(attributes: T) -> Self {
        attributes.into_iter().fold(Self::NOTHING, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_every_attribute() {
        assert_eq!(Attribute::ALL.into_iter().collect::<Vary>(), Vary::EVERYTHING);
        assert_eq!(Vary::EVERYTHING.attributes().collect::<Vec<_>>(), Attribute::ALL);
        assert_eq!(Vary::NOTHING.attributes().count(), 0);
    }
}
