//! The steps that the reference of reasons names are those that the vectors of requests expect.

use std::path::Path;

use picket_core::reason::DenyReason;
use serde_json::Value;

#[test]
fn each_reason_of_the_vectors_is_decided_by_a_step_of_the_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let vectors = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        check(&vectors, &mut checked);
    }
    assert!(checked > 50, "{checked} refusals");
}

fn check(value: &Value, checked: &mut usize) {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let is_of = |reason: &&DenyReason| Some(reason.code()) == text("reason");
    if let (Some(reason), Some(step)) = (DenyReason::ALL.iter().find(is_of), text("decided_by")) {
        let steps: Vec<_> = reason.decided_by().iter().map(|step| step.as_str()).collect();
        assert!(
            steps.contains(&step),
            "`{}` is decided by {steps:?}, expected {step}",
            reason.code()
        );
        *checked += 1;
    }
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| check(element, checked)),
        Value::Object(members) => members.values().for_each(|member| check(member, checked)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
