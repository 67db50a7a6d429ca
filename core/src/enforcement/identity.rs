//! Who a request comes from.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use picket_model::access::Possession;
use picket_model::spiffe::SpiffeId;
use picket_model::thumbprint::KeyThumbprint;

use super::FilterConfiguration;
use super::tokens::Tokens;
use super::{Arrival, PeerResult, Refusal};
use crate::reason::{DecidedBy, DenyReason};
use crate::source_address::{self, SourceAddressError};
use crate::token::credential::SourceSet;

/// The facts of the proxy about a request's connection. Each costs a call of the host, so it is
/// read at most once for each request, and only where a rule needs it.
pub trait Connection {
    /// The peer that the connection proved when it was made.
    fn peer(&self) -> Rc<PeerResult>;

    /// Where the connection comes from.
    fn source_address(&self) -> Option<IpAddr>;

    /// The address that the connection was made to, as the proxy knows it.
    fn destination(&self) -> Option<SocketAddr>;

    /// The server name that the caller's TLS asked for (RFC 6066 §3).
    fn server_name(&self) -> Option<String>;
}

/// Who a request comes from.
pub(super) struct Identity<'a> {
    /// The verified tokens; none where the rule asks for none.
    pub(super) tokens: Tokens,
    /// The places of these tokens.
    pub(super) credential_sources: SourceSet,
    /// Places of other providers that are not empty. Their content is not verified, and does not
    /// count.
    pub(super) unverified_sources: SourceSet,
    /// For the response: what the client's next proof must hold instead of what this one held.
    pub(super) next_nonce: Option<String>,
    arrival: &'a Arrival<'a>,
    configuration: &'a FilterConfiguration,
    peer: OnceCell<Rc<PeerResult>>,
    source_address: OnceCell<Result<IpAddr, SourceAddressError>>,
}

impl<'a> Identity<'a> {
    /// The identity of a request before its credentials are checked.
    pub(super) fn of(arrival: &'a Arrival<'a>, configuration: &'a FilterConfiguration) -> Self {
        Self {
            tokens: Tokens::default(),
            credential_sources: SourceSet::default(),
            unverified_sources: SourceSet::default(),
            next_nonce: None,
            arrival,
            configuration,
            peer: OnceCell::new(),
            source_address: OnceCell::new(),
        }
    }

    /// The peer that the connection proved, or that a trusted hop forwards, valid now.
    pub(super) fn peer(&self) -> &Rc<PeerResult> {
        self.peer.get_or_init(|| {
            let Arrival {
                connection,
                headers,
                now,
            } = self.arrival;
            self.configuration.peers.resolve(connection.peer(), headers, *now)
        })
    }

    pub(super) fn peer_id(&self) -> Option<&SpiffeId> {
        self.peer().as_ref().as_ref().ok().map(|peer| &peer.id)
    }

    /// The thumbprints of certificate and key whose possession the sender has proved.
    pub(super) fn possession(&self) -> Possession {
        let peer = self.peer().as_ref().as_ref();
        // INVARIANT: a token is in here only after its proof was checked (`CredentialCheck`).
        let token = self.tokens.principal();
        Possession {
            certificate: peer.ok().and_then(|peer| peer.thumbprint),
            key: token.and_then(|token| token.confirmation.key).map(KeyThumbprint),
        }
    }

    /// Where the request comes from; IPv4 that is mapped to IPv6 is IPv4.
    pub(super) fn source_address(&self) -> Result<IpAddr, &SourceAddressError> {
        let address = self.source_address.get_or_init(|| {
            let address = match self.configuration.forwarded_for_trusted_hops {
                0 => {
                    let address = self.arrival.connection.source_address();
                    address.ok_or(SourceAddressError::NoConnectionAddress)
                }
                hops => source_address::forwarded_for(self.arrival.headers, hops),
            };
            address.map(|address| address.to_canonical())
        });
        address.as_ref().copied()
    }

    /// The peer, for policies. `None`: no certificate that names a workload was presented.
    ///
    /// # Errors
    /// When the certificate proves nothing. As an absent peer it would not match the `forbid`
    /// policies that are meant for it.
    pub(super) fn peer_for_policies(&self) -> Result<Option<&SpiffeId>, Refusal> {
        match self.peer().as_ref() {
            Ok(peer) => Ok(Some(&peer.id)),
            Err(error) if error.names_no_workload() => Ok(None),
            Err(error) => Err((*error).into()),
        }
    }

    /// The source address, for policies. `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be read, as with [`Self::peer_for_policies`].
    pub(super) fn source_for_policies(&self) -> Result<Option<IpAddr>, Refusal> {
        match self.source_address() {
            Ok(address) => Ok(Some(address)),
            Err(SourceAddressError::NoConnectionAddress | SourceAddressError::TooFewEntries(_)) => Ok(None),
            Err(error @ SourceAddressError::NoAddress { .. }) => {
                Err(Refusal::new(DenyReason::RequestMalformed, DecidedBy::Request).with_detail(error))
            }
        }
    }
}
