//! The verified tokens of a request: none, one, or one of each provider that its rule names.

use std::rc::Rc;

use picket_model::time::Timestamp;

use crate::token::VerifiedToken;

/// What a request's credentials have proved.
///
/// INVARIANT: what depends on the tokens looks at each of them ([`Tokens::iter`]); [`Tokens::principal`] alone says who calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    principal: Option<Rc<VerifiedToken>>,
    /// In the order of the rule's list; empty under any other rule, which then costs nothing.
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

    /// Those beside it.
    pub(super) fn others(&self) -> impl Iterator<Item = &VerifiedToken> + Clone {
        self.others.iter().map(|token| &**token)
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifiedToken> + Clone {
        self.principal().into_iter().chain(self.others())
    }

    /// When the first of them ends. `None`: there is no token.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.iter().map(|token| token.ends_at).min()
    }
}
