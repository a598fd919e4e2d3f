//! The runs behind the figures: each with a fresh server, folder and sink, and taken once however
//! many figures ask for it.
//!
//! How much is measured follows from the machine, so that a server that reaches what it must takes a
//! few seconds per run everywhere. What is done is asked of the harness; `figures.rs` calls this and
//! judges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::figures::number;
use super::processes::{Server, Sink, harness};

/// A run is taken this often, and the one in the middle is kept.
const TIMES: usize = 3;

/// How long a run of a server that reaches what it must lasts.
const RUN_SECONDS: f64 = 5.0;

/// The share of `limit` that P1 and P2 must reach; the sizes of runs follow from them.
const P1_MUST: f64 = 0.11;
const P2_MUST: f64 = 0.06;

/// The name by which the server knows the sink, as in its certificate.
const SINK_NAME: &str = "sink.bench.example";

/// Where the binaries are, and what has been measured.
pub(super) struct Lab {
    binaries: PathBuf,
    smaller: u64,
    runs: RefCell<BTreeMap<&'static str, Value>>,
}

/// How one run is set up: options of `webhook-bench load` beside those that all have.
struct Setup<'a> {
    name: &'static str,
    scheme: &'static str,
    options: &'a [&'a str],
}

impl Lab {
    /// A lab with release binaries that have been built. `smaller` divides how much is measured.
    pub(super) fn new(smaller: u64) -> Result<Self> {
        // This program was built into the same target folder, `debug` beside `release`.
        let this = std::env::current_exe().context("failed to find this program's own file")?;
        let target = this.ancestors().nth(2);
        let binaries = target
            .context("this program lies outside a target folder")?
            .join("release");
        Ok(Self {
            binaries,
            smaller,
            runs: RefCell::default(),
        })
    }

    /// All runs so far, as the harness reported them.
    pub(super) fn runs(&self) -> Value {
        let runs = self.runs.borrow();
        let runs = runs
            .iter()
            .map(|(name, run)| ((*name).to_owned(), run.clone()));
        Value::Object(runs.collect::<Map<_, _>>())
    }

    /// What the machine can do without a server.
    pub(super) fn limit_per_second(&self) -> Result<f64> {
        let run = self.once("limit", || {
            middle("requests_per_s", || {
                let sink = Sink::start(&self.binaries, None)?;
                let url = format!("http://{}/hook", sink.address);
                let count = (200_000 / self.smaller).to_string();
                let sizes = [
                    "--concurrency",
                    "64",
                    "--count",
                    &count,
                    "--body-size",
                    "2048",
                ];
                harness(
                    &self.binaries,
                    [&["limit", "--url", &url][..], &sizes].concat(),
                )
            })
        })?;
        number(&run, "/requests_per_s")
    }

    /// P1: events of a foreign ledger to one endpoint, as fast as 64 publishers can.
    pub(super) fn one_endpoint(&self) -> Result<Value> {
        let count = self.calls(P1_MUST)?;
        self.load(&Setup {
            name: "one_endpoint",
            scheme: "http",
            options: &["--adapter", "events", "--count", &count],
        })
    }

    /// P2: payments of orders that exist, each of which causes three events.
    pub(super) fn orders(&self) -> Result<Value> {
        let count = self.calls(P2_MUST / 3.0)?;
        self.load(&Setup {
            name: "orders",
            scheme: "http",
            options: &["--adapter", "orders", "--count", &count],
        })
    }

    /// P3: P1 with TLS to the receiver.
    pub(super) fn https(&self) -> Result<Value> {
        let count = self.calls(P1_MUST)?;
        self.load(&Setup {
            name: "https",
            scheme: "https",
            options: &["--adapter", "events", "--count", &count],
        })
    }

    /// P6 and P7: 200 events a second, whatever the server does.
    pub(super) fn open_loop(&self) -> Result<Value> {
        let count = (4000 / self.smaller).max(200).to_string();
        self.load(&Setup {
            name: "open_loop",
            scheme: "http",
            options: &["--adapter", "events", "--count", &count, "--rate", "200"],
        })
    }

    /// P11: deliveries that waited for a paused endpoint, from its resumption.
    pub(super) fn drain(&self) -> Result<Value> {
        let count = self.calls(0.6 * P1_MUST)?;
        self.load(&Setup {
            name: "drain",
            scheme: "http",
            options: &["--adapter", "events", "--count", &count, "--while-paused"],
        })
    }

    /// P13: P1 with ten endpoints that hear of every event.
    pub(super) fn fan_out(&self) -> Result<Value> {
        let count = self.calls(1.2 * P1_MUST / 10.0)?;
        self.load(&Setup {
            name: "fan_out",
            scheme: "http",
            options: &[
                "--adapter",
                "events",
                "--count",
                &count,
                "--endpoints",
                "10",
            ],
        })
    }

    /// How many calls last for `RUN_SECONDS` at this share of `limit`.
    fn calls(&self, share: f64) -> Result<String> {
        let calls = self.limit_per_second()? * share * RUN_SECONDS;
        Ok((calls as u64 / self.smaller)
            .clamp(100, 100_000)
            .to_string())
    }

    fn load(&self, setup: &Setup<'_>) -> Result<Value> {
        self.once(setup.name, || {
            middle("delivered_per_s", || self.load_once(setup))
        })
    }

    fn load_once(&self, setup: &Setup<'_>) -> Result<Value> {
        let folder = tempfile::tempdir().context("failed to make a folder for the run")?;
        let sink = Sink::start(&self.binaries, Some(folder.path()))?;
        let (name, ca_file) = (
            format!("{SINK_NAME}=127.0.0.1"),
            folder.path().join("ca.pem"),
        );
        let server = Server::start(
            &self.binaries,
            folder.path(),
            &[
                ("DESTINATIONS__STATIC_NAMES", OsStr::new(&name)),
                ("DESTINATIONS__CA_FILE", ca_file.as_os_str()),
                ("DELIVERY__PERMITS_PER_ENDPOINT", OsStr::new("64")),
            ],
        )?;
        let port = sink
            .address
            .rsplit(':')
            .next()
            .context("an address without a port")?;
        let endpoint_url = format!("{}://{SINK_NAME}:{port}/hook", setup.scheme);
        let sink_url = format!("http://{}", sink.address);
        let server_url = format!("http://{}", server.address);
        let (data, pid) = (
            server.data.to_string_lossy(),
            format!("server={}", server.id()),
        );
        let common = [
            "load",
            "--server",
            &server_url,
            "--data-dir",
            &data,
            "--pid",
            &pid,
            "--sink-url",
            &sink_url,
            "--endpoint-url",
            &endpoint_url,
            "--body-size",
            "2048",
            "--timeout-s",
            "15",
        ];
        let mut run = harness(&self.binaries, [&common[..], setup.options].concat())?;
        let refused = number(&run, "/refused")?;
        ensure!(refused == 0.0, "the server refused {refused} calls");
        run["store_bytes"] = server.stop()?.into();
        Ok(run)
    }

    fn once(&self, name: &'static str, take: impl FnOnce() -> Result<Value>) -> Result<Value> {
        if let Some(run) = self.runs.borrow().get(name) {
            return Ok(run.clone());
        }
        let run = take().with_context(|| format!("the run {name} failed"))?;
        self.runs.borrow_mut().insert(name, run.clone());
        Ok(run)
    }
}

/// Takes a run several times and keeps the one in the middle by its rate, with the rates of all.
fn middle(rate: &str, take: impl Fn() -> Result<Value>) -> Result<Value> {
    let mut runs = (0..TIMES).map(|_| take()).collect::<Result<Vec<_>>>()?;
    let of = |run: &Value| run[rate].as_f64().unwrap_or_default();
    runs.sort_by(|a, b| of(a).total_cmp(&of(b)));
    let all: Vec<f64> = runs.iter().map(of).collect();
    let mut middle = runs.swap_remove(TIMES / 2);
    middle["all_rates"] = all.into();
    Ok(middle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_run_in_the_middle_is_kept_whole() {
        let rates = RefCell::new(vec![30.0, 10.0, 20.0]);
        let run = middle("rate", || {
            let rate: f64 = rates.borrow_mut().pop().unwrap();
            Ok(json!({ "rate": rate, "cpu": rate * 2.0 }))
        });
        let kept = json!({ "rate": 20.0, "cpu": 40.0, "all_rates": [10.0, 20.0, 30.0] });
        assert_eq!(run.unwrap(), kept);
    }
}
