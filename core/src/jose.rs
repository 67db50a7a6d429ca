//! JSON Object Signing and Encryption: algorithms (RFC 7518), keys (RFC 7517), JWS (RFC 7515) and
//! the check of their signatures.

pub mod algorithm;
pub mod jws;
pub(crate) mod key_proof;
pub mod keys;
pub mod limits;
pub mod signature;
mod thumbprint;

pub use algorithm::TokenAlgorithm;
pub use limits::TokenLimits;
pub use thumbprint::key_thumbprint;
