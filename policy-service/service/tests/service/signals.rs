//! Signals: two end the service in good order, and none of the others that a manager of services sends ends it.

use picket_proto::v1::Effect;

use crate::harness::{Setup, request};
use crate::sessions::client;

#[tokio::test]
async fn a_signal_that_asks_for_a_reload_is_logged_and_ends_nothing() {
    let setup = Setup::new();
    let mut service = setup.start();
    let mut decisions = client(&setup, &service).await;
    // SIGPIPE comes of a log whose reader has gone.
    service.signal("-PIPE");
    for (signal, name) in [
        ("-HUP", "SIGHUP"),
        ("-USR1", "SIGUSR1"),
        ("-USR2", "SIGUSR2"),
        ("-HUP", "SIGHUP"),
    ] {
        service.signal(signal);
        let line = service.line_that(|line| line["signal"] == name);
        assert_eq!(line["level"], "WARN", "{line}");
        assert!(
            line["message"].as_str().unwrap().starts_with("a signal is ignored"),
            "{line}"
        );
        let decided = decisions.decide(request(&["reader"], "GET", "orders-read", "")).await;
        assert_eq!(decided.unwrap().into_inner().effect(), Effect::Permit);
    }
    service.terminate();
    drop(decisions);
    // The client's connection must be free to close meanwhile.
    let ended = tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    assert!(ended.success());
}
