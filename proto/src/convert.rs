//! Conversions between the generated messages and core's types. Wire to core checks; core to wire cannot fail.

use std::net::IpAddr;

use picket_model::access::{self, AccessRequest, FURTHER_TOKENS_MAX};
use picket_model::decision::{Attribute, Decision, Effect, OBLIGATIONS_MAX, StepUp, Vary, is_obligation};
use picket_model::risk::{Risk, RiskLevel, SCORE_MAX};
use picket_model::spiffe::{SpiffeId, SpiffeIdError};
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};

use crate::v1;

/// Ids are UUIDs and digests; each permitted request carries the decision's in a header.
const IDENTIFIER_BYTES_MAX: usize = 128;

/// Why a message of `picket.v1` is not what the contract says. `Display` names the field.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A required field is absent or empty.
    #[error("field `{0}` is required")]
    Missing(&'static str),
    /// There are more tokens than a rule can ask for.
    #[error("field `further_tokens` holds more than {FURTHER_TOKENS_MAX}")]
    FurtherTokens,
    /// The peer's SPIFFE ID is not one.
    #[error("field `peer.spiffe_id` is not a SPIFFE ID")]
    PeerSpiffeId(#[source] SpiffeIdError),
    /// The source address is not an IP address.
    #[error("field `context.source_address` is not an IP address")]
    SourceAddress(#[source] std::net::AddrParseError),
    /// A thumbprint is not one.
    #[error("field `{0}` is not the 32 bytes of a SHA-256 hash")]
    Thumbprint(&'static str),
    /// An id that goes into headers and records is not one.
    #[error("field `{0}` is not 1 to {IDENTIFIER_BYTES_MAX} visible ASCII characters")]
    Identifier(&'static str),
    /// The effect is none that this version knows.
    #[error("field `effect` is unspecified or unknown")]
    Effect,
    /// A permit says that the token was revoked.
    #[error("field `token_revoked` goes with a deny")]
    TokenRevoked,
    /// A challenge comes with a permit, asks for nothing, or holds a value that no header can carry.
    #[error("field `challenge` goes with a deny, and asks for something that a header can carry")]
    Challenge,
    /// There are too many obligations, or one is none.
    #[error("field `obligations` holds too many, or one that is no short word")]
    Obligations,
}

impl From<AccessRequest> for v1::AccessRequest {
    fn from(request: AccessRequest) -> Self {
        let possession = request.context.possession;
        Self {
            request_id: request.request_id,
            traceparent: request.traceparent.unwrap_or_default(),
            sidecar: Some(v1::Sidecar {
                node_id: request.sidecar.node_id,
                workload: request.sidecar.workload,
            }),
            route_rule: request.route_rule,
            principal: request.principal.map(Into::into),
            further_tokens: request.further_tokens.into_iter().map(Into::into).collect(),
            peer: request.peer.map(|id| v1::PeerIdentity {
                spiffe_id: id.as_str().to_owned(),
            }),
            action: Some(v1::Action {
                method: request.action.method,
            }),
            resource: Some(v1::Resource {
                host: request.resource.host,
                path: request.resource.path,
                path_parameters: request.resource.path_parameters,
                classification: request.resource.classification.unwrap_or_default(),
                security_zone: request.resource.security_zone.unwrap_or_default(),
                tenant: request.resource.tenant.unwrap_or_default(),
            }),
            context: Some(v1::Context {
                source_address: request
                    .context
                    .source_address
                    .map(|ip| ip.to_string())
                    .unwrap_or_default(),
                user_agent: request.context.user_agent.unwrap_or_default(),
                certificate_thumbprint: bytes(possession.certificate.map(|thumbprint| thumbprint.0)),
                key_thumbprint: bytes(possession.key.map(|thumbprint| thumbprint.0)),
            }),
        }
    }
}

impl TryFrom<v1::AccessRequest> for AccessRequest {
    type Error = WireError;

    fn try_from(message: v1::AccessRequest) -> Result<Self, WireError> {
        let sidecar = message.sidecar.ok_or(WireError::Missing("sidecar"))?;
        let action = message.action.ok_or(WireError::Missing("action"))?;
        let resource = message.resource.ok_or(WireError::Missing("resource"))?;
        let context = message.context.ok_or(WireError::Missing("context"))?;
        if message.further_tokens.len() > FURTHER_TOKENS_MAX {
            return Err(WireError::FurtherTokens);
        }
        Ok(Self {
            request_id: required(message.request_id, "request_id")?,
            traceparent: optional(message.traceparent),
            sidecar: access::Sidecar {
                node_id: sidecar.node_id,
                workload: required(sidecar.workload, "sidecar.workload")?,
            },
            route_rule: required(message.route_rule, "route_rule")?,
            principal: message.principal.map(access::Principal::try_from).transpose()?,
            further_tokens: message
                .further_tokens
                .into_iter()
                .map(access::FurtherToken::try_from)
                .collect::<Result<_, _>>()?,
            peer: message
                .peer
                .map(|peer| peer.spiffe_id.parse::<SpiffeId>())
                .transpose()
                .map_err(WireError::PeerSpiffeId)?,
            action: access::Action {
                method: required(action.method, "action.method")?,
            },
            resource: access::Resource {
                host: required(resource.host, "resource.host")?,
                path: required(resource.path, "resource.path")?,
                path_parameters: resource.path_parameters,
                classification: optional(resource.classification),
                security_zone: optional(resource.security_zone),
                tenant: optional(resource.tenant),
            },
            context: access::Context {
                source_address: optional(context.source_address)
                    .map(|ip| ip.parse::<IpAddr>())
                    .transpose()
                    .map_err(WireError::SourceAddress)?,
                user_agent: optional(context.user_agent),
                possession: access::Possession {
                    certificate: thumbprint(&context.certificate_thumbprint, "context.certificate_thumbprint")?
                        .map(CertificateThumbprint),
                    key: thumbprint(&context.key_thumbprint, "context.key_thumbprint")?.map(KeyThumbprint),
                },
            },
        })
    }
}

impl From<access::Principal> for v1::Principal {
    fn from(principal: access::Principal) -> Self {
        Self {
            issuer: principal.issuer,
            subject: principal.subject,
            tenant: principal.tenant.unwrap_or_default(),
            roles: principal.roles,
            scopes: principal.scopes,
            acr: principal.acr.unwrap_or_default(),
            amr: principal.amr,
            auth_time_s: principal.auth_time_s,
            session_id: principal.session_id.unwrap_or_default(),
            token_id: principal.token_id.unwrap_or_default(),
            issued_at_s: principal.issued_at_s,
            expires_at_s: principal.expires_at_s,
            actors: principal.actors.into_iter().map(v1::Actor::from).collect(),
            is_bound: principal.is_bound,
        }
    }
}

impl TryFrom<v1::Principal> for access::Principal {
    type Error = WireError;

    fn try_from(message: v1::Principal) -> Result<Self, WireError> {
        Ok(Self {
            issuer: required(message.issuer, "principal.issuer")?,
            subject: required(message.subject, "principal.subject")?,
            tenant: optional(message.tenant),
            roles: message.roles,
            scopes: message.scopes,
            acr: optional(message.acr),
            amr: message.amr,
            auth_time_s: message.auth_time_s,
            session_id: optional(message.session_id),
            token_id: optional(message.token_id),
            issued_at_s: message.issued_at_s,
            expires_at_s: message.expires_at_s,
            actors: message
                .actors
                .into_iter()
                .map(access::Actor::try_from)
                .collect::<Result<_, _>>()?,
            is_bound: message.is_bound,
        })
    }
}

impl From<access::FurtherToken> for v1::FurtherToken {
    fn from(token: access::FurtherToken) -> Self {
        Self {
            issuer: token.issuer,
            subject: token.subject,
            tenant: token.tenant.unwrap_or_default(),
            session_id: token.session_id.unwrap_or_default(),
            token_id: token.token_id.unwrap_or_default(),
            issued_at_s: token.issued_at_s,
        }
    }
}

impl TryFrom<v1::FurtherToken> for access::FurtherToken {
    type Error = WireError;

    fn try_from(message: v1::FurtherToken) -> Result<Self, WireError> {
        Ok(Self {
            issuer: required(message.issuer, "further_tokens.issuer")?,
            subject: required(message.subject, "further_tokens.subject")?,
            tenant: optional(message.tenant),
            session_id: optional(message.session_id),
            token_id: optional(message.token_id),
            issued_at_s: message.issued_at_s,
        })
    }
}

impl From<access::Actor> for v1::Actor {
    fn from(actor: access::Actor) -> Self {
        Self {
            issuer: actor.issuer.unwrap_or_default(),
            subject: actor.subject,
        }
    }
}

impl TryFrom<v1::Actor> for access::Actor {
    type Error = WireError;

    fn try_from(message: v1::Actor) -> Result<Self, WireError> {
        Ok(Self {
            issuer: optional(message.issuer),
            subject: required(message.subject, "principal.actors.subject")?,
        })
    }
}

impl From<Decision> for v1::Decision {
    fn from(decision: Decision) -> Self {
        let effect = match decision.effect {
            Effect::Permit => v1::Effect::Permit,
            Effect::Deny => v1::Effect::Deny,
        };
        Self {
            effect: effect.into(),
            decision_id: decision.decision_id,
            policy_revision: decision.policy_revision,
            valid_for_ms: decision.valid_for_ms,
            policy_ids: decision.policy_ids,
            caller_reasons: decision.caller_reasons,
            vary: Some(decision.vary.into()),
            risk: decision.risk.map(v1::Risk::from),
            challenge: decision.challenge.map(|step_up| v1::Challenge::from(*step_up)),
            obligations: decision.obligations,
            token_revoked: decision.is_token_revoked,
        }
    }
}

impl TryFrom<v1::Decision> for Decision {
    type Error = WireError;

    fn try_from(message: v1::Decision) -> Result<Self, WireError> {
        let effect = match v1::Effect::try_from(message.effect) {
            Ok(v1::Effect::Permit) => Effect::Permit,
            Ok(v1::Effect::Deny) => Effect::Deny,
            // Nothing was decided: no answer, which the filter turns into a refusal.
            Ok(v1::Effect::Unspecified) | Err(_) => return Err(WireError::Effect),
        };
        let challenge = message.challenge.map(StepUp::try_from).transpose()?.map(Box::new);
        if effect == Effect::Permit && challenge.is_some() {
            return Err(WireError::Challenge);
        }
        if effect == Effect::Permit && message.token_revoked {
            return Err(WireError::TokenRevoked);
        }
        let is_carried_out = message.obligations.iter().all(|obligation| is_obligation(obligation));
        if !is_carried_out || message.obligations.len() > OBLIGATIONS_MAX {
            return Err(WireError::Obligations);
        }
        Ok(Self {
            effect,
            decision_id: identifier(message.decision_id, "decision_id")?,
            policy_revision: identifier(message.policy_revision, "policy_revision")?,
            valid_for_ms: message.valid_for_ms,
            policy_ids: message.policy_ids,
            caller_reasons: message.caller_reasons,
            vary: message.vary.map_or(Vary::EVERYTHING, Vary::from),
            risk: message.risk.map(Risk::from),
            challenge,
            obligations: message.obligations,
            is_token_revoked: message.token_revoked,
        })
    }
}

impl From<StepUp> for v1::Challenge {
    fn from(step_up: StepUp) -> Self {
        Self {
            acr_values: step_up.acr_values().to_vec(),
            max_age_s: step_up.max_age_s(),
            bound_token: step_up.bound_token(),
            trusted_device: step_up.trusted_device(),
        }
    }
}

impl TryFrom<v1::Challenge> for StepUp {
    type Error = WireError;

    fn try_from(message: v1::Challenge) -> Result<Self, WireError> {
        Self::new(
            message.acr_values,
            message.max_age_s,
            message.bound_token,
            message.trusted_device,
        )
        .ok_or(WireError::Challenge)
    }
}

impl From<Vary> for v1::Vary {
    fn from(vary: Vary) -> Self {
        let wire = |attribute| match attribute {
            Attribute::Peer => v1::Attribute::Peer,
            Attribute::Method => v1::Attribute::Method,
            Attribute::Host => v1::Attribute::Host,
            Attribute::Path => v1::Attribute::Path,
            Attribute::SourceAddress => v1::Attribute::SourceAddress,
            Attribute::UserAgent => v1::Attribute::UserAgent,
            Attribute::Device => v1::Attribute::Device,
        };
        Self {
            attributes: vary.attributes().map(|attribute| wire(attribute).into()).collect(),
        }
    }
}

impl From<v1::Vary> for Vary {
    /// What is not known is everything.
    fn from(message: v1::Vary) -> Self {
        let known = |attribute| match v1::Attribute::try_from(attribute) {
            Ok(v1::Attribute::Peer) => Some(Attribute::Peer),
            Ok(v1::Attribute::Method) => Some(Attribute::Method),
            Ok(v1::Attribute::Host) => Some(Attribute::Host),
            Ok(v1::Attribute::Path) => Some(Attribute::Path),
            Ok(v1::Attribute::SourceAddress) => Some(Attribute::SourceAddress),
            Ok(v1::Attribute::UserAgent) => Some(Attribute::UserAgent),
            Ok(v1::Attribute::Device) => Some(Attribute::Device),
            Ok(v1::Attribute::Unspecified) | Err(_) => None,
        };
        let attributes: Option<Vary> = message.attributes.into_iter().map(known).collect();
        attributes.unwrap_or(Vary::EVERYTHING)
    }
}

impl From<Risk> for v1::Risk {
    fn from(risk: Risk) -> Self {
        let level = match risk.level {
            RiskLevel::Low => v1::RiskLevel::Low,
            RiskLevel::Medium => v1::RiskLevel::Medium,
            RiskLevel::High => v1::RiskLevel::High,
        };
        Self {
            score: risk.score.into(),
            level: level.into(),
        }
    }
}

impl From<v1::Risk> for Risk {
    /// What is not known is high.
    fn from(message: v1::Risk) -> Self {
        Self {
            score: u8::try_from(message.score).map_or(SCORE_MAX, |score| score.min(SCORE_MAX)),
            level: match v1::RiskLevel::try_from(message.level) {
                Ok(v1::RiskLevel::Low) => RiskLevel::Low,
                Ok(v1::RiskLevel::Medium) => RiskLevel::Medium,
                Ok(v1::RiskLevel::High | v1::RiskLevel::Unspecified) | Err(_) => RiskLevel::High,
            },
        }
    }
}

fn bytes(thumbprint: Option<[u8; 32]>) -> Vec<u8> {
    thumbprint.map(Vec::from).unwrap_or_default()
}

fn thumbprint(bytes: &[u8], field: &'static str) -> Result<Option<[u8; 32]>, WireError> {
    match (bytes, bytes.try_into()) {
        ([], _) => Ok(None),
        (_, Ok(thumbprint)) => Ok(Some(thumbprint)),
        (_, Err(_)) => Err(WireError::Thumbprint(field)),
    }
}

fn required(value: String, field: &'static str) -> Result<String, WireError> {
    if value.is_empty() {
        Err(WireError::Missing(field))
    } else {
        Ok(value)
    }
}

fn identifier(value: String, field: &'static str) -> Result<String, WireError> {
    let is_short = (1..=IDENTIFIER_BYTES_MAX).contains(&value.len());
    let is_identifier = is_short && value.bytes().all(|b| b.is_ascii_graphic());
    if is_identifier {
        Ok(value)
    } else {
        Err(WireError::Identifier(field))
    }
}

fn optional(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;

    fn request() -> AccessRequest {
        AccessRequest {
            request_id: "r-1".into(),
            traceparent: None,
            sidecar: access::Sidecar {
                node_id: String::new(),
                workload: "orders".into(),
            },
            route_rule: "orders-read".into(),
            principal: Some(access::Principal {
                issuer: "https://issuer.example".into(),
                subject: "alice".into(),
                tenant: None,
                roles: vec!["reader".into()],
                scopes: vec![],
                acr: None,
                amr: vec!["pwd".into()],
                auth_time_s: Some(0),
                session_id: Some("s".into()),
                token_id: None,
                issued_at_s: None,
                expires_at_s: Some(5),
                actors: vec![access::Actor {
                    issuer: None,
                    subject: "agent".into(),
                }],
                is_bound: true,
            }),
            further_tokens: vec![access::FurtherToken {
                issuer: "https://clients.example".into(),
                subject: "shop".into(),
                tenant: Some("acme".into()),
                session_id: None,
                token_id: Some("t".into()),
                issued_at_s: Some(0),
            }],
            peer: "spiffe://example.org/web".parse().ok(),
            action: access::Action { method: "GET".into() },
            resource: access::Resource {
                host: "orders.example.org".into(),
                path: "/orders/7".into(),
                path_parameters: BTreeMap::from([("id".to_owned(), "7".to_owned())]),
                classification: None,
                security_zone: None,
                tenant: None,
            },
            context: access::Context {
                source_address: "10.0.0.1".parse().ok(),
                user_agent: None,
                possession: access::Possession {
                    certificate: Some(CertificateThumbprint([1; 32])),
                    key: Some(KeyThumbprint([2; 32])),
                },
            },
        }
    }

    fn refusal(change: impl FnOnce(&mut v1::AccessRequest)) -> String {
        let mut message = v1::AccessRequest::from(request());
        change(&mut message);
        AccessRequest::try_from(message).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_request_survives_the_wire() {
        let bytes = v1::AccessRequest::from(request()).encode_to_vec();
        let back = AccessRequest::try_from(v1::AccessRequest::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(back, request());
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(refusal(|m| m.request_id.clear()), "field `request_id` is required");
        assert_eq!(refusal(|m| m.sidecar = None), "field `sidecar` is required");
        assert_eq!(refusal(|m| m.resource = None), "field `resource` is required");
        assert_eq!(
            refusal(|m| m.principal.as_mut().unwrap().subject.clear()),
            "field `principal.subject` is required"
        );
        assert_eq!(
            refusal(|m| m.further_tokens[0].issuer.clear()),
            "field `further_tokens.issuer` is required"
        );
        assert_eq!(
            refusal(|m| m.further_tokens = vec![m.further_tokens[0].clone(); 4]),
            "field `further_tokens` holds more than 3"
        );
        assert_eq!(
            refusal(|m| m.peer.as_mut().unwrap().spiffe_id = "x".into()),
            "field `peer.spiffe_id` is not a SPIFFE ID"
        );
        assert_eq!(
            refusal(|m| m.context.as_mut().unwrap().source_address = "x".into()),
            "field `context.source_address` is not an IP address"
        );
        for length in [1, 31, 33] {
            assert_eq!(
                refusal(|m| m.context.as_mut().unwrap().certificate_thumbprint = vec![1; length]),
                "field `context.certificate_thumbprint` is not the 32 bytes of a SHA-256 hash"
            );
            assert_eq!(
                refusal(|m| m.context.as_mut().unwrap().key_thumbprint = vec![1; length]),
                "field `context.key_thumbprint` is not the 32 bytes of a SHA-256 hash"
            );
        }
    }

    #[test]
    fn an_answer_without_an_effect_id_or_revision_is_no_decision() {
        let whole = v1::Decision {
            effect: v1::Effect::Permit.into(),
            decision_id: "d".into(),
            policy_revision: "p".into(),
            ..Default::default()
        };
        assert_eq!(Decision::try_from(whole.clone()).unwrap().effect, Effect::Permit);
        assert!(Decision::try_from(v1::Decision::default()).is_err());
        assert!(
            Decision::try_from(v1::Decision {
                effect: 99,
                ..whole.clone()
            })
            .is_err()
        );
        assert!(
            Decision::try_from(v1::Decision {
                effect: 0,
                ..whole.clone()
            })
            .is_err()
        );
        assert!(
            Decision::try_from(v1::Decision {
                decision_id: String::new(),
                ..whole.clone()
            })
            .is_err()
        );
        for id in [
            String::new(),
            "a\r\nb".to_owned(),
            "é".to_owned(),
            "a".repeat(IDENTIFIER_BYTES_MAX + 1),
        ] {
            let revision = v1::Decision {
                policy_revision: id.clone(),
                ..whole.clone()
            };
            assert!(Decision::try_from(revision).is_err(), "{id}");
            assert!(
                Decision::try_from(v1::Decision {
                    decision_id: id,
                    ..whole.clone()
                })
                .is_err()
            );
        }
    }

    #[test]
    fn a_risk_survives_the_wire_and_what_is_not_known_of_it_is_high() {
        for level in RiskLevel::ALL {
            let risk = Risk { score: 30, level };
            assert_eq!(Risk::from(v1::Risk::from(risk)), risk);
        }
        for (score, level) in [(7, 0), (7, 9), (101, 3), (u32::MAX, 3)] {
            let read = Risk::from(v1::Risk { score, level });
            assert_eq!(
                (read.score, read.level),
                (score.min(100).try_into().unwrap(), RiskLevel::High)
            );
        }
    }

    #[test]
    fn a_challenge_goes_with_a_deny_and_asks_for_something() {
        let whole = |effect: v1::Effect, challenge| v1::Decision {
            effect: effect.into(),
            decision_id: "d".into(),
            policy_revision: "p".into(),
            challenge: Some(challenge),
            ..v1::Decision::default()
        };
        let gold = v1::Challenge {
            acr_values: vec!["gold".into()],
            max_age_s: Some(300),
            bound_token: true,
            trusted_device: true,
        };
        let read = Decision::try_from(whole(v1::Effect::Deny, gold.clone())).unwrap();
        assert_eq!(v1::Decision::from(read).challenge, Some(gold.clone()));
        assert!(Decision::try_from(whole(v1::Effect::Permit, gold)).is_err());
        assert!(Decision::try_from(whole(v1::Effect::Deny, v1::Challenge::default())).is_err());
        let injected = v1::Challenge {
            acr_values: vec!["a\", error=\"x".into()],
            ..v1::Challenge::default()
        };
        assert!(Decision::try_from(whole(v1::Effect::Deny, injected)).is_err());
    }

    #[test]
    fn a_permit_about_a_revoked_token_is_no_answer() {
        let whole = |effect: v1::Effect| v1::Decision {
            effect: effect.into(),
            decision_id: "d".into(),
            policy_revision: "p".into(),
            token_revoked: true,
            ..v1::Decision::default()
        };
        let read = Decision::try_from(whole(v1::Effect::Deny)).unwrap();
        assert!(read.is_token_revoked && v1::Decision::from(read).token_revoked);
        assert!(Decision::try_from(whole(v1::Effect::Permit)).is_err());
    }

    #[test]
    fn an_obligation_that_no_header_can_carry_is_no_answer() {
        let whole = |obligations: Vec<String>| v1::Decision {
            effect: v1::Effect::Permit.into(),
            decision_id: "d".into(),
            policy_revision: "p".into(),
            obligations,
            ..v1::Decision::default()
        };
        let read = Decision::try_from(whole(vec!["mask".into()])).unwrap();
        assert_eq!(read.obligations, ["mask"]);
        assert!(Decision::try_from(whole(vec!["a\r\nb: c".into()])).is_err());
        assert!(Decision::try_from(whole(vec!["a".into(); OBLIGATIONS_MAX + 1])).is_err());
    }

    #[test]
    fn an_attribute_that_is_not_known_is_everything() {
        let read = |attributes: &[i32]| {
            Vary::from(v1::Vary {
                attributes: attributes.to_vec(),
            })
        };
        assert_eq!(read(&[]), Vary::NOTHING);
        assert_eq!(read(&[2]), Vary::NOTHING.with(Attribute::Method));
        for unknown in [0, 8, -1] {
            assert_eq!(read(&[2, unknown]), Vary::EVERYTHING);
        }
        for attribute in Attribute::ALL {
            let one = Vary::NOTHING.with(attribute);
            assert_eq!(Vary::from(v1::Vary::from(one)), one);
        }
        let without = v1::Decision {
            effect: v1::Effect::Permit.into(),
            decision_id: "d".into(),
            policy_revision: "p".into(),
            ..v1::Decision::default()
        };
        assert_eq!(Decision::try_from(without).unwrap().vary, Vary::EVERYTHING);
    }
}
