//! Requests to try a schema with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use picket_model::access::{AccessRequest, Action, Actor, Context, Possession, Principal, Resource, Sidecar};
use picket_model::decision::Vary;
use picket_model::risk::{Risk, RiskLevel, SCORE_MAX};

use picket_risk::{Assessment, Country, DetectedSignal, RiskMode, Signal};

/// Each kind of principal, once with everything that is optional and once with nothing.
pub(super) fn all() -> Vec<AccessRequest> {
    let mut samples = Vec::new();
    for whole in [true, false] {
        for user in [true, false] {
            for peer in [true, false] {
                samples.push(sample(whole, user, peer));
            }
        }
    }
    samples
}

/// A risk with a signal, without a country and with one.
pub(super) fn risks() -> [Assessment; 2] {
    let country = Country::try_from("DE".to_owned()).ok();
    [None, country].map(risk)
}

fn risk(country: Option<Country>) -> Assessment {
    Assessment {
        risk: Risk {
            score: SCORE_MAX,
            level: RiskLevel::High,
        },
        factors: &[],
        signals: vec![DetectedSignal {
            signal: Signal::NewLocation,
            explanation: String::new(),
        }],
        country,
        vary: Vary::EVERYTHING,
        mode: RiskMode::Effective,
    }
}

fn sample(whole: bool, user: bool, peer: bool) -> AccessRequest {
    let text = || "sample".to_owned();
    AccessRequest {
        request_id: text(),
        traceparent: None,
        sidecar: Sidecar {
            node_id: text(),
            workload: text(),
        },
        route_rule: text(),
        principal: user.then(|| Principal {
            issuer: text(),
            subject: text(),
            tenant: whole.then(text),
            roles: if whole { vec![text()] } else { vec![] },
            scopes: if whole { vec![text()] } else { vec![] },
            acr: whole.then(text),
            amr: if whole { vec![text()] } else { vec![] },
            auth_time_s: whole.then_some(0),
            session_id: None,
            token_id: None,
            issued_at_s: None,
            expires_at_s: Some(0),
            actors: match whole {
                true => vec![Actor {
                    issuer: None,
                    subject: "a".into(),
                }],
                false => vec![],
            },
            is_bound: whole,
        }),
        further_tokens: Vec::new(),
        peer: if peer {
            "spiffe://sample/sample".parse().ok()
        } else {
            None
        },
        action: Action { method: text() },
        resource: Resource {
            host: text(),
            path: text(),
            path_parameters: if whole {
                BTreeMap::from([(text(), text())])
            } else {
                BTreeMap::new()
            },
            classification: whole.then(text),
            security_zone: whole.then(text),
            tenant: whole.then(text),
        },
        context: Context {
            source_address: whole.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            user_agent: whole.then(text),
            possession: Possession::default(),
        },
    }
}
