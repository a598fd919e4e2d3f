//! The real binary as a process of its own, on a folder that outlives it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::app::{SHOP, store_at};

/// A running `harkara serve`; killed when dropped.
pub struct ServerProcess {
    pub child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
}

impl ServerProcess {
    /// Starts the binary on a data folder and waits until it says where it listens. `settings` are
    /// further `HARKARA_…` variables.
    pub fn start(folder: &Path, settings: &[(&str, String)]) -> Self {
        Self::start_logging(folder, settings, Stdio::inherit())
    }

    /// The same, with its log going elsewhere than to the test's own output.
    pub fn start_logging(folder: &Path, settings: &[(&str, String)], log: Stdio) -> Self {
        let store = store_at(folder).map(|url| ("HARKARA_STORE", url.expose().to_owned()));
        let settings: Vec<_> = store.into_iter().chain(settings.iter().cloned()).collect();
        Self::start_storing(folder, &settings, log)
    }

    /// The same with its store in its data folder unless the settings say otherwise, whatever the tests
    /// are run on.
    pub fn start_storing(folder: &Path, settings: &[(&str, String)], log: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harkara"));
        command
            .arg("serve")
            .env_clear()
            .env("HARKARA_LISTEN", "127.0.0.1:0")
            .env("HARKARA_DATA_DIR", folder.join("data"))
            .env("HARKARA_LOG__LEVEL", "warn")
            .env("HARKARA_DESTINATIONS__ALLOW_PRIVATE", "127.0.0.0/8")
            .env(
                "HARKARA_DESTINATIONS__STATIC_NAMES",
                format!("{SHOP}=127.0.0.1"),
            )
            .envs(settings.iter().map(|(name, value)| (*name, value.as_str())))
            .stderr(log)
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines
                .next()
                .expect("it says where it listens before it ends")
                .unwrap();
            if let Some(url) = line.trim().strip_prefix("listening") {
                break url.trim().trim_start_matches("http://").to_owned();
            }
        };
        // The rest of its output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// SIGKILL, and the end of it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another signal, by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The key that the first start left for its owner.
pub fn key_of(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join("data").join(file))
        .unwrap()
        .trim()
        .to_owned()
}
