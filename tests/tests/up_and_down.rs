//! `make up` and `make down`: what is started outlives the command, and what is ended is exactly that.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use picket_tests::envoy;
use picket_tests::exchange::RequestSpec;
use picket_tests::keys::Keys;
use picket_tests::running::Running;
use picket_tests::session::{Entrances, Session};

fn demo(command: &str, folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_picket-demo"))
        .arg(command)
        .env("PICKET_RUN_DIR", folder)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains(words), "{text}");
}

#[tokio::test]
async fn what_up_started_serves_until_down() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("run");
    assert_says(&demo("down", &folder), "Nothing was running");
    let up = demo("up", &folder);
    // Whatever fails below, nothing may be left running.
    let checked = async {
        assert_says(&up, "curl -i http://127.0.0.1:");
        let running: Running = serde_json::from_str(&fs::read_to_string(folder.join("stack.json"))?)?;
        assert_says(&demo("up", &folder), "running already");
        let entrances = Entrances {
            outbound: running.addresses.outbound,
            inbound: running.addresses.inbound,
        };
        let mut session = Session::new(&Keys::of(&running.files.pki), entrances);
        let mut answers = Vec::new();
        for token in &running.tokens {
            let (answer, _) = session.send_with(&RequestSpec::default(), Some(&token.token)).await?;
            answers.push((token.name.clone(), answer.reason().unwrap_or_default()));
        }
        anyhow::Ok((running, answers))
    };
    let checked = checked.await;
    let down = demo("down", &folder);
    let (running, answers) = checked.unwrap();
    let expected = [
        ("alice", "policy_permit"),
        ("bob", "policy_permit"),
        ("expired", "token_expired"),
    ];
    assert_eq!(
        answers,
        expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()))
    );
    for process in &running.processes {
        assert_says(&down, &format!("Ended {} (process {})", process.name, process.pid));
    }
    for address in [
        running.addresses.outbound_admin,
        running.addresses.inbound_admin,
        running.addresses.upstream,
    ] {
        assert!(envoy::get(address, "/").await.is_err(), "{address} still answers");
    }
    assert!(!folder.exists());
    assert_says(&demo("down", &folder), "Nothing was running");
}
