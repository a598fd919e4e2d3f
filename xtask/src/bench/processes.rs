//! What takes part in a run, as processes of its own: the server, the sink, the harness.
//!
//! Each listens on a port that the system picks, says so on its first lines, and is ended when its
//! handle is dropped, so also when a run fails. Nothing else is ever signalled. `lab.rs` calls it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longer than a server takes to finish what is in flight.
const STOP: Duration = Duration::from_secs(45);

/// Gives a program as many open files as the machine allows before it starts: poisoned receivers hold
/// thousands of connections open.
const ALL_FILES: &str = r#"ulimit -S -n "$(ulimit -H -n)" && exec "$0" "$@""#;

fn with_all_files(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", ALL_FILES]).arg(program);
    command
}

/// The programs, each built.
pub(super) struct Binaries {
    /// As it is shipped.
    pub(super) server: PathBuf,
    pub(super) harness: PathBuf,
}

impl Binaries {
    /// Prepares a store in Postgres.
    pub(super) fn migrate(&self, url: &str) -> Result<()> {
        let status = Command::new(&self.server)
            .args(["migrate", "--store", url])
            .stdout(Stdio::null())
            .status();
        let status = status.context("failed to start the server's migration")?;
        ensure!(status.success(), "the migration failed ({status})");
        Ok(())
    }
}

/// A process that ends with its handle.
struct Process {
    child: Child,
    /// What it prints after it has said where it listens; closed when it has ended its output.
    printed: mpsc::Receiver<String>,
}

impl Process {
    /// Starts a program and waits for the address that it says it listens at.
    fn start(program: &str, command: &mut Command) -> Result<(Self, String)> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("failed to start {program}"))?;
        let output = child.stdout.take().expect("its output was asked for");
        let (printing, printed) = mpsc::channel();
        let process = Self { child, printed };
        let mut lines = BufReader::new(output).lines();
        let address = loop {
            let line = lines.next().with_context(|| {
                format!("{program} ended before it listened; its message is above")
            })??;
            if line.contains("listening")
                && let Some((_, address)) = line.split_once("http://")
            {
                break address.trim().to_owned();
            }
        };
        // The rest of its output must not fill the pipe.
        std::thread::spawn(move || {
            // Nobody has to listen.
            lines
                .map_while(Result::ok)
                .for_each(|line| drop(printing.send(line)));
        });
        Ok((process, address))
    }

    /// Asks it to end, and waits until it has.
    fn stop(&self) -> Result<()> {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-s", "TERM", &id]).status();
        ensure!(
            asked.context("failed to start kill")?.success(),
            "failed to signal process {id}"
        );
        loop {
            match self.printed.recv_timeout(STOP) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("process {id} has not ended {STOP:?} after it was asked to")
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The receiver of a run.
pub(super) struct Sink {
    /// `127.0.0.1:port`.
    pub(super) address: String,
    _process: Process,
}

impl Sink {
    /// A sink that also speaks TLS if it may leave its CA in a folder.
    pub(super) fn start(binaries: &Binaries, tls_folder: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(&binaries.harness);
        command.args(["sink", "--addr", "127.0.0.1:0"]);
        if let Some(folder) = tls_folder {
            command.arg("--tls-dir").arg(folder);
        }
        let (process, address) = Process::start("the sink", &mut command)?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Receivers that do their worst; the address is where to ask for theirs.
    pub(super) fn poison(binaries: &Binaries) -> Result<Self> {
        let mut command = with_all_files(&binaries.harness);
        command.args(["poison", "--addr", "127.0.0.1:0"]);
        let (process, address) = Process::start("the poison", &mut command)?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Lets the sink count afresh, whatever comes.
    pub(super) fn reset(&self) -> Result<()> {
        self.ask("POST /reset?run=").map(drop)
    }

    /// When the first delivery came, in microseconds since 1970.
    pub(super) fn first_arrival_us(&self) -> Result<Option<u64>> {
        let stats: Value = serde_json::from_str(&self.ask("GET /stats")?)?;
        Ok(stats["first_arrival_us"].as_u64())
    }

    fn ask(&self, what: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).context("failed to reach the sink")?;
        let end = "HTTP/1.1\r\nHost: sink\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        write!(stream, "{what} {end}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        ensure!(head.contains(" 200 "), "the sink answered {head}");
        Ok(body.to_owned())
    }
}

/// The server of a run, on a data folder of its own.
pub(super) struct Server {
    /// `127.0.0.1:port`.
    pub(super) address: String,
    pub(super) data: PathBuf,
    process: Process,
}

impl Server {
    /// A sandbox that may deliver to this machine. `settings` are further ones, by the part of their
    /// variables after `HARKARA_`.
    pub(super) fn start(
        binaries: &Binaries,
        folder: &Path,
        settings: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let data = folder.join("data");
        let mut command = with_all_files(&binaries.server);
        command
            .arg("serve")
            .env_clear()
            .env("HARKARA_LISTEN", "127.0.0.1:0")
            .env("HARKARA_DATA_DIR", &data)
            .env("HARKARA_LOG__LEVEL", "warn")
            .env("HARKARA_DESTINATIONS__ALLOW_HTTP", "true")
            .env("HARKARA_DESTINATIONS__ALLOW_PRIVATE", "127.0.0.0/8")
            // All receivers are at one address here, as they are nowhere else.
            .env("HARKARA_DELIVERY__PERMITS_PER_ADDRESS", "2000")
            .envs(
                settings
                    .iter()
                    .map(|(name, value)| (format!("HARKARA_{name}"), value)),
            );
        let (process, address) = Process::start("the server", &mut command)?;
        Ok(Self {
            address,
            data,
            process,
        })
    }

    /// The link by which an owner comes to the dashboard, which is printed while there is none.
    pub(super) fn owner_link(&self) -> Result<String> {
        loop {
            let line = self.process.printed.recv_timeout(STOP);
            let line = line.context("the server printed no link for an owner")?;
            if line.contains("/dashboard/welcome?") {
                return Ok(line.trim().to_owned());
            }
        }
    }

    /// The process's id.
    pub(super) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Stops it in good order, which closes its store, and gives the bytes of the store on disk.
    pub(super) fn stop(self) -> Result<u64> {
        self.process.stop()?;
        let files = fs::read_dir(&self.data).context("failed to look into the data folder")?;
        let mut bytes = 0;
        for file in files {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("harkara.db") {
                bytes += file.metadata()?.len();
            }
        }
        Ok(bytes)
    }
}

/// Runs the harness and reads what it measured.
pub(super) fn harness(binaries: &Binaries, arguments: Vec<&str>) -> Result<Value> {
    let mut command = Command::new(&binaries.harness);
    let output = command
        .args(&arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start webhook-bench")?;
    ensure!(
        output.status.success(),
        "webhook-bench {} ended with {}; its message is above",
        arguments.first().unwrap_or(&""),
        output.status
    );
    serde_json::from_slice(&output.stdout).context("failed to read what the harness measured")
}
