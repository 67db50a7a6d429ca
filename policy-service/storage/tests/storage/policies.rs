//! What holds of revisions of policies in every store.

use std::path::Path;
use std::sync::Arc;

use picket_state::StorageLocation;
use picket_state::revisions::{
    Activation, ActivationRequest, ActivationResult, ActivationSource, Revision, RevisionFile,
};
use picket_state::{Change, Store};

use crate::postgres::Server;
use crate::schema::told;
use crate::{Backend, open, postgres_at};

const NOW_US: i64 = 1_700_000_000_000_000;

pub(crate) async fn run(backend: &impl Backend) {
    nothing_is_active_at_first(&*open(&backend.fresh().await).await).await;
    revisions_are_numbered_without_gaps_and_kept_as_they_are(&*open(&backend.fresh().await).await).await;
    an_activation_that_expects_another_revision_changes_nothing(&*open(&backend.fresh().await).await).await;
    an_older_revision_is_activated_again_and_the_history_says_so(&*open(&backend.fresh().await).await).await;
    of_activations_at_once_one_finds_what_it_expects(open(&backend.fresh().await).await).await;
    lists_are_read_page_by_page(&*open(&backend.fresh().await).await).await;
    a_revision_may_be_as_large_as_the_limits_say(&backend.fresh().await).await;
}

fn file(name: &str, text: &str) -> RevisionFile {
    RevisionFile {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn new(digest: &str) -> ActivationSource {
    ActivationSource::New {
        digest: digest.to_owned(),
        files: vec![file("a.cedar", digest)],
    }
}

fn order(comment: &str, expected_active: Option<Option<u64>>) -> ActivationRequest {
    ActivationRequest {
        caller: format!("spiffe://example.org/{comment}"),
        comment: comment.to_owned(),
        at_us: NOW_US,
        expected_active,
    }
}

async fn activate(store: &dyn Store, choice: ActivationSource) -> ActivationResult {
    store.activate(choice, order("any", None)).await.unwrap()
}

async fn nothing_is_active_at_first(store: &dyn Store) {
    assert_eq!(store.active().await.unwrap(), None);
    assert_eq!(store.revision(1).await.unwrap(), None);
    assert_eq!(store.revisions(None, 10).await.unwrap(), []);
    assert_eq!(store.activations(None, 10).await.unwrap(), []);
    for number in [0, 1, u64::MAX] {
        assert_eq!(
            activate(store, ActivationSource::Existing(number)).await,
            ActivationResult::NoSuchRevision
        );
    }
    assert_eq!(store.active().await.unwrap(), None);
}

async fn revisions_are_numbered_without_gaps_and_kept_as_they_are(store: &dyn Store) {
    let odd = "'; DROP TABLE policy_file; -- \u{202e} é 日本 $1 ?1 \\\r\n\t";
    let files = vec![
        file("B.cedar", odd),
        file("a.cedar", ""),
        file("schema.cedarschema", "s"),
        file("tests/é.yaml", "t"),
    ];
    let choice = ActivationSource::New {
        digest: "0123456789abcdef".to_owned(),
        files: files.clone(),
    };
    assert_eq!(
        store.activate(choice, order("first", None)).await.unwrap(),
        ActivationResult::Done(1)
    );
    assert_eq!(activate(store, new("2")).await, ActivationResult::Done(2));
    // What fails takes no number.
    let refused = store.activate(new("x"), order("x", Some(Some(9)))).await.unwrap();
    assert_eq!(refused, ActivationResult::OtherActive(Some(2)));
    assert_eq!(activate(store, new("3")).await, ActivationResult::Done(3));
    let (revision, found) = store.revision(1).await.unwrap().unwrap();
    assert_eq!(found, files);
    let expected = Revision {
        number: 1,
        digest: "0123456789abcdef".to_owned(),
        author: "spiffe://example.org/first".to_owned(),
        comment: "first".to_owned(),
        created_us: NOW_US,
    };
    assert_eq!(revision, expected);
    assert_eq!(store.revision(3).await.unwrap().unwrap().1, [file("a.cedar", "3")]);
    assert_eq!(store.revision(4).await.unwrap(), None);
    assert_eq!(store.active().await.unwrap(), Some(3));
}

async fn an_activation_that_expects_another_revision_changes_nothing(store: &dyn Store) {
    let expecting = async |choice, expected| store.activate(choice, order("any", Some(expected))).await.unwrap();
    assert_eq!(expecting(new("1"), Some(1)).await, ActivationResult::OtherActive(None));
    assert_eq!(expecting(new("1"), None).await, ActivationResult::Done(1));
    assert_eq!(expecting(new("2"), None).await, ActivationResult::OtherActive(Some(1)));
    assert_eq!(expecting(new("2"), Some(1)).await, ActivationResult::Done(2));
    assert_eq!(
        expecting(ActivationSource::Existing(1), Some(1)).await,
        ActivationResult::OtherActive(Some(2))
    );
    assert_eq!(store.active().await.unwrap(), Some(2));
    assert_eq!(store.revisions(None, 10).await.unwrap().len(), 2);
    assert_eq!(store.activations(None, 10).await.unwrap().len(), 2);
}

async fn an_older_revision_is_activated_again_and_the_history_says_so(store: &dyn Store) {
    for digest in ["1", "2"] {
        activate(store, new(digest)).await;
    }
    let back = store
        .activate(ActivationSource::Existing(1), order("back", Some(Some(2))))
        .await;
    assert_eq!(back.unwrap(), ActivationResult::Done(1));
    assert_eq!(store.active().await.unwrap(), Some(1));
    // The next one is a new number, not that of the one that was left.
    assert_eq!(activate(store, new("3")).await, ActivationResult::Done(3));
    let history = store.activations(None, 10).await.unwrap();
    let steps: Vec<_> = history
        .iter()
        .map(|activation| (activation.id, activation.number, activation.previous))
        .collect();
    assert_eq!(steps, [(4, 3, Some(1)), (3, 1, Some(2)), (2, 2, Some(1)), (1, 1, None)]);
    let expected = Activation {
        id: 3,
        number: 1,
        digest: "1".to_owned(),
        previous: Some(2),
        caller: "spiffe://example.org/back".to_owned(),
        comment: "back".to_owned(),
        at_us: NOW_US,
    };
    assert_eq!(history.get(1), Some(&expected));
}

async fn of_activations_at_once_one_finds_what_it_expects(store: Arc<dyn Store>) {
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(&store);
        attempts.spawn(async move {
            let expecting_none = order("any", Some(None));
            store.activate(new(&number.to_string()), expecting_none).await.unwrap()
        });
    }
    let mut done = 0;
    while let Some(attempt) = attempts.join_next().await {
        match attempt.unwrap() {
            ActivationResult::Done(number) => {
                assert_eq!(number, 1);
                done += 1;
            }
            other @ (ActivationResult::OtherActive(_)
            | ActivationResult::NoSuchRevision
            | ActivationResult::TooMany) => {
                assert_eq!(other, ActivationResult::OtherActive(Some(1)));
            }
        }
    }
    assert_eq!(done, 1);
    assert_eq!(store.revisions(None, 10).await.unwrap().len(), 1);
}

async fn lists_are_read_page_by_page(store: &dyn Store) {
    for number in 1..=5 {
        activate(store, new(&number.to_string())).await;
    }
    let numbers = async |before, count_max| {
        let page = store.revisions(before, count_max).await.unwrap();
        page.iter().map(|revision| revision.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 2).await, [5, 4]);
    assert_eq!(numbers(Some(4), 2).await, [3, 2]);
    assert_eq!(numbers(Some(2), 2).await, [1]);
    assert_eq!(numbers(Some(1), 2).await, [0; 0]);
    let page = store.activations(Some(3), 10).await.unwrap();
    assert_eq!(page.iter().map(|activation| activation.id).collect::<Vec<_>>(), [2, 1]);
}

pub(crate) async fn changes_are_told(server: &Server, folder: &Path) {
    let location = postgres_at(folder, &server.database().await);
    let (first, _) = told(&location).await;
    let (second, changes) = told(&location).await;
    let take = || std::mem::take(&mut *changes.lock().unwrap());
    assert_eq!(take(), [Change::Anything]);
    activate(&*first, new("1")).await;
    // The answer to a probe comes after everything that was to be told.
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Policies]);
    // What was not done is not told.
    first.activate(new("2"), order("any", Some(None))).await.unwrap();
    second.probe().await.unwrap();
    assert_eq!(take(), []);
}

/// It is there after a restart as well.
async fn a_revision_may_be_as_large_as_the_limits_say(location: &StorageLocation) {
    let store = open(location).await;
    let text = "x".repeat(8 * 1024 * 1024 / 2000);
    let files: Vec<_> = (0..2000)
        .map(|number| file(&format!("{number:04}.cedar"), &text))
        .collect();
    let choice = ActivationSource::New {
        digest: "large".to_owned(),
        files: files.clone(),
    };
    assert_eq!(activate(&*store, choice).await, ActivationResult::Done(1));
    drop(store);
    let store = crate::reopen(location).await;
    assert_eq!(store.active().await.unwrap(), Some(1));
    assert!(store.revision(1).await.unwrap().unwrap().1 == files);
}
