//! What policies see of a device, and what their answers then vary with.

use picket_model::decision::{Attribute as Varying, Vary};
use picket_model::device::{DeviceFacts, DeviceState};

use super::*;

const TRUSTED: &str = r#"@id("trusted") permit (principal, action, resource)
    when { context has device && context.device.is_trusted };"#;

fn device(change: impl FnOnce(&mut DeviceFacts)) -> DeviceFacts {
    let mut device = DeviceFacts {
        id: "1".into(),
        state: DeviceState::Enrolled,
        is_trusted: false,
        is_compliant: true,
        trust_score: 40,
        is_owner: true,
        same_for_ms: Some(7_000),
    };
    change(&mut device);
    device
}

fn decide(policies: &str, device: Option<&DeviceFacts>) -> Evaluation {
    let context = EvaluationContext { device, ..at_now() };
    let evaluation = engine(policies).evaluate(&request(user(&["reader"]), "GET", "r"), &context);
    assert_eq!(evaluation.errors, Vec::<String>::new());
    evaluation
}

fn challenge(policies: &str, device: Option<&DeviceFacts>) -> Option<StepUp> {
    let evaluation = decide(policies, device);
    assert_eq!(evaluation.effect, Effect::Deny, "{policies}");
    evaluation.challenge
}

fn asks_for(acr_values: &[&str], bound_token: bool, trusted_device: bool) -> Option<StepUp> {
    let acr_values = acr_values.iter().map(|value| (*value).to_owned()).collect();
    let step_up = StepUp::new(acr_values, None, bound_token, trusted_device);
    assert!(step_up.is_some());
    step_up
}

#[test]
fn policies_see_every_part_of_a_device() {
    let policy = r#"@id("p") permit (principal, action, resource) when { context has device
        && context.device == {id: "1", state: "enrolled", is_trusted: false, is_compliant: true, trust_score: 40, is_owner: true} };"#;
    let effect = |device: Option<&DeviceFacts>| decide(policy, device).effect;
    assert_eq!(effect(Some(&device(|_| {}))), Effect::Permit);
    let changes: [fn(&mut DeviceFacts); 6] = [
        |device| device.id = "2".into(),
        |device| device.state = DeviceState::Suspended,
        |device| device.is_trusted = true,
        |device| device.is_compliant = false,
        |device| device.trust_score = 41,
        |device| device.is_owner = false,
    ];
    for change in changes {
        assert_eq!(effect(Some(&device(change))), Effect::Deny);
    }
    assert_eq!(effect(None), Effect::Deny);
}

#[test]
fn only_an_answer_of_a_policy_that_reads_devices_varies_with_them_and_ends_with_what_was_seen() {
    let of_device = Vary::NOTHING.with(Varying::Device);
    let known = device(|_| {});
    let read = decide(TRUSTED, Some(&known));
    assert_eq!((read.vary, read.same_for_ms), (of_device, Some(7_000)));
    // That none is known depends on what was proved, too.
    let unknown = decide(TRUSTED, None);
    assert_eq!((unknown.vary, unknown.same_for_ms), (of_device, None));
    let other = decide(r#"@id("p") permit (principal, action, resource);"#, Some(&known));
    assert_eq!((other.vary, other.same_for_ms), (Vary::NOTHING, None));
}

#[test]
fn a_trusted_device_is_asked_for_where_nothing_else_would_do() {
    assert_eq!(challenge(TRUSTED, None), asks_for(&[], false, true));
    assert_eq!(challenge(TRUSTED, Some(&device(|_| {}))), asks_for(&[], false, true));
    let either = format!(
        r#"{TRUSTED} @id("bound") permit (principal is Picket::User, action, resource) when {{ principal.is_bound }};"#
    );
    assert_eq!(challenge(&either, None), asks_for(&[], true, false));
    let both = r#"@id("p") permit (principal is Picket::User, action, resource) when { principal has acr
        && principal.acr == "gold" && context has device && context.device.is_trusted && context.device.is_owner };"#;
    assert_eq!(challenge(both, None), asks_for(&["gold"], false, true));
    let own = DeviceFacts::trusted(None);
    assert_eq!(challenge(both, Some(&own)), asks_for(&["gold"], false, false));
    let borrowed = DeviceFacts { is_owner: false, ..own };
    assert_eq!(challenge(both, Some(&borrowed)), asks_for(&["gold"], false, true));
}

#[test]
fn what_no_device_changes_is_a_plain_deny() {
    let best = DeviceFacts::trusted(None);
    let writes = TRUSTED.replace("context has device", "context.method == \"PUT\" && context has device");
    assert_eq!(challenge(&writes, None), None);
    assert_eq!(challenge(&writes, Some(&best)), None);
    // A device that is known by its name cannot be asked for.
    let named = TRUSTED.replace("is_trusted", "id == \"2\"");
    assert_eq!(challenge(&named, Some(&device(|_| {}))), None);
}
