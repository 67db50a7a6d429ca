//! Picket's rules, without I/O, clock or randomness: time and host facts come in, effects go out.

pub mod access_rules;
pub mod cache;
pub mod configuration;
pub mod dpop;
pub mod enforcement;
pub mod enrollment;
pub mod header_value;
pub mod identity_headers;
pub mod jose;
pub mod limits;
pub mod metrics;
pub mod path;
pub mod peer;
pub mod reason;
pub mod request;
pub mod route;
pub mod source_address;
pub mod token;
pub mod transaction_token;
