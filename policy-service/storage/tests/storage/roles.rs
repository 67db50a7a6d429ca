//! What holds of role assignments in every store.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use picket_state::StorageLocation;
use picket_state::roles::{AssignmentResult, ROLE_ASSIGNMENTS_MAX, RoleAssignment, RoleFilter, RoleKey};
use picket_state::{Change, Store};

use crate::postgres::{Server, execute};
use crate::schema::told;
use crate::{Backend, open, postgres_at};

const NOW_US: i64 = 1_700_000_000_000_000;

pub(crate) async fn run(backend: &impl Backend) {
    there_is_one_assignment_of_each_role(&*open(&backend.fresh().await).await).await;
    what_is_withdrawn_is_gone_and_nothing_else(&*open(&backend.fresh().await).await).await;
    any_text_is_kept_as_it_is(&backend.fresh().await).await;
    what_has_ended_makes_room(&*open(&backend.fresh().await).await).await;
    lists_are_filtered_and_read_page_by_page(&*open(&backend.fresh().await).await).await;
    assignments_at_once_leave_one_of_each(open(&backend.fresh().await).await).await;
}

fn key(subject: &str, role: &str, tenant: Option<&str>) -> RoleKey {
    RoleKey {
        issuer: "https://issuer.example".to_owned(),
        subject: subject.to_owned(),
        role: role.to_owned(),
        tenant: tenant.map(str::to_owned),
    }
}

fn assignment(key: RoleKey, until_us: Option<i64>) -> RoleAssignment {
    RoleAssignment {
        key,
        until_us,
        author: "spiffe://example.org/operator".to_owned(),
        at_us: NOW_US,
    }
}

async fn assign(store: &dyn Store, key: RoleKey, until_us: Option<i64>) -> AssignmentResult {
    store.assign(assignment(key, until_us)).await.unwrap()
}

async fn there_is_one_assignment_of_each_role(store: &dyn Store) {
    assert_eq!(store.roles().await.unwrap(), []);
    let (anywhere, at_acme) = (key("alice", "reader", None), key("alice", "reader", Some("acme")));
    for (key, until_us, expected) in [
        (&anywhere, None, AssignmentResult::Done),
        (&anywhere, None, AssignmentResult::Unchanged),
        (&at_acme, None, AssignmentResult::Done),
        (&anywhere, Some(NOW_US + 5), AssignmentResult::Done),
        (&anywhere, Some(NOW_US + 5), AssignmentResult::Unchanged),
        (&anywhere, Some(NOW_US + 4), AssignmentResult::Done),
        (&at_acme, None, AssignmentResult::Unchanged),
    ] {
        assert_eq!(
            assign(store, key.clone(), until_us).await,
            expected,
            "{key:?} {until_us:?}"
        );
    }
    let mut found = store.roles().await.unwrap();
    found.sort_by_key(|assignment| assignment.key.tenant.clone());
    assert_eq!(
        found,
        [assignment(anywhere, Some(NOW_US + 4)), assignment(at_acme, None)]
    );
}

async fn what_is_withdrawn_is_gone_and_nothing_else(store: &dyn Store) {
    let keys = [
        key("alice", "reader", None),
        key("alice", "reader", Some("acme")),
        key("alice", "writer", None),
        key("bob", "reader", None),
    ];
    for key in &keys {
        assign(store, key.clone(), None).await;
    }
    assert!(store.withdraw(keys[0].clone()).await.unwrap());
    assert!(!store.withdraw(keys[0].clone()).await.unwrap());
    assert!(!store.withdraw(key("alice", "reader", Some("other"))).await.unwrap());
    assert_eq!(store.roles().await.unwrap().len(), 3);
    assert!(store.withdraw(keys[1].clone()).await.unwrap());
    let left: Vec<_> = store.roles().await.unwrap().into_iter().map(|left| left.key).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&keys[2]) && left.contains(&keys[3]), "{left:?}");
}

/// It is there after a restart as well.
async fn any_text_is_kept_as_it_is(location: &StorageLocation) {
    let store = open(location).await;
    let text = "'; DROP TABLE role_assignment; -- \u{202e} é 日本 $1 ?1 \\";
    let odd = RoleKey {
        issuer: text.to_owned(),
        ..key(text, text, Some(text))
    };
    assign(&*store, odd.clone(), Some(i64::MAX)).await;
    drop(store);
    let store = crate::reopen(location).await;
    assert_eq!(store.roles().await.unwrap(), [assignment(odd.clone(), Some(i64::MAX))]);
    assert!(store.withdraw(odd).await.unwrap());
}

async fn what_has_ended_makes_room(store: &dyn Store) {
    assign(store, key("alice", "ends before", None), Some(NOW_US)).await;
    assign(store, key("alice", "ends after", None), Some(NOW_US + 1)).await;
    assign(store, key("alice", "never ends", None), None).await;
    let roles: Vec<_> = store.roles().await.unwrap();
    let mut roles: Vec<_> = roles.into_iter().map(|assignment| assignment.key.role).collect();
    roles.sort();
    assert_eq!(roles, ["ends after", "never ends"]);
}

async fn lists_are_filtered_and_read_page_by_page(store: &dyn Store) {
    for (subject, role, tenant) in [
        ("alice", "reader", None),
        ("bob", "reader", Some("acme")),
        ("alice", "writer", Some("acme")),
    ] {
        assign(store, key(subject, role, tenant), None).await;
    }
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (RoleFilter::default(), 3),
        (
            RoleFilter {
                subject: some("alice"),
                ..RoleFilter::default()
            },
            2,
        ),
        (
            RoleFilter {
                role: some("reader"),
                ..RoleFilter::default()
            },
            2,
        ),
        (
            RoleFilter {
                tenant: some("acme"),
                ..RoleFilter::default()
            },
            2,
        ),
        (
            RoleFilter {
                issuer: some("other"),
                ..RoleFilter::default()
            },
            0,
        ),
        (
            RoleFilter {
                subject: some("alice"),
                tenant: some("acme"),
                ..RoleFilter::default()
            },
            1,
        ),
    ] {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let page = store.roles_page(filter.clone(), after, 1).await.unwrap();
            let Some((place, assignment)) = page.into_iter().next() else {
                break;
            };
            assert!(place > after, "{filter:?}");
            after = place;
            found.push(assignment.key);
        }
        assert_eq!(found.len(), expected, "{filter:?}");
    }
}

async fn assignments_at_once_leave_one_of_each(store: Arc<dyn Store>) {
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(&store);
        attempts.spawn(async move { assign(&*store, key("alice", "reader", None), Some(NOW_US + 1 + number)).await });
    }
    while let Some(attempt) = attempts.join_next().await {
        assert_eq!(attempt.unwrap(), AssignmentResult::Done);
    }
    assert_eq!(store.roles().await.unwrap().len(), 1);
}

pub(crate) async fn changes_are_told(server: &Server, folder: &Path) {
    let location = postgres_at(folder, &server.database().await);
    let (first, _) = told(&location).await;
    let (second, changes) = told(&location).await;
    let take = || std::mem::take(&mut *changes.lock().unwrap());
    assert_eq!(take(), [Change::Anything]);
    let reader = key("alice", "reader", None);
    assign(&*first, reader.clone(), None).await;
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Roles]);
    // What changes nothing is not told.
    assign(&*first, reader.clone(), None).await;
    second.probe().await.unwrap();
    assert_eq!(take(), []);
    assert!(first.withdraw(reader.clone()).await.unwrap());
    assert!(!first.withdraw(reader).await.unwrap());
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Roles]);
}

/// As many as there may be are read, and there is no more room.
async fn the_limit_holds(store: &dyn Store) {
    let begin = Instant::now();
    let roles = store.roles().await.unwrap();
    assert_eq!(u64::try_from(roles.len()).unwrap(), ROLE_ASSIGNMENTS_MAX);
    println!("{} role assignments were read in {:?}", roles.len(), begin.elapsed());
    assert_eq!(
        assign(store, key("alice", "one more", None), None).await,
        AssignmentResult::TooMany
    );
    // One that is there gets another end, and what has ended makes room.
    let first = key("0", "role", None);
    assert_eq!(assign(store, first, Some(NOW_US)).await, AssignmentResult::Done);
    assert_eq!(
        assign(store, key("alice", "one more", None), None).await,
        AssignmentResult::Done
    );
    assert_eq!(store.roles().await.unwrap().len(), roles.len());
}

pub(crate) async fn the_limit_holds_in_sqlite(location: &StorageLocation) {
    let StorageLocation::Sqlite { file } = location else {
        panic!("{location:?}");
    };
    let store = open(location).await;
    let mut database = rusqlite::Connection::open(file).unwrap();
    let transaction = database.transaction().unwrap();
    for number in 0..ROLE_ASSIGNMENTS_MAX {
        let insert = "INSERT INTO role_assignment (issuer, subject, role, author, at_us)
                      VALUES ('https://issuer.example', ?1, 'role', '', 1)";
        transaction
            .prepare_cached(insert)
            .unwrap()
            .execute([number.to_string()])
            .unwrap();
    }
    transaction.commit().unwrap();
    the_limit_holds(&*store).await;
}

pub(crate) async fn the_limit_holds_in_postgresql(server: &Server, folder: &Path) {
    let url = server.database().await;
    let store = open(&postgres_at(folder, &url)).await;
    let insert = format!(
        "INSERT INTO picket.role_assignment (issuer, subject, role, author, at_us)
         SELECT 'https://issuer.example', (number - 1)::text, 'role', '', 1 FROM generate_series(1, {ROLE_ASSIGNMENTS_MAX}) AS number"
    );
    execute(&url, &insert).await;
    the_limit_holds(&*store).await;
}
