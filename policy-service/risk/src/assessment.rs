//! What is said about a request: a score, and every signal that made it.

use picket_model::decision::Vary;
use picket_model::risk::Risk;

use super::factors::Factor;
use super::places::Country;

macro_rules! signals {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $kind:ident,)+) => {
        /// A way in which a request can be unusual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal { $($(#[$doc])* $variant,)+ }

        impl Signal {
            /// Every signal.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in policies, records and the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|signal| signal.name() == name)
            }

            /// The kind whose weight it has.
            #[must_use]
            pub const fn kind(self) -> SignalKind {
                match self { $(Self::$variant => SignalKind::$kind,)+ }
            }
        }
    };
}

signals! {
    /// The principal has not been there, or not for long.
    NewLocation => "new_location", Location,
    /// Nobody gets there in so little time.
    ImpossibleTravel => "impossible_travel", Location,
    /// The principal has not used the device, or not for long.
    NewDevice => "new_device", Device,
    /// The session, or the token, began with another device.
    ChangedDevice => "changed_device", Device,
    /// Outside of the principal's own hours.
    UnusualTime => "unusual_time", Time,
    /// More requests than the principal makes.
    UnusualRate => "unusual_rate", Behaviour,
    /// A method that the principal has not used.
    NewMethod => "new_method", Behaviour,
    /// A route rule that no request of the principal has matched.
    NewRouteRule => "new_route_rule", Behaviour,
    /// Many denials in a short time.
    DenialBurst => "denial_burst", Behaviour,
    /// The address is in a threat list.
    ListedAddress => "listed_address", ThreatList,
    /// Authentications failed, here or elsewhere.
    FailedAuthentications => "failed_authentications", Authentication,
    /// One token comes from too many peers or locations at once.
    SharedToken => "shared_token", Token,
    /// The client is handled as the principal does not handle it.
    UnusualDynamics => "unusual_dynamics", Dynamics,
    /// The device that it comes from is known, and little trusted.
    LowDeviceTrust => "low_device_trust", Device,
    /// It is not all that devices have to be.
    NoncompliantDevice => "noncompliant_device", Device,
}

impl Signal {
    /// A bit of its own, for sets of signals.
    pub(super) fn bit(self) -> u32 {
        1 << self as u16
    }
}

/// The kinds of signals. Each has one weight, which counts once, however many signals of the kind
/// there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignalKind {
    /// Where the request comes from.
    Location,
    /// The device.
    Device,
    /// When it comes.
    Time,
    /// Methods, route rules, rates and denials.
    Behaviour,
    /// Lists of suspicious networks.
    ThreatList,
    /// How authentications of its principal ended.
    Authentication,
    /// In how many hands its token is.
    Token,
    /// How its client is handled.
    Dynamics,
}

/// A signal with its reason in words and figures. It quotes no header and no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedSignal {
    /// The signal.
    pub signal: Signal,
    /// Why.
    pub explanation: String,
}

/// Whether scores have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskMode {
    /// Scores are recorded, and nothing is decided by them: for as long as baselines are learnt.
    Learning,
    /// Policies see the score, and validity shrinks with it.
    Effective,
}

/// The risk of one request, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// 0 to 100, and the level.
    pub risk: Risk,
    /// The factors of authentication that the level requires.
    pub factors: &'static [Factor],
    /// Every signal, in the order of [`Signal::ALL`].
    pub signals: Vec<DetectedSignal>,
    /// Where the request comes from, where locations are looked at and a database knows it. It is
    /// no part of the score.
    pub country: Option<Country>,
    /// The attributes of the request that the assessment depends on, besides route rule and token.
    pub vary: Vary,
    /// Whether it counts.
    pub mode: RiskMode,
}

impl Assessment {
    /// The risk that decides; `None` while it is only learnt.
    #[must_use]
    pub fn effective_risk(&self) -> Option<Risk> {
        match self.mode {
            RiskMode::Effective => Some(self.risk),
            RiskMode::Learning => None,
        }
    }

    /// The names of the signals that count, for policies.
    pub fn effective_signals(&self) -> impl Iterator<Item = &'static str> {
        let counted = match self.mode {
            RiskMode::Effective => self.signals.as_slice(),
            RiskMode::Learning => &[],
        };
        counted.iter().map(|fired| fired.signal.name())
    }

    /// The signals as a set of bits.
    pub(super) fn bits(&self) -> u32 {
        self.signals.iter().fold(0, |bits, fired| bits | fired.signal.bit())
    }
}
