//! What is said of a connection to the policy service that fails: whose certificate, and where its authorities stand.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::session::Service;
use crate::support::{keys, picket, text};

/// Where to connect, and with which files.
struct Connection {
    address: String,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    more: Vec<&'static str>,
}

impl Connection {
    fn to(service: &Service) -> Self {
        let keys = &service.keys;
        Self {
            address: format!("localhost:{}", service.port),
            ca: keys.join("ca.pem"),
            certificate: keys.join("web.pem"),
            key: keys.join("web-key.pem"),
            more: vec![],
        }
    }

    fn check(&self, expected: &[&str]) {
        let arguments = [
            "whoami",
            "--address",
            &self.address,
            "--ca",
            text(&self.ca),
            "--certificate",
            text(&self.certificate),
            "--key",
            text(&self.key),
        ];
        let answer = picket(&[&arguments[..], &self.more].concat());
        answer.expect(3);
        for expected in expected {
            assert!(answer.stderr.contains(expected), "{expected}: {}", answer.stderr);
        }
    }
}

/// Something that is no TLS.
fn plain_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    port
}

pub(crate) fn names_the_side_and_the_certificate(service: &Service) {
    let (_folder, other) = keys();
    let connection = || Connection::to(service);
    let of_other = |name: &str| other.join(name);
    Connection {
        certificate: of_other("web.pem"),
        key: of_other("web-key.pem"),
        ..connection()
    }
    .check(&[
        "the policy service refuses the certificate in `--certificate",
        text(&of_other("web.pem")),
        "grpc.client_ca_file",
    ]);
    Connection {
        ca: of_other("ca.pem"),
        ..connection()
    }
    .check(&[
        "the certificate of the policy service is signed by no authority in `--ca",
        text(&of_other("ca.pem")),
    ]);
    Connection {
        more: vec!["--server-name", "orders.example"],
        ..connection()
    }
    .check(&[
        "the certificate of the policy service is for another name",
        "`--server-name`",
    ]);
    Connection {
        address: format!("localhost:{}", plain_server()),
        ..connection()
    }
    .check(&["the policy service does not speak TLS there"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Connection {
        address: nobody.to_string(),
        ..connection()
    }
    .check(&["cannot reach the policy service", "refused"]);
    files_that_do_not_fit(&connection, &other);
}

fn files_that_do_not_fit(connection: &dyn Fn() -> Connection, other: &Path) {
    let empty = other.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    Connection {
        ca: empty.clone(),
        ..connection()
    }
    .check(&["--ca", "empty.pem`: expected a certificate in PEM"]);
    Connection {
        certificate: empty.clone(),
        ..connection()
    }
    .check(&["--certificate", "empty.pem`: expected a certificate in PEM"]);
    Connection {
        key: empty,
        ..connection()
    }
    .check(&["--key", "empty.pem`: expected a private key in PEM"]);
    Connection {
        key: other.join("web-key.pem"),
        ..connection()
    }
    .check(&["`--key", "does not belong to `--certificate"]);
    Connection {
        certificate: other.join("absent.pem"),
        ..connection()
    }
    .check(&["absent.pem", "No such file"]);
}
