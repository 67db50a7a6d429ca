//! The limits of tokens, which bound the cost of reading one before its signature is checked.

/// The size of a token, of an introspection answer about one, or of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// The bytes of a token as it is sent, or of an introspection answer.
    pub bytes_max: usize,
    /// The members of its header, of its claims, or of the answer; those of objects within them are
    /// counted.
    pub members_max: usize,
    /// How deep these nest. A chain of eight actors needs nine levels.
    pub depth_max: usize,
}

impl TokenLimits {
    /// The default of the configuration. A token of Keycloak with the roles of 125 clients has
    /// about 11,000 bytes and 300 members.
    pub const DEFAULT: Self = Self {
        bytes_max: 16_384,
        members_max: 1_024,
        depth_max: 16,
    };
    /// The upper limit of the configuration. Envoy takes 60 KiB of request headers by default.
    pub const CEILING: Self = Self {
        bytes_max: 65_536,
        members_max: 8_192,
        depth_max: 64,
    };
    /// The lower limit of the configuration: a token with the claims that Picket reads.
    pub const FLOOR: Self = Self {
        bytes_max: 1_024,
        members_max: 32,
        depth_max: 2,
    };
    /// Of a JWS that comes with its own key: a DPoP proof (RFC 9449), or that of a device's
    /// enrollment. It has half a dozen claims.
    pub(crate) const OF_PROOFS: Self = Self {
        bytes_max: 8_192,
        members_max: 256,
        depth_max: 16,
    };
}
