//! Why a request was refused: the one table from reason to reply.

/// Which step of a request's life had the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    /// The request itself was malformed.
    Request,
    /// The route rules.
    Local,
    /// The peer's certificate.
    Peer,
    /// The credential.
    Token,
    /// The decision cache.
    Cache,
    /// The policy service.
    PolicyService,
}

impl DecidedBy {
    /// The stable name, as in the header `x-picket-decided-by`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Token => "token",
            Self::Cache => "cache",
            Self::PolicyService => "policy_service",
        }
    }
}

macro_rules! deny_reasons {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident => $code:literal, $status:literal, $grpc:literal, [$($by:ident),+], $title:literal;
    )+) => {
        /// A stable reason code for a refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DenyReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DenyReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable code, for callers, metrics and records.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The gRPC status code (`google.rpc.Code`).
            #[must_use]
            pub fn grpc_status(self) -> u32 {
                match self { $(Self::$variant => $grpc,)+ }
            }

            /// When a request is refused with it, as the reference of reasons has it.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+),)+ }
            }

            /// The steps that refuse with it. The cache repeats decisions of the policy service.
            #[must_use]
            pub fn decided_by(self) -> &'static [DecidedBy] {
                match self { $(Self::$variant => &[$(DecidedBy::$by),+],)+ }
            }

            /// One sentence that any caller may see.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

// gRPC codes: 3 INVALID_ARGUMENT, 7 PERMISSION_DENIED, 14 UNAVAILABLE, 16 UNAUTHENTICATED.
deny_reasons! {
    /// The request has two readings, or none.
    RequestMalformed => "request_malformed", 400, 3, [Request], "The request is malformed.";
    /// The request carries more credentials than the rule requires, two of one provider, one that
    /// is not a token, or one that only some servers would find (RFC 6750 §3.1 `invalid_request`).
    /// `detail` names the place.
    CredentialMalformed => "credential_malformed", 400, 3, [Token], "The request does not carry exactly one well-formed credential.";
    /// The token came in a place that its provider does not name.
    CredentialMisplaced => "credential_misplaced", 401, 16, [Token], "The token was sent in a place where it is not accepted.";
    /// No credential was sent in a place of the rule's providers, or fewer than the rule requires
    /// (RFC 6750 §3).
    CredentialMissing => "credential_missing", 401, 16, [Token], "A bearer token is required.";
    /// The token is not a JWS in compact serialization, or its parts break a rule of RFC 7515 or
    /// RFC 7519, or it is larger than `token_limits`. `detail` says which.
    TokenMalformed => "token_malformed", 401, 16, [Token], "The token is malformed.";
    /// The provider does not allow the algorithm.
    TokenAlgorithmRefused => "token_algorithm_refused", 401, 16, [Token], "The token's algorithm is not allowed.";
    /// No key of the provider matches the token.
    TokenKeyUnknown => "token_key_unknown", 401, 16, [Token], "The token's key is not known.";
    /// The signature is not valid for the key.
    TokenSignatureInvalid => "token_signature_invalid", 401, 16, [Token], "The token's signature is not valid.";
    /// No provider has this issuer.
    TokenIssuerUnknown => "token_issuer_unknown", 401, 16, [Token], "The token's issuer is not known.";
    /// The token is for another audience.
    TokenAudienceMismatch => "token_audience_mismatch", 401, 16, [Token], "The token is for another audience.";
    /// The issuer says that the token is not active (RFC 7662 §2.2).
    TokenInactive => "token_inactive", 401, 16, [Token], "The token is not active.";
    /// The token's session has ended or was revoked (RFC 6750 §3.1 `invalid_token`). `reasons` says
    /// which.
    TokenRevoked => "token_revoked", 401, 16, [PolicyService, Cache], "The token is no longer accepted: its session has ended or was revoked.";
    /// `exp` has passed.
    TokenExpired => "token_expired", 401, 16, [Token], "The token has expired.";
    /// `nbf` or `iat` lies in the future.
    TokenNotYetValid => "token_not_yet_valid", 401, 16, [Token], "The token is not yet valid.";
    /// The provider does not allow the subject.
    TokenSubjectRefused => "token_subject_refused", 401, 16, [Token], "The token's subject is not allowed.";
    /// The token lives longer than the provider allows.
    TokenLifetimeRefused => "token_lifetime_refused", 401, 16, [Token], "The token lives longer than allowed.";
    /// A claim has none of the values that the provider requires.
    TokenClaimRefused => "token_claim_refused", 401, 16, [Token], "A claim of the token is not as required.";
    /// The rule does not accept tokens of this provider.
    TokenProviderRefused => "token_provider_refused", 401, 16, [Token], "Tokens of this issuer are not accepted here.";
    /// The token lacks a scope that the rule requires (RFC 6750 §3.1 `insufficient_scope`).
    TokenScopeInsufficient => "token_scope_insufficient", 403, 7, [Token], "The token lacks a required scope.";
    /// The policies would permit a stronger or more recent authentication. The challenge names it
    /// (RFC 9470 §3).
    AuthenticationInsufficient => "authentication_insufficient", 401, 16, [PolicyService, Cache], "A stronger or more recent authentication is required.";
    /// The policies would permit the same request from a trusted device. `challenge` in the problem
    /// document names what else is missing.
    DeviceNotTrusted => "device_not_trusted", 401, 16, [PolicyService, Cache], "A trusted device is required.";
    /// A required claim is absent: `exp`, `sub`, or one that the provider names.
    TokenClaimMissing => "token_claim_missing", 401, 16, [Token], "The token lacks a required claim.";
    /// A proof of possession is required, by the rule or by the scheme `DPoP`, and the token is not
    /// bound to a key or a certificate.
    TokenNotBound => "token_not_bound", 401, 16, [Token], "The token is not bound to a key or a certificate.";
    /// The token is bound to a certificate and came on a connection of another one, or of none (RFC
    /// 8705 §3).
    TokenCertificateMismatch => "token_certificate_mismatch", 401, 16, [Token], "The token is bound to another client certificate.";
    /// The token is bound to a key and was sent as a bearer token (RFC 9449 §7.2).
    TokenSentAsBearer => "token_sent_as_bearer", 401, 16, [Token], "The token is bound to a key and must be sent with a DPoP proof.";
    /// The token is bound to a key and came without a `DPoP` header.
    DpopProofMissing => "dpop_proof_missing", 401, 16, [Token], "A DPoP proof is required.";
    /// The proof breaks a rule of RFC 9449 §4.3. `detail` says which.
    DpopProofInvalid => "dpop_proof_invalid", 401, 16, [Token], "The DPoP proof is not valid for this request.";
    /// The proof's `iat` lies too far in the past or in the future, its `exp` in the past, or its
    /// `nbf` in the future.
    DpopProofStale => "dpop_proof_stale", 401, 16, [Token], "The DPoP proof was not made just now.";
    /// The proof was used before.
    DpopProofReplayed => "dpop_proof_replayed", 401, 16, [Token], "The DPoP proof was used before.";
    /// The token is bound to another key than the proof's.
    DpopKeyMismatch => "dpop_key_mismatch", 401, 16, [Token], "The token is bound to another key than the DPoP proof's.";
    /// The proof has no recent nonce (RFC 9449 §9). The answer has one.
    DpopNonceRequired => "dpop_nonce_required", 401, 16, [Token], "The DPoP proof needs the nonce in this answer.";
    /// The ledger of used proofs is full, so a replay could not be detected.
    DpopLedgerFull => "dpop_ledger_full", 503, 14, [Token], "Too many DPoP proofs were used lately.";
    /// No route rule matches.
    NoRule => "no_rule", 403, 7, [Local], "No rule allows this request.";
    /// The route rule denies.
    RuleDeny => "rule_deny", 403, 7, [Local], "A rule denies this request.";
    /// An access rule rejects the request. `detail` says where it does so because an address is
    /// unknown.
    AccessRuleReject => "access_rule_reject", 403, 7, [Local], "An access rule rejects this request.";
    /// None of the access rules that accept matches the request. `detail` says where that is
    /// because an address is unknown.
    AccessRuleNoAccept => "access_rule_no_accept", 403, 7, [Local], "No access rule accepts this request.";
    /// The policies deny.
    PolicyDeny => "policy_deny", 403, 7, [PolicyService, Cache], "Policy denies this request.";
    /// The request comes from a network that the rule does not name, or that it excludes. `detail`
    /// says why an address is unknown.
    SourceNotAllowed => "source_not_allowed", 403, 7, [Local], "Requests from the caller's address are not allowed here.";
    /// The connection has no client certificate, or a trusted hop forwarded none.
    PeerMissing => "peer_missing", 403, 7, [Peer], "A client certificate is required.";
    /// Envoy did not validate the client certificate, or under external authorization no authority
    /// in `peer_ca_file` signed it. `detail` says which.
    PeerUnverified => "peer_unverified", 403, 7, [Peer], "The client certificate was not verified.";
    /// The certificate, or the one that a trusted hop forwarded, is not an X.509-SVID that a client
    /// may use. `detail` says why.
    PeerMalformed => "peer_malformed", 403, 7, [Peer], "The client certificate is not an X.509-SVID for clients.";
    /// The validity of the certificate lies in the future.
    PeerNotYetValid => "peer_not_yet_valid", 403, 7, [Peer], "The client certificate is not yet valid.";
    /// The validity of the certificate has passed, possibly while the connection was open.
    PeerExpired => "peer_expired", 403, 7, [Peer], "The client certificate has expired.";
    /// The rule does not allow the peer, or an access rule reads the peer and it is of a trust
    /// domain that the filter does not name.
    PeerNotAllowed => "peer_not_allowed", 403, 7, [Peer], "The calling workload is not allowed here.";
    /// The policy service did not answer in time.
    PolicyServiceUnavailable => "policy_service_unavailable", 503, 14, [PolicyService], "The policy service is unavailable.";
    /// The provider's keys have not been fetched, or not within `max_stale_s`.
    KeySetUnavailable => "key_set_unavailable", 503, 14, [Token], "The token cannot be verified now.";
    /// The token's issuer gave no valid answer about it.
    IntrospectionUnavailable => "introspection_unavailable", 503, 14, [Token], "The token cannot be looked up now.";
    /// The proxy refused a host call, so the request could not be processed.
    HostFailure => "host_failure", 503, 14, [Local], "The proxy could not process the request.";
    /// The answer of the policy service is not a decision.
    PolicyServiceAnswerInvalid => "policy_service_answer_invalid", 503, 14, [PolicyService], "The policy service gave no valid answer.";
}

impl DenyReason {
    /// Whether the caller may try again later, as nothing was decided about the request.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        self.status() == 503
    }

    /// The `error` of RFC 6750 §3.1, RFC 9449 §7.1 or RFC 9470 §3 for the `WWW-Authenticate`
    /// header; `None`: the header has none.
    #[must_use]
    pub fn challenge_error(self) -> Option<&'static str> {
        match (self, self.status()) {
            (Self::CredentialMalformed, _) => Some("invalid_request"),
            (Self::CredentialMissing, _) => None,
            (Self::TokenScopeInsufficient, _) => Some("insufficient_scope"),
            (Self::AuthenticationInsufficient | Self::DeviceNotTrusted, _) => Some("insufficient_user_authentication"),
            (Self::DpopNonceRequired, _) => Some("use_dpop_nonce"),
            (Self::DpopProofMissing | Self::DpopProofInvalid | Self::DpopProofStale | Self::DpopProofReplayed, _) => {
                Some("invalid_dpop_proof")
            }
            (_, 401) => Some("invalid_token"),
            (_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_statuses_agree_with_grpc() {
        let mut codes: Vec<_> = DenyReason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), DenyReason::ALL.len());
        for reason in DenyReason::ALL {
            // google.rpc.Code, as gRPC maps HTTP statuses.
            let expected = match reason.status() {
                400 => 3,
                401 => 16,
                403 => 7,
                503 => 14,
                other => panic!("{other} has no gRPC status"),
            };
            assert_eq!(reason.grpc_status(), expected, "{}", reason.code());
        }
    }

    #[test]
    fn what_a_reason_says_needs_no_encoding_in_a_grpc_message() {
        for reason in DenyReason::ALL {
            let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'%';
            assert!(
                reason.title().bytes().chain(reason.code().bytes()).all(is_plain),
                "{}",
                reason.code()
            );
        }
    }
}
