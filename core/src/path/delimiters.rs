//! The characters of a path about which servers disagree: a delimiter to some, data to others (RFC
//! 3986 §2.2).

/// A set of delimiters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delimiters(u8);

impl Delimiters {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// `%2F`: some servers decode it before they route.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `;` and `%3B`: some servers cut off what follows, up to the next slash or up to the end,
    /// some of them after a proxy has decoded it.
    pub const SEMICOLON: Self = Self(2);
    /// `%3F`: behind a proxy that decodes, the query begins here.
    pub const ENCODED_QUESTION_MARK: Self = Self(4);
    /// `%23`: behind a proxy that decodes, the fragment begins here.
    pub const ENCODED_HASH: Self = Self(8);

    /// Whether the set has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets have one in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that the other set lacks.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}
