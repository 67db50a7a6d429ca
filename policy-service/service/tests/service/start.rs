//! Starts that fail say which file is wrong, and show nothing of what is secret in it.

use crate::harness::{Authority, Setup};

fn said_in_vain(setup: &Setup) -> String {
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    said
}

#[test]
fn a_file_that_is_wrong_is_named_with_its_key() {
    for (file, content, expected) in [
        ("service.pem", "", "grpc.certificate_file: `"),
        ("service-key.pem", "", "grpc.key_file: `"),
        ("ca.pem", "", "grpc.client_ca_file: `"),
    ] {
        let setup = Setup::new();
        std::fs::write(setup.path(file), content).unwrap();
        let said = said_in_vain(&setup);
        assert!(said.contains(expected) && said.contains(file), "{said}");
    }
    let setup = Setup::new();
    let other = Authority::new().identity("spiffe://example.org/policy-service");
    std::fs::write(setup.path("service.pem"), other.certificate).unwrap();
    let said = said_in_vain(&setup);
    for expected in [
        "grpc.certificate_file",
        "service.pem",
        "grpc.key_file",
        "service-key.pem",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn an_unescaped_character_of_the_databases_password_is_named_and_not_shown() {
    let setup = Setup::with("[sessions]\n[storage]\npostgres_url_file = \"url\"\n");
    std::fs::write(setup.path("url"), "postgres://picket:se@cret@127.0.0.1/picket\n").unwrap();
    let said = said_in_vain(&setup);
    assert!(
        said.contains("storage.postgres_url_file: there is more than one `@`"),
        "{said}"
    );
    assert!(!said.contains("cret"), "{said}");
}
