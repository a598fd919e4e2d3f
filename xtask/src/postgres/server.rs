//! One server: a folder of its own, a socket in it and no port, ended with its handle.
//!
//! So no two runs meet, and no server that holds anybody's data is ever touched. The commands of
//! `xtask` start it, and so do those tests of the product that kill it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How often and how many times a server that starts is looked at: for a minute.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const START_LOOKS: usize = 3_000;

/// A server that is there for as long as this is.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    user: Option<User>,
    running: Mutex<Option<Child>>,
}

/// Who runs it, when we are root: Postgres refuses to be.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

impl Postgres {
    /// Starts a server with the programs of a folder; `settings` are lines of its configuration.
    pub(crate) fn start(programs: PathBuf, settings: &str) -> Result<Self> {
        Self::start_with(programs, settings, &[])
    }

    /// The same with files in its data folder, by name, that it alone can read.
    pub(crate) fn start_with(
        programs: PathBuf,
        settings: &str,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let server = Self::new(programs)?;
        let arguments = "--auth=trust --username=harkara --no-locale --encoding=UTF8 --pgdata";
        server.run("initdb", arguments)?;
        server.configure(settings)?;
        for (name, text) in files {
            let path = server.data().join(name);
            fs::write(&path, text).with_context(|| format!("failed to write {name}"))?;
            let owner = server.user.map(|user| user.id);
            chown(&path, owner, None).with_context(|| format!("failed to give away {name}"))?;
            let private = Permissions::from_mode(0o600);
            fs::set_permissions(&path, private)
                .with_context(|| format!("failed to hide {name}"))?;
        }
        server.go_on()?;
        Ok(server)
    }

    /// A folder without a server in it yet.
    pub(crate) fn new(programs: PathBuf) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("harkara-postgres")
            .tempdir()
            .context("failed to make a folder for Postgres")?;
        let server = Self {
            programs,
            folder,
            user: user()?,
            running: Mutex::new(None),
        };
        if let Some(user) = server.user {
            chown(server.folder.path(), Some(user.id), Some(user.group))
                .context("failed to give Postgres its folder")?;
        }
        Ok(server)
    }

    /// Adds lines to its configuration, and where its socket is.
    pub(crate) fn configure(&self, settings: &str) -> Result<()> {
        let socket = self.socket().display();
        let lines = format!(
            "listen_addresses = ''\nunix_socket_directories = '{socket}'\nmax_connections = 300\n{settings}\n"
        );
        let file = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&file).context("failed to read postgresql.conf")?;
        fs::write(&file, before + &lines).context("failed to write postgresql.conf")
    }

    /// Starts the server where it is; again, after it was ended. Its processes of before may need a
    /// moment to notice that it was, and it refuses to start beside them.
    pub(crate) fn go_on(&self) -> Result<()> {
        let log = self.folder.path().join("log");
        for _ in 0..START_LOOKS {
            let has_ended = match self.lock().as_mut() {
                Some(child) => child
                    .try_wait()
                    .context("failed to look at Postgres")?
                    .is_some(),
                None => true,
            };
            if has_ended {
                let said = File::options().create(true).append(true).open(&log);
                let mut command = self.command("postgres", "-D");
                command.stderr(said.context("failed to open the log of Postgres")?);
                let child = command.spawn().context("failed to start Postgres")?;
                *self.lock() = Some(child);
            }
            pause(LOOK_EVERY);
            // It says in this file how far it is.
            let status = fs::read_to_string(self.data().join("postmaster.pid"));
            if status.is_ok_and(|text| self.is_of_child(&text) && text.contains("ready")) {
                return Ok(());
            }
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        bail!("Postgres is not ready after a minute; it said:\n{said}")
    }

    fn is_of_child(&self, status: &str) -> bool {
        let id = self.lock().as_ref().map(|child| child.id().to_string());
        id.as_deref() == status.lines().next()
    }

    /// Ends the server's first process with SIGKILL; the others notice, and end by themselves.
    pub(crate) fn kill(&self) -> Result<()> {
        let child = self.lock().take();
        let mut child = child.context("Postgres is not running")?;
        child.kill().context("failed to kill Postgres")?;
        child.wait().context("failed to wait for Postgres")?;
        Ok(())
    }

    /// Where its one database is.
    pub(crate) fn url(&self) -> String {
        let socket = self.socket().display();
        format!("postgres:///postgres?host={socket}&user=harkara")
    }

    /// The folder in which it has its socket.
    pub(crate) fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// The folder in which it has its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a program of the server's to its end; the last argument is followed by its data.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Result<()> {
        let status = self.command(program, arguments).status();
        let status = status.with_context(|| format!("failed to start {program}"))?;
        ensure!(status.success(), "{program} failed ({status})");
        Ok(())
    }

    /// A program of the server's, as its user; the last argument is its data.
    fn command(&self, program: &str, arguments: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(arguments.split_whitespace())
            .arg(self.data())
            // Not ours: its user may not enter it.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        command
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let id = self.lock().as_ref().map(|child| child.id().to_string());
        let Some(id) = id else {
            return;
        };
        // Nothing is kept, so nothing is flushed: SIGQUIT ends it at once, and tidily.
        let asked = Command::new("kill").args(["-s", "QUIT", &id]).status();
        let ended = match asked.is_ok_and(|status| status.success()) {
            true => self
                .lock()
                .take()
                .map(|mut child| child.wait().map(drop))
                .transpose()
                .is_ok(),
            false => self.kill().is_ok(),
        };
        if !ended {
            eprintln!("failed to end Postgres, process {id}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server is looked at again and again until it is ready"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// `None` unless we are root.
fn user() -> Result<Option<User>> {
    if is_root() {
        let users = fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
        let found = ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&users, name));
        return found.map(Some).context(
            "Postgres refuses to run as root, and there is neither a user postgres nor nobody",
        );
    }
    Ok(None)
}

fn find(users: &str, name: &str) -> Option<User> {
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User {
        id: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

pub(crate) fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout == b"0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:,,:/:/bin/sh\n";
        let found = find(users, "postgres").map(|user| (user.id, user.group));
        assert_eq!(found, Some((101, 104)));
        assert!(find(users, "nobody").is_none());
    }
}
