//! One token in several hands: who sends it, and from where, within a short time.

use serde::{Deserialize, Serialize};

use super::assessment::{DetectedSignal, Signal};
use super::facts::RequestFacts;
use super::keys::Fingerprint;
use super::places::Place;
use super::recent::Recent;
use super::settings::TokenSettings;

/// How many tokens of a principal are watched at once: those used last.
pub const WATCHED_TOKENS_MAX: usize = 4;
/// How many peers and how many locations of a token are remembered. More than that many can be
/// asked for by nobody.
pub const TOKEN_SOURCES_MAX: usize = 8;

/// The tokens that a principal has used last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tokens(Recent<Token, WATCHED_TOKENS_MAX>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    id: Fingerprint,
    /// With when each was last seen.
    peers: Recent<(Fingerprint, u32), TOKEN_SOURCES_MAX>,
    places: Recent<(Place, u32), TOKEN_SOURCES_MAX>,
}

impl Tokens {
    /// Takes note of a request, whatever became of it: who is refused has the token all the same.
    pub(super) fn see(&mut self, facts: &RequestFacts) {
        let Some(id) = facts.token else {
            return;
        };
        let mut token = self.0.take(|token| token.id == id).unwrap_or_else(|| Token {
            id,
            peers: Recent::default(),
            places: Recent::default(),
        });
        if let Some(peer) = facts.peer {
            note(&mut token.peers, peer, facts.now_s);
        }
        if let Some(place) = facts.place {
            note(&mut token.places, place, facts.now_s);
        }
        self.0.push(token);
    }

    pub(super) fn signal(&self, settings: &TokenSettings, facts: &RequestFacts) -> Option<DetectedSignal> {
        let token = self.0.iter().find(|token| Some(token.id) == facts.token)?;
        let peers = count(&token.peers, facts.peer, facts.now_s, settings.window_s);
        let places = count(&token.places, facts.place, facts.now_s, settings.window_s);
        let explain = |what, count: usize, max: u32| {
            let is_more = u32::try_from(count).is_ok_and(|count| count > max);
            is_more.then(|| format!("{count} {what}, where {max} are usual at most"))
        };
        let found = [
            explain("peers", peers, settings.peers_max),
            explain("locations", places, settings.locations_max),
        ];
        let found: Vec<String> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| DetectedSignal {
            signal: Signal::SharedToken,
            explanation: format!(
                "within {} s the token was used from {}",
                settings.window_s,
                found.join(" and from ")
            ),
        })
    }
}

fn note<K: PartialEq, const MAX: usize>(keys: &mut Recent<(K, u32), MAX>, key: K, now_s: u32) {
    keys.take(|(other, _)| *other == key);
    keys.push((key, now_s));
}

/// How many different ones there were in the window, with the one of this request.
fn count<K: Copy + PartialEq, const MAX: usize>(
    keys: &Recent<(K, u32), MAX>,
    this: Option<K>,
    now_s: u32,
    window_s: u32,
) -> usize {
    let is_recent = |at_s: u32| now_s.saturating_sub(at_s) < window_s;
    let others = keys.iter().filter(|(key, at_s)| is_recent(*at_s) && this != Some(*key));
    others.count().saturating_add(usize::from(this.is_some()))
}
