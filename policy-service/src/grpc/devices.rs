//! `picket.v1.DeviceAdmin`: what operators and reporters do with devices.

use std::sync::Arc;

use picket_core::access::principal_name;
use picket_proto::v1;
use picket_proto::v1::device_admin_server::DeviceAdmin;
use tonic::Request;

use super::act::{self, Caller, Done, Order, now_us};
use super::admin::{Answer, filter, name, page_length};
use super::budget::Budgets;
use super::status::AdminError;
use crate::audit::{Act, AuditLog, Outcome};
use crate::clock;
use crate::configuration::Role;
use crate::decision::Decider;
use crate::devices::{
    Device, DeviceId, DeviceState, Devices, Invitation, OsName, OsVersion, Posture, Thumbprint, Trust,
};
use crate::storage::DeviceChange;

/// What people call a device.
const LABEL_BYTES_MAX: usize = 256;

/// Answers operators' and reporters' calls.
#[derive(Clone)]
pub(super) struct DeviceCalls {
    /// `None`: no devices are kept.
    devices: Option<Arc<Devices>>,
    audit: AuditLog,
    budgets: Arc<Budgets>,
}

/// What became of a change, where it could be made.
type Changed = Result<(Box<Device>, bool), AdminError>;

impl DeviceCalls {
    pub(super) fn new(decider: &Decider) -> Self {
        Self {
            devices: decider.devices.clone(),
            audit: decider.audit.clone(),
            budgets: Arc::default(),
        }
    }

    /// The caller and the devices, if it has the role.
    fn admit<T>(&self, request: &Request<T>, role: Role) -> Result<(Caller, Arc<Devices>), AdminError> {
        let caller = act::admit(request, role)?;
        let devices = self.devices.clone().ok_or(AdminError::NoDevices)?;
        Ok((caller, devices))
    }

    /// Does what was ordered and records it, also where something is in the way.
    async fn carry_out(
        &self,
        order: Order,
        missing: AdminError,
        work: impl Future<Output = Result<DeviceChange, crate::storage::StorageError>> + Send + 'static,
    ) -> Changed {
        let work = async move {
            let answer = of_change(work.await?, missing);
            let is_done = matches!(answer, Ok((_, true)));
            let outcome = if is_done { Outcome::Done } else { Outcome::Unchanged };
            Ok(Done { outcome, answer })
        };
        act::carry_out(&self.audit, order, work).await?
    }
}

fn of_change(change: DeviceChange, missing: AdminError) -> Changed {
    match change {
        DeviceChange::Done(device) => Ok((device, true)),
        DeviceChange::Unchanged(device) => Ok((device, false)),
        DeviceChange::Missing => Err(missing),
        DeviceChange::Retired => Err(AdminError::DeviceRetired),
        DeviceChange::Taken => Err(AdminError::ThumbprintTaken),
        DeviceChange::TooMany => Err(AdminError::TooMany("devices, or thumbprints of this one,")),
    }
}

fn response(changed: Changed) -> Answer<v1::DeviceResponse> {
    let (_, changed) = changed?;
    Ok(tonic::Response::new(v1::DeviceResponse { changed }))
}

#[tonic::async_trait]
impl DeviceAdmin for DeviceCalls {
    async fn begin_enrollment(
        &self,
        request: Request<v1::BeginEnrollmentRequest>,
    ) -> Answer<v1::BeginEnrollmentResponse> {
        let (caller, devices) = self.admit(&request, Role::Operator)?;
        let asked = request.into_inner();
        if asked.label.len() > LABEL_BYTES_MAX {
            return Err(AdminError::Field("label", "at most 256 bytes").into());
        }
        let invitation = Invitation {
            issuer: name("issuer", asked.issuer)?,
            subject: name("subject", asked.subject)?,
            tenant: match asked.tenant.as_str() {
                "" => None,
                _ => Some(name("tenant", asked.tenant)?),
            },
            label: asked.label,
            caller: (*caller).to_owned(),
        };
        let order = Order {
            caller,
            act: Act::BeginEnrollment,
            target: principal_name(&invitation.issuer, &invitation.subject),
        };
        let work = async move {
            let answer = devices.invite(invitation, now_us()).await?;
            let outcome = Outcome::Done;
            Ok(Done { outcome, answer })
        };
        let invited = act::carry_out(&self.audit, order, work).await?;
        Ok(tonic::Response::new(v1::BeginEnrollmentResponse {
            challenge: invited.challenge.as_str().to_owned(),
            audience: invited.audience,
            ends_us: invited.ends_us,
        }))
    }

    async fn enroll_device(&self, request: Request<v1::EnrollDeviceRequest>) -> Answer<v1::Device> {
        let (caller, devices) = self.admit(&request, Role::Operator)?;
        let now_us = now_us();
        let proof = devices
            .check(&request.get_ref().proof, now_us)
            .map_err(AdminError::from)?;
        let order = Order {
            caller,
            act: Act::EnrollDevice,
            target: Thumbprint::Key(proof.thumbprint.0).to_string(),
        };
        let shared = Arc::clone(&devices);
        let work = async move { devices.enroll(&proof, now_us).await };
        let (device, _) = self.carry_out(order, AdminError::NoSuchChallenge, work).await?;
        let trust = shared.trust(&device, now_us);
        Ok(tonic::Response::new(shown(*device, &trust)))
    }

    async fn set_device_state(&self, request: Request<v1::SetDeviceStateRequest>) -> Answer<v1::DeviceResponse> {
        let (caller, devices) = self.admit(&request, Role::Operator)?;
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
        let order = Order {
            caller,
            act,
            target: id.to_string(),
        };
        let work = async move { devices.set_state(id, state, now_us()).await };
        response(self.carry_out(order, AdminError::NoSuchDevice, work).await)
    }

    async fn add_device_thumbprint(&self, request: Request<v1::DeviceThumbprintRequest>) -> Answer<v1::DeviceResponse> {
        let (caller, devices) = self.admit(&request, Role::Operator)?;
        let (id, thumbprint) = of_thumbprint_request(request.get_ref())?;
        let order = Order {
            caller,
            act: Act::AddDeviceThumbprint,
            target: format!("{id}: {thumbprint}"),
        };
        let work = async move { devices.add_thumbprint(id, thumbprint, now_us()).await };
        response(self.carry_out(order, AdminError::NoSuchDevice, work).await)
    }

    async fn remove_device_thumbprint(
        &self,
        request: Request<v1::DeviceThumbprintRequest>,
    ) -> Answer<v1::DeviceResponse> {
        let (caller, devices) = self.admit(&request, Role::Operator)?;
        let (id, thumbprint) = of_thumbprint_request(request.get_ref())?;
        let order = Order {
            caller,
            act: Act::RemoveDeviceThumbprint,
            target: format!("{id}: {thumbprint}"),
        };
        let work = async move { devices.remove_thumbprint(id, thumbprint, now_us()).await };
        response(self.carry_out(order, AdminError::NoSuchDevice, work).await)
    }

    async fn report_posture(&self, request: Request<v1::ReportPostureRequest>) -> Answer<v1::DeviceResponse> {
        let (caller, devices) = self.admit(&request, Role::Reporter)?;
        // Each is a record of the audit log, and a write.
        if !self.budgets.spend(&caller, 1, clock::now_unix_us()) {
            return Err(AdminError::TooManyReports.into());
        }
        let asked = request.into_inner();
        let posture = posture(&asked, &caller)?;
        let id = match named(&asked.id, asked.thumbprint.as_ref())? {
            Named::Id(id) => id,
            Named::Thumbprint(thumbprint) => {
                let found = devices.show_of(thumbprint).await.map_err(AdminError::from)?;
                found.ok_or(AdminError::NoSuchDevice)?.id
            }
        };
        let order = Order {
            caller,
            act: Act::ReportPosture,
            target: format!("{id}: {}", told(&posture)),
        };
        let work = async move { devices.report(id, posture).await };
        response(self.carry_out(order, AdminError::NoSuchDevice, work).await)
    }

    async fn list_devices(&self, request: Request<v1::ListDevicesRequest>) -> Answer<v1::ListDevicesResponse> {
        let (_caller, devices) = self.admit(&request, Role::Reader)?;
        let asked = request.into_inner();
        let after = match asked.after.as_str() {
            "" => None,
            after => Some(device_id("after", after)?),
        };
        let count_max = page_length(asked.count_max)?;
        let filter = filter(&asked.issuer, &asked.subject, &asked.tenant)?;
        let page = devices.list(filter, after, count_max).await.map_err(AdminError::from)?;
        let now_us = now_us();
        let shown = |device: Device| {
            let trust = devices.trust(&device, now_us);
            shown(device, &trust)
        };
        Ok(tonic::Response::new(v1::ListDevicesResponse {
            next: page.after.map(|id| id.to_string()).unwrap_or_default(),
            devices: page.devices.into_iter().map(shown).collect(),
        }))
    }

    async fn show_device(&self, request: Request<v1::ShowDeviceRequest>) -> Answer<v1::Device> {
        let (_caller, devices) = self.admit(&request, Role::Reader)?;
        let asked = request.get_ref();
        let found = match named(&asked.id, asked.thumbprint.as_ref())? {
            Named::Id(id) => devices.show(id).await,
            Named::Thumbprint(thumbprint) => devices.show_of(thumbprint).await,
        };
        let device = found.map_err(AdminError::from)?.ok_or(AdminError::NoSuchDevice)?;
        let trust = devices.trust(&device, now_us());
        Ok(tonic::Response::new(shown(device, &trust)))
    }
}

/// How a request says which device.
enum Named {
    Id(DeviceId),
    Thumbprint(Thumbprint),
}

fn named(id: &str, message: Option<&v1::DeviceThumbprint>) -> Result<Named, AdminError> {
    match (id, message) {
        ("", Some(message)) => thumbprint(Some(message)).map(Named::Thumbprint),
        (id, None) => device_id("id", id).map(Named::Id),
        (_, Some(_)) => Err(AdminError::Field("thumbprint", "none where there is an `id`")),
    }
}

fn device_id(field: &'static str, text: &str) -> Result<DeviceId, AdminError> {
    text.parse()
        .map_err(|_| AdminError::Field(field, "a device's id, a UUID"))
}

fn of_thumbprint_request(request: &v1::DeviceThumbprintRequest) -> Result<(DeviceId, Thumbprint), AdminError> {
    Ok((device_id("id", &request.id)?, thumbprint(request.thumbprint.as_ref())?))
}

fn thumbprint(message: Option<&v1::DeviceThumbprint>) -> Result<Thumbprint, AdminError> {
    let expected = "the 32 bytes of a SHA-256 hash, of a certificate or of a key";
    let of = message.and_then(|message| message.of.as_ref());
    let read = match of {
        Some(v1::device_thumbprint::Of::Certificate(bytes)) => bytes.as_slice().try_into().map(Thumbprint::Certificate),
        Some(v1::device_thumbprint::Of::Key(bytes)) => bytes.as_slice().try_into().map(Thumbprint::Key),
        None => return Err(AdminError::Field("thumbprint", expected)),
    };
    read.map_err(|_| AdminError::Field("thumbprint", expected))
}

fn posture(asked: &v1::ReportPostureRequest, caller: &str) -> Result<Posture, AdminError> {
    let os = "1 to 32 lower-case letters, digits, `.`, `_` and `-`";
    Ok(Posture {
        os: OsName::new(&asked.os).ok_or(AdminError::Field("os", os))?,
        os_version: OsVersion::new(&asked.os_version).ok_or(AdminError::Field(
            "os_version",
            "one to four numbers with dots between them",
        ))?,
        is_disk_encrypted: asked.is_disk_encrypted,
        is_managed: asked.is_managed,
        failures: u16::try_from(asked.failures).map_err(|_| AdminError::Field("failures", "0 to 65535"))?,
        // By the service's clock: a reporter cannot make a report younger than it is.
        reported_us: now_us(),
        reporter: caller.to_owned(),
    })
}

/// A posture in the words of the record.
fn told(posture: &Posture) -> String {
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

fn shown(device: Device, trust: &Trust) -> v1::Device {
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
    let part = |part: &crate::devices::Part| v1::DeviceTrustPart {
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
        thumbprints: device.thumbprints.into_iter().map(shown_thumbprint).collect(),
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

fn shown_thumbprint(thumbprint: Thumbprint) -> v1::DeviceThumbprint {
    let of = match thumbprint {
        Thumbprint::Certificate(digest) => v1::device_thumbprint::Of::Certificate(digest.into()),
        Thumbprint::Key(digest) => v1::device_thumbprint::Of::Key(digest.into()),
    };
    v1::DeviceThumbprint { of: Some(of) }
}
