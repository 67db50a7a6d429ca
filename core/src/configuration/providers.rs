//! Providers in the configuration: as they are written, and the checks that make a [`Provider`] of each.

use std::collections::BTreeSet;
use std::rc::Rc;

use deserr::Deserr;
use picket_model::problems::{Problems, shortened};
use serde_json::Value;

use super::document::NeedDocument;
use super::filter::{check_name, in_range};
use super::introspection::{IntrospectionDocument, check_introspection, check_no_jws_fields, check_places};
use super::remote_keys::{RemoteKeysDocument, check_remote_keys};
use crate::jose::TokenAlgorithm;
use crate::jose::algorithm::Scheme;
use crate::jose::keys::{KeySet, KeySource};
use crate::request;
use crate::token::claim_path::ClaimPath;
use crate::token::credential::{CredentialSource, CredentialSources, SOURCES_MAX, SourceSet};
use crate::token::provider::{
    ClaimEncoding, ClaimHeader, Expiry, PROVIDERS_MAX, Provider, ProviderKeys, RequiredClaim, RolesForm, TextPattern,
};
use crate::token::remote_keys::RemoteKeys;
use crate::transaction_token;

/// More elements of a list of a provider are refused.
const LIST_MAX: usize = 64;
const CLOCK_SKEW_S_DEFAULT: u32 = 60;
const CLOCK_SKEW_S_MAX: u32 = 300;
/// Ten years.
const LIFETIME_S_MAX: u32 = 315_360_000;

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
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::limits::NAME_BYTES_MAX)))]
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

/// The providers, and every place where their tokens may be sent.
#[derive(Debug, Default)]
pub(super) struct Providers {
    pub(super) providers: Vec<Provider>,
    pub(super) sources: CredentialSources,
}

pub(super) fn check_providers(documents: Vec<ProviderDocument>, check: &mut Problems) -> Providers {
    let mut all = Providers::default();
    if documents.len() > PROVIDERS_MAX {
        check.add("providers", format_args!("expected at most {PROVIDERS_MAX}"));
        return all;
    }
    let (mut names, mut checked) = (BTreeSet::new(), Vec::new());
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("providers[{index}]");
        check_name(&document.name, &mut names, &format!("{path}.name"), check);
        if document.issuer.is_empty() {
            check.add(format!("{path}.issuer"), "expected an `iss` that is not empty");
        }
        let sources = check_sources(document.sources.as_deref(), &format!("{path}.sources"), check);
        let sources = all.sources.add(sources).unwrap_or_else(|| {
            let message = format!("expected at most {SOURCES_MAX} places in all providers");
            check.add(format!("{path}.sources"), message);
            SourceSet::default()
        });
        let provider = check_provider(document, sources, &path, check);
        checked.extend(provider.map(|provider| (index, provider)));
    }
    check_places(&checked, check);
    if let Some((one, other)) = all.sources.confusable() {
        let found = format_args!("found {one} and {other}");
        check.add(
            "providers",
            format_args!("expected `sources` that no server takes for one another, {found}"),
        );
    }
    all.providers = checked.into_iter().map(|(_, provider)| provider).collect();
    all
}

/// `None`: without keys, which is a mistake.
fn check_provider(
    document: ProviderDocument,
    sources: SourceSet,
    path: &str,
    check: &mut Problems,
) -> Option<Provider> {
    let audiences = check_audiences(document.audiences.clone(), document.audience, path, check);
    check_no_jws_fields(&document, path, check);
    let skew = (0..=CLOCK_SKEW_S_MAX, CLOCK_SKEW_S_DEFAULT);
    let clock_skew_s = in_range(
        document.clock_skew_s,
        skew.0,
        skew.1,
        &format!("{path}.clock_skew_s"),
        check,
    );
    let lifetime_s_max = document.lifetime_s_max.map(|seconds| {
        let range = 1..=LIFETIME_S_MAX;
        i64::from(in_range(
            Some(seconds),
            range,
            seconds,
            &format!("{path}.lifetime_s_max"),
            check,
        ))
    });
    let expiry = match document.expiry {
        Some(NeedDocument::None) => Expiry::Optional,
        Some(NeedDocument::Required) | None => Expiry::Required,
    };
    if expiry == Expiry::Optional && lifetime_s_max.is_some() {
        check.add(format!("{path}.lifetime_s_max"), "expected none beside `expiry: none`");
    }
    let subjects = check_list(document.subjects.as_deref(), &format!("{path}.subjects"), check);
    let types = check_list(document.types.as_deref(), &format!("{path}.types"), check);
    let claim = |text: Option<&str>, name: &str, check: &mut Problems| {
        text.and_then(|text| check_claim(text, &format!("{path}.{name}"), check))
    };
    let principal_claim = claim(document.principal_claim.as_deref(), "principal_claim", check);
    let tenant_claim = claim(document.tenant_claim.as_deref(), "tenant_claim", check);
    let roles_claim = claim(document.roles_claim.as_deref(), "roles_claim", check);
    if document.roles_form.is_some() && document.roles_claim.is_none() {
        check.add(format!("{path}.roles_form"), "expected none without `roles_claim`");
    }
    let (claim_headers, payload_header) = check_headers(&document, path, check);
    let space_delimited_claims = check_space_delimited(&document, path, check);
    let required_claims = check_required_claims(document.required_claims, path, check);
    let sources_of_keys = (document.keys, document.remote_keys, document.introspection);
    let keys = check_keys(sources_of_keys, &document.issuer, path, check)?;
    Some(Provider {
        algorithms: check_algorithms(document.algorithms.as_deref(), &keys, path, check),
        name: document.name,
        issuer: document.issuer,
        audiences,
        subjects: subjects.map(|texts| texts.iter().map(|text| TextPattern::parse(text)).collect()),
        types: types.map(|types| types.iter().map(|typ| crate::jose::jws::media_type(typ)).collect()),
        required_claims,
        expiry,
        lifetime_s_max,
        keys,
        clock_skew_ms: u64::from(clock_skew_s) * 1000,
        principal_claim,
        tenant_claim,
        roles_claim,
        roles_form: match document.roles_form {
            None | Some(RolesFormDocument::List) => RolesForm::List,
            Some(RolesFormDocument::ObjectKeys) => RolesForm::ObjectKeys,
        },
        claim_headers,
        space_delimited_claims,
        payload_header,
        sources,
    })
}

/// `None`: tokens for anybody are taken.
fn check_audiences(
    audiences: Option<Vec<String>>,
    need: Option<NeedDocument>,
    path: &str,
    check: &mut Problems,
) -> Option<Vec<String>> {
    let path = format!("{path}.audiences");
    match (need, &audiences) {
        (Some(NeedDocument::None), None) => {}
        (Some(NeedDocument::None), Some(_)) => check.add(path, "expected none beside `audience: none`"),
        (Some(NeedDocument::Required) | None, None) => check.add(path, "is required"),
        (Some(NeedDocument::Required) | None, Some(audiences)) => {
            if audiences.is_empty() || audiences.iter().any(String::is_empty) {
                check.add(path, "expected at least one audience, none of them empty");
            }
        }
    }
    audiences
}

/// `None`: without keys, which is a mistake.
fn check_keys(
    given: (Option<Value>, Option<RemoteKeysDocument>, Option<IntrospectionDocument>),
    issuer: &str,
    path: &str,
    check: &mut Problems,
) -> Option<ProviderKeys> {
    match given {
        (Some(keys), None, None) => match KeySet::parse(&keys, &format!("{path}.keys"), KeySource::Inline) {
            Ok(keys) => Some(ProviderKeys::Inline(keys)),
            Err(found) => {
                check.extend(found);
                None
            }
        },
        (None, Some(remote), None) => check_remote_keys(remote, issuer, &format!("{path}.remote_keys"), check)
            .map(|settings| ProviderKeys::Remote(Box::new(RemoteKeys::new(settings)))),
        (None, None, Some(introspection)) => {
            check_introspection(introspection, &format!("{path}.introspection"), check)
                .map(|settings| ProviderKeys::Introspection(Rc::new(settings)))
        }
        _ => {
            check.add(path, "expected exactly one of `keys`, `remote_keys`, `introspection`");
            None
        }
    }
}

/// Which algorithms the keys could verify, and what to say of the others.
fn supported(keys: &ProviderKeys, algorithm: TokenAlgorithm) -> Result<(), &'static str> {
    match keys {
        ProviderKeys::Inline(keys) if keys.supports(algorithm) => Ok(()),
        ProviderKeys::Inline(_) => Err("expected a key for this algorithm in `keys`"),
        // A secret that is published is none: whoever can fetch it can sign with it.
        ProviderKeys::Remote(_) if algorithm.scheme() != Scheme::Hmac => Ok(()),
        ProviderKeys::Remote(_) => Err("expected no algorithm with a secret beside `remote_keys`"),
        ProviderKeys::Introspection(_) => Err("expected none beside `introspection`"),
    }
}

/// RFC 8725 §3.1: a key is for one algorithm. One that does not say which is taken for PKCS #1 v1.5, not for PSS, which only
/// this module can check, at many times the cost: nobody is to choose that by a token's header.
fn is_default(keys: &ProviderKeys, algorithm: TokenAlgorithm) -> bool {
    let is_declared = match keys {
        ProviderKeys::Inline(keys) => keys.declares(algorithm),
        ProviderKeys::Remote(_) | ProviderKeys::Introspection(_) => false,
    };
    supported(keys, algorithm).is_ok() && (algorithm.scheme() != Scheme::RsaPss || is_declared)
}

fn check_algorithms(
    names: Option<&[String]>,
    keys: &ProviderKeys,
    path: &str,
    check: &mut Problems,
) -> Vec<TokenAlgorithm> {
    let Some(names) = names else {
        let all = TokenAlgorithm::ALL.iter().copied();
        return all.filter(|algorithm| is_default(keys, *algorithm)).collect();
    };
    if names.is_empty() {
        check.add(
            format!("{path}.algorithms"),
            format_args!("expected at least one of {}", algorithm_names()),
        );
    }
    let mut algorithms = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match TokenAlgorithm::from_name(name).map(|algorithm| supported(keys, algorithm).map(|()| algorithm)) {
            Some(Ok(algorithm)) => algorithms.push(algorithm),
            Some(Err(message)) => check.add(format!("{path}.algorithms[{index}]"), message),
            None => check.add(
                format!("{path}.algorithms[{index}]"),
                format_args!(
                    "unknown value `{}`, expected one of {}",
                    shortened(name),
                    algorithm_names()
                ),
            ),
        }
    }
    algorithms
}

fn algorithm_names() -> String {
    let names = TokenAlgorithm::ALL
        .iter()
        .map(|algorithm| format!("`{}`", algorithm.name()));
    names.collect::<Vec<_>>().join(", ")
}

fn check_sources(documents: Option<&[SourceDocument]>, path: &str, check: &mut Problems) -> Vec<CredentialSource> {
    let Some(documents) = documents else {
        return vec![CredentialSource::Authorization];
    };
    if documents.is_empty() {
        check.add(path, "expected at least one");
    }
    let mut sources = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let SourceDocument {
            header,
            prefix,
            cookie,
            query,
        } = document;
        match (header.as_deref(), cookie.as_deref(), query.as_deref()) {
            (Some("authorization"), None, None) if prefix.is_some() => check.add(
                format!("{path}.prefix"),
                "expected none: `authorization` has the scheme `Bearer` or `DPoP`",
            ),
            (Some("authorization"), None, None) => sources.push(CredentialSource::Authorization),
            (Some(name), None, None) => {
                if let Some(name) = check_header_name(name, &format!("{path}.header"), check) {
                    sources.push(CredentialSource::Header {
                        name: name.to_owned(),
                        prefix: prefix.clone().unwrap_or_default(),
                    });
                }
            }
            (None, Some(name), None) if prefix.is_none() && is_token_text(name) => {
                sources.push(CredentialSource::Cookie(name.to_owned()));
            }
            (None, None, Some(name)) if prefix.is_none() && is_token_text(name) => {
                sources.push(CredentialSource::Query(name.to_owned()));
            }
            _ => check.add(
                path,
                "expected one of `header` (with or without `prefix`), `cookie` and `query`, a name in visible ASCII",
            ),
        }
    }
    sources
}

/// RFC 9110 §5.6.2.
fn is_token_text(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b))
}

/// A header that is not a pseudo-header, not Picket's own, and not one that HTTP or the choice of the route depends on.
fn check_header_name<'n>(name: &'n str, path: &str, check: &mut Problems) -> Option<&'n str> {
    const RESERVED: &[&str] = &[
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "cookie",
        "x-request-id",
        "dpop",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-client-cert",
        "client-cert",
        transaction_token::HEADER,
    ];
    let is_usable = is_token_text(name)
        && !name.bytes().any(|b| b.is_ascii_uppercase())
        && !request::is_owned(name)
        && !RESERVED.contains(&name);
    if !is_usable {
        let expected =
            "expected a header's name in lower case, none that begins with `x-picket-` or that HTTP itself needs";
        check.add(path, format_args!("{expected}, found `{}`", shortened(name)));
    }
    is_usable.then_some(name)
}

fn check_headers(document: &ProviderDocument, path: &str, check: &mut Problems) -> (Vec<ClaimHeader>, Option<Rc<str>>) {
    let documents = document.claim_headers.as_deref().unwrap_or_default();
    if documents.len() > LIST_MAX {
        check.add(
            format!("{path}.claim_headers"),
            format_args!("expected at most {LIST_MAX}"),
        );
    }
    let mut used = BTreeSet::new();
    let mut header = |name: &str, path: &str, check: &mut Problems| {
        let name = check_header_name(name, path, check).filter(|name| {
            // The upstream is told the credential's header is gone, and each header has one meaning.
            let is_new = *name != "authorization" && used.insert((*name).to_owned());
            if !is_new {
                check.add(path, "expected a header of its own, other than `authorization`");
            }
            is_new
        });
        name.map(Rc::from)
    };
    let mut claim_headers = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let path = format!("{path}.claim_headers[{index}]");
        let claim = check_claim(&document.claim, &format!("{path}.claim"), check);
        let header = header(&document.header, &format!("{path}.header"), check);
        let encoding = match document.encoding {
            None | Some(ClaimEncodingDocument::Percent) => ClaimEncoding::Percent,
            Some(ClaimEncodingDocument::Raw) => ClaimEncoding::Raw,
        };
        claim_headers.extend(claim.zip(header).map(|(claim, header)| ClaimHeader {
            claim,
            header,
            encoding,
        }));
    }
    let payload = document.payload_header.as_deref();
    let payload = payload.and_then(|name| header(name, &format!("{path}.payload_header"), check));
    (claim_headers, payload)
}

fn check_space_delimited(document: &ProviderDocument, path: &str, check: &mut Problems) -> Vec<ClaimPath> {
    let path = format!("{path}.space_delimited_claims");
    let list = check_list(document.space_delimited_claims.as_deref(), &path, check);
    let claims = list.unwrap_or_default().iter().enumerate();
    claims
        .filter_map(|(index, text)| check_claim(text, &format!("{path}[{index}]"), check))
        .collect()
}

fn check_required_claims(
    documents: Option<Vec<RequiredClaimDocument>>,
    path: &str,
    check: &mut Problems,
) -> Vec<RequiredClaim> {
    let documents = documents.unwrap_or_default();
    if documents.len() > LIST_MAX {
        check.add(
            format!("{path}.required_claims"),
            format_args!("expected at most {LIST_MAX}"),
        );
    }
    let mut required = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("{path}.required_claims[{index}]");
        let values = check_list(document.values.as_deref(), &format!("{path}.values"), check);
        let claim = check_claim(&document.claim, &format!("{path}.claim"), check);
        required.extend(claim.map(|claim| RequiredClaim {
            claim,
            values: values.unwrap_or_default().to_vec(),
        }));
    }
    required
}

fn check_claim(text: &str, path: &str, check: &mut Problems) -> Option<ClaimPath> {
    let claim = text.parse::<ClaimPath>();
    check.take(
        path,
        claim.map_err(|error| format!("{error}, found `{}`", shortened(text))),
    )
}

/// A list that, where it is there, is neither empty nor too long, and has no empty element.
fn check_list<'l>(list: Option<&'l [String]>, path: &str, check: &mut Problems) -> Option<&'l [String]> {
    if list.is_some_and(|list| list.is_empty() || list.len() > LIST_MAX || list.iter().any(String::is_empty)) {
        check.add(
            path,
            format_args!("expected 1 to {LIST_MAX} elements, none of them empty"),
        );
    }
    list
}
