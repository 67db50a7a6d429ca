//! Addresses: what Istio's fields mean depends on the listener, which the import does not see.

use picket::istio::{ConnectionAddress, Import, Workload};
use serde_json::{Value, json};

use crate::sidecar::{imported, workload};

/// What is known of the listener and of the proxies before it.
#[derive(Clone, Copy, Debug)]
struct Known {
    connection: ConnectionAddress,
    hops: Option<u32>,
}

const NOTHING: Known = Known {
    connection: ConnectionAddress::Forwarded,
    hops: None,
};

fn import(action: &str, rule: &Value, known: Known) -> Import {
    let document = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "foo"}, "spec": {"action": action, "rules": [rule]},
    });
    let workload = Workload {
        connection_address: known.connection,
        forwarded_for_trusted_hops: known.hops,
        ..workload("foo", &[])
    };
    imported(&[document], &workload)
}

fn paths(import: &Import) -> Vec<&str> {
    import.problems.iter().map(|problem| problem.path.as_str()).collect()
}

/// Whoever writes `x-forwarded-for` would choose the address that a rule sees.
#[test]
fn an_address_that_the_listener_may_take_from_a_header_is_named_and_refuses_more() {
    let connection = json!({
        "from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}, {"source": {"notIpBlocks": ["10.1.0.0/16"]}}],
        "when": [{"key": "source.ip", "values": ["10.0.0.1"]}],
    });
    let connection_paths = [
        "spec.rules[0].from[0].source.ipBlocks[0]",
        "spec.rules[0].from[1].source.notIpBlocks[0]",
        "spec.rules[0].when[0].values[0]",
    ];
    let request = json!({
        "from": [{"source": {"remoteIpBlocks": ["10.0.0.0/8"]}}, {"source": {"notRemoteIpBlocks": ["10.1.0.0/16"]}}],
        "when": [{"key": "remote.ip", "values": ["10.0.0.1"]}],
    });
    let request_paths = [
        "spec.rules[0].from[0].source.remoteIpBlocks[0]",
        "spec.rules[0].from[1].source.notRemoteIpBlocks[0]",
        "spec.rules[0].when[0].values[0]",
    ];
    let own = Known {
        connection: ConnectionAddress::Own,
        ..NOTHING
    };
    let hops = Known {
        hops: Some(2),
        ..NOTHING
    };
    let connection_words = [
        "`use_remote_address: true`",
        "`xff_num_trusted_hops`",
        "--use-remote-address",
    ];
    let request_words = ["`use_remote_address: true`", "--forwarded-for-trusted-hops"];
    for (rule, known, expected, words) in [
        (&connection, NOTHING, connection_paths, &connection_words[..]),
        (&connection, hops, connection_paths, &connection_words),
        (&request, NOTHING, request_paths, &request_words),
        (&request, own, request_paths, &request_words),
    ] {
        let deny = import("DENY", rule, known);
        assert_eq!(paths(&deny), expected, "{known:?}");
        for word in words {
            assert!(
                deny.problems[0].message.contains(word),
                "{word}: {:?}",
                deny.problems[0]
            );
        }
        // Whatever comes is refused.
        assert_eq!(
            deny.configuration.unwrap()["access"],
            json!({"reject": [{"id": "foo.p.0"}]}),
            "{known:?}"
        );
        // Nobody passes for an address.
        let allow = import("ALLOW", rule, known);
        assert_eq!(paths(&allow), expected, "{known:?}");
        assert_eq!(
            allow.configuration.unwrap()["access"],
            json!({"accept": []}),
            "{known:?}"
        );
    }
}

#[test]
fn an_address_that_is_known_is_imported_with_what_the_listener_has_to_be() {
    let rule = json!({"from": [{"source": {"ipBlocks": ["10.0.0.0/8"], "remoteIpBlocks": ["192.0.2.0/24"]}}]});
    for hops in [0, 1, 2, 32] {
        let known = Known {
            connection: ConnectionAddress::Own,
            hops: Some(hops),
        };
        for (action, list) in [("DENY", "reject"), ("ALLOW", "accept")] {
            let import = import(action, &rule, known);
            assert_eq!(paths(&import), [""; 0]);
            let notes: Vec<&str> = import.notes.iter().map(|note| note.path.as_str()).collect();
            assert_eq!(notes, ["spec.rules[0].from[0].source.ipBlocks[0]"]);
            assert!(
                import.notes[0].message.contains("`xff_num_trusted_hops: 0`"),
                "{:?}",
                import.notes
            );
            let configuration = import.configuration.unwrap();
            assert_eq!(configuration["forwarded_for_trusted_hops"], hops);
            let expected = json!([{"connection_addresses": ["10.0.0.0/8"], "source_addresses": ["192.0.2.0/24"]}]);
            assert_eq!(configuration["access"][list][0]["from"], expected);
        }
    }
}
