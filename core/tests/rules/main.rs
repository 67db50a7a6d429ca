//! The rules as a whole: configuration, tokens, peers and the state machine, each through its
//! public face.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::cast_precision_loss,
    reason = "a test that cannot go on fails, and a table may be long"
)]

mod access;
mod addresses;
mod callers;
mod challenges;
mod claims;
mod configuration;
mod credential_places;
mod credentials;
mod enforcement;
mod enrollment;
mod forwarded;
mod header_fields;
mod introspection;
mod issuers;
mod key_forms;
mod key_sets;
mod known_issuers;
mod paths;
mod peers;
mod possession;
mod properties;
mod published;
mod several;
mod support;
mod tokens;
mod unreadable_peers;
