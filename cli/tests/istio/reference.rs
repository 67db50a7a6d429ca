//! What Istio's reference pages say about a request, as plainly as can be.
//!
//! <https://istio.io/latest/docs/reference/config/security/authorization-policy/> and
//! <https://istio.io/latest/docs/reference/config/security/conditions/>.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::sidecar::Request;

/// Whether the request is allowed, by the AuthorizationPolicies that are about the workload.
pub(crate) fn allows(documents: &[Value], namespace: &str, labels: &Value, request: &Request) -> bool {
    let about: Vec<&Value> = documents
        .iter()
        .filter(|document| document["kind"] == "AuthorizationPolicy" && is_about(document, namespace, labels))
        .filter(|document| document["metadata"]["annotations"]["istio.io/dry-run"] != "true")
        .collect();
    let with = |action: &str| {
        let about = about.iter().copied();
        let action = action.to_owned();
        about.filter(move |document| document["spec"]["action"].as_str().unwrap_or("ALLOW") == action)
    };
    if with("DENY").any(|policy| matches(policy, request)) {
        return false;
    }
    with("ALLOW").next().is_none() || with("ALLOW").any(|policy| matches(policy, request))
}

fn is_about(document: &Value, namespace: &str, labels: &Value) -> bool {
    let of = &document["metadata"]["namespace"];
    let selected = document["spec"]["selector"]["matchLabels"].as_object();
    (of == namespace || of == "istio-system")
        && selected.is_none_or(|wanted| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn matches(policy: &Value, request: &Request) -> bool {
    list(&policy["spec"]["rules"]).iter().any(|rule| {
        let (from, to) = (list(&rule["from"]), list(&rule["to"]));
        (from.is_empty() || from.iter().any(|from| source(&from["source"], policy, request)))
            && (to.is_empty() || to.iter().any(|to| operation(&to["operation"], request)))
            && list(&rule["when"]).iter().all(|when| {
                let key = when["key"].as_str().unwrap();
                if let Some(name) = key.strip_prefix("request.headers[") {
                    let denies = policy["spec"]["action"] == "DENY";
                    return header_holds(name.trim_end_matches(']'), when, denies, request);
                }
                holds(&when["values"], &when["notValues"], |value| {
                    condition(key, value, policy, request)
                })
            })
    })
}

/// One of the values, where there are any; none of the others.
fn holds(values: &Value, not_values: &Value, fits: impl Fn(&str) -> bool) -> bool {
    let any = |list: &[Value]| list.iter().any(|value| fits(value.as_str().unwrap()));
    (list(values).is_empty() || any(list(values))) && !any(list(not_values))
}

/// As Envoy's RBAC reads repeated fields since CVE-2026-26308: a policy that denies matches if any field does, or all of them
/// as one text; one that allows only if every field does. What is absent is one reading.
fn header_holds(name: &str, when: &Value, denies: bool, request: &Request) -> bool {
    let fields = request
        .headers
        .iter()
        .filter(|(have, _)| have.eq_ignore_ascii_case(name));
    let mut fields: Vec<Option<String>> = fields.map(|(_, value)| Some(value.clone())).collect();
    if fields.is_empty() {
        fields.push(None);
    }
    let joined: Option<String> = fields
        .iter()
        .cloned()
        .collect::<Option<Vec<_>>>()
        .map(|all| all.join(","));
    let with_joined: Vec<Option<String>> = fields.iter().cloned().chain([joined]).collect();
    let fits = |list: &Value, reading: &Option<String>| list_of(list).any(|value| text(value, reading.as_deref()));
    let is_one = |reading: &Option<String>| list(&when["values"]).is_empty() || fits(&when["values"], reading);
    let is_none = |reading: &Option<String>| !fits(&when["notValues"], reading);
    match denies {
        true => with_joined.iter().any(is_one) && with_joined.iter().any(is_none),
        false => fields.iter().all(is_one) && with_joined.iter().all(is_none),
    }
}

fn list_of(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().map(|value| value.as_str().unwrap())
}

fn source(source: &Value, policy: &Value, request: &Request) -> bool {
    let field = |name: &str, not_name: &str, key: &str| {
        holds(&source[name], &source[not_name], |value| {
            condition(key, value, policy, request)
        })
    };
    field("principals", "notPrincipals", "source.principal")
        && field("requestPrincipals", "notRequestPrincipals", "request.auth.principal")
        && field("namespaces", "notNamespaces", "source.namespace")
        && field("serviceAccounts", "notServiceAccounts", "service account")
        && field("ipBlocks", "notIpBlocks", "source.ip")
        && field("remoteIpBlocks", "notRemoteIpBlocks", "remote.ip")
}

fn operation(operation: &Value, request: &Request) -> bool {
    let host = |value: &str| text(&value.to_lowercase(), Some(&request.authority.to_lowercase()));
    holds(&operation["hosts"], &operation["notHosts"], host)
        && holds(&operation["ports"], &operation["notPorts"], |port| {
            port == request.port.to_string()
        })
        && holds(&operation["methods"], &operation["notMethods"], |method| {
            text(method, Some(&request.method))
        })
        && holds(&operation["paths"], &operation["notPaths"], |pattern| {
            path(pattern, &request.path)
        })
}

/// Whether a value fits the attribute of a condition.
fn condition(key: &str, value: &str, policy: &Value, request: &Request) -> bool {
    let principal = request.peer.as_deref().and_then(|id| id.strip_prefix("spiffe://"));
    // `<TRUST_DOMAIN>/ns/<NAMESPACE>/sa/<SERVICE_ACCOUNT>`
    let parts: Vec<&str> = principal.unwrap_or_default().split('/').collect();
    let (namespace, account) = match parts.as_slice() {
        [_, "ns", namespace, "sa", account] => (Some(*namespace), Some(format!("{namespace}/{account}"))),
        _ => (None, None),
    };
    let claim = |names: &[&str]| {
        let found = names
            .iter()
            .try_fold(request.claims.as_ref()?, |claims, name| claims.get(name))?;
        Some(match found {
            Value::String(text) if ["scope", "permission"].contains(&names[0]) && names.len() == 1 => {
                text.split(' ').map(str::to_owned).collect()
            }
            Value::String(text) => vec![text.clone()],
            Value::Array(elements) => elements.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![],
        })
    };
    let claim_fits = |names: &[&str]| {
        let texts: Vec<String> = claim(names).unwrap_or_default();
        texts.iter().any(|have| text(value, Some(have)))
    };
    match key {
        "source.principal" => text(value, principal),
        "source.namespace" => text(value, namespace),
        "service account" => {
            let own = policy["metadata"]["namespace"].as_str().unwrap();
            let wanted = if value.contains('/') {
                value.to_owned()
            } else {
                format!("{own}/{value}")
            };
            account == Some(wanted)
        }
        "request.auth.principal" => {
            let claims = request.claims.as_ref();
            let principal = claims.map(|c| format!("{}/{}", c["iss"].as_str().unwrap(), c["sub"].as_str().unwrap()));
            text(value, principal.as_deref())
        }
        "request.auth.audiences" => claim_fits(&["aud"]),
        "request.auth.presenter" => claim_fits(&["azp"]),
        "source.ip" | "remote.ip" => within(value, request.address),
        "destination.ip" => within(value, request.destination),
        "destination.port" => value == request.port.to_string(),
        "connection.sni" => text(value, request.server_name.as_deref()),
        _ => {
            let names = key
                .strip_prefix("request.auth.claims[")
                .unwrap_or_else(|| panic!("{key}"));
            let names: Vec<&str> = names.trim_end_matches(']').split("][").collect();
            claim_fits(&names)
        }
    }
}

/// Exact, prefix, suffix and presence match; what is absent fits nothing.
fn text(pattern: &str, value: Option<&str>) -> bool {
    let Some(value) = value else { return false };
    if pattern == "*" {
        !value.is_empty()
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        value.ends_with(suffix)
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        value.starts_with(prefix)
    } else {
        value == pattern
    }
}

fn path(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    if !pattern.contains('{') {
        return text(pattern, Some(path));
    }
    let (wanted, have): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    segments(&wanted, &have)
}

/// `{*}` is one segment that is not empty, `{**}` all that is left behind its slash.
fn segments(wanted: &[&str], have: &[&str]) -> bool {
    match (wanted, have) {
        ([], []) => true,
        (["{**}"], [_, ..]) => true,
        (["{*}", wanted @ ..], [one, have @ ..]) => !one.is_empty() && segments(wanted, have),
        ([literal, wanted @ ..], [one, have @ ..]) => literal == one && segments(wanted, have),
        _ => false,
    }
}

fn within(network: &str, address: IpAddr) -> bool {
    let (base, length) = network.split_once('/').unwrap_or((network, "32"));
    let bits = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
    let (base, address, length) = (bits(base), bits(&address.to_string()), length.parse::<u32>().unwrap());
    length == 0 || (base ^ address) >> (32 - length) == 0
}

#[test]
fn the_reference_itself_says_what_the_pages_say() {
    assert!(text("abc*", Some("abc")) && text("abc*", Some("abcd")) && !text("abc*", Some("xabc")));
    assert!(text("*abc", Some("abc")) && text("*abc", Some("xabc")) && !text("*abc", Some("abcd")));
    assert!(text("*", Some("a")) && !text("*", Some("")) && !text("*", None));
    assert!(path("/foo/{*}", "/foo/bar") && !path("/foo/{*}", "/foo/bar/baz"));
    assert!(path("/foo/{*}/bar/{**}", "/foo/buzz/bar/") && path("/foo/{*}/bar/{**}", "/foo/buzz/bar/baz"));
    assert!(within("10.0.0.0/8", [10, 1, 2, 3].into()) && !within("10.0.0.1", [10, 0, 0, 2].into()));
    assert!(list(&json!([])).is_empty() && list(&Value::Null).is_empty());
}
