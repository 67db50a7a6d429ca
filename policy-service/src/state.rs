//! What every part that keeps state in the storage shares: identifiers, the errors and changes of a store, and caches that are
//! trusted only while the storage is confirmed.

mod change;
mod error;
mod filter;
mod freshness;
mod identity;
mod snapshot;
mod store;
mod sync;
pub(crate) mod text;
mod thumbprint;

pub use change::{Change, Observer};
pub use error::StorageError;
pub use filter::Filter;
pub(crate) use freshness::Freshness;
pub use freshness::STALE_MS_MAX;
pub use identity::{Fingerprint, NamedBy, PrincipalId, SessionId, TenantId};
pub(crate) use snapshot::Snapshot;
pub use store::{Probe, Store};
pub use sync::StorageState;
pub(crate) use sync::{CachedView, StorageSync, Subscribers};
pub use thumbprint::{NotAThumbprint, Thumbprint};
