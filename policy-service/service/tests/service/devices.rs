//! Devices through the real program: enrolled by a proof, reported, trusted, suspended, and what decisions make of them.

use picket_audit::{Act, ActOutcome, Event, KeyEncryptionKey};
use picket_proto::v1;
use picket_proto::v1::device_admin_client::DeviceAdminClient;
use picket_proto::v1::{AccessRequest, Attribute, DeviceState, Effect};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::version::TLS13;
use serde_json::json;
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::admin::{CALLERS, OPERATOR};
use crate::harness::{KEY, Service, Setup, request};
use crate::sessions::client;

const REPORTER: &str = "spiffe://example.org/mdm";
const READER: &str = "spiffe://example.org/reader";
const DEVICES: &str = r#"
    [[grpc.callers]]
    spiffe_id = "spiffe://example.org/mdm"
    roles = ["reporter"]
    [devices]
    audience = "pdp"
    [devices.compliance]
    os_versions_min = { macos = "14.2" }
    disk_encryption_required = true
    [devices.trust]
    failure_points = 30
    [storage]
    sqlite_file = "storage.sqlite3"
"#;
const POLICY: &str = r#"
@id("secret-device")
permit (principal is Picket::User, action, resource)
when { resource.route_rule == "secret" && context has device && context.device.is_trusted && context.device.is_owner };
"#;

/// A device's own key.
struct DeviceKey(Ed25519KeyPair);

impl DeviceKey {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn x(&self) -> String {
        base64url(self.0.public_key().as_ref())
    }

    fn proof(&self, challenge: &str, audience: &str) -> String {
        let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": self.x()});
        let header = json!({"typ": "picket-device+jwt", "alg": "EdDSA", "jwk": jwk});
        let iat = picket_policy_service::clock::now_unix_us() / 1_000_000;
        let claims = json!({"aud": audience, "iat": iat, "nonce": challenge});
        let part = |json: &serde_json::Value| base64url(json.to_string().as_bytes());
        let message = format!("{}.{}", part(&header), part(&claims));
        format!("{message}.{}", base64url(self.0.sign(message.as_bytes()).as_ref()))
    }

    /// RFC 8037 §2.
    fn thumbprint(&self) -> Vec<u8> {
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        ring::digest::digest(&ring::digest::SHA256, members.as_bytes())
            .as_ref()
            .to_vec()
    }
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            let letter = usize::try_from(number >> (18 - 6 * index) & 63).unwrap();
            text.push(char::from(LETTERS[letter]));
        }
    }
    text
}

async fn admin(setup: &Setup, service: &Service, caller: &str) -> DeviceAdminClient<Channel> {
    let identity = setup.authority.identity(caller);
    let config = setup.authority.client(Some(&identity), &TLS13);
    DeviceAdminClient::new(setup.channel(service, config).await.unwrap())
}

fn setup() -> Setup {
    let setup = Setup::with(&format!("{CALLERS}{DEVICES}"));
    std::fs::write(setup.path("policies").join("secret.cedar"), POLICY).unwrap();
    setup
}

fn invitation() -> v1::BeginEnrollmentRequest {
    v1::BeginEnrollmentRequest {
        issuer: "https://issuer.example".to_owned(),
        subject: request(&[], "GET", "secret", "").principal.unwrap().subject,
        label: "the laptop".to_owned(),
        ..v1::BeginEnrollmentRequest::default()
    }
}

fn asked(key: &DeviceKey) -> AccessRequest {
    let mut asked = request(&["reader"], "GET", "secret", "");
    asked.context.as_mut().unwrap().key_thumbprint = key.thumbprint();
    asked
}

fn posture(id: &str) -> v1::ReportPostureRequest {
    v1::ReportPostureRequest {
        id: id.to_owned(),
        os: "macos".to_owned(),
        os_version: "14.5".to_owned(),
        is_disk_encrypted: true,
        ..v1::ReportPostureRequest::default()
    }
}

async fn set(admin: &mut DeviceAdminClient<Channel>, id: &str, state: DeviceState) -> bool {
    let request = v1::SetDeviceStateRequest {
        id: id.to_owned(),
        state: state.into(),
    };
    admin.set_device_state(request).await.unwrap().into_inner().changed
}

async fn enroll(admin: &mut DeviceAdminClient<Channel>, key: &DeviceKey) -> v1::Device {
    let invited = admin.begin_enrollment(invitation()).await.unwrap().into_inner();
    let proof = key.proof(&invited.challenge, &invited.audience);
    let device = admin.enroll_device(v1::EnrollDeviceRequest { proof }).await;
    device.unwrap().into_inner()
}

#[tokio::test]
async fn a_decision_follows_a_device_from_its_enrolment_to_its_end() {
    let setup = setup();
    let mut service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let mut reporter = self::admin(&setup, &service, REPORTER).await;
    let key = DeviceKey::new();
    let mut decide = async || decisions.decide(asked(&key)).await.unwrap().into_inner();

    let unknown = decide().await;
    assert_eq!(unknown.effect(), Effect::Deny);
    assert!(unknown.challenge.unwrap().trusted_device);
    assert!(unknown.vary.unwrap().attributes.contains(&Attribute::Device.into()));

    let device = enroll(&mut admin, &key).await;
    let id = device.id.clone();
    assert_eq!(
        (device.state(), device.label.as_str()),
        (DeviceState::Enrolled, "the laptop")
    );
    assert!(decide().await.challenge.unwrap().trusted_device);
    assert!(set(&mut admin, &id, DeviceState::Trusted).await);
    assert!(!set(&mut admin, &id, DeviceState::Trusted).await);
    // Nothing was reported, and something is asked for.
    assert_eq!(decide().await.effect(), Effect::Deny);
    assert!(
        reporter
            .report_posture(posture(&id))
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    let permit = decide().await;
    assert_eq!(permit.effect(), Effect::Permit);
    assert_eq!(permit.valid_for_ms, 60_000);
    let failing = v1::ReportPostureRequest {
        id: String::new(),
        thumbprint: Some(v1::DeviceThumbprint {
            of: Some(v1::device_thumbprint::Of::Key(key.thumbprint())),
        }),
        failures: 2,
        ..posture("")
    };
    reporter.report_posture(failing).await.unwrap();
    assert_eq!(decide().await.effect(), Effect::Deny);
    reporter.report_posture(posture(&id)).await.unwrap();
    assert_eq!(decide().await.effect(), Effect::Permit);

    assert!(set(&mut admin, &id, DeviceState::Suspended).await);
    let suspended = decide().await;
    assert_eq!(suspended.caller_reasons, ["device_suspended"]);
    assert_eq!(suspended.challenge, None);
    assert!(set(&mut admin, &id, DeviceState::Retired).await);
    assert_eq!(decide().await.caller_reasons, ["device_retired"]);
    let retired = v1::SetDeviceStateRequest {
        id: id.clone(),
        state: DeviceState::Trusted.into(),
    };
    let refused = admin.set_device_state(retired).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let metrics = service.get("/metrics").1;
    let counted = "picket_policy_service_device_refusals_total{reason=\"device_suspended\"} 1";
    assert!(metrics.contains(counted), "{metrics}");

    service.terminate();
    assert!(
        tokio::task::spawn_blocking(move || service.wait())
            .await
            .unwrap()
            .success()
    );
    check_records(&setup, &id);
}

/// How far the device is trusted is a signal, and the device is known by what is proved, whatever its client says it is.
#[tokio::test]
async fn risk_knows_a_device_by_its_key_and_looks_at_how_far_it_is_trusted() {
    let setup = setup();
    let text = std::fs::read_to_string(setup.path("service.toml")).unwrap();
    std::fs::write(
        setup.path("service.toml"),
        format!("{text}\n[risk]\nstate_file = \"risk.state\"\n"),
    )
    .unwrap();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let mut reporter = self::admin(&setup, &service, REPORTER).await;
    let key = DeviceKey::new();
    let mut score = async |user_agent: &str, asked: AccessRequest| {
        let mut asked = asked;
        asked.context.as_mut().unwrap().user_agent = user_agent.to_owned();
        let decision = decisions.decide(asked).await.unwrap().into_inner();
        (
            decision.risk.unwrap().score,
            decision.effect == i32::from(Effect::Permit),
        )
    };
    assert_eq!(score("a", asked(&key)).await, (0, false));
    let device = enroll(&mut admin, &key).await;
    // Nothing was reported of it: it is little trusted, and does not comply, which is one kind.
    assert_eq!(score("a", asked(&key)).await, (25, false));
    assert!(set(&mut admin, &device.id, DeviceState::Trusted).await);
    reporter.report_posture(posture(&device.id)).await.unwrap();
    assert_eq!(score("a", asked(&key)).await, (0, true));
    // The same device with another client, and the same client without the device.
    assert_eq!(score("b", asked(&key)).await, (0, true));
    let mut without = asked(&key);
    without.context.as_mut().unwrap().key_thumbprint = Vec::new();
    assert_eq!(score("a", without).await, (25, false));
}

fn check_records(setup: &Setup, id: &str) {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let acts: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.content {
            Event::Administration(record) => Some((record.act, record.outcome)),
            Event::Decision(_) | Event::Session(_) | Event::Search(_) => None,
        })
        .collect();
    let expected = [
        (Act::BeginEnrollment, ActOutcome::Done),
        (Act::EnrollDevice, ActOutcome::Done),
        (Act::TrustDevice, ActOutcome::Done),
        (Act::TrustDevice, ActOutcome::Unchanged),
        (Act::ReportPosture, ActOutcome::Done),
        (Act::ReportPosture, ActOutcome::Done),
        (Act::ReportPosture, ActOutcome::Done),
        (Act::SuspendDevice, ActOutcome::Done),
        (Act::RetireDevice, ActOutcome::Done),
        (Act::TrustDevice, ActOutcome::Unchanged),
    ];
    assert_eq!(acts, expected);
    let seen: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.content {
            Event::Decision(record) => Some(
                record
                    .device
                    .as_ref()
                    .map(|device| (device.id.as_str(), device.trust_score)),
            ),
            Event::Administration(_) | Event::Session(_) | Event::Search(_) => None,
        })
        .collect();
    // Unknown; enrolled, unreported and not compliant; trusted, but for the same; reported; two failures; none.
    let scores = [0, 30, 100, 50, 100, 0, 0].map(|score| Some((id, score)));
    assert_eq!(seen, [&[None], scores.as_slice()].concat());
}

#[tokio::test]
async fn a_proof_is_good_once_for_its_own_challenge_and_this_service() {
    let setup = setup();
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let key = DeviceKey::new();
    let invited = admin.begin_enrollment(invitation()).await.unwrap().into_inner();
    assert_eq!(invited.audience, "pdp");
    let mut code = async |proof: String| {
        let enrolled = admin.enroll_device(v1::EnrollDeviceRequest { proof }).await;
        enrolled.map(drop).map_err(|status| status.code())
    };
    assert_eq!(
        code(key.proof(&invited.challenge, "elsewhere")).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(code(String::new()).await, Err(Code::InvalidArgument));
    assert_eq!(code(key.proof("guessed", "pdp")).await, Err(Code::NotFound));
    let proof = key.proof(&invited.challenge, "pdp");
    assert_eq!(code(proof.clone()).await, Ok(()));
    assert_eq!(code(proof).await, Err(Code::NotFound));
    assert_eq!(
        code(DeviceKey::new().proof(&invited.challenge, "pdp")).await,
        Err(Code::NotFound)
    );
    let again = admin.begin_enrollment(invitation()).await.unwrap().into_inner();
    let proof = key.proof(&again.challenge, "pdp");
    let taken = admin
        .enroll_device(v1::EnrollDeviceRequest { proof })
        .await
        .unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn each_caller_may_do_with_devices_what_its_role_allows_and_no_more() {
    let setup = setup();
    let service = setup.start();
    let mut operator = admin(&setup, &service, OPERATOR).await;
    let id = enroll(&mut operator, &DeviceKey::new()).await.id;
    let thumbprint = Some(v1::DeviceThumbprint {
        of: Some(v1::device_thumbprint::Of::Certificate(vec![7; 32])),
    });
    for (caller, may_look, may_report, may_act) in [
        (ORDERS, false, false, false),
        (READER, true, false, false),
        (REPORTER, false, true, false),
        (OPERATOR, true, false, true),
    ] {
        let mut admin = admin(&setup, &service, caller).await;
        let of = |id: &str| v1::DeviceThumbprintRequest {
            id: id.to_owned(),
            thumbprint: thumbprint.clone(),
        };
        let state = v1::SetDeviceStateRequest {
            id: id.clone(),
            state: DeviceState::Suspended.into(),
        };
        let shown = v1::ShowDeviceRequest {
            id: id.clone(),
            thumbprint: None,
        };
        let proof = DeviceKey::new().proof("guessed", "pdp");
        let enrolled = match admin.enroll_device(v1::EnrollDeviceRequest { proof }).await {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            other => other.map(drop),
        };
        for (what, done, may) in [
            (
                "list",
                admin.list_devices(v1::ListDevicesRequest::default()).await.map(drop),
                may_look,
            ),
            ("show", admin.show_device(shown).await.map(drop), may_look),
            ("report", admin.report_posture(posture(&id)).await.map(drop), may_report),
            ("begin", admin.begin_enrollment(invitation()).await.map(drop), may_act),
            ("enroll", enrolled, may_act),
            ("state", admin.set_device_state(state).await.map(drop), may_act),
            ("add", admin.add_device_thumbprint(of(&id)).await.map(drop), may_act),
            (
                "remove",
                admin.remove_device_thumbprint(of(&id)).await.map(drop),
                may_act,
            ),
        ] {
            match done {
                Ok(()) => assert!(may, "{caller} {what}"),
                Err(status) => assert_eq!((status.code(), may), (Code::PermissionDenied, false), "{caller} {what}"),
            }
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_named() {
    let setup = setup();
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let mut reporter = self::admin(&setup, &service, REPORTER).await;
    let id = enroll(&mut admin, &DeviceKey::new()).await.id;
    let mut report = async |change: fn(&mut v1::ReportPostureRequest)| {
        let mut request = posture(&id);
        change(&mut request);
        reporter.report_posture(request).await.unwrap_err().message().to_owned()
    };
    assert!(
        report(|request| request.os = "Mac OS".into())
            .await
            .starts_with("field `os`: expected 1 to 32")
    );
    assert!(
        report(|request| request.os_version = "14.x".into())
            .await
            .starts_with("field `os_version`: ")
    );
    assert_eq!(
        report(|request| request.failures = 65_536).await,
        "field `failures`: expected 0 to 65535"
    );
    assert_eq!(
        report(|request| request.id = "1".into()).await,
        "field `id`: expected a device's id, a UUID"
    );
    let named_twice = report(|request| {
        request.thumbprint = Some(v1::DeviceThumbprint {
            of: Some(v1::device_thumbprint::Of::Key(vec![1; 32])),
        });
    });
    assert_eq!(
        named_twice.await,
        "field `thumbprint`: expected none where there is an `id`"
    );
    let unknown = v1::ShowDeviceRequest {
        id: "00000000-0000-7000-8000-000000000000".to_owned(),
        thumbprint: None,
    };
    assert_eq!(admin.show_device(unknown).await.unwrap_err().code(), Code::NotFound);
    let short = v1::DeviceThumbprintRequest {
        id: id.clone(),
        thumbprint: Some(v1::DeviceThumbprint {
            of: Some(v1::device_thumbprint::Of::Key(vec![1; 31])),
        }),
    };
    let refused = admin.add_device_thumbprint(short).await.unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("field `thumbprint`: expected the 32 bytes"),
        "{refused:?}"
    );
    let nothing = v1::SetDeviceStateRequest {
        id,
        state: DeviceState::Unspecified.into(),
    };
    let refused = admin.set_device_state(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_service_without_devices_asks_nobody_for_one() {
    let setup = Setup::with(CALLERS);
    std::fs::write(setup.path("policies").join("secret.cedar"), POLICY).unwrap();
    let service = setup.start();
    let mut admin = admin(&setup, &service, OPERATOR).await;
    let listed = admin.list_devices(v1::ListDevicesRequest::default()).await.unwrap_err();
    assert_eq!(listed.code(), Code::FailedPrecondition);
    let mut decisions = client(&setup, &service).await;
    let denied = decisions.decide(asked(&DeviceKey::new())).await.unwrap().into_inner();
    assert_eq!((denied.effect(), denied.challenge), (Effect::Deny, None));
}
