use picket_core::enforcement::FilterConfiguration;
use picket_reference::filter;

use serde_json::{Value, json};

use crate::contract::Contract;

#[test]
fn the_filter_takes_the_keys_of_the_reference_with_their_bounds_and_defaults() {
    let example: Value = serde_json::from_str(include_str!("filter.json")).unwrap();
    let mut without_nonces = example.clone();
    without_nonces["dpop"] = json!({"nonce": "none"});
    let parse = |document: &Value| {
        FilterConfiguration::from_value(document.clone()).map(|configuration| format!("{configuration:?}"))
    };
    let contract = Contract {
        sections: filter::sections().unwrap(),
        examples: vec![example, without_nonces],
        parse: &parse,
        dependent_bounds: &[
            // At least `cache_s`, and at most.
            "providers[].remote_keys.max_stale_s",
            "providers[].remote_keys.refetch_interval_s",
            // Each is bounded by the two above.
            "providers[].remote_keys.cache_s",
        ],
    };
    contract.check();
}
