//! A server of `envoy.service.auth.v3.Authorization` that permits everything: what ext_authz costs when who is asked does nothing.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use picket::pki;
use picket_proto::external::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use picket_proto::external::envoy::service::auth::v3::check_response::HttpResponse;
use picket_proto::external::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use picket_proto::external::google::rpc;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

#[derive(Debug, Clone, Copy)]
struct PermitEverything;

#[tonic::async_trait]
impl Authorization for PermitEverything {
    async fn check(&self, _request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse {
            status: Some(rpc::Status { code: 0 }),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
        }))
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
        .add_service(AuthorizationServer::new(PermitEverything))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
