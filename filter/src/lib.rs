//! Picket's filter for Envoy: callbacks of proxy-wasm become inputs of core, and verdicts of core
//! become host calls.
//!
//! The only crate that names proxy-wasm. It decides nothing itself: any failure here refuses the
//! request.

#![expect(
    missing_docs,
    reason = "`proxy_wasm::main!` makes an exported function without a doc comment"
)]

mod clock;
mod connection;
mod exchange;
mod failure_log;
mod host;
mod host_crypto;
mod http_response;
mod introspection_call;
mod key_fetch;
mod metrics;
mod plugin_configuration;
mod policy_call;
mod request;
mod root;
mod shared_keys;
mod shared_proofs;
mod waiting;
mod worker;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context| Box::new(root::Root::new(host::ContextId(context))));
}}
