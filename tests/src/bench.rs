//! The benchmark: what a request costs in Envoy with Picket, and with what an operator would use instead.
//!
//! Scenarios are data (`tests/bench/scenarios.json`), and so are the ratios that matter (`tests/bench/ratios.json`). Each scenario
//! runs in an Envoy of its own ([`subject`]); rounds of load go over all of them in turn ([`rounds`]), and what is compared
//! is the CPU time of the Envoy process for one request, less that of a listener without any filter.

pub mod authorization;
pub mod bootstrap;
pub mod decide;
pub mod document;
pub mod generator;
pub mod growth;
pub mod h2load;
pub mod machine;
pub mod memory;
pub mod plot;
pub mod policies;
pub mod processor_time;
pub mod report;
pub mod rounds;
pub mod scale;
pub mod scenario;
pub mod statistics;
pub mod subject;
pub mod tokens;
