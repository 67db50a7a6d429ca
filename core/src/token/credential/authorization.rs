//! The header `authorization` (RFC 9110 §11.6.2): one scheme with one credential.

use super::{CredentialScheme, Reading};

const BEARER: &[u8] = b"bearer";
const DPOP: &[u8] = b"dpop";

/// What the header offers (RFC 6750 §2.1, RFC 9449 §7.1).
pub(super) fn read(value: &[u8]) -> (Reading<'_>, CredentialScheme) {
    let end = value.iter().position(|b| !b.is_ascii_alphabetic());
    let (name, rest) = value
        .split_at_checked(end.unwrap_or(value.len()))
        .unwrap_or((value, &[]));
    // RFC 9110 §11.1: the scheme is compared without regard to case.
    let scheme = match () {
        () if name.eq_ignore_ascii_case(BEARER) => CredentialScheme::Bearer,
        () if name.eq_ignore_ascii_case(DPOP) => CredentialScheme::Dpop,
        () if holds_another(value) => return (Reading::Misread, CredentialScheme::Bearer),
        () => return (Reading::Other, CredentialScheme::Bearer),
    };
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    // What follows without a space is no token.
    let token = rest.get(spaces..).filter(|_| spaces > 0);
    (Reading::Token(token.unwrap_or_default()), scheme)
}

/// Whether a server may find one of our schemes in the credential of another. Proxies join the
/// fields of the header by a comma (RFC 9110 §5.3), and some servers look for the scheme anywhere:
/// Envoy's `jwt_authn` does.
fn holds_another(value: &[u8]) -> bool {
    let mut before: Option<u8> = None;
    for (at, byte) in value.iter().enumerate() {
        let rest = value.get(at..).unwrap_or_default();
        let after = after_scheme(rest);
        let begins_element = before.is_none_or(|before| matches!(before, b',' | b';'));
        let ends_word = |after: &u8| !after.is_ascii_graphic();
        if after.is_some_and(|after| begins_element || after.first().is_some_and(ends_word)) {
            return true;
        }
        if !matches!(byte, b' ' | b'\t') {
            before = Some(*byte);
        }
    }
    false
}

/// What follows one of our schemes at the beginning of a text.
fn after_scheme(text: &[u8]) -> Option<&[u8]> {
    [BEARER, DPOP].iter().find_map(|scheme| {
        let (name, after) = text.split_at_checked(scheme.len())?;
        name.eq_ignore_ascii_case(scheme).then_some(after)
    })
}
