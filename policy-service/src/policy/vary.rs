//! What the answers of policies can depend on, read from their syntax trees.

use cedar_policy::Policy;
use picket_core::decision::{Attribute, Vary};
use serde_json::Value;

/// What besides route rule and token could change what these policies say. What is not recognised counts as everything.
///
/// INVARIANT: where two requests agree in route rule, token and these attributes, each policy comes to the same result for
/// both, errors included.
pub(super) fn vary<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Vary {
    let mut found = Found(Vary::NOTHING);
    for policy in policies {
        match policy.to_json() {
            Ok(json) => found.policy(&json),
            Err(_) => return Vary::EVERYTHING,
        }
    }
    found.0
}

struct Found(Vary);

impl Found {
    /// The JSON form of a policy, as Cedar documents it: scope, then conditions.
    fn policy(&mut self, policy: &Value) {
        let operator = |variable: &str| policy.pointer(&format!("/{variable}/op")).and_then(Value::as_str);
        // The principal is the token's; where there is none, the filter counts the peer in.
        match operator("action") {
            Some("All") => {}
            _ => self.add(Attribute::Method),
        }
        let narrower = policy.pointer("/resource/in").is_some();
        match operator("resource") {
            Some("All") => {}
            Some("is") if !narrower => {}
            _ => self.resource(),
        }
        match policy.get("conditions").and_then(Value::as_array) {
            Some(conditions) => conditions.iter().for_each(|condition| self.expression(condition)),
            None => self.0 = Vary::EVERYTHING,
        }
    }

    /// Every way to the request leads through a variable, so that looking for them everywhere finds all.
    fn expression(&mut self, expression: &Value) {
        match expression {
            Value::Array(elements) => elements.iter().for_each(|element| self.expression(element)),
            Value::Object(members) => {
                for (operator, operands) in members {
                    self.operation(operator, operands);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn operation(&mut self, operator: &str, operands: &Value) {
        let variable = operands.pointer("/left/Var").and_then(Value::as_str);
        let attribute = operands.get("attr").and_then(Value::as_str);
        match (operator, variable, attribute) {
            // A literal holds no variables, whatever its members are called.
            ("Value", ..) => {}
            ("." | "has", Some("context"), Some(attribute)) => self.context(attribute),
            ("." | "has", Some("resource"), Some(attribute)) => self.resource_attribute(attribute),
            ("getTag" | "hasTag", Some("resource"), _) => {
                self.add(Attribute::Path);
                self.expression(operands.get("right").unwrap_or(&Value::Null));
            }
            _ => match (operator, operands.as_str()) {
                ("Var", Some("principal")) => {}
                ("Var", Some("action")) => self.add(Attribute::Method),
                ("Var", Some("resource")) => self.resource(),
                ("Var", Some(_)) | ("Slot", _) => self.0 = Vary::EVERYTHING,
                _ => self.expression(operands),
            },
        }
    }

    fn context(&mut self, attribute: &str) {
        match attribute {
            "method" => self.add(Attribute::Method),
            "source_address" => self.add(Attribute::SourceAddress),
            "user_agent" => self.add(Attribute::UserAgent),
            "peer" => self.add(Attribute::Peer),
            _ => self.0 = Vary::EVERYTHING,
        }
    }

    fn resource_attribute(&mut self, attribute: &str) {
        match attribute {
            "host" => self.add(Attribute::Host),
            "path" => self.add(Attribute::Path),
            // The route rule's own.
            "route_rule" | "classification" => {}
            _ => self.0 = Vary::EVERYTHING,
        }
    }

    /// The resource as a whole: its id is host and path.
    fn resource(&mut self) {
        self.add(Attribute::Host);
        self.add(Attribute::Path);
    }

    fn add(&mut self, attribute: Attribute) {
        self.0 = self.0.with(attribute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(policy: &str, expected: &[Attribute]) {
        let policy = Policy::parse(None, policy).unwrap();
        let found: Vec<_> = vary([&policy]).attributes().collect();
        assert_eq!(found, expected, "{policy}");
    }

    fn check_condition(condition: &str, expected: &[Attribute]) {
        check(&format!("permit (principal, action, resource) when {{ {condition} }};"), expected);
        check(&format!("forbid (principal, action, resource) unless {{ !({condition}) }};"), expected);
    }

    #[test]
    fn a_scope_depends_on_what_it_constrains() {
        check("permit (principal, action, resource);", &[]);
        check(r#"permit (principal is P in R::"a", action, resource is Res);"#, &[]);
        check(r#"permit (principal, action in A::"read", resource);"#, &[Attribute::Method]);
        check(r#"permit (principal, action == A::"GET", resource);"#, &[Attribute::Method]);
        for resource in [r#"resource == Res::"a""#, r#"resource in Res::"a""#, r#"resource is Res in Res::"a""#] {
            check(
                &format!("permit (principal, action, {resource});"),
                &[Attribute::Host, Attribute::Path],
            );
        }
    }

    #[test]
    fn a_condition_depends_on_what_it_reads() {
        use Attribute::{Host, Method, Path, Peer, SourceAddress, UserAgent};
        check_condition("principal.tenant == \"acme\" && principal has acr", &[]);
        check_condition("resource.route_rule == \"r\" || resource.classification == \"c\"", &[]);
        check_condition("context.method == \"GET\"", &[Method]);
        check_condition("action == A::\"GET\"", &[Method]);
        check_condition("context has peer && context.peer.trust_domain == \"d\"", &[Peer]);
        check_condition("context has peer.trust_domain", &[Peer]);
        check_condition("context.source_address.isInRange(ip(\"10.0.0.0/8\"))", &[SourceAddress]);
        check_condition("context[\"user_agent\"] like \"curl*\"", &[UserAgent]);
        check_condition("resource.host == \"h\"", &[Host]);
        check_condition("resource.path like \"/a/*\"", &[Path]);
        check_condition("resource.hasTag(\"id\") && resource.getTag(context.method) == \"1\"", &[Method, Path]);
        check_condition("resource == Res::\"a\"", &[Host, Path]);
        check_condition("[resource].contains(Res::\"a\")", &[Host, Path]);
        check_condition("(if principal has a then resource else principal) has path", &[Host, Path]);
        check_condition("{ \"Var\": \"context\" }.Var == \"x\"", &[]);
    }

    #[test]
    fn what_is_not_known_is_everything() {
        for condition in [
            "context.time > 3",
            "context has time",
            "resource has owner",
            "context == {\"method\": \"GET\"}",
            "(if principal has a then context else {\"method\": \"GET\"}).method == \"GET\"",
        ] {
            check_condition(condition, &Attribute::ALL);
        }
    }

    #[test]
    fn many_policies_depend_on_what_any_of_them_reads() {
        let policies = ["permit (principal, action, resource) when { context.method == \"GET\" };",
            "forbid (principal, action, resource) when { resource.host == \"h\" };"]
        .map(|policy| Policy::parse(None, policy).unwrap());
        assert_eq!(
            vary(&policies).attributes().collect::<Vec<_>>(),
            [Attribute::Method, Attribute::Host]
        );
    }
}
