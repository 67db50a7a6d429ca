//! Configuration: how documents are read, and the filter's own.

mod access;
mod credentials;
pub mod document;
pub mod dpop;
pub mod filter;
pub mod hints;
mod introspection;
pub mod limits;
mod peers;
pub mod providers;
pub mod remote_keys;
