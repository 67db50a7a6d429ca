//! Envoy's description of a request, as core reads it.

use std::net::{IpAddr, SocketAddr};

use picket_core::request::Header;
use picket_proto::external::envoy::config::core::v3::{Address, HeaderValue, address, socket_address};
use picket_proto::external::envoy::service::auth::v3::CheckRequest;

/// Why a message of Envoy's cannot be checked. `Display` names the setting that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// It has no headers, or merged ones, which hide a header that was sent twice.
    #[error("`attributes.request.http.header_map` is required: ext_authz needs `encode_raw_headers: true`")]
    NoRawHeaders,
    /// A header name that Envoy has not written: it writes them in lower case.
    #[error("`attributes.request.http.header_map` has a name that is not in lower case")]
    HeaderName,
}

/// A request that Envoy asks about. Only headers and connection are read: not `context_extensions`,
/// metadata, or `source.principal`, which has no proof.
#[derive(Debug)]
pub(super) struct ExternalRequest {
    headers: Vec<HeaderValue>,
    /// PEM, percent-encoded; empty: the caller presented none.
    pub(super) certificate: String,
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<SocketAddr>,
    pub(super) server_name: Option<String>,
}

impl TryFrom<CheckRequest> for ExternalRequest {
    type Error = RequestError;

    fn try_from(message: CheckRequest) -> Result<Self, RequestError> {
        let attributes = message.attributes.ok_or(RequestError::NoRawHeaders)?;
        let http = attributes.request.and_then(|request| request.http);
        let headers = http.and_then(|http| http.header_map).map(|map| map.headers);
        let headers = headers.ok_or(RequestError::NoRawHeaders)?;
        if headers
            .iter()
            .any(|header| header.key.bytes().any(|b| b.is_ascii_uppercase()))
        {
            return Err(RequestError::HeaderName);
        }
        let source = attributes.source.unwrap_or_default();
        let destination = attributes.destination.and_then(|peer| peer.address);
        let server_name = attributes.tls_session.map(|session| session.sni);
        Ok(Self {
            headers,
            certificate: source.certificate,
            source: source.address.as_ref().and_then(socket).map(|address| address.ip()),
            destination: destination.as_ref().and_then(socket),
            server_name: server_name.filter(|name| !name.is_empty()),
        })
    }
}

impl ExternalRequest {
    /// All headers, pseudo-headers among them, in the order in which they came.
    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        let headers = self.headers.iter();
        headers
            .map(|header| (header.key.as_str(), header.raw_value.as_slice()))
            .collect()
    }
}

/// `None`: an address of another kind, or one without a port.
fn socket(address: &Address) -> Option<SocketAddr> {
    let address::Address::SocketAddress(socket) = address.address.as_ref()?;
    let ip = socket.address.parse().ok()?;
    let socket_address::PortSpecifier::PortValue(port) = socket.port_specifier.as_ref()?;
    Some(SocketAddr::new(ip, u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use picket_proto::external::envoy::config::core::v3::{HeaderMap, SocketAddress};
    use picket_proto::external::envoy::service::auth::v3::AttributeContext;
    use picket_proto::external::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request, TlsSession};

    use super::*;

    fn header(name: &str, value: &[u8]) -> HeaderValue {
        HeaderValue {
            key: name.to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        }
    }

    fn address(text: &str, port: u32) -> Option<Address> {
        let port_specifier = Some(socket_address::PortSpecifier::PortValue(port));
        let socket = SocketAddress {
            address: text.to_owned(),
            port_specifier,
        };
        let address = Some(address::Address::SocketAddress(socket));
        Some(Address { address })
    }

    fn message(headers: Vec<HeaderValue>) -> CheckRequest {
        let http = HttpRequest {
            header_map: Some(HeaderMap { headers }),
        };
        let peer = |address| Peer {
            address,
            certificate: String::new(),
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(peer(address("10.0.0.1", 4000))),
                destination: Some(peer(address("::1", 8443))),
                request: Some(Request { http: Some(http) }),
                tls_session: Some(TlsSession {
                    sni: "orders.example.org".to_owned(),
                }),
            }),
        }
    }

    #[test]
    fn headers_stay_apart_and_stay_bytes() {
        let sent = [("dpop", b"a".as_slice()), ("dpop", b"b"), ("x-bytes", b"\xff")];
        let request = message(sent.iter().map(|(name, value)| header(name, value)).collect());
        let request = ExternalRequest::try_from(request).unwrap();
        assert_eq!(request.headers(), sent);
        assert_eq!(request.source, "10.0.0.1".parse().ok());
        assert_eq!(request.destination, "[::1]:8443".parse().ok());
        assert_eq!(request.server_name.as_deref(), Some("orders.example.org"));
    }

    #[test]
    fn a_request_without_raw_headers_is_none() {
        let refused = |request| ExternalRequest::try_from(request).map(|_| ()).unwrap_err();
        let mut merged = message(Vec::new());
        if let Some(request) = merged
            .attributes
            .as_mut()
            .and_then(|attributes| attributes.request.as_mut())
        {
            request.http = Some(HttpRequest { header_map: None });
        }
        for request in [CheckRequest::default(), merged] {
            assert_eq!(refused(request), RequestError::NoRawHeaders);
        }
        assert_eq!(refused(message(vec![header("X-A", b"")])), RequestError::HeaderName);
    }

    #[test]
    fn what_is_no_ip_address_with_a_port_is_no_address() {
        for (text, port) in [("/run/socket", 0), ("10.0.0.1", 65_536), ("", 1)] {
            assert_eq!(address(text, port).as_ref().and_then(socket), None, "{text}:{port}");
        }
        assert_eq!(socket(&Address::default()), None);
    }
}
