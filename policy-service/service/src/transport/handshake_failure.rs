//! The cause of a failed TLS handshake: which side refused which certificate.

use std::io;
use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error};

use super::TransportMetrics;
use crate::log_rate_limit::LogRateLimit;

/// The cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeFailure {
    /// The client presented no certificate.
    #[error("the client presented no certificate")]
    NoCertificate,
    /// This service refuses the client's certificate.
    #[error("the client's certificate is refused: {0}")]
    ClientCertificate(String),
    /// The client does not accept this service's certificate.
    #[error("the client refuses this service's certificate: {0}")]
    ServiceCertificate(String),
    /// The client speaks another protocol, or an older TLS.
    #[error("the client does not speak TLS 1.3 as it is expected here: {0}")]
    Protocol(String),
    /// The client has closed the connection, as a probe of the port does.
    #[error("the client closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("the handshake took too long")]
    TimedOut,
    /// The limit of handshakes or connections is reached.
    #[error("too many handshakes or connections at once")]
    LimitReached,
}

impl HandshakeFailure {
    /// Every label in metrics.
    #[cfg(feature = "schema")]
    pub(super) const CAUSES: [&str; 7] = [
        "no_certificate",
        "client_certificate",
        "service_certificate",
        "protocol",
        "broken",
        "timed_out",
        "no_place",
    ];

    /// The label in metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ClientCertificate(_) => "client_certificate",
            Self::ServiceCertificate(_) => "service_certificate",
            Self::Protocol(_) => "protocol",
            Self::Closed | Self::Broken(_) => "broken",
            Self::TimedOut => "timed_out",
            Self::LimitReached => "no_place",
        }
    }

    /// Counts and logs it with the address that it came from.
    pub(super) fn record(&self, address: IpAddr, metrics: &TransportMetrics) {
        let cause = self.as_str();
        metrics.count_failed_handshake(cause);
        let Some(lines_left_out) = self.log_limit().acquire() else {
            return;
        };
        match self {
            Self::Closed => tracing::debug!(cause, %address, error = %self, lines_left_out, "TLS handshake failed"),
            Self::NoCertificate
            | Self::ClientCertificate(_)
            | Self::ServiceCertificate(_)
            | Self::Protocol(_)
            | Self::Broken(_)
            | Self::TimedOut
            | Self::LimitReached => {
                tracing::warn!(cause, %address, error = %self, lines_left_out, "TLS handshake failed");
            }
        }
    }

    /// One limit for each cause, so that a client that causes one often hides no other.
    fn log_limit(&self) -> &'static LogRateLimit {
        static NO_CERTIFICATE: LogRateLimit = LogRateLimit::new();
        static CLIENT_CERTIFICATE: LogRateLimit = LogRateLimit::new();
        static SERVICE_CERTIFICATE: LogRateLimit = LogRateLimit::new();
        static PROTOCOL: LogRateLimit = LogRateLimit::new();
        static CLOSED: LogRateLimit = LogRateLimit::new();
        static BROKEN: LogRateLimit = LogRateLimit::new();
        static TIMED_OUT: LogRateLimit = LogRateLimit::new();
        static LIMIT_REACHED: LogRateLimit = LogRateLimit::new();
        match self {
            Self::NoCertificate => &NO_CERTIFICATE,
            Self::ClientCertificate(_) => &CLIENT_CERTIFICATE,
            Self::ServiceCertificate(_) => &SERVICE_CERTIFICATE,
            Self::Protocol(_) => &PROTOCOL,
            Self::Closed => &CLOSED,
            Self::Broken(_) => &BROKEN,
            Self::TimedOut => &TIMED_OUT,
            Self::LimitReached => &LIMIT_REACHED,
        }
    }
}

impl From<&io::Error> for HandshakeFailure {
    fn from(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::from(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Broken(error.to_string()),
        }
    }
}

impl From<&Error> for HandshakeFailure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors and alerts at will")]
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            // An authority of the same name with another key shows by the signature.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Self::ClientCertificate("no authority in `grpc.client_ca_file` has signed it".to_owned())
            }
            Error::InvalidCertificate(error) => Self::ClientCertificate(error.to_string()),
            Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                // RFC 8446 §6.2: also a signature that does not hold, as of an authority of the
                // same name.
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => Self::ServiceCertificate(format!("{alert:?}")),
            other => Self::Protocol(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_which_side_refused_what() {
        let check = |error: Error, label: &str, text: &str| {
            let failure = HandshakeFailure::from(&io::Error::other(error.clone()));
            assert_eq!(failure.as_str(), label, "{error:?}");
            assert!(failure.to_string().contains(text), "{failure}");
        };
        let certificate = |error| Error::InvalidCertificate(error);
        check(
            Error::NoCertificatesPresented,
            "no_certificate",
            "presented no certificate",
        );
        check(
            certificate(CertificateError::UnknownIssuer),
            "client_certificate",
            "client_ca_file",
        );
        check(
            certificate(CertificateError::BadSignature),
            "client_certificate",
            "client_ca_file",
        );
        check(
            certificate(CertificateError::Expired),
            "client_certificate",
            "client's certificate",
        );
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        check(alert, "service_certificate", "UnknownCA");
        check(Error::NoApplicationProtocol, "protocol", "TLS 1.3");
        let broken = HandshakeFailure::from(&io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(broken.as_str(), "broken");
        let closed = HandshakeFailure::from(&io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
        assert_eq!((&closed, closed.as_str()), (&HandshakeFailure::Closed, "broken"));
    }

    #[test]
    fn one_cause_leaves_the_lines_of_the_others() {
        let text = String::new;
        let causes = [
            HandshakeFailure::NoCertificate,
            HandshakeFailure::ClientCertificate(text()),
            HandshakeFailure::ServiceCertificate(text()),
            HandshakeFailure::Protocol(text()),
            HandshakeFailure::Closed,
            HandshakeFailure::Broken(text()),
            HandshakeFailure::TimedOut,
            HandshakeFailure::LimitReached,
        ];
        for cause in &causes {
            let same = causes
                .iter()
                .filter(|other| std::ptr::eq(cause.log_limit(), other.log_limit()));
            assert_eq!(same.count(), 1, "{cause:?}");
        }
    }
}
