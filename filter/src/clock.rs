//! The only reader of the clock.

use std::time::UNIX_EPOCH;

use picket_model::time::Timestamp;
use proxy_wasm::hostcalls;

/// The host's time. Without one, or before the epoch, it is the end of time: every token and
/// decision has expired.
pub(crate) fn now() -> Timestamp {
    let since_epoch = hostcalls::get_current_time()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let ms = since_epoch.and_then(|elapsed| u64::try_from(elapsed.as_millis()).ok());
    Timestamp::from_ms(ms.unwrap_or(u64::MAX))
}
