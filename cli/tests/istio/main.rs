//! Istio's documents, imported: the same verdict for each request.
//!
//! No Istio runs here. What it would say is taken from its reference pages, by an evaluator of a few lines that works on the
//! documents themselves (`reference.rs`). `cfg(test)` is always set here; it tells clippy that the helpers are tests too.

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod random;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sidecar;
#[cfg(test)]
mod unexpressible;
