//! What a TLS connection that failed means for the side that connected: which certificate of which
//! side was refused, and where the authorities stand that refused it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// What the connecting side calls the certificates and where they are from.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The other side, such as "the policy service".
    pub server: &'a str,
    /// Where the authorities are that its certificate is checked with.
    pub authorities: &'a str,
    /// Where the name is from that its certificate must have.
    pub name: &'a str,
    /// The certificate of this side.
    pub own_certificate: &'a str,
    /// Where the other side has the authorities that it checks that one with.
    pub server_authorities: &'a str,
}

/// The meaning of an error whose causes have one of TLS; `None` for any other error.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many kinds of errors, and adds more"
)]
pub fn describe(error: &(dyn Error + 'static), names: &Names<'_>) -> Option<String> {
    let error = tls_error(error)?;
    let server = names.server;
    let meaning = match error {
        rustls::Error::InvalidCertificate(problem) => refused_here(problem, names),
        rustls::Error::AlertReceived(alert) => refused_there(*alert, names),
        rustls::Error::InvalidMessage(_) => format!("{server} does not speak TLS there"),
        _ => format!("the connection to {server} failed"),
    };
    Some(format!("{meaning} ({error})"))
}

/// This side refuses the other one's certificate.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many kinds of errors, and adds more"
)]
fn refused_here(problem: &CertificateError, names: &Names<'_>) -> String {
    let Names {
        server,
        authorities,
        name,
        ..
    } = names;
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("the certificate of {server} is signed by no authority in {authorities}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {server} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate of {server} is for another name than {name}")
        }
        _ => format!("the certificate of {server} is refused"),
    }
}

/// The other side says why it ended the connection (RFC 8446 §6.2).
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many kinds of alerts, and adds more"
)]
fn refused_there(alert: AlertDescription, names: &Names<'_>) -> String {
    let Names {
        server,
        own_certificate,
        server_authorities,
        ..
    } = names;
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("{server} refuses {own_certificate}: it is signed by no authority in {server_authorities}")
        }
        AlertDescription::CertificateExpired => {
            format!("{server} refuses {own_certificate}: it has expired, or is not valid yet")
        }
        AlertDescription::CertificateRequired => format!("{server} asks for a certificate, and was given none"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => format!("{server} refuses {own_certificate}"),
        AlertDescription::NoApplicationProtocol => {
            format!("{server} speaks another protocol there: it is the address of something else")
        }
        AlertDescription::ProtocolVersion => format!("{server} speaks another version of TLS"),
        _ => format!("{server} ended the connection"),
    }
}

/// An error of TLS among the causes; those of reading and writing hold theirs without naming it as
/// a source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        server: "the server",
        authorities: "`ca`",
        name: "`name`",
        own_certificate: "our certificate",
        server_authorities: "`client_ca`",
    };

    #[test]
    fn the_side_and_the_certificate_are_named() {
        let alert = |alert| rustls::Error::AlertReceived(alert);
        let invalid = |error| rustls::Error::InvalidCertificate(error);
        for (error, expected) in [
            (
                invalid(CertificateError::UnknownIssuer),
                "the certificate of the server is signed by no authority in `ca` (invalid peer certificate: UnknownIssuer)",
            ),
            (
                invalid(CertificateError::Expired),
                "the certificate of the server has expired",
            ),
            (
                invalid(CertificateError::NotValidYet),
                "the certificate of the server is not valid yet",
            ),
            (
                invalid(CertificateError::NotValidForName),
                "the certificate of the server is for another name than `name`",
            ),
            (
                invalid(CertificateError::BadEncoding),
                "the certificate of the server is refused",
            ),
            (
                alert(AlertDescription::UnknownCA),
                "the server refuses our certificate: it is signed by no authority in `client_ca`",
            ),
            (
                alert(AlertDescription::CertificateExpired),
                "the server refuses our certificate: it has expired, or is not valid yet",
            ),
            (
                alert(AlertDescription::CertificateRequired),
                "the server asks for a certificate",
            ),
            (
                alert(AlertDescription::BadCertificate),
                "the server refuses our certificate",
            ),
            (
                alert(AlertDescription::InternalError),
                "the server ended the connection",
            ),
            (
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                "the server does not speak TLS there",
            ),
        ] {
            let direct = describe(&error, &NAMES).unwrap();
            assert!(direct.starts_with(expected), "{direct}");
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(describe(&wrapped, &NAMES), Some(direct));
        }
    }

    #[test]
    fn other_errors_mean_what_they_say() {
        assert_eq!(describe(&io::Error::other("refused"), &NAMES), None);
        assert_eq!(
            describe(&io::Error::from(io::ErrorKind::ConnectionRefused), &NAMES),
            None
        );
    }
}
