//! A connection pooler between the service and PostgreSQL.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_state::Change;
use picket_state::sessions::Lockdown;

use crate::pgbouncer::PgBouncer;
use crate::postgres::Server;
use crate::schema::told;
use crate::{open, postgres_at};

/// A start that fails does so soon, also on a slow machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) async fn a_pooler_that_keeps_notifications_back_is_refused(server: &Server, folder: &Path) {
    let url = server.database().await;
    // Its tables are there, and another replica works.
    let direct = open(&postgres_at(folder, &url)).await;
    for pool_mode in ["transaction", "statement"] {
        let pooler = PgBouncer::start(server, pool_mode);
        let location = postgres_at(folder, &pooler.url(server, &url));
        for _again in 0..3 {
            let begin = Instant::now();
            let refused = picket_storage::open(&location, Arc::new(|_| ())).await.err().unwrap();
            assert_eq!(refused.reason(), "notifications_lost", "{pool_mode}: {refused}");
            assert!(refused.to_string().contains("pool_mode = session"), "{refused}");
            assert!(begin.elapsed() < REFUSED_WITHIN, "{:?}", begin.elapsed());
        }
    }
    let pooler = PgBouncer::start(server, "session");
    let (store, changes) = told(&postgres_at(folder, &pooler.url(server, &url))).await;
    let lockdown = Lockdown {
        at_us: 1,
        caller: String::new(),
    };
    assert!(direct.set_lockdown(Some(lockdown)).await.unwrap());
    store.probe().await.unwrap();
    assert_eq!(*changes.lock().unwrap(), [Change::Anything, Change::Restrictions]);
}
