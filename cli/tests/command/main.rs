//! Runs the real `picket` command, and checks what it says and leaves behind.
//!
//! `cfg(test)` is always set here; it tells clippy that the helpers beside the tests are tests too.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod config;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod import;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod revision;
#[cfg(test)]
mod risk;
#[cfg(test)]
mod role;
#[cfg(test)]
mod session;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod token;
