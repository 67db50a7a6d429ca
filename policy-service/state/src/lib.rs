//! The state of the policy service: sessions, devices, roles and policy revisions.
//!
//! Each part has its rules, a cache of what this process has read, and a port to the storage, a
//! trait such as [`sessions::SessionStore`]. The back ends of `picket-storage` implement the ports
//! ([`Store`]); nothing here knows a database.
//!
//! Cached values are trusted only while the database connection is confirmed ([`Freshness`],
//! [`STALE_MS_MAX`]). [`StorageSync`] keeps the caches ([`CachedView`]) in step with the storage:
//! it probes the connection, and refreshes what another replica has changed ([`Change`]).

mod change;
pub mod devices;
mod error;
mod filter;
mod freshness;
mod identity;
mod location;
mod probe;
pub mod revisions;
pub mod roles;
pub mod sessions;
mod snapshot;
mod store;
mod sync;
mod text;

pub use change::{Change, ChangeObserver};
pub use error::StorageError;
pub use filter::ListFilter;
pub use freshness::{Freshness, STALE_MS_MAX};
pub use identity::{Fingerprint, NamedBy, PrincipalId, SessionId, TenantId};
pub use location::StorageLocation;
pub use probe::StoreProbe;
pub use snapshot::Snapshot;
pub use store::Store;
pub use sync::{CachedView, StorageState, StorageSync, Subscribers};
