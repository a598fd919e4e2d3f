//! What the build and the tests need of the machine beyond the Rust toolchain.
//!
//! Each function makes sure of one thing: it looks for it, installs it where it may, and otherwise
//! says how to get it. The commands in `main.rs` call them before the work starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What is installed from npm and `PyPI`, with all that it pulls in: what judges our signatures and our
/// pages must not change under us.
const NPM_PACKAGES: [&str; 4] = [
    "axe-core@4.14.1",
    "standardwebhooks@1.1.1",
    "@stablelib/base64@1.0.1",
    "fast-sha256@1.3.0",
];
const PYPI_PACKAGES: [&str; 1] = ["standardwebhooks==1.1.0"];

/// Something that the system has or gets from its packages.
struct Need {
    name: &'static str,
    found: fn() -> bool,
    /// Debian's.
    packages: &'static [&'static str],
    /// What it is for, and how it is installed elsewhere.
    advice: &'static str,
}

const C_COMPILER: Need = Need {
    name: "a C compiler",
    found: || runs("cc", &["--version"]),
    packages: &["gcc", "libc6-dev"],
    advice: "`cc` does not run, and SQLite and the cryptography are compiled from C. Install one \
             and run the command again:\n  \
             Debian, Ubuntu:  sudo apt-get install gcc libc6-dev\n  \
             Fedora:          sudo dnf install gcc\n  \
             Alpine:          apk add gcc musl-dev\n  \
             macOS:           xcode-select --install",
};

const NODE: Need = Need {
    name: "Node",
    found: || runs("node", &["--version"]),
    packages: &["nodejs"],
    advice: "`node` does not run, and a library of its own judges our signatures. Install it and run \
             the command again:\n  \
             Debian, Ubuntu:  sudo apt-get install nodejs\n  \
             Fedora:          sudo dnf install nodejs\n  \
             Alpine:          apk add nodejs\n  \
             macOS:           brew install node",
};

/// Apart from Node, for some packages of Node bring it along and refuse Debian's.
const NPM: Need = Need {
    name: "npm",
    found: || runs("npm", &["--version"]),
    packages: &["npm"],
    advice: "`npm` does not run, and it fetches what judges our signatures and our pages. Install it \
             and run the command again:\n  \
             Debian, Ubuntu:  sudo apt-get install npm\n  \
             Fedora:          sudo dnf install npm\n  \
             Alpine:          apk add npm\n  \
             macOS:           brew install node",
};

const PYTHON: Need = Need {
    name: "Python with venv",
    found: || runs("python3", &["-c", "import ensurepip, venv"]),
    packages: &["python3", "python3-venv"],
    advice: "`python3` does not run or has no venv, and a library of its own judges our signatures. \
             Install both and run the command again:\n  \
             Debian, Ubuntu:  sudo apt-get install python3 python3-venv\n  \
             Fedora:          sudo dnf install python3\n  \
             Alpine:          apk add python3\n  \
             macOS:           xcode-select --install",
};

const CHROMIUM: Need = Need {
    name: "Chromium with its driver",
    found: || runs("chromium", &["--version"]) && runs("chromedriver", &["--version"]),
    // What is recommended besides is a desktop's; of fonts one is enough.
    packages: &["chromium", "chromium-driver", "fonts-dejavu-core"],
    advice: "`chromium` or `chromedriver` does not run, and the pages are tried in a real browser. \
             Install both and run the command again:\n  \
             Debian:          sudo apt-get install chromium chromium-driver\n  \
             Fedora:          sudo dnf install chromium chromedriver\n  \
             Alpine:          apk add chromium chromium-chromedriver\n  \
             macOS:           brew install --cask chromium chromedriver",
};

/// SQLite, the cryptography and the allocator are C code that cargo compiles.
pub(crate) fn c_compiler() -> Result<()> {
    C_COMPILER.ensure()
}

/// The pages are tried in a browser of its own.
pub(crate) fn browser() -> Result<()> {
    CHROMIUM.ensure()
}

/// Other people's libraries that judge our signatures and our pages, in a folder which is returned. They are
/// fetched once; after that no network is needed.
pub(crate) fn oracles() -> Result<PathBuf> {
    NODE.ensure()?;
    NPM.ensure()?;
    PYTHON.ensure()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracles");
    let pins = [&NPM_PACKAGES[..], &PYPI_PACKAGES[..]].concat().join(", ");
    // Written last, so that half an installation does not count.
    let marker = folder.join("installed");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == pins) {
        return Ok(folder);
    }
    eprintln!("installing {pins} into target/oracles");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("failed to remove target/oracles")?;
    }
    fs::create_dir_all(&folder).context("failed to create target/oracles")?;
    if !install_oracles(&folder) {
        bail!(
            "failed to install {pins}: npm or pip said why above; check that their registries can \
             be reached and run the command again"
        );
    }
    fs::write(&marker, pins).context("failed to write to target/oracles")?;
    Ok(folder)
}

fn install_oracles(folder: &Path) -> bool {
    let (npm, pypi) = (folder.join("npm"), folder.join("pypi"));
    let mut modules = Command::new("npm");
    modules
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
        .arg("--prefix")
        .arg(&npm)
        .args(NPM_PACKAGES);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&pypi);
    let mut packages = Command::new(pypi.join("bin/python3"));
    packages
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .arg("--disable-pip-version-check")
        .args(PYPI_PACKAGES);
    succeeds(&mut modules) && succeeds(&mut venv) && succeeds(&mut packages)
}

impl Need {
    fn ensure(&self) -> Result<()> {
        let (name, found) = (self.name, self.found);
        if found() {
            return Ok(());
        }
        if install(name, self.packages) && found() {
            return Ok(());
        }
        bail!("failed to find {name}: {}", self.advice)
    }
}

/// Installs Debian's packages where nobody need be asked: as root on Debian and its kin.
pub(crate) fn install(name: &str, packages: &[&str]) -> bool {
    if !crate::postgres::is_root() || !Path::new("/etc/debian_version").exists() {
        return false;
    }
    let shown = packages.join(" ");
    eprintln!("{name} is missing; installing {shown} with apt-get");
    let install = [&["install", "--yes", "--no-install-recommends"], packages];
    apt_get(&["update"]) && apt_get(&install.concat())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    succeeds(quiet.args(arguments))
}

fn apt_get(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    // Nobody is there to answer what a package may ask.
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    succeeds(&mut command)
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
