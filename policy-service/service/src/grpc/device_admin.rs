//! `picket.v1.DeviceAdmin`: enrolment, states and posture of devices.

use std::sync::Arc;

use picket_audit::{Act, ActOutcome};
use picket_model::access::principal_name;
use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_proto::v1;
use picket_proto::v1::device_admin_server::DeviceAdmin;
use picket_state::devices::{
    Device, DeviceId, DeviceTrust, DeviceUpdate, Devices, EnrollmentRequest, OsName, OsVersion, Posture,
};
use tonic::Request;

use super::admin::{filter, name, page_length};
use super::{GrpcResult, admitted_for};
use crate::administration::{AdminAction, AdminError, Administration, Performed, ReportKind, now_us};
use crate::transport::AdmittedCall;
use picket_service_configuration::CallerRole;

/// The limit of a device's label.
const LABEL_BYTES_MAX: usize = 256;

/// Serves `DeviceAdmin`.
#[derive(Clone)]
pub(super) struct DeviceAdminService {
    administration: Arc<Administration>,
}

/// The device and whether it changed, where the change was possible.
type Changed = Result<(Box<Device>, bool), AdminError>;

impl DeviceAdminService {
    pub(super) fn new(administration: Arc<Administration>) -> Self {
        Self { administration }
    }

    /// The call and the devices, where the caller has the role.
    fn authorized<T>(
        &self,
        request: &Request<T>,
        role: CallerRole,
    ) -> Result<(AdmittedCall, Arc<Devices>), AdminError> {
        let call = admitted_for(request, role)?;
        let devices = self.administration.devices(&call, role)?;
        Ok((call, devices))
    }

    /// Performs and records an action, also where the device's state prevents it.
    async fn perform(
        &self,
        action: AdminAction,
        missing: AdminError,
        work: impl Future<Output = Result<DeviceUpdate, picket_state::StorageError>> + Send + 'static,
    ) -> Changed {
        let work = async move {
            let changed = of_change(work.await?, missing);
            let is_done = matches!(changed, Ok((_, true)));
            let outcome = if is_done {
                ActOutcome::Done
            } else {
                ActOutcome::Unchanged
            };
            Ok(Performed::new(outcome, changed))
        };
        self.administration.perform_audited(action, work).await?
    }
}

/// The enrolled device and its owner, for the audit record: before, only its key is known.
fn enrolled(changed: &Changed) -> Option<String> {
    let (device, _) = changed.as_ref().ok()?;
    let owner = principal_name(&device.issuer, &device.subject);
    let thumbprints: Vec<String> = device.thumbprints.iter().map(ToString::to_string).collect();
    Some(format!("{}: {} of {owner}", device.id, thumbprints.join(", ")))
}

fn of_change(change: DeviceUpdate, missing: AdminError) -> Changed {
    match change {
        DeviceUpdate::Done(device) => Ok((device, true)),
        DeviceUpdate::Unchanged(device) => Ok((device, false)),
        DeviceUpdate::Missing => Err(missing),
        DeviceUpdate::Retired => Err(AdminError::DeviceRetired),
        DeviceUpdate::Taken => Err(AdminError::ThumbprintTaken),
        DeviceUpdate::TooMany => Err(AdminError::TooMany("devices, or thumbprints of this one,")),
    }
}

fn response(changed: Changed) -> GrpcResult<v1::DeviceResponse> {
    let (_, changed) = changed?;
    Ok(tonic::Response::new(v1::DeviceResponse { changed }))
}

#[tonic::async_trait]
impl DeviceAdmin for DeviceAdminService {
    async fn begin_enrollment(
        &self,
        request: Request<v1::BeginEnrollmentRequest>,
    ) -> GrpcResult<v1::BeginEnrollmentResponse> {
        let (call, devices) = self.authorized(&request, CallerRole::Operator)?;
        let message = request.into_inner();
        if message.label.len() > LABEL_BYTES_MAX {
            return Err(AdminError::Field("label", "at most 256 bytes").into());
        }
        let wanted = EnrollmentRequest {
            issuer: name("issuer", message.issuer)?,
            subject: name("subject", message.subject)?,
            tenant: match message.tenant.as_str() {
                "" => None,
                _ => Some(name("tenant", message.tenant)?),
            },
            label: message.label,
            caller: call.caller().to_owned(),
        };
        let action = AdminAction {
            call,
            act: Act::BeginEnrollment,
            target: principal_name(&wanted.issuer, &wanted.subject),
        };
        let work = async move {
            let offer = devices.begin_enrollment(wanted, now_us()).await?;
            Ok(Performed::new(ActOutcome::Done, offer))
        };
        let offer = self.administration.perform_audited(action, work).await?;
        Ok(tonic::Response::new(v1::BeginEnrollmentResponse {
            challenge: offer.challenge.as_str().to_owned(),
            audience: offer.audience,
            ends_us: offer.ends_us,
        }))
    }

    async fn enroll_device(&self, request: Request<v1::EnrollDeviceRequest>) -> GrpcResult<v1::Device> {
        let (call, devices) = self.authorized(&request, CallerRole::Operator)?;
        let now_us = now_us();
        let proof = devices
            .verify_proof(&request.get_ref().proof, now_us)
            .map_err(AdminError::from)?;
        let action = AdminAction {
            call,
            act: Act::EnrollDevice,
            target: DeviceThumbprint::Key(proof.thumbprint.0).to_string(),
        };
        let shared = Arc::clone(&devices);
        let work = async move {
            let changed = of_change(devices.enroll(&proof, now_us).await?, AdminError::NoSuchChallenge);
            let outcome = if changed.is_ok() {
                ActOutcome::Done
            } else {
                ActOutcome::Unchanged
            };
            let target = enrolled(&changed);
            Ok(Performed::new(outcome, changed).with_target(target))
        };
        let (device, _) = self.administration.perform_audited(action, work).await??;
        let trust = shared.trust(&device, now_us);
        Ok(tonic::Response::new(to_message(*device, &trust)))
    }

    async fn set_device_state(&self, request: Request<v1::SetDeviceStateRequest>) -> GrpcResult<v1::DeviceResponse> {
        let (call, devices) = self.authorized(&request, CallerRole::Operator)?;
        let id = device_id("id", &request.get_ref().id)?;
        let (act, state) = match request.get_ref().state() {
            v1::DeviceState::Enrolled => (Act::ReinstateDevice, DeviceState::Enrolled),
            v1::DeviceState::Trusted => (Act::TrustDevice, DeviceState::Trusted),
            v1::DeviceState::Suspended => (Act::SuspendDevice, DeviceState::Suspended),
            v1::DeviceState::Retired => (Act::RetireDevice, DeviceState::Retired),
            v1::DeviceState::Unspecified => {
                return Err(AdminError::Field("state", "enrolled, trusted, suspended or retired").into());
            }
        };
        let action = AdminAction {
            call,
            act,
            target: id.to_string(),
        };
        let work = async move { devices.set_state(id, state, now_us()).await };
        response(self.perform(action, AdminError::NoSuchDevice, work).await)
    }

    async fn add_device_thumbprint(
        &self,
        request: Request<v1::DeviceThumbprintRequest>,
    ) -> GrpcResult<v1::DeviceResponse> {
        let (call, devices) = self.authorized(&request, CallerRole::Operator)?;
        let (id, thumbprint) = of_thumbprint_request(request.get_ref())?;
        let action = AdminAction {
            call,
            act: Act::AddDeviceThumbprint,
            target: format!("{id}: {thumbprint}"),
        };
        let work = async move { devices.add_thumbprint(id, thumbprint, now_us()).await };
        response(self.perform(action, AdminError::NoSuchDevice, work).await)
    }

    async fn remove_device_thumbprint(
        &self,
        request: Request<v1::DeviceThumbprintRequest>,
    ) -> GrpcResult<v1::DeviceResponse> {
        let (call, devices) = self.authorized(&request, CallerRole::Operator)?;
        let (id, thumbprint) = of_thumbprint_request(request.get_ref())?;
        let action = AdminAction {
            call,
            act: Act::RemoveDeviceThumbprint,
            target: format!("{id}: {thumbprint}"),
        };
        let work = async move { devices.remove_thumbprint(id, thumbprint, now_us()).await };
        response(self.perform(action, AdminError::NoSuchDevice, work).await)
    }

    async fn report_posture(&self, request: Request<v1::ReportPostureRequest>) -> GrpcResult<v1::DeviceResponse> {
        let (call, devices) = self.authorized(&request, CallerRole::Reporter)?;
        // Each is a record of the audit log, and a write.
        self.administration.count_reports(ReportKind::Posture, &call, 1)?;
        let message = request.into_inner();
        let posture = posture(&message, call.caller())?;
        let id = match device_name(&message.id, message.thumbprint.as_ref())? {
            DeviceName::Id(id) => id,
            DeviceName::Thumbprint(thumbprint) => {
                let found = devices.show_by_thumbprint(thumbprint).await.map_err(AdminError::from)?;
                found.ok_or(AdminError::NoSuchDevice)?.id
            }
        };
        let action = AdminAction {
            call,
            act: Act::ReportPosture,
            target: format!("{id}: {}", describe(&posture)),
        };
        let work = async move { devices.report(id, posture).await };
        response(self.perform(action, AdminError::NoSuchDevice, work).await)
    }

    async fn list_devices(&self, request: Request<v1::ListDevicesRequest>) -> GrpcResult<v1::ListDevicesResponse> {
        let (_call, devices) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.into_inner();
        let after = match message.after.as_str() {
            "" => None,
            after => Some(device_id("after", after)?),
        };
        let count_max = page_length(message.count_max)?;
        let filter = filter(&message.issuer, &message.subject, &message.tenant)?;
        let page = devices.list(filter, after, count_max).await.map_err(AdminError::from)?;
        let now_us = now_us();
        let to_message = |device: Device| {
            let trust = devices.trust(&device, now_us);
            to_message(device, &trust)
        };
        Ok(tonic::Response::new(v1::ListDevicesResponse {
            next: page.after.map(|id| id.to_string()).unwrap_or_default(),
            devices: page.devices.into_iter().map(to_message).collect(),
        }))
    }

    async fn show_device(&self, request: Request<v1::ShowDeviceRequest>) -> GrpcResult<v1::Device> {
        let (_call, devices) = self.authorized(&request, CallerRole::Reader)?;
        let message = request.get_ref();
        let found = match device_name(&message.id, message.thumbprint.as_ref())? {
            DeviceName::Id(id) => devices.show(id).await,
            DeviceName::Thumbprint(thumbprint) => devices.show_by_thumbprint(thumbprint).await,
        };
        let device = found.map_err(AdminError::from)?.ok_or(AdminError::NoSuchDevice)?;
        let trust = devices.trust(&device, now_us());
        Ok(tonic::Response::new(to_message(device, &trust)))
    }
}

/// The two ways in which a request names a device.
enum DeviceName {
    Id(DeviceId),
    Thumbprint(DeviceThumbprint),
}

fn device_name(id: &str, message: Option<&v1::DeviceThumbprint>) -> Result<DeviceName, AdminError> {
    match (id, message) {
        ("", Some(message)) => thumbprint(Some(message)).map(DeviceName::Thumbprint),
        (id, None) => device_id("id", id).map(DeviceName::Id),
        (_, Some(_)) => Err(AdminError::Field("thumbprint", "none where there is an `id`")),
    }
}

fn device_id(field: &'static str, text: &str) -> Result<DeviceId, AdminError> {
    text.parse()
        .map_err(|_| AdminError::Field(field, "a device's id, a UUID"))
}

fn of_thumbprint_request(request: &v1::DeviceThumbprintRequest) -> Result<(DeviceId, DeviceThumbprint), AdminError> {
    Ok((device_id("id", &request.id)?, thumbprint(request.thumbprint.as_ref())?))
}

fn thumbprint(message: Option<&v1::DeviceThumbprint>) -> Result<DeviceThumbprint, AdminError> {
    let expected = "the 32 bytes of a SHA-256 hash, of a certificate or of a key";
    let of = message.and_then(|message| message.of.as_ref());
    let read = match of {
        Some(v1::device_thumbprint::Of::Certificate(bytes)) => {
            bytes.as_slice().try_into().map(DeviceThumbprint::Certificate)
        }
        Some(v1::device_thumbprint::Of::Key(bytes)) => bytes.as_slice().try_into().map(DeviceThumbprint::Key),
        None => return Err(AdminError::Field("thumbprint", expected)),
    };
    read.map_err(|_| AdminError::Field("thumbprint", expected))
}

fn posture(message: &v1::ReportPostureRequest, caller: &str) -> Result<Posture, AdminError> {
    let os = "1 to 32 lower-case letters, digits, `.`, `_` and `-`";
    Ok(Posture {
        os: OsName::new(&message.os).ok_or(AdminError::Field("os", os))?,
        os_version: OsVersion::new(&message.os_version).ok_or(AdminError::Field(
            "os_version",
            "one to four numbers with dots between them",
        ))?,
        is_disk_encrypted: message.is_disk_encrypted,
        is_managed: message.is_managed,
        failures: u16::try_from(message.failures).map_err(|_| AdminError::Field("failures", "0 to 65535"))?,
        // By the service's clock: a reporter cannot make a report younger than it is.
        reported_us: now_us(),
        reporter: caller.to_owned(),
    })
}

/// A posture in words, for the audit record.
fn describe(posture: &Posture) -> String {
    let not = |is: bool| if is { "" } else { "not " };
    format!(
        "{} {}, {}encrypted, {}managed, {} failures",
        posture.os.as_str(),
        posture.os_version,
        not(posture.is_disk_encrypted),
        not(posture.is_managed),
        posture.failures
    )
}

fn to_message(device: Device, trust: &DeviceTrust) -> v1::Device {
    let state = match device.state {
        DeviceState::Enrolled => v1::DeviceState::Enrolled,
        DeviceState::Trusted => v1::DeviceState::Trusted,
        DeviceState::Suspended => v1::DeviceState::Suspended,
        DeviceState::Retired => v1::DeviceState::Retired,
    };
    let posture = |posture: Posture| v1::Posture {
        os: posture.os.as_str().to_owned(),
        os_version: posture.os_version.to_string(),
        is_disk_encrypted: posture.is_disk_encrypted,
        is_managed: posture.is_managed,
        failures: posture.failures.into(),
        reported_us: posture.reported_us,
        reporter: posture.reporter,
    };
    let part = |part: &picket_state::devices::TrustComponent| v1::DeviceTrustPart {
        points: part.points.into(),
        reason: part.cause.to_string(),
    };
    v1::Device {
        id: device.id.to_string(),
        issuer: device.issuer,
        subject: device.subject,
        tenant: device.tenant.unwrap_or_default(),
        label: device.label,
        state: state.into(),
        thumbprints: device.thumbprints.into_iter().map(thumbprint_message).collect(),
        posture: device.posture.map(posture),
        enrolled_us: device.enrolled_us,
        changed_us: device.changed_us,
        trust: Some(v1::DeviceTrust {
            score: trust.score.into(),
            is_compliant: trust.is_compliant,
            is_trusted: trust.is_trusted,
            parts: trust.parts.iter().map(part).collect(),
        }),
    }
}

fn thumbprint_message(thumbprint: DeviceThumbprint) -> v1::DeviceThumbprint {
    let of = match thumbprint {
        DeviceThumbprint::Certificate(digest) => v1::device_thumbprint::Of::Certificate(digest.into()),
        DeviceThumbprint::Key(digest) => v1::device_thumbprint::Of::Key(digest.into()),
    };
    v1::DeviceThumbprint { of: Some(of) }
}
