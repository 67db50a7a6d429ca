//! `picket pki init` and the library behind it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::{keys, picket, text};
use picket::pki::{Authority, LeafOptions};
use x509_cert::Certificate;
use x509_cert::der::asn1::OctetString;
use x509_cert::der::{DecodePem, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

const FILES: [(&str, u32); 10] = [
    ("audit-key", 0o600),
    ("ca-key.pem", 0o600),
    ("ca.pem", 0o644),
    ("jwks.json", 0o644),
    ("orders-key.pem", 0o600),
    ("orders.pem", 0o644),
    ("token-es256-key.pem", 0o600),
    ("token-rs256-key.pem", 0o600),
    ("web-key.pem", 0o600),
    ("web.pem", 0o644),
];

fn files_with_modes(directory: &Path) -> BTreeMap<String, u32> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().into_string().unwrap(), mode)
        })
        .collect()
}

fn expected_files() -> BTreeMap<String, u32> {
    FILES.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
}

fn certificate(pem: &str) -> Certificate {
    Certificate::from_pem(pem).unwrap()
}

fn read(directory: &Path, name: &str) -> Certificate {
    certificate(&fs::read_to_string(directory.join(name)).unwrap())
}

fn names(certificate: &Certificate) -> Vec<GeneralName> {
    let found: Option<(bool, SubjectAltName)> = certificate.tbs_certificate.get().unwrap();
    found.map(|(_, names)| names.0).unwrap_or_default()
}

fn uris(certificate: &Certificate) -> Vec<String> {
    names(certificate)
        .into_iter()
        .filter_map(|name| {
            if let GeneralName::UniformResourceIdentifier(uri) = name {
                Some(uri.to_string())
            } else {
                None
            }
        })
        .collect()
}

fn is_authority(certificate: &Certificate) -> bool {
    let found: Option<(bool, BasicConstraints)> = certificate.tbs_certificate.get().unwrap();
    found.unwrap().1.ca
}

/// Whether the authority's key signed the certificate.
fn is_signed_by(certificate: &Certificate, authority: &Certificate) -> bool {
    use p256::ecdsa::signature::Verifier;
    let key = authority.tbs_certificate.subject_public_key_info.to_der().unwrap();
    let key: p256::ecdsa::VerifyingKey = p256::pkcs8::DecodePublicKey::from_public_key_der(&key).unwrap();
    let signature = p256::ecdsa::Signature::from_der(certificate.signature.raw_bytes()).unwrap();
    key.verify(&certificate.tbs_certificate.to_der().unwrap(), &signature)
        .is_ok()
}

#[test]
fn writes_each_file_and_keeps_private_ones_private() {
    let (_folder, directory) = keys();
    assert_eq!(files_with_modes(&directory), expected_files());
    let audit_key = fs::read_to_string(directory.join("audit-key")).unwrap();
    let digits = audit_key.strip_suffix('\n').unwrap();
    assert_eq!(digits.len(), 64);
    assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn the_certificates_are_svids_of_the_development_authority() {
    let (_folder, directory) = keys();
    let authority = read(&directory, "ca.pem");
    assert!(is_authority(&authority));
    assert_eq!(uris(&authority), ["spiffe://example.org"]);
    for workload in ["web", "orders"] {
        let leaf = read(&directory, &format!("{workload}.pem"));
        assert_eq!(uris(&leaf), [format!("spiffe://example.org/{workload}")]);
        assert_eq!(
            names(&leaf)[1..],
            [
                GeneralName::DnsName("localhost".to_owned().try_into().unwrap()),
                GeneralName::IpAddress(OctetString::new([127, 0, 0, 1]).unwrap()),
                GeneralName::IpAddress(
                    OctetString::new([0_u128.to_be_bytes()[..15].to_vec(), vec![1]].concat()).unwrap()
                ),
            ]
        );
        assert!(!is_authority(&leaf));
        assert_eq!(leaf.tbs_certificate.issuer, authority.tbs_certificate.subject);
        assert!(
            leaf.tbs_certificate
                .issuer
                .to_string()
                .contains("O=Picket development only")
        );
        let (critical, usage): (bool, KeyUsage) = leaf.tbs_certificate.get().unwrap().unwrap();
        assert!(critical && usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
        let (_, purposes): (bool, ExtendedKeyUsage) = leaf.tbs_certificate.get().unwrap().unwrap();
        let purposes: Vec<String> = purposes.0.iter().map(ToString::to_string).collect();
        assert_eq!(purposes, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
        assert!(is_signed_by(&leaf, &authority));
    }
}

#[test]
fn the_certificates_are_valid_for_as_long_as_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("keys");
    let arguments = [
        "pki",
        "init",
        text(&directory),
        "--trust-domain",
        "a.b",
        "--workload",
        "web",
    ];
    picket(&[&arguments[..], &["--valid-for", "2d"]].concat()).expect(0);
    let validity = read(&directory, "web.pem").tbs_certificate.validity;
    let lasts = validity.not_after.to_unix_duration() - validity.not_before.to_unix_duration();
    // Five minutes more, because the clock of the other side may lag.
    assert_eq!(lasts, Duration::from_secs(2 * 86_400 + 300));
    assert!(validity.not_before.to_system_time() < picket::clock::now());
}

#[test]
fn an_existing_file_is_kept_and_nothing_else_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    fs::write(directory.join("jwks.json"), "mine").unwrap();
    let arguments = [
        "pki",
        "init",
        text(directory),
        "--trust-domain",
        "a.b",
        "--workload",
        "web",
    ];
    let answer = picket(&arguments);
    answer.expect(3);
    assert_eq!(answer.stdout, "");
    assert!(answer.stderr.contains("jwks.json` exists"), "{}", answer.stderr);
    assert_eq!(files_with_modes(directory).len(), 1);
    assert_eq!(fs::read_to_string(directory.join("jwks.json")).unwrap(), "mine");
}

#[test]
fn force_replaces_files_and_links_and_sets_the_modes_anew() {
    let (_folder, directory) = keys();
    let before = fs::read(directory.join("web.pem")).unwrap();
    fs::set_permissions(directory.join("web-key.pem"), fs::Permissions::from_mode(0o666)).unwrap();
    let elsewhere = directory.parent().unwrap().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::remove_file(directory.join("ca-key.pem")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join("ca-key.pem")).unwrap();
    picket(&[
        "pki",
        "init",
        text(&directory),
        "--trust-domain",
        "example.org",
        "--workload",
        "web",
        "--force",
    ])
    .expect(0);
    assert_ne!(fs::read(directory.join("web.pem")).unwrap(), before);
    assert_eq!(files_with_modes(&directory), expected_files());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
}

#[test]
fn names_that_cannot_be_are_usage_errors_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("keys");
    for (trust_domain, workloads, expected) in [
        ("Example.org", &["web"][..], "trust domain of lower-case letters"),
        ("example.org", &["a b"], "workload `a b` cannot be a SPIFFE ID"),
        ("example.org", &[".."], "workload `..` cannot be a SPIFFE ID"),
        ("example.org", &["a/b"], "expected a name without `/`"),
        ("example.org", &["ca"], "would need the file `ca.pem`"),
        ("example.org", &["web", "web"], "would need the file `web.pem`"),
        ("example.org", &["web", "web-key"], "would need the file `web-key.pem`"),
        (
            "example.org",
            &["token-rs256"],
            "would need the file `token-rs256-key.pem`",
        ),
        ("example.org", &[], "--workload"),
    ] {
        let mut arguments = vec!["pki", "init", text(&directory), "--trust-domain", trust_domain];
        arguments.extend(workloads.iter().flat_map(|workload| ["--workload", workload]));
        let answer = picket(&arguments);
        answer.expect(2);
        assert!(answer.stderr.contains(expected), "{workloads:?}: {}", answer.stderr);
        assert!(!directory.exists());
    }
}

#[test]
fn the_json_answer_names_files_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("keys");
    let arguments = [
        "pki",
        "init",
        text(&directory),
        "--trust-domain",
        "a.b",
        "--workload",
        "web",
    ];
    let answer = picket(&[&arguments[..], &["--output", "json"]].concat()).json();
    assert_eq!(answer["trust_domain"], "a.b");
    assert_eq!(answer["workloads"][0]["spiffe_id"], "spiffe://a.b/web");
    for file in [
        &answer["ca_file"],
        &answer["workloads"][0]["certificate_file"],
        &answer["workloads"][0]["key_file"],
        &answer["token_key_files"][0],
        &answer["token_key_files"][1],
        &answer["jwks_file"],
        &answer["audit_key_file"],
    ] {
        assert!(Path::new(file.as_str().unwrap()).is_file(), "{file}");
    }
}

#[test]
fn the_authority_can_be_opened_again_and_issues_odd_certificates_for_tests() {
    let (_folder, directory) = keys();
    let authority = Authority::open(&directory).unwrap();
    assert_eq!(certificate(authority.certificate_pem()), read(&directory, "ca.pem"));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let mut options = LeafOptions::workload("odd", "spiffe://other.example/a", long_ago, Duration::from_secs(60));
    options.uris.push("https://example.org/not-a-spiffe-id".to_owned());
    let (certificate_file, key_file) = authority.issue(&options).unwrap().write(&directory, "odd").unwrap();
    assert!(key_file.is_file());
    let leaf = certificate(&fs::read_to_string(certificate_file).unwrap());
    assert_eq!(
        uris(&leaf),
        ["spiffe://other.example/a", "https://example.org/not-a-spiffe-id"]
    );
    assert_eq!(
        leaf.tbs_certificate.validity.not_after.to_system_time(),
        long_ago + Duration::from_secs(60)
    );
    assert!(is_signed_by(&leaf, &read(&directory, "ca.pem")));

    options.uris.clear();
    let leaf = certificate(&authority.issue(&options).unwrap().certificate_pem);
    assert_eq!(uris(&leaf), Vec::<String>::new());
}

#[test]
fn a_damaged_authority_key_is_named() {
    let (_folder, directory) = keys();
    fs::write(directory.join("ca-key.pem"), "nothing").unwrap();
    let error = Authority::open(&directory).err().unwrap().to_string();
    assert!(error.contains("ca-key.pem"), "{error}");
}
