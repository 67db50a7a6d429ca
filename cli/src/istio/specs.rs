//! Istio's documents as they are written; unknown fields are refused, as what is passed over might have been a condition.

use deserr::Deserr;
use picket_model::problems::Problems;
use serde_json::Value;

#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct AuthorizationPolicySpec {
    #[deserr(default)]
    pub(super) selector: Option<Selector>,
    #[deserr(default)]
    pub(super) target_ref: Option<Value>,
    #[deserr(default)]
    pub(super) target_refs: Option<Vec<Value>>,
    #[deserr(default)]
    pub(super) action: Option<ActionName>,
    #[deserr(default)]
    pub(super) provider: Option<Value>,
    #[deserr(default)]
    pub(super) rules: Option<Vec<Rule>>,
}

#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
pub(super) enum ActionName {
    #[deserr(rename = "ALLOW")]
    Allow,
    #[deserr(rename = "DENY")]
    Deny,
    #[deserr(rename = "AUDIT")]
    Audit,
    #[deserr(rename = "CUSTOM")]
    Custom,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct Selector {
    /// Names and values; read by hand, as deserr passes over what is wrong inside of a map.
    #[deserr(default)]
    pub(super) match_labels: Option<Value>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct Rule {
    #[deserr(default)]
    pub(super) from: Option<Vec<From>>,
    #[deserr(default)]
    pub(super) to: Option<Vec<To>>,
    #[deserr(default)]
    pub(super) when: Option<Vec<When>>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct From {
    #[deserr(default)]
    pub(super) source: Option<Source>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct To {
    #[deserr(default)]
    pub(super) operation: Option<Operation>,
}

#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct Source {
    #[deserr(default)]
    pub(super) principals: Vec<String>,
    #[deserr(default)]
    pub(super) not_principals: Vec<String>,
    #[deserr(default)]
    pub(super) request_principals: Vec<String>,
    #[deserr(default)]
    pub(super) not_request_principals: Vec<String>,
    #[deserr(default)]
    pub(super) namespaces: Vec<String>,
    #[deserr(default)]
    pub(super) not_namespaces: Vec<String>,
    #[deserr(default)]
    pub(super) service_accounts: Vec<String>,
    #[deserr(default)]
    pub(super) not_service_accounts: Vec<String>,
    #[deserr(default)]
    pub(super) ip_blocks: Vec<String>,
    #[deserr(default)]
    pub(super) not_ip_blocks: Vec<String>,
    #[deserr(default)]
    pub(super) remote_ip_blocks: Vec<String>,
    #[deserr(default)]
    pub(super) not_remote_ip_blocks: Vec<String>,
    #[deserr(default)]
    pub(super) trust_domains: Vec<String>,
    #[deserr(default)]
    pub(super) not_trust_domains: Vec<String>,
}

#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct Operation {
    #[deserr(default)]
    pub(super) hosts: Vec<String>,
    #[deserr(default)]
    pub(super) not_hosts: Vec<String>,
    #[deserr(default)]
    pub(super) ports: Vec<String>,
    #[deserr(default)]
    pub(super) not_ports: Vec<String>,
    #[deserr(default)]
    pub(super) methods: Vec<String>,
    #[deserr(default)]
    pub(super) not_methods: Vec<String>,
    #[deserr(default)]
    pub(super) paths: Vec<String>,
    #[deserr(default)]
    pub(super) not_paths: Vec<String>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct When {
    pub(super) key: String,
    #[deserr(default)]
    pub(super) values: Vec<String>,
    #[deserr(default)]
    pub(super) not_values: Vec<String>,
}

#[derive(Debug, Default, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct RequestAuthenticationSpec {
    #[deserr(default)]
    pub(super) selector: Option<Selector>,
    #[deserr(default)]
    pub(super) target_ref: Option<Value>,
    #[deserr(default)]
    pub(super) target_refs: Option<Vec<Value>>,
    #[deserr(default)]
    pub(super) jwt_rules: Vec<JwtRule>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct JwtRule {
    #[deserr(default)]
    pub(super) issuer: Option<String>,
    #[deserr(default)]
    pub(super) audiences: Vec<String>,
    #[deserr(default)]
    pub(super) jwks_uri: Option<String>,
    /// The same, as the resource definition has it too.
    #[deserr(default, rename = "jwks_uri")]
    pub(super) jwks_uri_of_proto: Option<String>,
    #[deserr(default)]
    pub(super) jwks: Option<String>,
    #[deserr(default)]
    pub(super) from_headers: Vec<JwtHeader>,
    #[deserr(default)]
    pub(super) from_params: Vec<String>,
    #[deserr(default)]
    pub(super) from_cookies: Vec<String>,
    #[deserr(default)]
    pub(super) output_payload_to_header: Option<String>,
    #[deserr(default)]
    pub(super) output_claim_to_headers: Vec<ClaimToHeader>,
    #[deserr(default)]
    pub(super) forward_original_token: bool,
    #[deserr(default)]
    pub(super) timeout: Option<String>,
    #[deserr(default)]
    pub(super) failure_mode: Option<String>,
    #[deserr(default)]
    pub(super) space_delimited_claims: Vec<String>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct JwtHeader {
    pub(super) name: String,
    #[deserr(default)]
    pub(super) prefix: Option<String>,
}

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, rename_all = camelCase, error = Problems)]
pub(super) struct ClaimToHeader {
    pub(super) header: String,
    pub(super) claim: String,
}
