//! A PostgreSQL server of the test's own: in a temporary folder, on a socket in it and a loopback
//! port, gone with the test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MISSING: &str = "PostgreSQL is missing: make tools";
/// Every Linux has this user, and nothing on it is theirs.
const UNPRIVILEGED: &str = "nobody";
const DEADLINE: Duration = Duration::from_secs(60);

/// The server.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    child: Child,
    pub(crate) port: u16,
    databases: AtomicU32,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// With more files beside its data, and more settings.
    pub(crate) fn start_with(files: &[(&str, &str)], settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = user(folder.path());
        let binaries = binaries(user.as_ref(), folder.path());
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        // Its socket lies in it, so others must be able to pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(user) = &user {
                chown(&file, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        let data = folder.path().join("data");
        let init = as_user(user.as_ref(), &binaries.join("initdb"))
            .args([
                "--auth=trust",
                "--username=picket",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(init.status.success(), "initdb: {}", text(&init));
        // Another process may take the port in between; then the server says so and the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = as_user(user.as_ref(), &binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "fsync=off",
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=100",
            ])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .arg(format!("--port={port}"))
            .arg(format!("--unix_socket_directories={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self {
            folder,
            child,
            port,
            databases: AtomicU32::new(0),
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let log = self.folder.path().join("log");
        // The log says it; asking it to connect before would only fill the log.
        while !fs::read_to_string(&log)
            .unwrap()
            .contains("database system is ready to accept connections")
        {
            let said = fs::read_to_string(&log).unwrap();
            let has_ended = self.child.try_wait().unwrap().is_some();
            assert!(
                !has_ended && Instant::now() < deadline,
                "PostgreSQL does not start: {said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The connection string of a database without tables.
    pub(crate) async fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://picket@127.0.0.1:{}/{database}", self.port)
    }

    /// Does something that the program under test does not do.
    pub(crate) async fn execute(&self, database: &str, sql: &str) {
        execute(&self.url(database), sql).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT ends it at once, with all of its own processes.
        let pid = self.child.id().to_string();
        let _ended = Command::new("kill").args(["-QUIT", &pid]).status();
        let _status = self.child.wait();
    }
}

pub(crate) async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
}

pub(crate) struct User {
    uid: u32,
    gid: u32,
}

/// PostgreSQL and PgBouncer refuse to be run by root, so root runs them as a user without
/// privileges.
pub(crate) fn user(folder: &Path) -> Option<User> {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let prefix = format!("{UNPRIVILEGED}:");
    let line = passwd
        .lines()
        .find(|line| line.starts_with(&prefix))
        .unwrap_or_else(|| panic!("there is no user `{UNPRIVILEGED}`, and root may not run PostgreSQL"));
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some(User {
        uid: fields.next().unwrap(),
        gid: fields.next().unwrap(),
    })
}

pub(crate) fn as_user(user: Option<&User>, program: &Path) -> Command {
    match user {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .args(["--clear-groups", "--"])
                .arg(program)
                .current_dir("/");
            command
        }
        None => Command::new(program),
    }
}

/// The folder of the executables: of the installation at `PICKET_POSTGRESQL`, else of what `make
/// tools` fetched.
fn binaries(user: Option<&User>, folder: &Path) -> PathBuf {
    let installation = match std::env::var_os("PICKET_POSTGRESQL") {
        Some(installation) => PathBuf::from(installation),
        None => fetched(user, folder),
    };
    let binaries = installation.join("bin");
    for name in ["initdb", "postgres"] {
        let program = binaries.join(name);
        assert!(program.is_file(), "{MISSING} (there is no `{}`)", program.display());
    }
    binaries
}

/// What was fetched, or a copy of it where another user could not reach it: a clone may lie in
/// root's own folder.
fn fetched(user: Option<&User>, folder: &Path) -> PathBuf {
    let installation = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|ancestor| ancestor.join(".tools/postgresql"))
        .find_map(|link| link.canonicalize().ok())
        .unwrap_or_else(|| panic!("{MISSING}"));
    let is_open = |folder: &Path| fs::metadata(folder).unwrap().mode() & 0o001 != 0;
    if user.is_none() || installation.ancestors().all(is_open) {
        return installation;
    }
    // The libraries lie beside the installation, in the package's folder.
    let package = installation.ancestors().nth(2).unwrap();
    let copy = folder.join("package");
    let copied = Command::new("cp").arg("-r").arg(package).arg(&copy).output().unwrap();
    assert!(copied.status.success(), "cp: {}", text(&copied));
    copy.join(installation.strip_prefix(package).unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
