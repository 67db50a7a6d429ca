//! Revisions of policies through the real program: activated, refused, rolled back, and told to other replicas.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_audit::{Act, ActOutcome};
use picket_policy::PolicyFiles;
use picket_proto::v1;
use picket_proto::v1::policy_admin_client::PolicyAdminClient;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::{ActivationOutcome, Effect};
use picket_state::StorageLocation;
use picket_state::revisions::{ActivationRequest, ActivationSource, RevisionFile};
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::admin::{CALLERS, OPERATOR, READER, channel, recorded};
use crate::harness::{Service, Setup, request};
use crate::postgres::Server;
use crate::sessions::client;

const STORE: &str = "[storage]\nsqlite_file = \"storage.sqlite3\"\n";
const DEADLINE: Duration = Duration::from_secs(60);
const CLOSED: &str = "@id(\"closed\") @reason(\"closed\") forbid (principal, action, resource);\n";

fn setup() -> Setup {
    Setup::with_stored_policies(&format!("{CALLERS}{STORE}"))
}

/// The shipped policies with their tests.
fn shipped() -> Vec<v1::PolicyFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let files = PolicyFiles::read(&folder).unwrap();
    let file = |(name, text): (String, &str)| v1::PolicyFile {
        name,
        text: text.to_owned(),
    };
    let files: Vec<_> = files.iter().map(file).collect();
    assert!(files.iter().any(|file| file.name.starts_with("tests/")));
    files
}

/// The shipped policies without tests, and one more file.
fn with(name: &str, text: &str) -> Vec<v1::PolicyFile> {
    let mut files = shipped();
    files.retain(|file| !file.name.starts_with("tests/"));
    files.push(v1::PolicyFile {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    files
}

fn activate(files: Vec<v1::PolicyFile>) -> v1::ActivateRequest {
    v1::ActivateRequest {
        files,
        comment: "because".to_owned(),
        expected_active: None,
        validate_only: false,
    }
}

fn roll_back(number: u64) -> v1::RollBackRequest {
    v1::RollBackRequest {
        number,
        comment: "back".to_owned(),
        expected_active: None,
    }
}

async fn policies(setup: &Setup, service: &Service, caller: &str) -> PolicyAdminClient<Channel> {
    PolicyAdminClient::new(channel(setup, service, caller).await).max_decoding_message_size(16 * 1024 * 1024)
}

async fn done(
    client: &mut PolicyAdminClient<Channel>,
    request: v1::ActivateRequest,
    outcome: ActivationOutcome,
) -> v1::ActivateResponse {
    let answer = client.activate(request).await.unwrap().into_inner();
    assert_eq!(answer.outcome(), outcome, "{answer:?}");
    answer
}

async fn decided(client: &mut PolicyDecisionClient<Channel>) -> v1::Decision {
    let asked = request(&["reader"], "GET", "orders-read", "");
    client.decide(asked).await.unwrap().into_inner()
}

fn check_ready(service: &Service, status: &str, says: &str) {
    let (head, body) = service.get("/readyz");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head} {body}");
    assert!(body.contains(says), "{body}");
}

#[tokio::test]
async fn without_an_active_revision_everything_is_denied_until_one_is_activated() {
    let setup = setup();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let deny = decided(&mut decisions).await;
    assert_eq!((deny.effect(), deny.valid_for_ms), (Effect::Deny, 0));
    assert_eq!(deny.caller_reasons, ["no_active_policies"]);
    assert_eq!(deny.policy_revision, "none");
    check_ready(&service, "503", "no revision of the policies is active");

    let mut admin = policies(&setup, &service, OPERATOR).await;
    let none = admin.show_revision(v1::ShowRevisionRequest { number: 0 }).await;
    assert_eq!(none.unwrap_err().code(), Code::NotFound);
    let activated = done(&mut admin, activate(shipped()), ActivationOutcome::Activated).await;
    assert_eq!(activated.number, 1);
    assert!(activated.tests_passed > 10, "{activated:?}");
    let permit = decided(&mut decisions).await;
    assert_eq!((permit.effect(), permit.valid_for_ms), (Effect::Permit, 60_000));
    assert_eq!(permit.policy_revision, activated.digest);
    check_ready(&service, "200", r#""policies":"ok""#);
    let (_, page) = service.get("/metrics");
    for sample in [
        "picket_policy_service_policy_revision_number 1",
        &format!(
            "picket_policy_service_policy_revision_info{{revision=\"{}\"}} 1",
            activated.digest
        ),
        "picket_policy_service_policy_loads_total{result=\"succeeded\"} 1",
        &format!("picket_policy_service_policies {}", activated.policies),
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
    }
    assert!(!page.contains("revision=\"none\""), "{page}");
}

#[tokio::test]
async fn what_has_mistakes_or_fails_its_own_tests_is_refused_and_nothing_changes() {
    let setup = setup();
    let service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = policies(&setup, &service, OPERATOR).await;
    done(&mut admin, activate(shipped()), ActivationOutcome::Activated).await;

    let mistaken = "@id(\"typo\") permit (principal, action, resource)\nwhen { resource.hots == \"a\" };";
    let mut failing = shipped();
    failing.push(v1::PolicyFile {
        name: "closed.cedar".to_owned(),
        text: CLOSED.to_owned(),
    });
    for (files, file, line, message) in [
        (with("typo.cedar", mistaken), "typo.cedar", 2, "hots"),
        (failing, "tests/", 0, "case `"),
        (
            with("tests/none.yaml", "cases: 1"),
            "tests/none.yaml",
            0,
            "cases: expected an array",
        ),
        (with("../outside.cedar", CLOSED), "", 0, "`../outside.cedar`: expected"),
        (vec![], "", 0, "no policy file"),
    ] {
        for validate_only in [true, false] {
            let request = v1::ActivateRequest {
                validate_only,
                ..activate(files.clone())
            };
            let refused = done(&mut admin, request, ActivationOutcome::Refused).await;
            assert_eq!(refused.number, 0);
            assert_eq!(refused.mistakes_count, u32::try_from(refused.mistakes.len()).unwrap());
            let found = refused.mistakes.iter().any(|mistake| {
                mistake.file.starts_with(file) && mistake.line == line && mistake.message.contains(message)
            });
            assert!(found, "{message}: {:?}", refused.mistakes);
        }
    }
    let expecting = |expected_active| v1::ActivateRequest {
        expected_active: Some(expected_active),
        ..activate(with("closed.cedar", CLOSED))
    };
    for expected in [0, 2] {
        let refused = admin.activate(expecting(expected)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
        assert!(refused.message().starts_with("revision 1 is active"), "{refused:?}");
    }
    for comment in [String::new(), "two\nlines".to_owned(), "x".repeat(1001)] {
        let request = v1::ActivateRequest {
            comment,
            ..activate(shipped())
        };
        assert_eq!(admin.activate(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let valid = v1::ActivateRequest {
        validate_only: true,
        comment: String::new(),
        ..activate(with("closed.cedar", CLOSED))
    };
    done(&mut admin, valid, ActivationOutcome::Valid).await;
    assert_eq!(decided(&mut decisions).await.effect(), Effect::Permit);
    let list = admin.list_revisions(v1::ListRevisionsRequest::default()).await;
    assert_eq!(list.unwrap().into_inner().revisions.len(), 1);
    // The first one, five with mistakes, and two that met another revision; what was only to be checked is none.
    let outcomes: Vec<_> = recorded(&setup).iter().map(|record| record.outcome).collect();
    let mut expected = vec![ActOutcome::Done];
    expected.extend([ActOutcome::Refused; 7]);
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn a_rollback_activates_an_older_revision_and_all_is_shown_and_recorded() {
    let setup = setup();
    let mut service = setup.start();
    let mut decisions = client(&setup, &service).await;
    let mut admin = policies(&setup, &service, OPERATOR).await;
    let first = done(&mut admin, activate(shipped()), ActivationOutcome::Activated).await;
    let again = done(&mut admin, activate(shipped()), ActivationOutcome::Unchanged).await;
    assert_eq!(again.number, 1);
    let closed = activate(with("closed.cedar", CLOSED));
    let second = done(&mut admin, closed, ActivationOutcome::Activated).await;
    assert_eq!(second.number, 2);
    assert_eq!(decided(&mut decisions).await.caller_reasons, ["closed"]);
    let back = admin.roll_back(roll_back(1)).await.unwrap().into_inner();
    assert_eq!((back.outcome(), back.number), (ActivationOutcome::Activated, 1));
    assert_eq!(back.digest, first.digest);
    assert_eq!(decided(&mut decisions).await.policy_revision, first.digest);
    let unchanged = admin.roll_back(roll_back(1)).await.unwrap().into_inner();
    assert_eq!(unchanged.outcome(), ActivationOutcome::Unchanged);
    for (number, code) in [(3, Code::NotFound), (0, Code::InvalidArgument)] {
        assert_eq!(admin.roll_back(roll_back(number)).await.unwrap_err().code(), code);
    }

    let history = admin.history(v1::HistoryRequest::default()).await.unwrap().into_inner();
    let steps: Vec<_> = history
        .activations
        .iter()
        .map(|activation| (activation.number, activation.previous, activation.comment.as_str()))
        .collect();
    assert_eq!(steps, [(1, 2, "back"), (2, 1, "because"), (1, 0, "because")]);
    assert!(
        history
            .activations
            .iter()
            .all(|activation| activation.caller == OPERATOR)
    );
    let page = v1::ListRevisionsRequest {
        count_max: 1,
        ..Default::default()
    };
    let page = admin.list_revisions(page).await.unwrap().into_inner();
    assert_eq!(
        (page.revisions[0].number, page.revisions[0].is_active, page.next),
        (2, false, 2)
    );
    let shown = admin.show_revision(v1::ShowRevisionRequest { number: 0 }).await;
    let shown = shown.unwrap().into_inner();
    assert_eq!(shown.files, shipped());
    let revision = shown.revision.unwrap();
    assert_eq!((revision.number, revision.is_active), (1, true));
    assert_eq!(revision.author, OPERATOR);

    let acts: Vec<_> = recorded(&setup)
        .into_iter()
        .map(|record| (record.act, record.target, record.outcome))
        .collect();
    let named = |number, digest: &str| format!("{number} {digest}");
    let (one, two) = (named(1, &first.digest), named(2, &second.digest));
    assert_eq!(
        acts,
        [
            (Act::ActivatePolicies, one.clone(), ActOutcome::Done),
            (Act::ActivatePolicies, one.clone(), ActOutcome::Unchanged),
            (Act::ActivatePolicies, two, ActOutcome::Done),
            (Act::RollBackPolicies, one.clone(), ActOutcome::Done),
            (Act::RollBackPolicies, one, ActOutcome::Unchanged),
            (Act::RollBackPolicies, "3".to_owned(), ActOutcome::Refused),
        ]
    );

    // It is active after a restart.
    service.terminate();
    tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    let service = setup.start_when_free();
    let mut decisions = client(&setup, &service).await;
    assert_eq!(decided(&mut decisions).await.policy_revision, first.digest);
}

#[tokio::test]
async fn readers_look_operators_act_and_others_do_neither() {
    let setup = setup();
    let service = setup.start();
    let mut operator = policies(&setup, &service, OPERATOR).await;
    done(&mut operator, activate(shipped()), ActivationOutcome::Activated).await;
    for (caller, may_look) in [(READER, true), (ORDERS, false)] {
        let mut client = policies(&setup, &service, caller).await;
        let looked = [
            client
                .list_revisions(v1::ListRevisionsRequest::default())
                .await
                .map(drop),
            client
                .show_revision(v1::ShowRevisionRequest { number: 1 })
                .await
                .map(drop),
            client.history(v1::HistoryRequest::default()).await.map(drop),
        ];
        let acted = [
            client.activate(activate(shipped())).await.map(drop),
            client.roll_back(roll_back(1)).await.map(drop),
        ];
        for looked in looked {
            let code = looked.err().map(|status| status.code());
            assert_eq!(code, (!may_look).then_some(Code::PermissionDenied), "{caller}");
        }
        for acted in acted {
            assert_eq!(acted.unwrap_err().code(), Code::PermissionDenied, "{caller}");
        }
    }
    assert_eq!(recorded(&setup).len(), 1);
}

#[tokio::test]
async fn a_service_with_a_folder_of_policies_says_so() {
    let setup = Setup::with(CALLERS);
    let service = setup.start();
    let mut admin = policies(&setup, &service, OPERATOR).await;
    let refused = admin.activate(activate(shipped())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("policies.source"), "{refused:?}");
}

#[tokio::test]
async fn without_its_storage_nothing_is_decided_after_a_while() {
    let setup = setup();
    let service = setup.start();
    let mut admin = policies(&setup, &service, OPERATOR).await;
    done(&mut admin, activate(shipped()), ActivationOutcome::Activated).await;
    let mut decisions = client(&setup, &service).await;
    let database = rusqlite::Connection::open(setup.path("storage.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE probe RENAME TO hidden_probe")
        .unwrap();
    let begin = Instant::now();
    let asked = || request(&["reader"], "GET", "orders-read", "");
    let refused = loop {
        match decisions.decide(asked()).await {
            Ok(decision) => assert_eq!(decision.into_inner().effect(), Effect::Permit),
            Err(status) => break status,
        }
        assert!(begin.elapsed() < DEADLINE);
    };
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the policies could not be looked up")
    );
    database
        .execute_batch("ALTER TABLE hidden_probe RENAME TO probe")
        .unwrap();
    while decisions.decide(asked()).await.is_err() {
        assert!(begin.elapsed() < DEADLINE);
    }
}

struct Replica {
    setup: Setup,
    service: Service,
    decisions: PolicyDecisionClient<Channel>,
}

impl Replica {
    async fn start(url: &str) -> Self {
        let setup = Setup::with_stored_policies(&format!("{CALLERS}[storage]\npostgres_url_file = \"url\"\n"));
        std::fs::write(setup.path("url"), url).unwrap();
        let service = setup.start();
        let decisions = client(&setup, &service).await;
        Self {
            setup,
            service,
            decisions,
        }
    }

    async fn refuses_to_decide(&mut self) -> Code {
        let asked = request(&["reader"], "GET", "orders-read", "");
        self.decisions.decide(asked).await.unwrap_err().code()
    }

    async fn admin(&self) -> PolicyAdminClient<Channel> {
        policies(&self.setup, &self.service, OPERATOR).await
    }

    /// Asks until it decides by these policies.
    async fn wait_for(&mut self, digest: &str) -> Duration {
        let begin = Instant::now();
        let asked = || request(&["reader"], "GET", "orders-read", "");
        let decides = |answer: Result<tonic::Response<v1::Decision>, tonic::Status>| {
            answer.is_ok_and(|decision| decision.get_ref().policy_revision == digest)
        };
        while !decides(self.decisions.decide(asked()).await) {
            assert!(begin.elapsed() < DEADLINE, "an activation does not arrive");
        }
        begin.elapsed()
    }

    /// Asks until its readiness says this.
    fn wait_until_ready_says(&self, status: &str, says: &str) {
        let begin = Instant::now();
        loop {
            let (head, body) = self.service.get("/readyz");
            if head.starts_with(&format!("HTTP/1.1 {status} ")) && body.contains(says) {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "{head} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_activates_decides_on_the_others() {
    let server = Server::start();
    let url = server.database().await;
    let mut first = Replica::start(&url).await;
    let mut second = Replica::start(&url).await;
    let mut admin = first.admin().await;
    let shipped = done(&mut admin, activate(shipped()), ActivationOutcome::Activated).await;
    assert_eq!(decided(&mut first.decisions).await.policy_revision, shipped.digest);
    println!(
        "an activation arrived after {:?}",
        second.wait_for(&shipped.digest).await
    );
    assert_eq!(decided(&mut second.decisions).await.effect(), Effect::Permit);
    second.wait_until_ready_says("200", r#""policies":"ok""#);

    // The other one as well, and two at once never overwrite each other.
    let mut other = second.admin().await;
    let expecting = |name: &str| v1::ActivateRequest {
        expected_active: Some(1),
        ..activate(with(name, CLOSED))
    };
    let (one, two) = tokio::join!(
        admin.activate(expecting("a.cedar")),
        other.activate(expecting("b.cedar"))
    );
    let (activated, aborted): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((activated.len(), aborted.len()), (1, 1), "{activated:?} {aborted:?}");
    assert_eq!(aborted[0].as_ref().unwrap_err().code(), Code::Aborted);
    let closed = activated[0].as_ref().unwrap().get_ref();
    assert_eq!(closed.number, 2);
    for replica in [&mut first, &mut second] {
        replica.wait_for(&closed.digest).await;
        assert_eq!(decided(&mut replica.decisions).await.caller_reasons, ["closed"]);
    }

    while_a_revision_cannot_be_loaded_nothing_is_decided(&mut first, &mut second, &closed.digest).await;
}

/// What another version of the program may have activated.
async fn while_a_revision_cannot_be_loaded_nothing_is_decided(first: &mut Replica, second: &mut Replica, closed: &str) {
    let location = StorageLocation::Postgres {
        url_file: first.setup.path("url"),
        ca_file: None,
    };
    let store = picket_storage::open(&location, Arc::new(|_| ())).await.unwrap();
    let choice = ActivationSource::New {
        digest: "ffff".to_owned(),
        files: vec![RevisionFile {
            name: "a.cedar".to_owned(),
            text: "secret text that is no policy".to_owned(),
        }],
    };
    let order = ActivationRequest {
        caller: OPERATOR.to_owned(),
        comment: String::new(),
        at_us: 1,
        expected_active: None,
    };
    store.activate(choice, order.clone()).await.unwrap();
    for replica in [&mut *first, &mut *second] {
        replica.wait_until_ready_says("503", "revision 3 is active and cannot be loaded\"");
        let (_, body) = replica.service.get("/readyz");
        assert!(!body.contains("secret"), "{body}");
        let (_, page) = replica.service.get("/metrics");
        for sample in [
            "picket_policy_service_policy_loads_total{result=\"failed\"} 1",
            "picket_policy_service_policy_revision_number 2",
        ] {
            assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
        }
        assert_eq!(replica.refuses_to_decide().await, Code::Unavailable);
    }
    // Policies that are good, and not what their digest says.
    let files = with("other.cedar", "@id(\"other\") permit (principal, action, resource);");
    let file = |file: v1::PolicyFile| RevisionFile {
        name: file.name,
        text: file.text,
    };
    let forged = ActivationSource::New {
        digest: closed.to_owned(),
        files: files.into_iter().map(file).collect(),
    };
    store.activate(forged, order).await.unwrap();
    for replica in [&mut *first, &mut *second] {
        replica.wait_until_ready_says("503", "revision 4 is active, and it is not what was activated");
        assert_eq!(replica.refuses_to_decide().await, Code::Unavailable);
    }
    let altered = second.admin().await.roll_back(roll_back(4)).await.unwrap().into_inner();
    assert_eq!(altered.outcome(), ActivationOutcome::Refused);
    assert!(altered.mistakes[0].message.contains("another digest"), "{altered:?}");
    // One that starts now decides nothing either, and takes the order of another revision.
    let third = Replica::start(&std::fs::read_to_string(first.setup.path("url")).unwrap()).await;
    third.wait_until_ready_says("503", "revision 4 is active, and it is not what was activated");
    let back = third.admin().await.roll_back(roll_back(1)).await.unwrap().into_inner();
    assert_eq!(back.outcome(), ActivationOutcome::Activated);
    for replica in [first, second, &mut { third }] {
        replica.wait_for(&back.digest).await;
        replica.wait_until_ready_says("200", r#""policies":"ok""#);
    }
}
