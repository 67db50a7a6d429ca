//! What Envoy knows of the connection that a request came on.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::rc::Rc;

use picket_core::cache::Cache;
use picket_core::enforcement::{Connection, PeerResult};
use picket_core::peer::{self, PeerEvidence};
use picket_model::time::Timestamp;

use crate::host::{self, PropertyPath};

/// How many connections a worker remembers the peer of; for others the certificate is read again.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const CONNECTION_ID: PropertyPath = PropertyPath("connection\0id");
const PEER_CERTIFICATE: PropertyPath = PropertyPath("connection\0peer_certificate");
const PEER_CERTIFICATE_VALID: PropertyPath = PropertyPath("connection\0peer_certificate_valid");
const SOURCE_ADDRESS: PropertyPath = PropertyPath("source\0address");
const DESTINATION_ADDRESS: PropertyPath = PropertyPath("destination\0address");
const SERVER_NAME: PropertyPath = PropertyPath("connection\0requested_server_name");
const NODE_ID: PropertyPath = PropertyPath("xds\0node\0id");

/// The peers of the connections of one worker.
pub(crate) struct Connections {
    /// By Envoy's connection id, which is unique in a process. A connection's certificate never
    /// changes.
    peers: RefCell<Cache<u64, Rc<PeerResult>>>,
}

impl Connections {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            peers: RefCell::new(Cache::new(CONNECTIONS_MAX, seed)),
        }
    }
}

/// Answers for the connection of the request that the host is at.
impl Connection for Connections {
    /// The certificate is read once per connection.
    fn peer(&self) -> Rc<PeerResult> {
        let id = host::property(CONNECTION_ID)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        let Some(id) = id else {
            return Rc::new(read_peer());
        };
        let mut peers = self.peers.borrow_mut();
        if let Some(known) = peers.get(&id, Timestamp::from_ms(0)) {
            return Rc::clone(known);
        }
        let peer = Rc::new(read_peer());
        peers.put_without_end(id, Rc::clone(&peer));
        peer
    }

    /// Not kept: where Envoy takes it from a header, each request has its own.
    fn source_address(&self) -> Option<IpAddr> {
        address(SOURCE_ADDRESS).map(|address| address.ip())
    }

    fn destination(&self) -> Option<SocketAddr> {
        address(DESTINATION_ADDRESS)
    }

    /// Bytes that are no text do not make the name absent: a rule that rejects names could be
    /// avoided so.
    fn server_name(&self) -> Option<String> {
        host::property(SERVER_NAME).map(|name| String::from_utf8_lossy(&name).into_owned())
    }
}

fn address(path: PropertyPath) -> Option<SocketAddr> {
    std::str::from_utf8(&host::property(path)?).ok()?.parse().ok()
}

/// Envoy's node id; empty where it has none.
pub(crate) fn node_id() -> String {
    host::property(NODE_ID)
        .and_then(|id| String::from_utf8(id).ok())
        .unwrap_or_default()
}

fn read_peer() -> PeerResult {
    let validated = host::property(PEER_CERTIFICATE_VALID);
    let certificate = host::property(PEER_CERTIFICATE);
    peer::identify(PeerEvidence {
        is_validated: validated.map(|value| value == [1]),
        certificate_pem: certificate.as_deref(),
    })
}
