//! The configuration of the filter: documents as they are written, and the checks that make of one
//! what is enforced ([`crate::enforcement::FilterConfiguration`]).

mod access;
mod credentials;
pub mod document;
mod dpop;
pub mod filter;
pub mod hints;
mod introspection;
pub mod limits;
mod peers;
mod providers;
mod remote_keys;
mod rules;
mod values;
