//! Who a request comes from.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;

use super::PeerResult;
use crate::spiffe::SpiffeId;
use crate::token::VerifiedToken;

/// What the proxy knows of the connection that a request came on. Each answer costs the edge a call of its host, so it is
/// asked for where it matters alone, and once for each request.
pub trait Connection {
    /// What the connection proved about its peer.
    fn peer(&self) -> Rc<PeerResult>;

    /// Where it comes from.
    fn source_address(&self) -> Option<IpAddr>;
}

/// Who a request comes from.
pub(super) struct Identity<'a> {
    /// The verified token; `None` where the rule asks for none.
    pub(super) token: Option<Rc<VerifiedToken>>,
    /// Where it was; an index into the configuration's sources.
    pub(super) credential_source: Option<usize>,
    /// For the response: what the client's next proof must hold instead of what this one held.
    pub(super) next_nonce: Option<String>,
    connection: &'a dyn Connection,
    peer: OnceCell<Rc<PeerResult>>,
    source_address: OnceCell<Option<IpAddr>>,
}

impl<'a> Identity<'a> {
    /// Nobody yet, on this connection.
    pub(super) fn on(connection: &'a dyn Connection) -> Self {
        Self {
            token: None,
            credential_source: None,
            next_nonce: None,
            connection,
            peer: OnceCell::new(),
            source_address: OnceCell::new(),
        }
    }

    /// What the connection proved.
    pub(super) fn peer(&self) -> &Rc<PeerResult> {
        self.peer.get_or_init(|| self.connection.peer())
    }

    pub(super) fn peer_id(&self) -> Option<&SpiffeId> {
        self.peer().as_ref().as_ref().ok()
    }

    pub(super) fn source_address(&self) -> Option<IpAddr> {
        *self.source_address.get_or_init(|| self.connection.source_address())
    }
}
