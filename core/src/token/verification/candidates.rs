//! The providers that may accept a token: one, or several where they have one issuer. Each uses its
//! own keys and settings alone.

use std::borrow::Cow;
use std::rc::Rc;

use picket_model::strict_json::Members;
use picket_model::time::Timestamp;

use super::{TokenVerifier, Verification, claims, fetched_keys, unknown_issuer};
use crate::jose::jws::{Jws, JwsHeader};
use crate::jose::keys::{KEYS_TRIED_MAX, MatchingKeys, VerificationKey};
use crate::jose::signature::SignatureVerifier;
use crate::reason::DenyReason;
use crate::token::claims::CheckedClaims;
use crate::token::provider::{Provider, ProviderIndex, ProviderSet};
use crate::token::remote_keys::MissingKey;
use crate::token::{TokenError, VerifiedToken, malformed};

/// A token that a provider accepts.
pub(super) struct AcceptedToken {
    pub(super) token: Rc<VerifiedToken>,
    /// Until when its key serves, where that was fetched.
    pub(super) keys_end_at: Option<Timestamp>,
    /// Whether the same token would be the same provider's a moment later.
    pub(super) is_lasting: bool,
}

/// The key that signed a token, and whose it is.
pub(super) struct SigningKey {
    pub(super) provider: ProviderIndex,
    pub(super) key: Rc<VerificationKey>,
    /// Until when it serves, where it was fetched.
    pub(super) fetched_until: Option<Timestamp>,
    /// See [`AcceptedToken::is_lasting`].
    pub(super) is_lasting: bool,
}

/// How far a provider got with a token that it refuses: of several refusals the last stage says
/// most. A provider without its keys comes last, as it alone may still accept the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Header,
    Key,
    Signature,
    Audience,
    Claims,
    KeysUnavailable,
}

struct Failure {
    stage: Stage,
    error: TokenError,
}

/// Those that have their issuer with another one.
pub(super) fn sharing(providers: &[Provider]) -> ProviderSet {
    let each = providers.iter().enumerate();
    let shares = |(index, provider): &(ProviderIndex, &Provider)| {
        let mut others = providers.iter().enumerate();
        others.any(|(other, have)| other != *index && have.issuer == provider.issuer)
    };
    each.filter(shares).map(|(index, _)| index).collect()
}

impl TokenVerifier {
    /// Of the providers that have their issuer with another one, those that come into question for
    /// a token from this place under a rule that takes these providers. Empty where every provider
    /// has an issuer of its own: then the issuer alone chooses.
    pub(super) fn candidates(&self, source: usize, of: Option<&[ProviderIndex]>) -> ProviderSet {
        if self.sharing.is_empty() {
            return self.sharing;
        }
        let is_candidate = |index: &ProviderIndex| {
            of.is_none_or(|of| of.contains(index))
                && self
                    .providers
                    .get(*index)
                    .is_some_and(|provider| provider.sources.contains(source))
        };
        self.sharing.iter().filter(is_candidate).collect()
    }

    /// The providers with keys for JWTs of this issuer.
    pub(super) fn verifying_jws_of(&self, issuer: &str) -> ProviderSet {
        let providers = self.providers.iter().enumerate();
        let of_issuer = providers.filter(|(_, provider)| provider.verifies_jws_of(issuer));
        of_issuer.map(|(index, _)| index).collect()
    }

    /// The first of these providers that accepts a token: by which key, and what the claims say.
    ///
    /// # Errors
    /// The refusal of the provider that got furthest; of several, that of the first one.
    pub(super) fn first_accepting(
        &mut self,
        tried: ProviderSet,
        jws: &Jws<'_>,
        header: &JwsHeader<'_>,
        claims: &Members<'_>,
        now: Timestamp,
        how: &mut Option<Verification>,
    ) -> Result<(SigningKey, CheckedClaims), TokenError> {
        let mut signatures = SignatureChecks::new(jws, header, &*self.signatures);
        let mut failures: Vec<Failure> = Vec::new();
        for index in tried.iter() {
            let Some(provider) = self.providers.get(index) else {
                continue;
            };
            let result = check_with(provider, index, header, claims, &mut signatures, now);
            if signatures.are_begun() {
                *how = Some(Verification::Checked(header.algorithm));
            }
            match result {
                Ok((key, checked)) => {
                    let is_lasting = failures.iter().all(|one| one.stage != Stage::KeysUnavailable);
                    return Ok((SigningKey { is_lasting, ..key }, checked));
                }
                Err(failure) => failures.push(failure),
            }
        }
        // A token that another provider accepts is no reason to fetch anything; one that none
        // accepts may be by newer keys of any of them.
        let newer_keys_of = failures.iter().map(|failure| failure.error.newer_keys_of);
        let newer_keys_of = newer_keys_of.fold(ProviderSet::default(), ProviderSet::union);
        let furthest = failures
            .into_iter()
            .reduce(|first, other| if other.stage > first.stage { other } else { first });
        let error = furthest.map_or_else(unknown_issuer, |failure| failure.error);
        Err(TokenError { newer_keys_of, ..error })
    }
}

/// Whether a provider accepts a token.
fn check_with(
    provider: &Provider,
    index: ProviderIndex,
    header: &JwsHeader<'_>,
    claims: &Members<'_>,
    signatures: &mut SignatureChecks<'_>,
    now: Timestamp,
) -> Result<(SigningKey, CheckedClaims), Failure> {
    check_header(provider, header).map_err(|error| Failure::at(Stage::Header, error))?;
    // No keys are fetched for a token that would be refused whatever they are.
    let not_verified = |error| match claims::are_refused(claims, provider, now) {
        true => error,
        false => fetched_keys::not_verified(error, &provider.keys, index),
    };
    let found = provider.keys.find(header.key_id, header.algorithm, now);
    let found = found.map_err(|error| {
        let stage = match error {
            MissingKey::Unknown => Stage::Key,
            MissingKey::Unavailable => Stage::KeysUnavailable,
        };
        Failure::at(stage, not_verified(fetched_keys::refusal(error)))
    })?;
    let key = signatures.signer(&found.keys).ok_or_else(|| {
        let error = signatures.refusal(&found.keys);
        // Without the token's `kid` a new key shows by this alone.
        let error = if found.keys.have_key_id {
            error
        } else {
            not_verified(error)
        };
        Failure::at(Stage::Signature, error)
    })?;
    let checked = claims::check(claims, provider, now).map_err(|error| {
        let stage = match error.reason == DenyReason::TokenAudienceMismatch {
            true => Stage::Audience,
            false => Stage::Claims,
        };
        Failure::at(stage, error)
    })?;
    let key = SigningKey {
        provider: index,
        key: Rc::clone(key),
        fetched_until: found.fetched_until,
        is_lasting: true,
    };
    Ok((key, checked))
}

/// RFC 8725 §3.11: a token of another kind (`dpop+jwt`, `logout+jwt`) is no access token; and §3.1:
/// the provider says which algorithms there are.
fn check_header(provider: &Provider, header: &JwsHeader<'_>) -> Result<(), TokenError> {
    let is_allowed = match (&provider.types, header.typ.as_deref()) {
        (None, None | Some("jwt" | "at+jwt")) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(allowed), Some(typ)) => allowed.iter().any(|allowed| allowed == typ),
    };
    if !is_allowed {
        return Err(malformed("`typ` is none that the provider allows"));
    }
    match provider.algorithms.contains(&header.algorithm) {
        true => Ok(()),
        false => Err(TokenError::new(
            DenyReason::TokenAlgorithmRefused,
            "the provider does not allow `alg`",
        )),
    }
}

impl Failure {
    fn at(stage: Stage, error: TokenError) -> Self {
        Self { stage, error }
    }
}

/// The checks of one token's signature: at most [`KEYS_TRIED_MAX`], by whichever providers, and
/// none with the same key twice.
struct SignatureChecks<'t> {
    message: &'t [u8],
    /// `None`: it is no base64url, and nobody's.
    signature: Option<Vec<u8>>,
    header: &'t JwsHeader<'t>,
    verifier: &'t dyn SignatureVerifier,
    made: [Option<(Rc<VerificationKey>, bool)>; KEYS_TRIED_MAX],
    /// Whether there were more keys than that.
    are_cut: bool,
}

impl<'t> SignatureChecks<'t> {
    fn new(jws: &'t Jws<'_>, header: &'t JwsHeader<'t>, verifier: &'t dyn SignatureVerifier) -> Self {
        Self {
            message: jws.signing_input.as_bytes(),
            signature: jws.signature(),
            header,
            verifier,
            made: [const { None }; KEYS_TRIED_MAX],
            are_cut: false,
        }
    }

    fn are_begun(&self) -> bool {
        self.made.iter().any(Option::is_some)
    }

    /// The key that signed the token. `None`: none of these, as far as they may be tried.
    fn signer<'k>(&mut self, keys: &'k MatchingKeys) -> Option<&'k Rc<VerificationKey>> {
        let signer = keys.iter().find(|key| self.is_signed_by(key));
        self.are_cut |= signer.is_none() && keys.are_cut;
        signer
    }

    /// Why none of these keys is the signer.
    fn refusal(&self, keys: &MatchingKeys) -> TokenError {
        let invalid = |detail: Cow<'static, str>| TokenError::new(DenyReason::TokenSignatureInvalid, detail);
        if self.signature.is_none() {
            return invalid("the signature is not base64url without padding".into());
        }
        if self.header.key_id.is_some() && !keys.have_key_id {
            let detail = "no key has the token's `kid`, and none without one has signed it";
            return TokenError::new(DenyReason::TokenKeyUnknown, detail);
        }
        invalid(match self.are_cut {
            true => format!("the signature is none of the first {KEYS_TRIED_MAX} keys', and no more are tried").into(),
            false => "the signature is not the key's".into(),
        })
    }

    fn is_signed_by(&mut self, key: &Rc<VerificationKey>) -> bool {
        let of_same_key = |made: &(Rc<VerificationKey>, bool)| made.0.material() == key.material();
        if let Some((_, result)) = self.made.iter().flatten().find(|made| of_same_key(made)) {
            return *result;
        }
        let Some(place) = self.made.iter_mut().find(|place| place.is_none()) else {
            self.are_cut = true;
            return false;
        };
        let algorithm = self.header.algorithm;
        let is_valid = self
            .signature
            .as_ref()
            .is_some_and(|signature| self.verifier.is_valid(algorithm, key, self.message, signature));
        *place = Some((Rc::clone(key), is_valid));
        is_valid
    }
}
