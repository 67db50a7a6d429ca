//! Picket's rules, without I/O, clock or randomness: time and host facts come in, effects go out.

pub mod access;
pub mod configuration;
pub mod decision;
pub mod spiffe;
