//! Which certificates prove a peer.

use picket_core::peer::{
    CERTIFICATE_BYTES_MAX, CertificateError, Extension, Peer, PeerError, PeerEvidence, identify, spiffe_id_of_der,
};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::Effect;
use picket_model::spiffe::{SPIFFE_ID_BYTES_MAX, SpiffeId, SpiffeIdError, TRUST_DOMAIN_BYTES_MAX};
use picket_model::thumbprint::CertificateThumbprint;
use picket_model::time::Timestamp;
use rcgen::string::BmpString;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, OtherNameValue, SanType,
};

use crate::support::{Caller, NOW_S, Sidecar, decision};

const WEB: &str = "spiffe://example.org/web";

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A certificate of `web` with one change.
pub(crate) fn certificate(change: impl FnOnce(&mut CertificateParams)) -> rcgen::Certificate {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![uri(WEB)];
    change(&mut parameters);
    parameters.self_signed(&KeyPair::generate().unwrap()).unwrap()
}

fn of_pem(pem: &str) -> Result<Peer, PeerError> {
    identify(PeerEvidence {
        is_validated: Some(true),
        certificate_pem: Some(pem.as_bytes()),
    })
}

/// What a certificate proves is the same for the filter and for the policy service.
#[track_caller]
fn check(name: &str, expected: Result<&str, CertificateError>, change: impl FnOnce(&mut CertificateParams)) {
    let certificate = certificate(change);
    let expected = expected.map_err(PeerError::Malformed);
    let peer = of_pem(&certificate.pem());
    assert_eq!(
        peer.as_ref().map(|peer| peer.id.as_str()).map_err(|e| *e),
        expected,
        "{name}"
    );
    assert_eq!(
        spiffe_id_of_der(certificate.der())
            .as_ref()
            .map(SpiffeId::as_str)
            .map_err(|e| *e),
        expected,
        "{name}"
    );
}

fn check_uris(uris: &[&str], expected: Result<&str, CertificateError>) {
    check(&format!("{uris:?}"), expected, |parameters| {
        parameters.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
    });
}

#[test]
fn exactly_one_uri_that_is_a_spiffe_id_is_needed() {
    check_uris(&[WEB], Ok(WEB));
    let (none, two) = (Err(CertificateError::NoUri), Err(CertificateError::SeveralUris(2)));
    check_uris(&[], none);
    check_uris(&[WEB, "spiffe://example.org/admin"], two);
    check_uris(&[WEB, WEB], two);
    check_uris(&[WEB, "https://example.org"], two);
    check_uris(
        &["https://example.org", "urn:a", WEB],
        Err(CertificateError::SeveralUris(3)),
    );
    check_uris(
        &["https://example.org"],
        Err(CertificateError::SpiffeId(SpiffeIdError::Scheme)),
    );
    let dns = || SanType::DnsName("example.org".try_into().unwrap());
    check("a DNS name beside it", Ok(WEB), |parameters| {
        parameters.subject_alt_names.insert(0, dns());
    });
    check("a DNS name alone", none, |parameters| {
        parameters.subject_alt_names = vec![dns()];
    });
}

#[test]
fn the_id_is_one_of_a_workload_up_to_each_border_of_the_specification() {
    let longest = format!("spiffe://e/{}", "a".repeat(SPIFFE_ID_BYTES_MAX - 11));
    let widest = format!("spiffe://{}/a", "e".repeat(TRUST_DOMAIN_BYTES_MAX));
    for good in [
        "spiffe://e/a",
        "spiffe://1.e-x_y/A.b-c_d/0",
        "spiffe://example.org/...",
        &longest,
        &widest,
    ] {
        check_uris(&[good], Ok(good));
    }
    use SpiffeIdError::{Path, Scheme, TooLong, TrustDomain};
    check_uris(&["spiffe://example.org"], Err(CertificateError::NoPath));
    for (bad, expected) in [
        ("spiffe://example.org/", Path),
        ("spiffe://example.org/a/", Path),
        ("spiffe://example.org//a", Path),
        ("spiffe://example.org/.", Path),
        ("spiffe://example.org/a/../b", Path),
        ("spiffe://example.org/%61", Path),
        ("spiffe://example.org/a?b", Path),
        ("spiffe://example.org/a#b", Path),
        ("spiffe://example.org/*", Path),
        ("spiffe://Example.org/a", TrustDomain),
        ("spiffe://example.org:443/a", TrustDomain),
        ("spiffe://u@example.org/a", TrustDomain),
        ("spiffe:///a", TrustDomain),
        ("SPIFFE://example.org/a", Scheme),
        ("spiffe:/example.org/a", Scheme),
        ("", Scheme),
        (&format!("{longest}a"), TooLong),
        (&widest.replace("/a", "e/a"), TooLong),
    ] {
        check_uris(&[bad], Err(CertificateError::SpiffeId(expected)));
    }
}

#[test]
fn a_control_character_in_any_name_is_refused() {
    let refused = Err(CertificateError::AlternativeName);
    for control in ["\0", "\n", "\x1f", "\x7f"] {
        let text = format!("a{control}b");
        check_uris(&[&format!("spiffe://example.org/{text}")], refused);
        let names = [
            SanType::DnsName(text.as_str().try_into().unwrap()),
            SanType::Rfc822Name(text.as_str().try_into().unwrap()),
            SanType::OtherName((
                vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
                OtherNameValue::Utf8String(text.clone()),
            )),
        ];
        for name in names {
            check(&format!("{name:?}"), refused, |parameters| {
                parameters.subject_alt_names.push(name);
            });
        }
        let values = [
            DnValue::Utf8String(text.clone()),
            DnValue::Ia5String(text.as_str().try_into().unwrap()),
            DnValue::BmpString(BmpString::try_from(text.as_str()).unwrap()),
        ];
        for value in values {
            check(
                &format!("{value:?}"),
                Err(CertificateError::SubjectName),
                |parameters| {
                    parameters.distinguished_name.push(DnType::OrganizationName, value);
                },
            );
        }
    }
    check("text in other scripts", Ok(WEB), |parameters| {
        let name = &mut parameters.distinguished_name;
        name.push(DnType::OrganizationName, "Ünïcode 組織");
        name.push(DnType::LocalityName, DnValue::BmpString("組織 ĊĀ".try_into().unwrap()));
    });
}

#[test]
fn an_authority_is_no_peer() {
    let refused = Err(CertificateError::Authority);
    check("CA", refused, |parameters| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    check("CA with key usage of a leaf", refused, |parameters| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        check(
            &format!("{usage:?}"),
            Err(CertificateError::AuthorityKeyUsage),
            |parameters| {
                parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, usage];
            },
        );
    }
    check("explicitly none", Ok(WEB), |parameters| {
        parameters.is_ca = IsCa::ExplicitNoCa;
    });
}

#[test]
fn where_uses_are_named_they_are_those_of_a_client() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    use KeyUsagePurpose::{DigitalSignature, KeyAgreement, KeyEncipherment};
    let refused = Err(CertificateError::KeyUsage);
    for (usages, expected) in [
        (vec![DigitalSignature], Ok(WEB)),
        (vec![DigitalSignature, KeyEncipherment, KeyAgreement], Ok(WEB)),
        (vec![KeyEncipherment], refused),
        (vec![KeyAgreement], refused),
    ] {
        check(&format!("{usages:?}"), expected, |parameters| {
            parameters.key_usages = usages;
        });
    }
    let refused = Err(CertificateError::ExtendedKeyUsage);
    for (usages, expected) in [
        (vec![ClientAuth], Ok(WEB)),
        (vec![ServerAuth, ClientAuth], Ok(WEB)),
        (vec![ServerAuth], refused),
        (vec![Any], refused),
        (vec![CodeSigning], refused),
    ] {
        check(&format!("{usages:?}"), expected, |parameters| {
            parameters.extended_key_usages = usages;
        });
    }
}

#[test]
fn an_extension_that_is_there_twice_or_cannot_be_read_is_refused() {
    // DER of `SEQUENCE { [6] "spiffe://example.org/admin" }`, `SEQUENCE { TRUE }`, and what is
    // neither.
    let admin = b"spiffe://example.org/admin";
    let names = [&[0x30, 28, 0x86, 26], admin.as_slice()].concat();
    let (alternative_name, constraints, usage) = ([2, 5, 29, 17], [2, 5, 29, 19], [2, 5, 29, 15]);
    let extension = |oid: &[u64], content: Vec<u8>| CustomExtension::from_oid_content(oid, content);
    let malformed = CertificateError::MalformedExtension;
    let repeated = CertificateError::RepeatedExtension;
    for (name, expected, added) in [
        (
            "two lists of names",
            repeated(Extension::SubjectAltName),
            vec![extension(&alternative_name, names)],
        ),
        (
            "constraints of garbage",
            malformed(Extension::BasicConstraints),
            vec![extension(&constraints, vec![0x30, 0x05, 1])],
        ),
        (
            "constraints with more behind",
            malformed(Extension::BasicConstraints),
            vec![extension(&constraints, vec![0x30, 0, 0x30, 0])],
        ),
        (
            "key usage of garbage",
            malformed(Extension::KeyUsage),
            vec![extension(&usage, vec![0xff])],
        ),
        (
            "two key usages",
            repeated(Extension::KeyUsage),
            vec![
                extension(&usage, vec![3, 2, 7, 0x80]),
                extension(&usage, vec![3, 2, 7, 0x80]),
            ],
        ),
        (
            "extended key usage of garbage",
            malformed(Extension::ExtendedKeyUsage),
            vec![extension(&[2, 5, 29, 37], vec![0x30, 2, 5])],
        ),
    ] {
        check(name, Err(expected), |parameters| {
            parameters.custom_extensions = added;
        });
    }
    check("constraints of nothing", Ok(WEB), |parameters| {
        parameters.custom_extensions = vec![extension(&constraints, vec![0x30, 0])];
    });
}

#[test]
fn the_proxy_must_have_validated_the_certificate() {
    let pem = certificate(|_| ()).pem();
    let evidence = |is_validated, certificate_pem| {
        identify(PeerEvidence {
            is_validated,
            certificate_pem,
        })
    };
    assert_eq!(evidence(Some(false), Some(pem.as_bytes())), Err(PeerError::Unverified));
    assert_eq!(evidence(None, Some(pem.as_bytes())), Err(PeerError::Unverified));
    assert_eq!(evidence(Some(true), None), Err(PeerError::Missing));
    let long = vec![b'a'; CERTIFICATE_BYTES_MAX + 1];
    for (bytes, expected) in [
        (
            b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".as_slice(),
            CertificateError::Der,
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----\n",
            CertificateError::Pem,
        ),
        (b"\xff", CertificateError::Pem),
        (b"", CertificateError::Pem),
        (
            pem.replace("CERTIFICATE", "PUBLIC KEY").as_bytes(),
            CertificateError::Pem,
        ),
        (pem.repeat(2).as_bytes(), CertificateError::Pem),
        (&long, CertificateError::TooLong),
    ] {
        let expected = Err(PeerError::Malformed(expected));
        assert_eq!(evidence(Some(true), Some(bytes)), expected);
    }
}

#[test]
fn no_two_defects_share_a_detail() {
    use SpiffeIdError::{Path, Scheme, TooLong, TrustDomain};
    let of_extension = [
        Extension::SubjectAltName,
        Extension::BasicConstraints,
        Extension::KeyUsage,
        Extension::ExtendedKeyUsage,
    ];
    let malformed = of_extension.map(CertificateError::MalformedExtension);
    let repeated = of_extension.map(CertificateError::RepeatedExtension);
    let ids = [Path, Scheme, TooLong, TrustDomain].map(CertificateError::SpiffeId);
    let others = [
        CertificateError::TooLong,
        CertificateError::Pem,
        CertificateError::Der,
        CertificateError::NoUri,
        CertificateError::SeveralUris(2),
        CertificateError::NoPath,
        CertificateError::SubjectName,
        CertificateError::AlternativeName,
        CertificateError::Authority,
        CertificateError::AuthorityKeyUsage,
        CertificateError::KeyUsage,
        CertificateError::ExtendedKeyUsage,
    ];
    let all = [&malformed[..], &repeated, &ids, &others].concat();
    let mut details: Vec<String> = all.iter().map(CertificateError::to_string).collect();
    details.sort_unstable();
    details.dedup();
    assert_eq!(details.len(), all.len());
}

#[test]
fn the_thumbprint_is_of_the_whole_certificate() {
    let certificate = certificate(|_| ());
    let thumbprint = CertificateThumbprint::of_der(certificate.der());
    assert_eq!(of_pem(&certificate.pem()).unwrap().thumbprint, Some(thumbprint));
    // SHA-256 of nothing, FIPS 180-4.
    assert_eq!(
        format!("{:?}", CertificateThumbprint::of_der(b"")),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn a_certificate_is_valid_from_its_first_second_through_its_last() {
    let peer = certificate(|parameters| {
        parameters.not_before = rcgen::date_time_ymd(2027, 1, 15);
        parameters.not_after = rcgen::date_time_ymd(2050, 1, 1);
    });
    let peer = of_pem(&peer.pem()).unwrap();
    let (first_s, last_s) = (1_799_971_200, 2_524_608_000);
    let at = |ms| peer.check_validity(Timestamp::from_ms(ms));
    assert_eq!(at(first_s * 1000 - 1), Err(PeerError::NotYetValid));
    assert_eq!(at(first_s * 1000), Ok(()));
    assert_eq!(at(last_s * 1000 + 999), Ok(()));
    assert_eq!(at(last_s * 1000 + 1000), Err(PeerError::Expired));
}

#[test]
fn validity_is_checked_for_each_request_of_a_connection() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/local").peer_valid(NOW_S + 1, NOW_S + 3);
    let early = sidecar.refuses(&caller);
    assert_eq!(
        (early.reason, early.decided_by),
        (DenyReason::PeerNotYetValid, DecidedBy::Peer)
    );
    sidecar.later_ms(1000);
    sidecar.permits(&caller);
    sidecar.later_ms(1999);
    sidecar.permits(&caller);
    sidecar.later_ms(1);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::PeerExpired);
}

#[test]
fn a_peer_that_expires_while_its_request_waits_or_while_its_decision_is_cached_is_refused() {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/orders/7").peer_valid(0, NOW_S + 2);
    let (_, pending) = sidecar.asks(&caller);
    sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
    sidecar.permits(&caller);
    let other = Caller::new().get("/orders/8").peer_valid(0, NOW_S + 2);
    let (_, pending) = sidecar.asks(&other);
    sidecar.later_ms(2000);
    let refusal = sidecar
        .answers(pending, Ok(decision(Effect::Permit, 60_000)))
        .unwrap_err();
    assert_eq!(refusal.reason, DenyReason::PeerExpired);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::PeerExpired);
}
