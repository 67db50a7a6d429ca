//! Signals by which other programs reload their configuration. By default they end a process; here
//! they are only logged.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Logs these signals instead of ending. The standard library ignores SIGPIPE already.
pub(super) fn ignore() -> io::Result<()> {
    for (kind, name) in [
        (SignalKind::hangup(), "SIGHUP"),
        (SignalKind::user_defined1(), "SIGUSR1"),
        (SignalKind::user_defined2(), "SIGUSR2"),
    ] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!(
                    signal = name,
                    "a signal is ignored: the configuration, its certificates and a folder of policies are read at the start. \
                     Restart the service, or activate stored policies with `picket policy activate`"
                );
            }
        });
    }
    Ok(())
}
