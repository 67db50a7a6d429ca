//! The keys in the reference are those that the parsers take, with the bounds and defaults that they have.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod contract;
mod filter;
mod service;
