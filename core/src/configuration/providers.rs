//! The checks of providers in the configuration, each of which becomes a [`Provider`].

use std::collections::BTreeSet;
use std::rc::Rc;

use picket_model::problems::{Problems, shortened};
use serde_json::Value;

use super::document::providers::{CLOCK_SKEW_S_DEFAULT, CLOCK_SKEW_S_MAX, LIFETIME_S_MAX, LIST_MAX};
use super::document::{
    ClaimEncodingDocument, IntrospectionDocument, NeedDocument, ProviderDocument, RemoteKeysDocument,
    RequiredClaimDocument, RolesFormDocument, SourceDocument,
};
use super::introspection::{check_introspection, check_no_jws_fields, check_places};
use super::remote_keys::check_remote_keys;
use super::values::{check_name, in_range};
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

/// RFC 8725 §3.1: a key is for one algorithm. One that does not say which is taken for PKCS #1
/// v1.5, not for PSS, which only this module can check, at many times the cost: nobody is to choose
/// that by a token's header.
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

/// A header that is not a pseudo-header, not Picket's own, and not one that HTTP or the choice of
/// the route depends on.
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
            // The upstream is told the credential's header is gone, and each header has one
            // meaning.
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
