//! Three replicas on one PostgreSQL: a revocation reaches the others, and whatever was acknowledged is there when one is killed in
//! the middle of writes and another is cut from the database.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_model::session::EndReason;
use picket_proto::v1;
use picket_proto::v1::admin_client::AdminClient;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_state::StorageLocation;
use picket_state::{NamedBy, SessionId};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::{CALLERS, OPERATOR};
use crate::harness::{Service, Setup};
use crate::pgbouncer::PgBouncer;
use crate::postgres::Server;
use crate::sessions::{asked, client, reasons};

const DEADLINE: Duration = Duration::from_secs(60);
/// Decisions from memory end so long after the last word from the database; with room for a slow machine.
const CUT_OFF_MAX: Duration = Duration::from_secs(15);

fn setup(url: &str) -> Setup {
    let setup = Setup::with(&format!(
        "{CALLERS}[sessions]\nclock_skew_s = 0\n[storage]\npostgres_url_file = \"url\"\n"
    ));
    std::fs::write(setup.path("url"), url).unwrap();
    setup
}

struct Replica {
    setup: Setup,
    service: Service,
    decisions: PolicyDecisionClient<Channel>,
}

impl Replica {
    async fn start(url: &str) -> Self {
        let setup = setup(url);
        let service = setup.start();
        let decisions = client(&setup, &service).await;
        Self {
            setup,
            service,
            decisions,
        }
    }

    async fn admin(&self) -> AdminClient<Channel> {
        let operator = self.setup.authority.identity(OPERATOR);
        let config = self.setup.authority.client(Some(&operator), &TLS13);
        AdminClient::new(self.setup.channel(&self.service, config).await.unwrap())
    }

    /// Asks until the session is refused, and returns how long that took.
    async fn wait_until_refused(&mut self, sid: &str) -> Duration {
        let begin = Instant::now();
        loop {
            let reasons = reasons(&mut self.decisions, asked(sid)).await;
            if !reasons.is_empty() {
                assert_eq!(reasons, ["session_revoked"]);
                return begin.elapsed();
            }
            assert!(begin.elapsed() < DEADLINE, "a revocation does not arrive");
        }
    }
}

fn id(sid: &str) -> SessionId {
    SessionId::of("https://issuer.example", NamedBy::SessionId, sid)
}

/// A wire to the database that can be cut.
struct Wire {
    port: u16,
    is_cut: watch::Sender<bool>,
    /// Whether it keeps notifications back, as a connection pooler in transaction mode does.
    is_deaf: watch::Sender<bool>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (is_cut, cut) = watch::channel(false);
        let (is_deaf, deaf) = watch::channel(false);
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            is_cut,
            is_deaf,
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = SocketAddr::from(([127, 0, 0, 1], port));
                tokio::spawn(carry(near, far, cut.clone(), deaf.clone()));
            }
        });
        wire
    }

    /// The database over the wire.
    fn url(&self, server: &Server, url: &str) -> String {
        url.replace(&format!(":{}/", server.port), &format!(":{}/", self.port))
    }
}

/// Carries bytes until the wire is cut; then it is silent, as a network is, and neither end is told.
async fn carry(near: TcpStream, far: SocketAddr, mut cut: watch::Receiver<bool>, deaf: watch::Receiver<bool>) {
    if *cut.borrow() {
        let _mended = cut.wait_for(|cut| !cut).await;
        return;
    }
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = TcpStream::connect(far).await.unwrap().into_split();
    tokio::select! {
        _ended = tokio::io::copy(&mut near_in, &mut far_out) => {}
        _ended = carry_messages(&mut far_in, &mut near_out, deaf) => {}
        _cut = cut.wait_for(|cut| *cut) => {}
    }
    let _mended = cut.wait_for(|cut| !cut).await;
}

/// Carries what the server sends: a byte for the kind, and the length of what follows, itself included (PostgreSQL 15, §55.7).
async fn carry_messages(
    server: &mut (impl AsyncReadExt + Unpin),
    client: &mut (impl AsyncWriteExt + Unpin),
    deaf: watch::Receiver<bool>,
) -> std::io::Result<()> {
    const NOTIFICATION_RESPONSE: u8 = b'A';
    loop {
        let mut message = vec![server.read_u8().await?];
        let length = server.read_u32().await?;
        message.extend(length.to_be_bytes());
        message.resize(1 + usize::try_from(length).unwrap(), 0);
        server.read_exact(&mut message[5..]).await?;
        if message[0] != NOTIFICATION_RESPONSE || !*deaf.borrow() {
            client.write_all(&message).await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_and_a_revocation_reaches_every_replica() {
    let server = Server::start();
    let url = server.database().await;
    let wire = Wire::to(server.port).await;
    let cut_url = wire.url(&server, &url);
    let mut first = Replica::start(&url).await;
    let mut second = Replica::start(&url).await;
    let mut third = Replica::start(&cut_url).await;

    // A revocation on one reaches the others, which have the session in memory.
    for sid in ["one", "all"] {
        for replica in [&mut first, &mut second, &mut third] {
            assert!(reasons(&mut replica.decisions, asked(sid)).await.is_empty());
        }
    }
    let mut admin = first.admin().await;
    let request = v1::RevokeSessionRequest {
        id: id("one").to_string(),
    };
    assert!(admin.revoke_session(request).await.unwrap().into_inner().changed);
    assert_eq!(reasons(&mut first.decisions, asked("one")).await, ["session_revoked"]);
    for replica in [&mut second, &mut third] {
        let took = replica.wait_until_refused("one").await;
        println!("a revocation arrived after {took:?}");
        assert!(reasons(&mut replica.decisions, asked("all")).await.is_empty());
    }

    what_a_killed_replica_acknowledged_is_there(&mut first, &mut second).await;

    // One is cut from the database, and does not learn of a revocation.
    wire.is_cut.send_replace(true);
    let begin = Instant::now();
    let mut admin = first.admin().await;
    let request = v1::RevokePrincipalRequest {
        issuer: "https://issuer.example".to_owned(),
        subject: "a-private-subject".to_owned(),
    };
    assert!(admin.revoke_principal(request).await.unwrap().into_inner().changed);
    assert_eq!(reasons(&mut first.decisions, asked("all")).await, ["session_revoked"]);
    // It goes on from memory for a moment, and then gives no decision at all.
    let refused = loop {
        match third.decisions.decide(asked("all")).await {
            Ok(_) => assert!(begin.elapsed() < CUT_OFF_MAX, "a replica that is cut off goes on"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    println!("a replica that was cut off stopped after {:?}", begin.elapsed());
    let (head, body) = third.service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head} {body}");
    let refused = third
        .admin()
        .await
        .revoke_everything(v1::RevokeEverythingRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    // When it is connected again it knows.
    wire.is_cut.send_replace(false);
    let begin = Instant::now();
    let answered = loop {
        match third.decisions.decide(asked("all")).await {
            Ok(decision) => break decision.into_inner(),
            Err(status) => assert!(begin.elapsed() < DEADLINE, "{status:?}"),
        }
    };
    assert_eq!(answered.caller_reasons, ["session_revoked"]);
}

/// It writes and reads as ever, so nothing but what it hears tells it apart from one that works.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hears_no_notifications_gives_no_decision_and_does_not_start() {
    let server = Server::start();
    let url = server.database().await;
    let wire = Wire::to(server.port).await;
    let first = Replica::start(&url).await;
    let mut deaf = Replica::start(&wire.url(&server, &url)).await;
    assert!(reasons(&mut deaf.decisions, asked("one")).await.is_empty());
    wire.is_deaf.send_replace(true);
    let begin = Instant::now();
    let request = v1::RevokeSessionRequest {
        id: id("one").to_string(),
    };
    assert!(
        first
            .admin()
            .await
            .revoke_session(request)
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    let refused = loop {
        match deaf.decisions.decide(asked("one")).await {
            Ok(_) => assert!(begin.elapsed() < CUT_OFF_MAX, "a replica that hears nothing goes on"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    println!("a replica that hears nothing stopped after {:?}", begin.elapsed());
    let (head, body) = deaf.service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(
        body.contains(r#""storage":"notifications_lost""#) || body.contains(r#""storage":"unreachable""#),
        "{body}"
    );
    let line = deaf.service.line_that(|line| line["reason"] == "notifications_lost");
    assert!(
        line["error"].as_str().unwrap().contains("pool_mode = session"),
        "{line}"
    );

    // Another one does not start there.
    does_not_start(&wire.url(&server, &url));

    wire.is_deaf.send_replace(false);
    let begin = Instant::now();
    let answered = loop {
        match deaf.decisions.decide(asked("one")).await {
            Ok(decision) => break decision.into_inner(),
            Err(status) => assert!(begin.elapsed() < DEADLINE, "{status:?}"),
        }
    };
    assert_eq!(answered.caller_reasons, ["session_revoked"]);
}

fn does_not_start(url: &str) {
    let (status, said) = setup(url).start_in_vain();
    assert!(!status.success());
    assert!(said.contains("notifications of the database do not arrive"), "{said}");
}

/// What needs PgBouncer. `make test-storage` runs this.
mod installed {
    use super::{PgBouncer, Replica, Server, does_not_start};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_replica_behind_a_pooler_in_transaction_mode_does_not_start() {
        let server = Server::start();
        let url = server.database().await;
        let _direct = Replica::start(&url).await;
        does_not_start(&PgBouncer::start(&server, "transaction").url(&server, &url));
    }
}

/// One is killed in the middle of writes.
async fn what_a_killed_replica_acknowledged_is_there(first: &mut Replica, second: &mut Replica) {
    let acknowledged = kill_in_the_middle_of_writes(second).await;
    let storage = StorageLocation::Postgres {
        url_file: first.setup.path("url"),
        ca_file: None,
    };
    let store = picket_storage::open(&storage, Arc::new(|_| ())).await.unwrap();
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    for (sid, was_revoked) in &acknowledged {
        let session = store.session(id(sid)).await.unwrap().unwrap();
        let reason = session.ended.map(|ended| ended.reason);
        assert_eq!(reason == Some(EndReason::Revoked), *was_revoked, "{sid}");
        let expected: &[&str] = if *was_revoked { &["session_revoked"] } else { &[] };
        assert_eq!(reasons(&mut first.decisions, asked(sid)).await, expected, "{sid}");
    }
}

/// The sessions whose creation was acknowledged, and whether their revocation was too. One in two is revoked; the last one that was
/// asked for is in neither state, as its answer did not come.
async fn kill_in_the_middle_of_writes(replica: &mut Replica) -> Vec<(String, bool)> {
    let mut acknowledged = Vec::new();
    let mut admin = replica.admin().await;
    for number in 0.. {
        if number == 40 {
            // The calls that follow are under way when it is gone.
            replica.service.kill_soon();
        }
        let sid = format!("killed-{number}");
        let Ok(created) = replica.decisions.decide(asked(&sid)).await else {
            return acknowledged;
        };
        assert!(created.into_inner().caller_reasons.is_empty());
        if number % 2 == 0 {
            acknowledged.push((sid, false));
            continue;
        }
        let request = v1::RevokeSessionRequest {
            id: id(&sid).to_string(),
        };
        if admin.revoke_session(request).await.is_err() {
            return acknowledged;
        }
        acknowledged.push((sid, true));
    }
    acknowledged
}
