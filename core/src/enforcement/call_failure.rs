//! The causes of a failed call to the policy service, as far as the proxy reports them.

use std::fmt;

use crate::token::remote_keys::response::is_tls_failure;

/// Why the policy service's answer is none. `Display` says what that means and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// It answered with an error, or the cause is unknown.
    Unavailable,
    /// There is no connection to it.
    Unreachable,
    /// The proxy did not send the call: it has no cluster of the configured name, or no healthy
    /// endpoint in it.
    ClusterUnusable,
    /// This end does not accept the service's certificate, or no TLS is spoken there.
    TlsFailed,
    /// The connection was closed before an answer: in TLS 1.3 the way in which a service refuses
    /// this end's certificate.
    ConnectionClosed,
    /// No answer came in time.
    TimedOut,
    /// It does not answer this sidecar.
    Refused,
    /// It, or the proxy on the way to it, has too many calls at once.
    Overloaded,
    /// The answer is no valid decision.
    AnswerInvalid,
}

impl CallFailure {
    /// Every failure.
    pub const ALL: &'static [Self] = &[
        Self::Unavailable,
        Self::Unreachable,
        Self::ClusterUnusable,
        Self::TlsFailed,
        Self::ConnectionClosed,
        Self::TimedOut,
        Self::Refused,
        Self::Overloaded,
        Self::AnswerInvalid,
    ];

    /// The failure behind a gRPC status other than OK, and its message: that of the policy service,
    /// or one of Envoy's own.
    #[must_use]
    pub fn of_grpc_status(code: u32, message: &str) -> Self {
        const DEADLINE_EXCEEDED: u32 = 4;
        const PERMISSION_DENIED: u32 = 7;
        const RESOURCE_EXHAUSTED: u32 = 8;
        const UNAUTHENTICATED: u32 = 16;
        match code {
            PERMISSION_DENIED | UNAUTHENTICATED => Self::Refused,
            RESOURCE_EXHAUSTED => Self::Overloaded,
            DEADLINE_EXCEEDED => Self::TimedOut,
            _ => Self::of_message(message),
        }
    }

    fn of_message(message: &str) -> Self {
        const TEXTS: [(&str, CallFailure); 6] = [
            ("no healthy upstream", CallFailure::Unreachable),
            ("connection failure", CallFailure::Unreachable),
            ("connection timeout", CallFailure::Unreachable),
            ("reset reason: connection termination", CallFailure::ConnectionClosed),
            ("reset reason: overflow", CallFailure::Overloaded),
            ("timeout", CallFailure::TimedOut),
        ];
        // TLS fails on connections that could be made.
        if is_tls_failure(message) {
            return Self::TlsFailed;
        }
        let found = TEXTS.iter().find(|(text, _)| message.contains(text));
        found.map_or(Self::Unavailable, |(_, failure)| *failure)
    }

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
            Self::ClusterUnusable => "cluster_unusable",
            Self::TlsFailed => "tls_failed",
            Self::ConnectionClosed => "connection_closed",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::AnswerInvalid => "invalid",
        }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "it answered with an error, or the connection broke",
            Self::Unreachable => "no connection to it; check that it runs, and the address in its cluster",
            Self::ClusterUnusable => {
                "Envoy has no such cluster, or no healthy endpoint in it; check `policy_service.cluster`"
            }
            Self::TlsFailed => {
                "its certificate is refused here, or it speaks no TLS; check authorities and name in its cluster"
            }
            Self::ConnectionClosed => {
                "it closed the connection before an answer; its log tells whether it refuses this sidecar's certificate"
            }
            Self::TimedOut => "no answer within `policy_service.timeout_ms`",
            Self::Refused => {
                "it refuses this sidecar; check that `grpc.allowed_callers` of the service has its SPIFFE ID"
            }
            Self::Overloaded => "too many calls at once, there or in Envoy's limits for the cluster",
            Self::AnswerInvalid => "its answer is no decision; check that both are of the same release",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of Envoy 1.40 for a call that failed so.
    #[test]
    fn a_failure_is_known_by_status_and_message() {
        let reset = |reason: &str| {
            let envoy = "upstream connect error or disconnect/reset before headers. reset reason: ";
            format!("{envoy}{reason}")
        };
        let check = |code: u32, message: &str, expected: CallFailure| {
            assert_eq!(CallFailure::of_grpc_status(code, message), expected, "{code} {message}");
        };
        let tls = "remote connection failure{upstream_reset_before_response_started{remote_connection_failure|TLS_error:\
                   |268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end}}";
        check(14, &reset(tls), CallFailure::TlsFailed);
        let refused = "remote connection failure{upstream_reset_before_response_started{remote_connection_failure|\
                       delayed_connect_error:_Connection_refused}}";
        check(14, &reset(refused), CallFailure::Unreachable);
        check(14, &reset("connection timeout"), CallFailure::Unreachable);
        check(14, "no healthy upstream", CallFailure::Unreachable);
        let closed = "connection termination{upstream_reset_before_response_started{connection_termination}}";
        check(14, &reset(closed), CallFailure::ConnectionClosed);
        check(14, &reset("overflow"), CallFailure::Overloaded);
        check(14, "upstream request timeout{response_timeout}", CallFailure::TimedOut);
        check(4, "", CallFailure::TimedOut);
        for code in [7, 16] {
            check(
                code,
                "the caller's SPIFFE ID may not ask for decisions{via_upstream}",
                CallFailure::Refused,
            );
        }
        check(8, "too many calls at once{via_upstream}", CallFailure::Overloaded);
        for (code, message) in [
            (14, "the decision could not be recorded{via_upstream}"),
            (14, ""),
            (14, "\u{fffd}\u{fffd} gone"),
            (13, ""),
            (u32::MAX, ""),
        ] {
            check(code, message, CallFailure::Unavailable);
        }
        let protocol = reset("protocol error{upstream_reset_before_response_started{protocol_error}}");
        check(14, &protocol, CallFailure::Unavailable);
    }

    #[test]
    fn names_in_metrics_are_distinct() {
        let mut names: Vec<_> = CallFailure::ALL.iter().map(|failure| failure.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CallFailure::ALL.len());
    }
}
