//! From what a connection proved to the peer of one request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use picket_model::spiffe::{SpiffeId, TrustDomain};
use picket_model::time::Timestamp;

use super::forwarded::ForwardedPeer;
use super::{Peer, PeerError};
use crate::request::Header;

/// How the peer of a request is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerResolution {
    /// Other names of trust domains, and the name that counts: where peers are matched, asked
    /// about, recorded and told.
    pub trust_domain_aliases: BTreeMap<TrustDomain, TrustDomain>,
    /// On whose word another peer is believed; `None`: on nobody's.
    pub forwarded_peer: Option<ForwardedPeer>,
}

impl PeerResolution {
    /// The peer of a request with these headers that comes on a connection which proved `direct`.
    pub(crate) fn resolve(
        &self,
        direct: Rc<Result<Peer, PeerError>>,
        headers: &[Header<'_>],
        now: Timestamp,
    ) -> Rc<Result<Peer, PeerError>> {
        let Ok(peer) = direct.as_ref() else {
            return direct;
        };
        if let Err(error) = peer.check_validity(now) {
            return Rc::new(Err(error));
        }
        let id = self.canonical(&peer.id);
        if let Some(forwarded) = self.forwarded_peer.as_ref().filter(|forwarded| forwarded.is_hop(&id)) {
            let canonical = |id: SpiffeId| self.canonical(&id).into_owned();
            return Rc::new(forwarded.read(headers, peer, now, canonical));
        }
        match id {
            Cow::Borrowed(_) => direct,
            Cow::Owned(id) => Rc::new(Ok(Peer { id, ..peer.clone() })),
        }
    }

    /// The ID with the name of its trust domain that counts. One that is too long with it stays as
    /// it is, in a trust domain whose peers no rule lets call.
    fn canonical<'i>(&self, id: &'i SpiffeId) -> Cow<'i, SpiffeId> {
        let alias = self.trust_domain_aliases.get(id.trust_domain());
        match alias.and_then(|domain| id.moved_to(domain)) {
            Some(id) => Cow::Owned(id),
            None => Cow::Borrowed(id),
        }
    }
}
