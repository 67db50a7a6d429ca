//! A PgBouncer of the test's own, in front of a PostgreSQL of the test's own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::postgres::{Server, as_user, user};

const MISSING: &str = "PgBouncer is missing: apt-get install pgbouncer";
const DEADLINE: Duration = Duration::from_secs(30);

/// The pooler.
pub(crate) struct PgBouncer {
    _folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl PgBouncer {
    /// As operators set it up for programs that send parameters it does not know.
    pub(crate) fn start(server: &Server, pool_mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It refuses to be run by root, and its user must be able to read the file.
        let user = user(folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user=picket\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = {pool_mode}\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            server.port
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(Path::new);
        let program = program
            .into_iter()
            .find(|program| program.exists())
            .unwrap_or_else(|| panic!("{MISSING}"));
        let child = as_user(user.as_ref(), program)
            .arg("--quiet")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Self {
            _folder: folder,
            child,
            port,
        };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// The same database, through the pooler.
    pub(crate) fn url(&self, server: &Server, url: &str) -> String {
        let through = url.replace(&format!(":{}/", server.port), &format!(":{}/", self.port));
        assert_ne!(through, url);
        through
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
