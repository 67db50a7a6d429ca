//! The fixed limits of a sidecar, for the reference.

use picket_model::access::USER_AGENT_BYTES_MAX;
use picket_model::decision::{ACR_VALUE_BYTES_MAX, ACR_VALUES_MAX, OBLIGATION_BYTES_MAX, OBLIGATIONS_MAX};
use picket_model::limits::{Limit, LimitGroup};

use crate::configuration::limits::DOCUMENT_BYTES_MAX;
use crate::enforcement::{DECISION_VALIDITY_MS_MAX, KEY_WAITS_MAX};
use crate::jose::TokenLimits;
use crate::jose::keys::{KEYS_MAX, KEYS_TRIED_MAX};
use crate::path::TARGET_BYTES_MAX;
use crate::peer::CERTIFICATE_BYTES_MAX;
use crate::peer::forwarded::{ELEMENTS_MAX, FORWARDED_BYTES_MAX};
use crate::request::{HEADERS_MAX, HOST_BYTES_MAX, METHOD_BYTES_MAX};
use crate::route::TEMPLATE_SEGMENTS_MAX;
use crate::token::credential::{CREDENTIALS_MAX, SOURCES_MAX};
use crate::token::remote_keys::response::DOCUMENT_BYTES_MAX as KEY_SET_BYTES_MAX;
use crate::token::remote_keys::{KEY_WAIT_MS_MAX, UNKNOWN_KEY_INTERVAL_MS_MAX};
use crate::{dpop, enrollment};

/// All of them, by part.
pub const LIMITS: &[LimitGroup] = &[
    LimitGroup {
        title: "Requests in a sidecar",
        limits: &[
            Limit::count("header fields", HEADERS_MAX as u64, "`request_malformed`"),
            Limit::bytes("path with query", TARGET_BYTES_MAX as u64, "`request_malformed`"),
            Limit::bytes("host", HOST_BYTES_MAX as u64, "`request_malformed`"),
            Limit::bytes("method", METHOD_BYTES_MAX as u64, "`request_malformed`"),
            Limit::bytes("`user-agent`", USER_AGENT_BYTES_MAX as u64, "`request_malformed`"),
            Limit::bytes(
                "certificate of a peer",
                CERTIFICATE_BYTES_MAX as u64,
                "`peer_malformed`",
            ),
            Limit::bytes(
                "header of a trusted hop",
                FORWARDED_BYTES_MAX as u64,
                "`peer_malformed`",
            ),
            Limit::count(
                "elements of `x-forwarded-client-cert`",
                ELEMENTS_MAX as u64,
                "`peer_malformed`",
            ),
        ],
    },
    LimitGroup {
        title: "Tokens and proofs",
        limits: &[
            Limit::count(
                "credentials of a request",
                CREDENTIALS_MAX as u64,
                "`credential_malformed`",
            ),
            Limit::count(
                "places of tokens, all providers",
                SOURCES_MAX as u64,
                "mistake in the configuration",
            ),
            Limit::bytes(
                "DPoP proof",
                TokenLimits::OF_PROOFS.bytes_max as u64,
                "`dpop_proof_invalid`",
            ),
            Limit::count(
                "members of a DPoP proof",
                TokenLimits::OF_PROOFS.members_max as u64,
                "`dpop_proof_invalid`",
            ),
            Limit::count(
                "levels of a DPoP proof",
                TokenLimits::OF_PROOFS.depth_max as u64,
                "`dpop_proof_invalid`",
            ),
            Limit::bytes(
                "`jti` of a DPoP proof",
                dpop::PROOF_ID_BYTES_MAX as u64,
                "`dpop_proof_invalid`",
            ),
            Limit::milliseconds(
                "age of a proof of enrolment",
                enrollment::PROOF_AGE_MS_MAX,
                "proof refused",
            ),
        ],
    },
    LimitGroup {
        title: "Keys of issuers",
        limits: &[
            Limit::count("keys of a key set", KEYS_MAX as u64, "key set refused"),
            Limit::bytes(
                "fetched key set or metadata",
                KEY_SET_BYTES_MAX as u64,
                "key set refused",
            ),
            Limit::count(
                "keys tried for one token",
                KEYS_TRIED_MAX as u64,
                "`token_signature_invalid`",
            ),
            Limit::milliseconds(
                "interval of fetches for unknown keys",
                UNKNOWN_KEY_INTERVAL_MS_MAX,
                "one fetch in it",
            ),
            Limit::milliseconds("wait of a request for a key", KEY_WAIT_MS_MAX, "`token_key_unknown`"),
            Limit::count(
                "requests that wait for keys, per worker",
                KEY_WAITS_MAX as u64,
                "`key_set_unavailable`",
            ),
        ],
    },
    LimitGroup {
        title: "Decisions in a sidecar",
        limits: &[
            Limit::milliseconds(
                "validity of a cached decision",
                DECISION_VALIDITY_MS_MAX,
                "asked for again",
            ),
            Limit::count(
                "obligations of a decision",
                OBLIGATIONS_MAX as u64,
                "`policy_service_answer_invalid`",
            ),
            Limit::bytes(
                "obligation",
                OBLIGATION_BYTES_MAX as u64,
                "`policy_service_answer_invalid`",
            ),
            Limit::count(
                "`acr_values` of a challenge",
                ACR_VALUES_MAX as u64,
                "`policy_service_answer_invalid`",
            ),
            Limit::bytes(
                "value of `acr_values`",
                ACR_VALUE_BYTES_MAX as u64,
                "`policy_service_answer_invalid`",
            ),
        ],
    },
    LimitGroup {
        title: "Configuration of the filter",
        limits: &[
            Limit::bytes("document", DOCUMENT_BYTES_MAX as u64, "document refused"),
            Limit::count(
                "segments of a path template",
                TEMPLATE_SEGMENTS_MAX as u64,
                "mistake in the configuration",
            ),
        ],
    },
];
