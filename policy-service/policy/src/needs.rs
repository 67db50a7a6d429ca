//! What policies look at, so that a request's evaluation is given that and no more.

use picket_model::decision::{Attribute as Varying, Vary};

/// Which entities policies can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// The request's principal, action and resource, with their ancestors.
    Request,
    /// Every entity, because a policy names one and looks into it.
    All,
}

/// What is looked at: attributes by name, whatever has them, as a policy reads one only by naming
/// it; tags; and which action and resource it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes(u64);

/// The attributes and entities that policies read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) reach: Reach,
    pub(super) attributes: Attributes,
}

macro_rules! attributes {
    ($($variant:ident => $name:literal,)+) => {
        /// An attribute that the service makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Attribute { $($variant,)+ }

        impl Attribute {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the schema.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

attributes! {
    Issuer => "issuer",
    Subject => "subject",
    Tenant => "tenant",
    Scopes => "scopes",
    Amr => "amr",
    Acr => "acr",
    AuthTime => "auth_time",
    AuthAge => "auth_age",
    Actors => "actors",
    IsBound => "is_bound",
    SpiffeId => "spiffe_id",
    TrustDomain => "trust_domain",
    Host => "host",
    Path => "path",
    RouteRule => "route_rule",
    Classification => "classification",
    SecurityZone => "security_zone",
    Method => "method",
    SourceAddress => "source_address",
    UserAgent => "user_agent",
    Peer => "peer",
    Risk => "risk",
    Device => "device",
    Hour => "hour",
    Minute => "minute",
    Weekday => "weekday",
    Date => "date",
}

/// The record of the context that holds what clock and calendar show.
pub(super) const TIME: &str = "time";
const TIME_ATTRIBUTES: [Attribute; 4] = [Attribute::Hour, Attribute::Minute, Attribute::Weekday, Attribute::Date];

/// Tags have no names that are known beforehand: all of them or none.
const TAGS: u64 = 1 << 63;
/// Which action it is, by its id or by what is only true of it.
const ACTION_ID: u64 = 1 << 62;
/// Which resource it is: its id is host and path.
const RESOURCE_ID: u64 = 1 << 61;

impl Attributes {
    const NONE: Self = Self(0);
    /// All of it.
    pub(super) const ALL: Self = Self(u64::MAX);

    pub(super) fn one(attribute: Attribute) -> Self {
        Self(1 << attribute as u64)
    }

    fn some(attributes: &[Attribute]) -> Self {
        let all = attributes.iter().map(|attribute| Self::one(*attribute).0);
        Self(all.fold(0, |all, one| all | one))
    }

    /// Whether the time is, or a part of it.
    pub(super) fn contain_time(self) -> bool {
        self.0 & Self::some(&TIME_ATTRIBUTES).0 != 0
    }

    /// Whether an attribute is among them.
    pub(super) fn contain(self, attribute: Attribute) -> bool {
        self.0 & Self::one(attribute).0 != 0
    }

    /// Whether anything is that another authentication, or another device, could change.
    pub(super) fn contain_strength(self) -> bool {
        let strength = [
            Attribute::Acr,
            Attribute::AuthTime,
            Attribute::AuthAge,
            Attribute::IsBound,
            Attribute::Device,
        ];
        self.0 & Self::some(&strength).0 != 0
    }

    /// Whether the resource's tags are.
    pub(super) fn contain_tags(self) -> bool {
        self.0 & TAGS != 0
    }

    /// What of a request besides route rule and token these come from. The principal is the
    /// token's; where there is none, whoever keeps the answer counts the peer in. A risk comes from
    /// all that its assessment looked at, which is `of_risk`.
    pub(super) fn vary(self, of_risk: Option<Vary>) -> Vary {
        let risk = of_risk.filter(|_| self.contain(Attribute::Risk));
        let depends = |attribute| match attribute {
            Varying::Peer => self.contain(Attribute::Peer),
            Varying::Method => self.contain(Attribute::Method) || self.0 & ACTION_ID != 0,
            Varying::Host => self.contain(Attribute::Host) || self.0 & RESOURCE_ID != 0,
            Varying::Path => self.contain(Attribute::Path) || self.0 & (RESOURCE_ID | TAGS) != 0,
            Varying::SourceAddress => self.contain(Attribute::SourceAddress),
            Varying::UserAgent => self.contain(Attribute::UserAgent),
            Varying::Device => self.contain(Attribute::Device),
        };
        let risk_depends = |attribute| risk.is_some_and(|risk| risk.contains(attribute));
        Varying::ALL
            .into_iter()
            .filter(|attribute| depends(*attribute) || risk_depends(*attribute))
            .collect()
    }
}

impl Needs {
    /// Nothing but who the principal is.
    pub(super) const NONE: Self = Self {
        reach: Reach::Request,
        attributes: Attributes::NONE,
    };
    /// Everything.
    pub(super) const ALL: Self = Self {
        reach: Reach::All,
        attributes: Attributes::ALL,
    };

    /// The union of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            reach: self.reach.max(other.reach),
            attributes: Attributes(self.attributes.0 | other.attributes.0),
        }
    }

    /// An attribute by its name. The service makes none of any other name, so nobody misses it.
    pub(super) fn of_attribute(name: &str) -> Self {
        if name == TIME {
            return Self {
                attributes: Attributes::some(&TIME_ATTRIBUTES),
                ..Self::NONE
            };
        }
        let known = Attribute::ALL.iter().find(|attribute| attribute.name() == name);
        Self {
            attributes: known.map_or(Attributes::NONE, |attribute| Attributes::one(*attribute)),
            ..Self::NONE
        }
    }

    /// All attributes of a record that is taken as a whole.
    pub(super) const ALL_ATTRIBUTES: Self = Self {
        attributes: Attributes::ALL,
        ..Self::NONE
    };
    /// Which action it is.
    pub(super) const ACTION_ID: Self = Self {
        attributes: Attributes(ACTION_ID),
        ..Self::NONE
    };
    /// Which resource it is.
    pub(super) const RESOURCE_ID: Self = Self {
        attributes: Attributes(RESOURCE_ID),
        ..Self::NONE
    };
    /// The resource's tags.
    pub(super) const TAGS: Self = Self {
        attributes: Attributes(TAGS),
        ..Self::NONE
    };
    /// Every entity. The request's own resource is among them, so that whether a named one is
    /// there, and what it has, depends on which resource is asked for.
    pub(super) const ALL_ENTITIES: Self = Self {
        reach: Reach::All,
        attributes: Attributes(RESOURCE_ID),
    };
}
