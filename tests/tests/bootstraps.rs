//! The shipped bootstraps are what Envoy accepts.

use std::net::SocketAddr;
use std::process::Command;

use picket_tests::envoy;
use picket_tests::external::without_filter;
use picket_tests::keys::Keys;
use picket_tests::places::Places;
use picket_tests::process::Bond;
use picket_tests::stack::{InboundSites, Options, inbound_bootstrap, outbound_bootstrap, sidecar};

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn envoy_validates_both_and_their_variants() {
    let places = Places::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::make(&folder.path().join("pki")).unwrap();
    let sites = InboundSites {
        keys: &keys,
        module: &places.module,
        policy_service: local(9191),
        upstream: local(8080),
    };
    let inbound = inbound_bootstrap(&places.root, &sites, &[]).unwrap();
    let bootstraps = [
        (
            "inbound-ext-authz",
            without_filter(&places.root, &inbound).unwrap().bootstrap,
        ),
        ("inbound", inbound),
        (
            "inbound-lenient",
            inbound_bootstrap(&places.root, &sites, &Options::default().lenient().edits()).unwrap(),
        ),
        (
            "outbound",
            outbound_bootstrap(&places.root, &keys, local(15006)).unwrap(),
        ),
    ];
    for (name, bootstrap) in bootstraps {
        envoy::validate(&sidecar(&places, name, &bootstrap, folder.path(), Bond::Attached)).unwrap();
    }
}

#[test]
fn envoy_refuses_a_bootstrap_with_a_mistake() {
    let places = Places::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::make(&folder.path().join("pki")).unwrap();
    let bootstrap = outbound_bootstrap(&places.root, &keys, local(15006)).unwrap();
    let bootstrap = bootstrap.replace("stream_idle_timeout", "stream_idle_timeuot");
    envoy::validate(&sidecar(&places, "outbound", &bootstrap, folder.path(), Bond::Attached)).unwrap_err();
}

#[test]
fn envoy_is_the_pinned_version() {
    let places = Places::find().unwrap();
    let output = Command::new(&places.envoy).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(version.contains("/1.40.0/Clean/RELEASE/"), "{version}");
}
