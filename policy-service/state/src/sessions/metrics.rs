//! Metrics of sessions.

use picket_model::session::EndReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::SessionRefusal;

/// The number of sessions, and of requests that were denied for theirs. Clones share their
/// counters.
#[derive(Clone, Default)]
pub struct SessionMetrics {
    refusals: Family<RefusalLabel, Counter>,
    sessions: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    reason: &'static str,
}

impl SessionMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "session_refusals",
            "Decisions that are a deny because of the request's session",
            self.refusals.clone(),
        );
        registry.register("sessions", "Sessions that are held, about", self.sessions.clone());
    }

    /// Creates every series, for the reference.
    pub fn create_series(&self) {
        for refusal in [
            SessionRefusal::Lockdown,
            SessionRefusal::Ended(EndReason::IdleTimeout),
            SessionRefusal::Ended(EndReason::Compromised),
            SessionRefusal::Revoked,
            SessionRefusal::ReauthenticationRequired,
            SessionRefusal::IdMissing,
            SessionRefusal::LimitReached,
        ] {
            self.count_refusal(refusal);
        }
    }

    pub(super) fn count_refusal(&self, refusal: SessionRefusal) {
        let reason = refusal.code();
        self.refusals.get_or_create(&RefusalLabel { reason }).inc();
    }

    /// Where no sessions are kept, the number stays 0.
    pub(super) fn set_sessions(&self, sessions: u64) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }
}
