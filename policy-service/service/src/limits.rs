//! The fixed limits of the policy service, for the reference.

use picket_model::limits::{Limit, LimitGroup};

use crate::authzen::{
    CANDIDATES_MAX, DEPTH_MAX, MEMBERS_MAX, RESOURCES_BYTES_MAX, RESOURCES_MAX, RESULTS_MAX, SEARCH_TIME_MAX,
    SEARCHES_MAX,
};
use crate::ext_authz::CHECKS_MAX;
use crate::grpc::{
    ADMIN_CONCURRENCY_MAX, DECIDE_TIMEOUT, HEADER_LIST_BYTES_MAX, POLICY_CONCURRENCY_MAX, REPORTS_MAX,
    RISK_CONCURRENCY_MAX, STREAMS_MAX,
};
use crate::http::{CONNECTION_AGE_MAX, CONNECTIONS_MAX as HTTP_CONNECTIONS_MAX};
use crate::transport::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_OF_ADDRESS_MAX};
use picket_audit::{BATCH_RECORDS_MAX, QUEUE_RECORDS_MAX};
use picket_policy::{AMR_MAX, FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, PATH_PARAMETERS_MAX, ROLES_MAX, SCOPES_MAX};
use picket_risk::{
    DENIALS_MAX, DEVICES_MAX, FAILURES_MAX, NETWORKS_MAX, PLACES_MAX, REPORTS_MAX as DYNAMICS_MAX, ROUTE_RULES_MAX,
    SESSIONS_MAX, TOKEN_SOURCES_MAX, WATCHED_TOKENS_MAX,
};
use picket_service_configuration::FILE_BYTES_MAX as CONFIGURATION_BYTES_MAX;
use picket_state::STALE_MS_MAX;
use picket_state::devices::THUMBPRINTS_MAX;
use picket_state::revisions::{ACTIVATIONS_MAX, REVISIONS_MAX};
use picket_state::roles::ROLE_ASSIGNMENTS_MAX;

/// All of them, by part.
pub const LIMITS: &[LimitGroup] = &[
    LimitGroup {
        title: "Connections to the policy service",
        limits: &[
            Limit::count("connections, gRPC", CONNECTIONS_MAX as u64, "closed, `no_place`"),
            Limit::count("TLS handshakes at once", HANDSHAKES_MAX as u64, "closed, `no_place`"),
            Limit::count(
                "handshakes of one address or /64",
                HANDSHAKES_OF_ADDRESS_MAX as u64,
                "closed, `no_place`",
            ),
            Limit::seconds("TLS handshake", HANDSHAKE_TIMEOUT.as_secs(), "closed, `timed_out`"),
            Limit::count(
                "calls at once on a connection",
                STREAMS_MAX as u64,
                "the next ones wait",
            ),
            Limit::bytes(
                "request headers of a call",
                HEADER_LIST_BYTES_MAX as u64,
                "call refused",
            ),
            Limit::count("connections, HTTP", HTTP_CONNECTIONS_MAX as u64, "closed"),
            Limit::seconds("age of a connection, HTTP", CONNECTION_AGE_MAX.as_secs(), "closed"),
        ],
    },
    LimitGroup {
        title: "Calls of the policy service",
        limits: &[
            Limit::seconds("decision", DECIDE_TIMEOUT.as_secs(), "DEADLINE_EXCEEDED"),
            Limit::count("requests of Envoys at once", CHECKS_MAX as u64, "RESOURCE_EXHAUSTED"),
            Limit::count(
                "calls of operators at once",
                ADMIN_CONCURRENCY_MAX as u64,
                "RESOURCE_EXHAUSTED",
            ),
            Limit::count(
                "calls about policies at once",
                POLICY_CONCURRENCY_MAX as u64,
                "RESOURCE_EXHAUSTED",
            ),
            Limit::count(
                "calls about risk at once",
                RISK_CONCURRENCY_MAX as u64,
                "RESOURCE_EXHAUSTED",
            ),
            Limit::count("reports in a call", REPORTS_MAX as u64, "INVALID_ARGUMENT"),
            Limit::bytes(
                "configuration file",
                CONFIGURATION_BYTES_MAX,
                "mistake in the configuration",
            ),
        ],
    },
    LimitGroup {
        title: "AuthZEN",
        limits: &[
            Limit::count("levels of a body", DEPTH_MAX as u64, "400"),
            Limit::count("members of a body", MEMBERS_MAX as u64, "400"),
            Limit::count("searches at once", SEARCHES_MAX as u64, "503"),
            Limit::count("results of a page", RESULTS_MAX as u64, "the page ends"),
            Limit::count("candidates of a page", CANDIDATES_MAX as u64, "the page ends"),
            Limit::seconds("search for a page", SEARCH_TIME_MAX.as_secs(), "the page ends"),
            Limit::count(
                "resources in `authzen.resources_file`",
                RESOURCES_MAX as u64,
                "the start ends",
            ),
            Limit::bytes("`authzen.resources_file`", RESOURCES_BYTES_MAX, "the start ends"),
        ],
    },
    LimitGroup {
        title: "Policies",
        limits: &[
            Limit::count("files of policies, and of tests", FILES_MAX as u64, "policies refused"),
            Limit::bytes("file", FILE_BYTES_MAX, "policies refused"),
            Limit::bytes("all files", FILES_BYTES_MAX as u64, "policies refused"),
            Limit::count("revisions", REVISIONS_MAX, "revision refused"),
            Limit::count("activations", ACTIVATIONS_MAX, "activation refused"),
            Limit::count("roles of a principal", ROLES_MAX as u64, "deny"),
            Limit::count("scopes of a token", SCOPES_MAX as u64, "deny"),
            Limit::count("values of `amr`", AMR_MAX as u64, "deny"),
            Limit::count("path parameters", PATH_PARAMETERS_MAX as u64, "deny"),
        ],
    },
    LimitGroup {
        title: "State and audit log",
        limits: &[
            Limit::milliseconds("use of the cache without the storage", STALE_MS_MAX, "UNAVAILABLE"),
            Limit::count("role assignments", ROLE_ASSIGNMENTS_MAX, "assignment refused"),
            Limit::count("thumbprints of a device", THUMBPRINTS_MAX as u64, "thumbprint refused"),
            Limit::count(
                "records that wait for the audit log",
                QUEUE_RECORDS_MAX as u64,
                "UNAVAILABLE",
            ),
            Limit::count("records of a commit", BATCH_RECORDS_MAX as u64, "the next commit"),
        ],
    },
    LimitGroup {
        title: "Risk, for each principal",
        limits: &[
            Limit::count("locations", PLACES_MAX as u64, "the oldest is forgotten"),
            Limit::count("devices", DEVICES_MAX as u64, "the oldest is forgotten"),
            Limit::count("sessions", SESSIONS_MAX as u64, "the oldest is forgotten"),
            Limit::count("route rules", ROUTE_RULES_MAX as u64, "the oldest is forgotten"),
            Limit::count("denials", DENIALS_MAX as u64, "the oldest is forgotten"),
            Limit::count("failed authentications", FAILURES_MAX as u64, "the oldest is forgotten"),
            Limit::count("tokens", WATCHED_TOKENS_MAX as u64, "the oldest is forgotten"),
            Limit::count(
                "peers of a token, and locations",
                TOKEN_SOURCES_MAX as u64,
                "the oldest is forgotten",
            ),
            Limit::count(
                "sessions with reports of dynamics",
                DYNAMICS_MAX as u64,
                "the oldest is forgotten",
            ),
            Limit::count("networks of a threat list", NETWORKS_MAX as u64, "list refused"),
        ],
    },
];
