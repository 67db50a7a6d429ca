//! Calls to a running policy service, over mutual TLS.

mod tls;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use picket_proto::v1::admin_client::AdminClient;
use picket_proto::v1::policy_admin_client::PolicyAdminClient;
use picket_proto::v1::role_admin_client::RoleAdminClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::files::{self, FileError};

/// Longer than the service takes for any call.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Where the service listens by default.
const ADDRESS: &str = "localhost:9191";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which policy service, and who asks it.
#[derive(clap::Args)]
pub(crate) struct ServiceArguments {
    /// Where the policy service listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = ADDRESS,
        help_heading = "Policy service"
    )]
    address: String,
    /// The authorities that sign the service's certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "Policy service")]
    ca: PathBuf,
    /// The caller's certificate chain, PEM; its SPIFFE ID needs a role in the service's configuration
    #[arg(long, value_name = "FILE", help_heading = "Policy service")]
    certificate: PathBuf,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", help_heading = "Policy service")]
    key: PathBuf,
    /// The name in the service's certificate; the address's host where it is not given
    #[arg(long, value_name = "NAME", help_heading = "Policy service")]
    server_name: Option<String>,
}

/// The same for a command that can do without a service: none of them, or all that are needed.
#[derive(clap::Args)]
pub(crate) struct OptionalServiceArguments {
    /// Where the policy service listens; localhost:9191 where it is not given
    #[arg(long, value_name = "HOST:PORT", requires = "ca", help_heading = "Policy service")]
    address: Option<String>,
    /// The authorities that sign the service's certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"], help_heading = "Policy service")]
    ca: Option<PathBuf>,
    /// The caller's certificate chain, PEM; its SPIFFE ID needs a role in the service's configuration
    #[arg(long, value_name = "FILE", requires = "ca", help_heading = "Policy service")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "ca", help_heading = "Policy service")]
    key: Option<PathBuf>,
    /// The name in the service's certificate; the address's host where it is not given
    #[arg(long, value_name = "NAME", requires = "ca", help_heading = "Policy service")]
    server_name: Option<String>,
}

impl OptionalServiceArguments {
    /// The service to ask, if one is to be asked.
    pub(crate) fn given(&self) -> Option<ServiceArguments> {
        Some(ServiceArguments {
            ca: self.ca.clone()?,
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            address: self.address.clone().unwrap_or_else(|| ADDRESS.to_owned()),
            server_name: self.server_name.clone(),
        })
    }
}

impl ServiceArguments {
    /// The host and the port of the address; the brackets of an IPv6 address are no part of the host.
    fn host_and_port(&self) -> Option<(&str, &str)> {
        let (host, port) = self.address.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']), port))
    }

    /// The name that the service's certificate must have.
    fn name<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }
}

/// Why the policy service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{0}` is not an address, expected one such as `localhost:9191`")]
    Address(String),
    #[error("cannot reach the policy service at `{address}`")]
    Connect {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("`{flag} {}`: {problem}", file.display())]
    Credentials {
        flag: &'static str,
        file: PathBuf,
        problem: String,
    },
    #[error("cannot use the connection to the policy service at `{address}`: {meaning}")]
    Tls { address: String, meaning: String },
    #[error("no runtime")]
    Runtime(#[source] std::io::Error),
    #[error("the policy service says {}: {}", .0.code(), crate::output::printable(.0.message()))]
    Refused(Box<tonic::Status>),
}

impl From<tonic::Status> for ServiceError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Connects, asks `picket.v1.Admin` and waits for the answer.
pub(crate) fn ask<T>(
    arguments: &ServiceArguments,
    question: impl AsyncFnOnce(&mut AdminClient<Channel>) -> Result<T, tonic::Status>,
) -> Result<T, ServiceError> {
    ask_over(arguments, async |channel| {
        question(&mut AdminClient::new(channel)).await
    })
}

/// The same of revisions of policies.
pub(crate) fn ask_policies<T>(
    arguments: &ServiceArguments,
    question: impl AsyncFnOnce(&mut PolicyAdminClient<Channel>) -> Result<T, tonic::Status>,
) -> Result<T, ServiceError> {
    ask_over(arguments, async |channel| {
        let client = PolicyAdminClient::new(channel);
        question(&mut client.max_decoding_message_size(picket_policy::REVISION_MESSAGE_BYTES_MAX)).await
    })
}

/// The same of roles.
pub(crate) fn ask_roles<T>(
    arguments: &ServiceArguments,
    question: impl AsyncFnOnce(&mut RoleAdminClient<Channel>) -> Result<T, tonic::Status>,
) -> Result<T, ServiceError> {
    ask_over(arguments, async |channel| {
        question(&mut RoleAdminClient::new(channel)).await
    })
}

/// Connects, asks over the connection and waits for the answer.
pub(crate) fn ask_over<T>(
    arguments: &ServiceArguments,
    question: impl AsyncFnOnce(Channel) -> Result<T, tonic::Status>,
) -> Result<T, ServiceError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServiceError::Runtime)?;
    let tls = tls::read(arguments)?;
    runtime.block_on(async {
        let answered = async { Ok(question(connect(arguments).await?).await?) }.await;
        match answered {
            Err(error) if is_about_the_connection(&error) => match tls::find_failure(arguments, tls).await {
                Some(meaning) => Err(ServiceError::Tls {
                    address: arguments.address.clone(),
                    meaning,
                }),
                None => Err(error),
            },
            answered => answered,
        }
    })
}

/// Whether the service has said nothing: what it says itself has no cause here.
fn is_about_the_connection(error: &ServiceError) -> bool {
    match error {
        ServiceError::Connect { .. } => true,
        ServiceError::Refused(status) => status.source().is_some(),
        ServiceError::File(_)
        | ServiceError::Address(_)
        | ServiceError::Credentials { .. }
        | ServiceError::Tls { .. }
        | ServiceError::Runtime(_) => false,
    }
}

async fn connect(arguments: &ServiceArguments) -> Result<Channel, ServiceError> {
    let address = &arguments.address;
    let failed = |source| ServiceError::Connect {
        address: address.clone(),
        source,
    };
    let invalid = || ServiceError::Address(address.clone());
    let (host, _port) = arguments.host_and_port().ok_or_else(invalid)?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(files::read_text(&arguments.ca)?))
        .identity(Identity::from_pem(
            files::read_text(&arguments.certificate)?,
            files::read_text(&arguments.key)?,
        ))
        .domain_name(arguments.name(host));
    Endpoint::from_shared(format!("https://{address}"))
        .map_err(|_| invalid())?
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .tls_config(tls)
        .map_err(failed)?
        .connect()
        .await
        .map_err(failed)
}
