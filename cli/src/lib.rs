//! Picket's command line: a development PKI, test tokens, and checks of what an operator wrote or keeps.
//!
//! The library is what the commands are made of, so that tests can make the same keys and tokens without a process.

pub mod clock;
pub mod duration;
pub mod files;
pub mod istio;
pub mod keys;
pub mod limits;
pub mod pki;
pub mod token;

mod command;
mod exit;
mod output;
mod service;
mod text_diff;
mod time_text;

pub use command::{command_line, run};
