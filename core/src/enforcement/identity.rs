//! Who a request comes from.

use std::rc::Rc;

use super::PeerResult;
use crate::spiffe::SpiffeId;
use crate::token::VerifiedToken;

/// Who a request comes from.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The verified token; `None` where the rule asks for none.
    pub(super) token: Option<Rc<VerifiedToken>>,
    /// What the connection proved.
    pub(super) peer: Rc<PeerResult>,
}

impl Identity {
    pub(super) fn peer_id(&self) -> Option<&SpiffeId> {
        self.peer.as_ref().as_ref().ok()
    }
}
