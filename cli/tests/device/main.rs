//! `picket device`, against the policy service itself.
//!
//! `cfg(test)` is always set here; it tells clippy that the helpers beside the tests are tests too.

#[cfg(test)]
mod commands;
#[cfg(test)]
#[path = "../command/support.rs"]
mod support;
