//! What the build and the tests need of the machine beyond the Rust toolchain.
//!
//! Each function makes sure of one thing: it looks for it, installs it where it may, and otherwise
//! says how to get it. The commands in `main.rs` call them before the work starts.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// SQLite, the cryptography and the allocator are C code that cargo compiles.
pub(crate) fn c_compiler() -> Result<()> {
    if runs("cc", &["--version"]) {
        return Ok(());
    }
    if may_install() {
        eprintln!("there is no C compiler; installing gcc and libc6-dev with apt-get");
        let installed = succeeds("apt-get", &["update"])
            && succeeds("apt-get", &["install", "--yes", "gcc", "libc6-dev"]);
        if installed && runs("cc", &["--version"]) {
            return Ok(());
        }
    }
    bail!(
        "failed to find a C compiler: `cc` does not run, and SQLite and the cryptography are \
         compiled from C. Install one and run the command again:\n  \
         Debian, Ubuntu:  sudo apt-get install gcc libc6-dev\n  \
         Fedora:          sudo dnf install gcc\n  \
         Alpine:          apk add gcc musl-dev\n  \
         macOS:           xcode-select --install"
    )
}

/// Installing asks nobody only where nobody need be asked: as root on Debian and its kin.
fn may_install() -> bool {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout == b"0\n");
    root && Path::new("/etc/debian_version").exists()
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}
