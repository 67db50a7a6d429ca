//! What Envoy knows of the connection that a request came on.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::rc::Rc;

use picket_core::cache::Cache;
use picket_core::enforcement::PeerResult;
use picket_core::peer::{self, PeerEvidence};
use picket_core::time::Timestamp;
use proxy_wasm::hostcalls;

/// How many connections a worker remembers the peer of; for others the certificate is read again.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const END_OF_TIME: Timestamp = Timestamp::from_ms(u64::MAX);

/// The peers of the connections of one worker.
pub(crate) struct Connections {
    /// By Envoy's connection id, which is unique in a process. A connection's certificate never changes.
    peers: Cache<u64, Rc<PeerResult>>,
}

impl Connections {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            peers: Cache::new(CONNECTIONS_MAX, seed),
        }
    }

    /// What the current request's connection proved about its peer; the certificate is read once per connection.
    pub(crate) fn peer(&mut self) -> Rc<PeerResult> {
        let id = property(&["connection", "id"])
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        let Some(id) = id else {
            return Rc::new(read_peer());
        };
        if let Some(known) = self.peers.get(&id, Timestamp::from_ms(0)) {
            return Rc::clone(known);
        }
        let peer = Rc::new(read_peer());
        self.peers.put(id, Rc::clone(&peer), END_OF_TIME);
        peer
    }
}

/// Where the current request's connection comes from.
pub(crate) fn source_address() -> Option<IpAddr> {
    let address = property(&["source", "address"])?;
    std::str::from_utf8(&address)
        .ok()?
        .parse::<SocketAddr>()
        .ok()
        .map(|address| address.ip())
}

/// Envoy's node id; empty where it has none.
pub(crate) fn node_id() -> String {
    property(&["xds", "node", "id"])
        .and_then(|id| String::from_utf8(id).ok())
        .unwrap_or_default()
}

fn read_peer() -> PeerResult {
    let validated = property(&["connection", "peer_certificate_valid"]);
    let certificate = property(&["connection", "peer_certificate"]);
    peer::identify(PeerEvidence {
        is_validated: validated.map(|value| value == [1]),
        certificate_pem: certificate.as_deref(),
    })
}

fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}
