//! A PostgreSQL server of the test's own: in a temporary folder, on a socket in it and a loopback port, gone with the test.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MISSING: &str = "PostgreSQL is missing: apt-get install postgresql";
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
        let binaries = binaries();
        let folder = tempfile::tempdir().unwrap();
        let user = user(folder.path());
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
        let server = Self {
            folder,
            child,
            port,
            databases: AtomicU32::new(0),
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + DEADLINE;
        let log = self.folder.path().join("log");
        // The log says it; asking it to connect before would only fill the log.
        while !fs::read_to_string(&log)
            .unwrap()
            .contains("database system is ready to accept connections")
        {
            let said = fs::read_to_string(&log).unwrap();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {said}");
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

/// PostgreSQL refuses to be run by root, so root runs it as the user of Debian's package.
pub(crate) fn user(folder: &Path) -> Option<User> {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .unwrap_or_else(|| panic!("there is no user `postgres`, and root may not run PostgreSQL: {MISSING}"));
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

/// Debian puts them where no `PATH` leads.
fn binaries() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.flatten().map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = debian.chain(std::env::split_paths(&path)).collect();
    let found = folders.into_iter().find(|folder| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| is_there(&folder.join(name)).unwrap_or(false))
    });
    found.unwrap_or_else(|| panic!("{MISSING}"))
}

fn is_there(file: &Path) -> io::Result<bool> {
    Ok(file.metadata()?.is_file())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
