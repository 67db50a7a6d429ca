//! Issuers of tokens, as they are written.

use deserr::Deserr;
use picket_model::problems::Problems;
use serde_json::Value;

use super::NeedDocument;
use super::introspection::IntrospectionDocument;
use super::remote_keys::RemoteKeysDocument;

/// More elements of a list of a provider are refused.
pub(in crate::configuration) const LIST_MAX: usize = 64;
pub(in crate::configuration) const CLOCK_SKEW_S_DEFAULT: u32 = 60;
pub(in crate::configuration) const CLOCK_SKEW_S_MAX: u32 = 300;
/// Ten years.
pub(in crate::configuration) const LIFETIME_S_MAX: u32 = 315_360_000;

/// An issuer of tokens. Exactly one of `keys`, `remote_keys` and `introspection` says how its
/// tokens are verified.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Providers")
)]
pub struct ProviderDocument {
    /// A unique name, of the characters `a-z A-Z 0-9 . - _`. It goes into metrics.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::configuration::limits::NAME_BYTES_MAX)))]
    pub name: String,
    /// The exact `iss` of the tokens. Several providers may have one issuer. A token then belongs
    /// to the first of them that accepts it, among those that the rule names and that take tokens
    /// from its place.
    pub issuer: String,
    /// The audiences of which a token's `aud` must name one. Required unless `audience` is `none`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub audiences: Option<Vec<String>>,
    /// Whether a token must be for one of `audiences`. With `none` tokens for any audience are
    /// accepted. Not beside `introspection`, which has a key of the same name.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub audience: Option<NeedDocument>,
    /// The principals that a token may name. `*` at the end stands for any rest. Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIST_MAX)))]
    pub subjects: Option<Vec<String>>,
    /// The values that `typ` may have, compared without regard to case and to a leading
    /// "application/". `at+jwt` stands for access tokens by RFC 9068. Default: no `typ`, `JWT` or
    /// `at+jwt`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIST_MAX)))]
    pub types: Option<Vec<String>>,
    /// Claims that a token must have. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = LIST_MAX)))]
    pub required_claims: Option<Vec<RequiredClaimDocument>>,
    /// Whether a token must have `exp`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "required")))]
    pub expiry: Option<NeedDocument>,
    /// The longest time from `iat` to `exp`, in seconds. Without `iat` it is measured from now.
    /// Default: any.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LIFETIME_S_MAX)))]
    pub lifetime_s_max: Option<u32>,
    /// The algorithms that are allowed: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`,
    /// `ES256`, `ES384`, `ES512`, `EdDSA`, `HS256`, `HS384` and `HS512`. `Ed25519` (RFC 9864) is
    /// another name of `EdDSA`. Those with a secret (`HS…`) are not allowed beside `remote_keys`.
    /// Default: all that the keys support; `PS256`, `PS384` and `PS512` only where a key of `keys`
    /// names them.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub algorithms: Option<Vec<String>>,
    /// The keys: a JWK set (RFC 7517) of public keys (RSA of 2048 to 4096 bits, P-256, P-384,
    /// P-521, Ed25519) or secrets of at least 32 bytes (`oct`, for HMAC). A private, weak or
    /// malformed key is a mistake, and so is a second key with the same `kid`. Keys for other uses
    /// and of other types are ignored.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, Value>>"))]
    pub keys: Option<Value>,
    /// Keys that are fetched from the issuer.
    #[deserr(default)]
    pub remote_keys: Option<RemoteKeysDocument>,
    /// The introspection endpoint of an issuer of opaque tokens.
    #[deserr(default)]
    pub introspection: Option<IntrospectionDocument>,
    /// The tolerance for `exp`, `nbf` and `iat`, in seconds.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = CLOCK_SKEW_S_MAX), extend("default" = CLOCK_SKEW_S_DEFAULT)))]
    pub clock_skew_s: Option<u32>,
    /// The claim that names the principal: a name, or a JSON Pointer (RFC 6901). It must be a
    /// string that is not empty. Default: `sub`.
    #[deserr(default)]
    pub principal_claim: Option<String>,
    /// The claim that names the tenant: a name, or a JSON Pointer (RFC 6901). Default: none.
    #[deserr(default)]
    pub tenant_claim: Option<String>,
    /// The claim that holds the roles: a name, or a JSON Pointer (RFC 6901). Default: none.
    #[deserr(default)]
    pub roles_claim: Option<String>,
    /// The form of `roles_claim`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "list")))]
    pub roles_form: Option<RolesFormDocument>,
    /// The places where the issuer's tokens may be sent. All providers together have at most 16
    /// different places. Default: the header `authorization`, with the scheme `Bearer` or `DPoP`.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub sources: Option<Vec<SourceDocument>>,
    /// Claims that the upstream receives as headers. A client's copy of such a header is removed.
    /// Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = LIST_MAX)))]
    pub claim_headers: Option<Vec<ClaimHeaderDocument>>,
    /// Claims whose texts are lists separated by spaces, for access rules: names, or JSON Pointers.
    /// `scope` and `permission` always are. Default: none.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIST_MAX)))]
    pub space_delimited_claims: Option<Vec<String>>,
    /// A header in which the upstream receives all claims, in base64url as they stand in the token.
    /// Default: none.
    #[deserr(default)]
    pub payload_header: Option<String>,
}

/// The form of a claim that holds roles.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum RolesFormDocument {
    /// A string, or an array of strings.
    #[deserr(rename = "list")]
    List,
    /// An object whose member names are the roles, as in tokens of Zitadel.
    #[deserr(rename = "object_keys")]
    ObjectKeys,
}

/// A claim that a token must have.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Required claims")
)]
pub struct RequiredClaimDocument {
    /// A name, or a JSON Pointer (RFC 6901) such as `/realm_access/roles`.
    pub claim: String,
    /// The values that the claim may have. Of an array one element must be among them. Numbers and
    /// booleans are compared as JSON writes them. Default: any value but null.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIST_MAX)))]
    pub values: Option<Vec<String>>,
}

/// A place where tokens may be sent. Exactly one of `header`, `cookie` and `query`.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Places of tokens")
)]
pub struct SourceDocument {
    /// A header's name, in lower case. `authorization` has the scheme `Bearer` or `DPoP`.
    #[deserr(default)]
    pub header: Option<String>,
    /// The text before the token in a header other than `authorization`. Default: none.
    #[deserr(default)]
    pub prefix: Option<String>,
    /// A cookie's name.
    #[deserr(default)]
    pub cookie: Option<String>,
    /// A query parameter's name. The parameter is removed before the request is forwarded.
    #[deserr(default)]
    pub query: Option<String>,
}

/// A claim that the upstream receives as a header.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Headers of claims")
)]
pub struct ClaimHeaderDocument {
    /// A name, or a JSON Pointer (RFC 6901).
    pub claim: String,
    /// The header's name, in lower case. The elements of an array are separated by commas.
    pub header: String,
    /// How texts are encoded.
    #[deserr(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "percent")))]
    pub encoding: Option<ClaimEncodingDocument>,
}

/// How the texts of claims are encoded in headers.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum ClaimEncodingDocument {
    /// Percent-encoded outside visible ASCII, and for `%` and `,`.
    #[deserr(rename = "percent")]
    Percent,
    /// Unchanged. A text with a control character, or with a space at an end, makes no header.
    /// Neither does an array with a comma in a text.
    #[deserr(rename = "raw")]
    Raw,
}
