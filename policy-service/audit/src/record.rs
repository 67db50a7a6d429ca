//! Records: their place in the log, and the kinds of what they say.
//!
//! The stored form of a record has types of its own in this crate. Types of other crates are
//! converted into them, so that renaming or adding a field elsewhere does not change what is
//! stored.

use serde::{Deserialize, Serialize};

use super::administration::AdministrationRecord;
use super::chain::Hash;
use super::decision::DecisionRecord;
use super::search::SearchRecord;
use super::session::SessionRecord;

/// A record that was opened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its number; the first is 1, and none is left out.
    pub seq: u64,
    /// When it was recorded, in microseconds since the epoch.
    pub time_us: i64,
    /// Its hash, which covers all records before it; in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    pub hash: Hash,
    /// The expected value.
    pub content: Event,
}

/// The kinds of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The policy service answered an access request.
    Decision(Box<DecisionRecord>),
    /// A session was created, or ended by a rule.
    Session(Box<SessionRecord>),
    /// An operator or a reporter performed an act.
    Administration(Box<AdministrationRecord>),
    /// A caller searched for permitted requests.
    Search(Box<SearchRecord>),
}

fn as_hex<S: serde::Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(hash)
}
