//! A server of `envoy.service.auth.v3.Authorization` that permits everything: what ext_authz costs when who is asked does nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use picket::pki;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{self, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// `CheckRequest`, of which nothing is looked at.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {}

/// `CheckResponse`: the status, which is OK, and an empty `OkHttpResponse`.
#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RpcStatus>,
    #[prost(message, optional, tag = "3")]
    ok_response: Option<OkHttpResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct OkHttpResponse {}

#[derive(Debug, Clone, Copy)]
struct Authorization;

impl UnaryService<CheckRequest> for Authorization {
    type Response = CheckResponse;
    type Future = BoxFuture<Response<CheckResponse>, Status>;

    fn call(&mut self, _request: Request<CheckRequest>) -> Self::Future {
        let permit = CheckResponse {
            status: Some(RpcStatus { code: 0 }),
            ok_response: Some(OkHttpResponse {}),
        };
        Box::pin(std::future::ready(Ok(Response::new(permit))))
    }
}

impl NamedService for Authorization {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl<B> Service<http::Request<B>> for Authorization
where
    B: codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut codegen::Context<'_>) -> codegen::Poll<Result<(), Infallible>> {
        codegen::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Self, request).await) })
    }
}

/// Serves over mutual TLS with the policy service's certificate, on a port that the system gives out, until the process is
/// ended. Prints a line of JSON with the address.
///
/// # Errors
/// When a certificate cannot be read, or serving ends.
pub async fn serve(keys: &Path) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let read = |name: &str| std::fs::read(keys.join(name));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(
            read("policy-service.pem")?,
            read("policy-service-key.pem")?,
        ))
        .client_ca_root(Certificate::from_pem(read(pki::CA_FILE)?));
    println!("{}", json!({ "address": listener.local_addr()? }));
    Server::builder()
        .tls_config(tls)?
        .add_service(Authorization)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
