//! Who a request comes from.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;

use super::{Arrival, PeerResult};
use crate::spiffe::SpiffeId;
use crate::time::Timestamp;
use crate::token::VerifiedToken;

/// What the proxy knows of the connection that a request came on. Each answer costs the edge a call of its host, so it is
/// asked for where it matters alone, and once for each request.
pub trait Connection {
    /// What the connection proved about its peer, whenever that was.
    fn peer(&self) -> Rc<PeerResult>;

    /// Where it comes from.
    fn source_address(&self) -> Option<IpAddr>;
}

/// Who a request comes from.
pub(super) struct Identity<'a> {
    /// The verified token; `None` where the rule asks for none.
    pub(super) token: Option<Rc<VerifiedToken>>,
    connection: &'a dyn Connection,
    now: Timestamp,
    peer: OnceCell<Rc<PeerResult>>,
    source_address: OnceCell<Option<IpAddr>>,
}

impl<'a> Identity<'a> {
    /// Of a request whose token nobody has looked at yet.
    pub(super) fn of(arrival: &Arrival<'a>) -> Self {
        Self {
            token: None,
            connection: arrival.connection,
            now: arrival.now,
            peer: OnceCell::new(),
            source_address: OnceCell::new(),
        }
    }

    /// What the connection proved, as far as it holds now.
    pub(super) fn peer(&self) -> &Rc<PeerResult> {
        self.peer.get_or_init(|| {
            let peer = self.connection.peer();
            match peer.as_ref().as_ref().map(|peer| peer.check_validity(self.now)) {
                Ok(Err(error)) => Rc::new(Err(error)),
                Ok(Ok(())) | Err(_) => peer,
            }
        })
    }

    pub(super) fn peer_id(&self) -> Option<&SpiffeId> {
        self.peer().as_ref().as_ref().ok().map(|peer| &peer.id)
    }

    pub(super) fn source_address(&self) -> Option<IpAddr> {
        *self.source_address.get_or_init(|| self.connection.source_address())
    }
}
