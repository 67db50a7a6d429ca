//! Signals that make other programs read their configuration anew. By default they end a process; here they do nothing but say so.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Logs these signals from now on. The standard library ignores SIGPIPE already.
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
