//! `picket device`: what operators and reporters do with the devices of a running policy service.

mod text;

use std::path::PathBuf;

use clap::Subcommand;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_proto::v1;
use picket_proto::v1::device_admin_client::DeviceAdminClient;
use serde::Serialize;
use serde_json::json;
use tonic::transport::Channel;

use super::CommandError;
use super::listing::OfPrincipals;
use crate::clock;
use crate::exit::Exit;
use crate::files;
use crate::keys::PrivateKey;
use crate::output::{Output, Paint};
use crate::service::{ServiceArguments, ServiceError, ask_over};
use crate::token;
use text::DeviceAnswer;

/// As in `picket_core::enrollment`.
const PROOF_TYPE: &str = "picket-device+jwt";

const INVITE_EXAMPLES: &str = "\
Examples:
  picket device invite --issuer https://issuer.example --subject alice --label 'the laptop' \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const PROVE_EXAMPLES: &str = "\
Examples:
  picket device prove --device-key device-key.pem --challenge CHALLENGE \\
      --audience picket-policy-service";

const ENROLL_EXAMPLES: &str = "\
Examples:
  picket device enroll PROOF \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket device enroll \"$(ssh laptop picket device prove --device-key key.pem --challenge ...)\" ...";

const LIST_EXAMPLES: &str = "\
Examples:
  picket device list --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket device list ... --issuer https://issuer.example --subject alice
  picket device list ... --output json | jq '.devices[] | select(.trust.is_trusted | not)'";

const SHOW_EXAMPLES: &str = "\
Examples:
  picket device show ID --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket device show certificate:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 ...";

const STATE_EXAMPLES: &str = "\
Examples:
  picket device trust ID --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket device suspend ID ...
  picket device reinstate ID ...
  picket device retire ID ...";

const REPORT_EXAMPLES: &str = "\
Examples:
  picket device report ID --os macos --os-version 14.5 --disk-encrypted --managed \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem";

const THUMBPRINT_EXAMPLES: &str = "\
Examples:
  DIGEST=$(openssl x509 -in device.pem -outform DER | sha256sum | cut -d' ' -f1)
  picket device add-thumbprint ID certificate:$DIGEST \\
      --ca keys/ca.pem --certificate keys/operator.pem --key keys/operator-key.pem
  picket device remove-thumbprint ID certificate:$DIGEST ...";

/// Look at devices, enrol them, and say how far they are let
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a challenge that a device of somebody can answer once
    #[command(after_long_help = INVITE_EXAMPLES)]
    Invite(InviteArguments),
    /// Answer a challenge with a device's key; asks no service
    #[command(after_long_help = PROVE_EXAMPLES)]
    Prove(ProveArguments),
    /// Enrol the device that answered
    #[command(after_long_help = ENROLL_EXAMPLES)]
    Enroll(EnrollArguments),
    /// List devices
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show a device, how far it can be trusted, and why
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(WhichArguments),
    /// Trust a device
    #[command(after_long_help = STATE_EXAMPLES)]
    Trust(OneArguments),
    /// Suspend a device for a while
    #[command(after_long_help = STATE_EXAMPLES)]
    Suspend(OneArguments),
    /// Take a suspension, or the trust, back
    #[command(after_long_help = STATE_EXAMPLES)]
    Reinstate(OneArguments),
    /// Retire a device for good
    #[command(after_long_help = STATE_EXAMPLES)]
    Retire(OneArguments),
    /// Say what a device is like now; needs the role `reporter`
    #[command(after_long_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// Make a device known by a certificate or one more key
    #[command(after_long_help = THUMBPRINT_EXAMPLES)]
    AddThumbprint(ThumbprintArguments),
    /// Remove a thumbprint from a device
    #[command(after_long_help = THUMBPRINT_EXAMPLES)]
    RemoveThumbprint(ThumbprintArguments),
}

#[derive(clap::Args)]
pub(super) struct InviteArguments {
    /// The issuer of the owner's tokens
    #[arg(long)]
    issuer: String,
    /// The owner, as the tokens' `sub`
    #[arg(long)]
    subject: String,
    /// The owner's tenant
    #[arg(long)]
    tenant: Option<String>,
    /// What people call the device
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct ProveArguments {
    /// The device's private key, PEM (RSA of 2048 bits or more, or P-256)
    #[arg(long, value_name = "FILE")]
    device_key: PathBuf,
    /// The challenge of `picket device invite`
    #[arg(long)]
    challenge: String,
    /// The audience of `picket device invite`: `devices.audience` of the service
    #[arg(long, default_value = "picket-policy-service")]
    audience: String,
}

#[derive(clap::Args)]
pub(super) struct EnrollArguments {
    /// The proof of `picket device prove`
    proof: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    which: OfPrincipals,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct OneArguments {
    /// The device's id, a UUID
    id: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct WhichArguments {
    /// The device's id, or a thumbprint: `certificate:` or `key:` with 64 hexadecimal digits
    #[arg(value_name = "ID|THUMBPRINT")]
    which: String,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct ReportArguments {
    /// The device's id, or a thumbprint: `certificate:` or `key:` with 64 hexadecimal digits
    #[arg(value_name = "ID|THUMBPRINT")]
    which: String,
    /// Its operating system: lower-case letters, digits, `.`, `_` and `-`
    #[arg(long)]
    os: String,
    /// The version: one to four numbers with dots between them
    #[arg(long, value_name = "VERSION")]
    os_version: String,
    /// What it stores is encrypted
    #[arg(long)]
    disk_encrypted: bool,
    /// It is under management
    #[arg(long)]
    managed: bool,
    /// How many checks failed
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    failures: u16,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(clap::Args)]
pub(super) struct ThumbprintArguments {
    /// The device's id, a UUID
    id: String,
    /// `certificate:` or `key:` with 64 hexadecimal digits: SHA-256 of the certificate in DER, or the key's RFC 7638 thumbprint
    thumbprint: DeviceThumbprint,
    #[command(flatten)]
    service: ServiceArguments,
}

#[derive(Serialize)]
struct Changed {
    changed: bool,
}

#[derive(Serialize)]
struct Proof {
    proof: String,
    thumbprint: String,
}

pub(super) fn run(command: Command, output: Output) -> Result<Exit, CommandError> {
    match command {
        Command::Invite(arguments) => invite(arguments, output),
        Command::Prove(arguments) => prove(&arguments, output),
        Command::Enroll(arguments) => {
            let request = v1::EnrollDeviceRequest { proof: arguments.proof };
            let device = ask(&arguments.service, async |client| client.enroll_device(request).await)?;
            show(device.into_inner(), output)
        }
        Command::List(arguments) => list(arguments, output),
        Command::Show(arguments) => {
            let (id, thumbprint) = which(&arguments.which);
            let request = v1::ShowDeviceRequest { id, thumbprint };
            let device = ask(&arguments.service, async |client| client.show_device(request).await)?;
            show(device.into_inner(), output)
        }
        Command::Trust(arguments) => set_state(arguments, v1::DeviceState::Trusted, "trusted", output),
        Command::Suspend(arguments) => set_state(arguments, v1::DeviceState::Suspended, "suspended", output),
        Command::Reinstate(arguments) => set_state(arguments, v1::DeviceState::Enrolled, "reinstated", output),
        Command::Retire(arguments) => set_state(arguments, v1::DeviceState::Retired, "retired", output),
        Command::Report(arguments) => report(arguments, output),
        Command::AddThumbprint(arguments) => {
            let request = thumbprint_request(&arguments);
            let done = ask(&arguments.service, async |client| {
                client.add_device_thumbprint(request).await
            })?;
            said(done.into_inner().changed, "added", output)
        }
        Command::RemoveThumbprint(arguments) => {
            let request = thumbprint_request(&arguments);
            let done = ask(&arguments.service, async |client| {
                client.remove_device_thumbprint(request).await
            })?;
            said(done.into_inner().changed, "removed", output)
        }
    }
}

fn ask<T>(
    arguments: &ServiceArguments,
    question: impl AsyncFnOnce(&mut DeviceAdminClient<Channel>) -> Result<T, tonic::Status>,
) -> Result<T, ServiceError> {
    ask_over(arguments, async |channel| {
        question(&mut DeviceAdminClient::new(channel)).await
    })
}

fn invite(arguments: InviteArguments, output: Output) -> Result<Exit, CommandError> {
    let request = v1::BeginEnrollmentRequest {
        issuer: arguments.issuer,
        subject: arguments.subject,
        tenant: arguments.tenant.unwrap_or_default(),
        label: arguments.label.unwrap_or_default(),
    };
    let invited = ask(&arguments.service, async |client| {
        client.begin_enrollment(request).await
    })?;
    let answer = text::InviteAnswer::from(invited.into_inner());
    output.print(&answer.text(), &answer)?;
    Ok(Exit::Done)
}

fn prove(arguments: &ProveArguments, output: Output) -> Result<Exit, CommandError> {
    let pem = files::read_text(&arguments.device_key)?;
    let failed = |source| CommandError::Key {
        file: arguments.device_key.display().to_string(),
        source,
    };
    let key = PrivateKey::from_pem(&pem).map_err(failed)?;
    let header = json!({"typ": PROOF_TYPE, "alg": key.algorithm(), "jwk": key.public().jwk()});
    let claims = json!({
        "aud": arguments.audience,
        "iat": clock::unix_seconds(clock::now()),
        "nonce": arguments.challenge,
    });
    let answer = Proof {
        proof: token::sign(&key, &header, &claims).map_err(failed)?,
        thumbprint: key.public().thumbprint(),
    };
    output.print(&format!("{}\n", answer.proof), &answer)?;
    Ok(Exit::Done)
}

fn list(arguments: ListArguments, output: Output) -> Result<Exit, CommandError> {
    let which = arguments.which;
    let request = v1::ListDevicesRequest {
        issuer: which.issuer.unwrap_or_default(),
        subject: which.subject.unwrap_or_default(),
        tenant: which.tenant.unwrap_or_default(),
        after: which.after.unwrap_or_default(),
        count_max: which.page.count_max,
    };
    let page = ask(&arguments.service, async |client| client.list_devices(request).await)?;
    let answer = text::ListAnswer::from(page.into_inner());
    output.print(&answer.text(output), &answer)?;
    Ok(Exit::Done)
}

fn show(device: v1::Device, output: Output) -> Result<Exit, CommandError> {
    let answer = DeviceAnswer::from(device);
    output.print(&answer.text(output), &answer)?;
    Ok(Exit::Done)
}

fn set_state(
    arguments: OneArguments,
    state: v1::DeviceState,
    done: &str,
    output: Output,
) -> Result<Exit, CommandError> {
    let request = v1::SetDeviceStateRequest {
        id: arguments.id,
        state: state.into(),
    };
    let changed = ask(&arguments.service, async |client| {
        client.set_device_state(request).await
    })?;
    said(changed.into_inner().changed, done, output)
}

fn report(arguments: ReportArguments, output: Output) -> Result<Exit, CommandError> {
    let (id, thumbprint) = which(&arguments.which);
    let request = v1::ReportPostureRequest {
        id,
        thumbprint,
        os: arguments.os,
        os_version: arguments.os_version,
        is_disk_encrypted: arguments.disk_encrypted,
        is_managed: arguments.managed,
        failures: arguments.failures.into(),
    };
    let done = ask(&arguments.service, async |client| client.report_posture(request).await)?;
    said(done.into_inner().changed, "reported", output)
}

/// An id, or a thumbprint, which no id looks like.
fn which(text: &str) -> (String, Option<v1::DeviceThumbprint>) {
    match text.parse::<DeviceThumbprint>() {
        Ok(thumbprint) => (String::new(), Some(message(thumbprint))),
        Err(_) => (text.to_owned(), None),
    }
}

fn thumbprint_request(arguments: &ThumbprintArguments) -> v1::DeviceThumbprintRequest {
    v1::DeviceThumbprintRequest {
        id: arguments.id.clone(),
        thumbprint: Some(message(arguments.thumbprint)),
    }
}

fn message(thumbprint: DeviceThumbprint) -> v1::DeviceThumbprint {
    let of = match thumbprint {
        DeviceThumbprint::Certificate(digest) => v1::device_thumbprint::Of::Certificate(digest.into()),
        DeviceThumbprint::Key(digest) => v1::device_thumbprint::Of::Key(digest.into()),
    };
    v1::DeviceThumbprint { of: Some(of) }
}

fn said(changed: bool, done: &str, output: Output) -> Result<Exit, CommandError> {
    let text = if changed {
        output.paint(Paint::Good, done)
    } else {
        "unchanged: it was so before".to_owned()
    };
    output.print(&format!("{text}\n"), &Changed { changed })?;
    Ok(Exit::Done)
}
