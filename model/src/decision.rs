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
    /// With a deny: how the same principal would be permitted.
    pub challenge: Option<Box<StepUp>>,
    /// With a deny: the token is no longer accepted, as its session has ended or was revoked (RFC 6750 §3.1 `invalid_token`). The
    /// caller has to sign in again.
    pub is_token_revoked: bool,
    /// With a permit: what the upstream has to see to, each at most [`OBLIGATION_BYTES_MAX`] letters, digits, `.`, `_`, `-`,
    /// `:`, `=` and `/`; at most [`OBLIGATIONS_MAX`].
    pub obligations: Vec<String>,
}

/// What a principal needs to be permitted: a stronger or a more recent authentication (RFC 9470 §3), a token that is bound, or a
/// trusted device.
///
/// INVARIANT: it asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    acr_values: Vec<String>,
    max_age_s: Option<u32>,
    bound_token: bool,
    trusted_device: bool,
}

/// How many authentication context classes a challenge may name.
pub const ACR_VALUES_MAX: usize = 8;
/// How long each may be.
pub const ACR_VALUE_BYTES_MAX: usize = 128;
/// How many obligations a decision may carry.
pub const OBLIGATIONS_MAX: usize = 16;
/// How long each may be.
pub const OBLIGATION_BYTES_MAX: usize = 64;

impl StepUp {
    /// Any of these authentication context classes (`None`: whichever), no longer ago than this, with a token that is bound or
    /// not, from a trusted device or any. `None`: it would ask for nothing, or a value cannot stand in a header.
    #[must_use]
    pub fn new(
        acr_values: Vec<String>,
        max_age_s: Option<u32>,
        bound_token: bool,
        trusted_device: bool,
    ) -> Option<Self> {
        let is_something = !acr_values.is_empty() || max_age_s.is_some() || bound_token || trusted_device;
        let fits = acr_values.len() <= ACR_VALUES_MAX && acr_values.iter().all(|value| is_acr_value(value));
        (is_something && fits).then_some(Self {
            acr_values,
            max_age_s,
            bound_token,
            trusted_device,
        })
    }

    /// Authentication context classes, any of which would do; empty: it makes no difference.
    #[must_use]
    pub fn acr_values(&self) -> &[String] {
        &self.acr_values
    }

    /// How long ago the user may have authenticated, in seconds.
    #[must_use]
    pub fn max_age_s(&self) -> Option<u32> {
        self.max_age_s
    }

    /// Whether the token must be bound to a key or a certificate (RFC 7800).
    #[must_use]
    pub fn bound_token(&self) -> bool {
        self.bound_token
    }

    /// Whether the request must come from a device that is trusted. No parameter of RFC 9470 says so.
    #[must_use]
    pub fn trusted_device(&self) -> bool {
        self.trusted_device
    }
}

/// Whether a value can stand in a list that is separated by spaces, within a quoted string (RFC 9110 §5.6.4): visible ASCII
/// without quotation mark and backslash.
#[must_use]
pub fn is_acr_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=ACR_VALUE_BYTES_MAX).contains(&value.len()) && value.bytes().all(allowed)
}

/// Whether a text can be an obligation.
#[must_use]
pub fn is_obligation(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'=' | b'/');
    (1..=OBLIGATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
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
    /// What the sender has proved to hold: by that its device is known.
    Device,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Self; 7] = [
        Self::Peer,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::SourceAddress,
        Self::UserAgent,
        Self::Device,
    ];

    fn bit(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Method => 2,
            Self::Host => 4,
            Self::Path => 8,
            Self::SourceAddress => 16,
            Self::UserAgent => 32,
            Self::Device => 64,
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
    pub const EVERYTHING: Self = Self(127);

    /// One bit for each attribute, in the order of [`Attribute::ALL`].
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The attributes of these bits; further bits are ignored.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
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
    fn a_step_up_asks_for_something_that_a_header_can_carry() {
        let acr = |value: &str| StepUp::new(vec![value.to_owned()], None, false, false);
        assert_eq!(StepUp::new(Vec::new(), None, false, false), None);
        assert!(StepUp::new(Vec::new(), Some(0), false, false).is_some());
        assert!(StepUp::new(Vec::new(), None, true, false).is_some());
        assert!(StepUp::new(Vec::new(), None, false, true).is_some());
        assert!(acr("urn:example:mfa").is_some());
        for value in [
            "",
            "a b",
            "a\"b",
            "a\\b",
            "ä",
            "a\r\nb",
            &"a".repeat(ACR_VALUE_BYTES_MAX + 1),
        ] {
            assert_eq!(acr(value), None, "{value:?}");
        }
        let many = vec!["a".to_owned(); ACR_VALUES_MAX + 1];
        assert_eq!(StepUp::new(many, None, false, false), None);
    }

    #[test]
    fn an_obligation_is_a_short_word() {
        for text in ["mask", "log:full", "quota=10/min"] {
            assert!(is_obligation(text), "{text}");
        }
        for text in [
            "",
            "a b",
            "a,b",
            "a\r\nx: y",
            "ä",
            &"a".repeat(OBLIGATION_BYTES_MAX + 1),
        ] {
            assert!(!is_obligation(text), "{text:?}");
        }
    }

    #[test]
    fn everything_is_every_attribute() {
        assert_eq!(Attribute::ALL.into_iter().collect::<Vary>(), Vary::EVERYTHING);
        assert_eq!(Vary::EVERYTHING.attributes().collect::<Vec<_>>(), Attribute::ALL);
        assert_eq!(Vary::NOTHING.attributes().count(), 0);
    }
}
