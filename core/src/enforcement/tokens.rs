//! The verified tokens of a request: none, one, or one of each provider that its rule names.

use std::rc::Rc;

use picket_model::time::Timestamp;

use crate::token::VerifiedToken;

/// The verified tokens of a request.
///
/// INVARIANT: code that depends on the tokens uses each of them ([`Tokens::iter`]).
/// [`Tokens::principal`] names the caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    principal: Option<Rc<VerifiedToken>>,
    /// In the order of the rule's list; empty, and without an allocation, under any other rule.
    others: Box<[Rc<VerifiedToken>]>,
}

impl Tokens {
    pub(super) fn one(principal: Rc<VerifiedToken>) -> Self {
        Self::all(principal, Vec::new())
    }

    pub(super) fn all(principal: Rc<VerifiedToken>, others: Vec<Rc<VerifiedToken>>) -> Self {
        Self {
            principal: Some(principal),
            others: others.into_boxed_slice(),
        }
    }

    /// The one that names the principal. `None`: there is no token at all.
    pub(super) fn principal(&self) -> Option<&VerifiedToken> {
        self.principal.as_deref()
    }

    /// The others.
    pub(super) fn others(&self) -> impl Iterator<Item = &VerifiedToken> + Clone {
        self.others.iter().map(|token| &**token)
    }

    /// All of them, the principal's first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifiedToken> + Clone {
        self.principal().into_iter().chain(self.others())
    }

    /// The earliest expiry. `None`: there is no token.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.iter().map(|token| token.ends_at).min()
    }
}
