//! The runs behind the figures: each with a fresh server, folder and sink, and taken once however
//! many figures ask for it.
//!
//! How much is measured follows from the machine, so that a server that reaches what it must takes a
//! few seconds per run everywhere. What is done is asked of the harness; `figures.rs` calls this and
//! judges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::figures::number;
use super::processes::{Binaries, Server, Sink, harness};
use crate::postgres::{self, Postgres};

/// A run is taken this often, and the one in the middle is kept.
const TIMES: usize = 3;

/// How long a run of a server that reaches what it must lasts.
const RUN_SECONDS: f64 = 5.0;

/// The share of `limit` that P1, P2 and P4 must reach; the sizes of runs follow from them.
const P1_MUST: f64 = 0.11;
const P2_MUST: f64 = 0.06;
const P4_MUST: f64 = 0.05;

/// The name by which the server knows the sink, as in its certificate.
const SINK_NAME: &str = "sink.bench.example";

/// Where the binaries are, and what has been measured.
pub(super) struct Lab {
    binaries: Binaries,
    smaller: u64,
    runs: RefCell<BTreeMap<&'static str, Value>>,
}

/// How one run is set up: options of `webhook-bench load` beside those that all have.
struct Setup<'a> {
    name: &'static str,
    scheme: &'static str,
    /// Which of its figures says which run is in the middle.
    by: &'static str,
    options: &'a str,
}

/// By how much the harness delivered.
const RATE: &str = "/delivered_per_s";
/// By how long that took where the rate is given.
const P99: &str = "/e2e_ms/p99";

/// The events of the open loop: so many a second, for as long as it takes to make up a 99th
/// percentile, after a few seconds that are not measured.
const OPEN_LOOP: &str = "--adapter events --rate 200 --warm-up-s 5";

/// Deliveries that wait for an endpoint that nobody listens at.
const WAITING: u64 = 1_000_000;
/// Orders that are paid and untold while pages are asked for.
const ORDERS: u64 = 5_000;
/// How long the first attempt after a start may take before something must be wrong.
const FIRST_ATTEMPT: Duration = Duration::from_secs(60);

impl Lab {
    /// A lab with binaries that have been built. `smaller` divides how much is measured.
    pub(super) fn new(smaller: u64) -> Result<Self> {
        // This program was built into the same target folder, `debug` beside `release`.
        let this = std::env::current_exe().context("failed to find this program's own file")?;
        let target = this.ancestors().nth(2);
        let target = target.context("this program lies outside a target folder")?;
        Ok(Self {
            binaries: Binaries {
                server: target.join("dist/harkara"),
                harness: target.join("release/webhook-bench"),
            },
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
            middle("/requests_per_s", || {
                let sink = Sink::start(&self.binaries, None)?;
                let url = format!("http://{}/hook", sink.address);
                let count = (200_000 / self.smaller).to_string();
                let mut arguments = vec!["limit", "--url", &url, "--count", &count];
                arguments.extend("--concurrency 64 --body-size 2048".split_whitespace());
                harness(&self.binaries, arguments)
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
            by: RATE,
            options: &format!("--adapter events --count {count}"),
        })
    }

    /// P10's worst case: events that nothing compresses.
    pub(super) fn noise(&self) -> Result<Value> {
        let count = self.calls(P1_MUST)?;
        self.load(&Setup {
            name: "noise",
            scheme: "http",
            by: RATE,
            options: &format!("--adapter events --payload noise --count {count}"),
        })
    }

    /// P2: payments of orders that exist, each of which causes three events.
    pub(super) fn orders(&self) -> Result<Value> {
        let count = self.calls(P2_MUST / 3.0)?;
        self.load(&Setup {
            name: "orders",
            scheme: "http",
            by: RATE,
            options: &format!("--adapter orders --count {count}"),
        })
    }

    /// P3: P1 with TLS to the receiver.
    pub(super) fn https(&self) -> Result<Value> {
        let count = self.calls(P1_MUST)?;
        self.load(&Setup {
            name: "https",
            scheme: "https",
            by: RATE,
            options: &format!("--adapter events --count {count}"),
        })
    }

    /// P4: P1 on a Postgres of its own, whose commits are durable as ever.
    pub(super) fn postgres(&self) -> Result<Value> {
        let count = self.calls(P4_MUST)?;
        self.once("postgres", || {
            middle(RATE, || {
                let postgres = Postgres::start(postgres::programs()?, "")?;
                let url = postgres.url();
                self.binaries.migrate(&url)?;
                let setup = Setup {
                    name: "postgres",
                    scheme: "http",
                    by: RATE,
                    options: &format!("--adapter events --count {count}"),
                };
                let place = Place::new(&self.binaries)?;
                let server = place.start_storing(&self.binaries, Some(&url))?;
                let run = self.publish(&setup, &place, &server)?;
                server.stop()?;
                Ok(run)
            })
        })
    }

    /// P6 and P7: 200 events a second, whatever the server does.
    pub(super) fn open_loop(&self) -> Result<Value> {
        let count = self.open_loop_count();
        self.load(&Setup {
            name: "open_loop",
            scheme: "http",
            by: P99,
            options: &format!("{OPEN_LOOP} --count {count}"),
        })
    }

    /// P12: the same beside 1,000 endpoints that do their worst.
    pub(super) fn beside_poison(&self) -> Result<Value> {
        let count = self.open_loop_count();
        self.once("beside_poison", || {
            middle(P99, || {
                let poison = Sink::poison(&self.binaries)?;
                let at = &poison.address;
                let setup = Setup {
                    name: "beside_poison",
                    scheme: "http",
                    by: P99,
                    options: &format!("{OPEN_LOOP} --count {count} --poison http://{at}"),
                };
                let place = Place::new(&self.binaries)?;
                let server = place.start_server(&self.binaries)?;
                // Ended, not stopped: a stop would wait for attempts that hang.
                self.publish(&setup, &place, &server)
            })
        })
    }

    fn open_loop_count(&self) -> String {
        (4000 / self.smaller).max(200).to_string()
    }

    /// P8, P14 and P15: a million deliveries wait for a dead endpoint, the server is started again, and
    /// somebody looks at its dashboard.
    pub(super) fn waiting(&self) -> Result<Value> {
        self.once("waiting", || self.waiting_once())
    }

    fn waiting_once(&self) -> Result<Value> {
        let place = Place::new(&self.binaries)?;
        let batches = (WAITING / 1000 / self.smaller).max(1).to_string();
        let server = place.start_server(&self.binaries)?;
        let setup = Setup {
            name: "waiting",
            scheme: "http",
            by: RATE,
            options: &format!(
                "--adapter events --batch 1000 --count {batches} --concurrency 4 \
                 --endpoints 0 --dead-endpoints 1 --settle-ms 5000 --owe 60"
            ),
        };
        let mut run = self.publish(&setup, &place, &server)?;
        run["store_bytes"] = server.stop()?.into();
        place.sink.reset()?;
        let started_us = unix_us();
        let server = place.start_server(&self.binaries)?;
        let first_us = loop {
            if let Some(first_us) = place.sink.first_arrival_us()? {
                break first_us;
            }
            let waited = Duration::from_micros(unix_us() - started_us);
            ensure!(
                waited < FIRST_ATTEMPT,
                "nothing was sent {FIRST_ATTEMPT:?} after the start"
            );
            pause(Duration::from_millis(20));
        };
        run["first_attempt_s"] = ((first_us - started_us) as f64 / 1e6).into();
        run["pages"] = self.pages(&place, &server)?;
        Ok(run)
    }

    /// How long the pages of the dashboard take, with some thousands of orders in the store as well, all
    /// of which are paid and, to the dead endpoint, untold.
    fn pages(&self, place: &Place, server: &Server) -> Result<Value> {
        let count = (ORDERS / self.smaller).max(10);
        let setup = Setup {
            name: "orders_untold",
            scheme: "http",
            by: RATE,
            options: &format!("--adapter orders --count {count} --endpoints 0 --settle-ms 0"),
        };
        self.publish(&setup, place, server)?;
        let link = server.owner_link()?;
        let times = (200 / self.smaller).max(5).to_string();
        let arguments = vec!["pages", "--owner-link", &link, "--times", &times];
        harness(&self.binaries, arguments)
    }

    /// P11: deliveries that waited for a paused endpoint, from its resumption.
    pub(super) fn drain(&self) -> Result<Value> {
        let count = 100_000 / self.smaller;
        self.load(&Setup {
            name: "drain",
            scheme: "http",
            by: RATE,
            options: &format!("--adapter events --count {count} --while-paused"),
        })
    }

    /// P13: P1 with ten endpoints that hear of every event.
    pub(super) fn fan_out(&self) -> Result<Value> {
        let count = self.calls(1.2 * P1_MUST / 10.0)?;
        self.load(&Setup {
            name: "fan_out",
            scheme: "http",
            by: RATE,
            options: &format!("--adapter events --count {count} --endpoints 10"),
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
        self.once(setup.name, || middle(setup.by, || self.load_once(setup)))
    }

    fn load_once(&self, setup: &Setup<'_>) -> Result<Value> {
        let place = Place::new(&self.binaries)?;
        let server = place.start_server(&self.binaries)?;
        let mut run = self.publish(setup, &place, &server)?;
        run["store_bytes"] = server.stop()?.into();
        Ok(run)
    }

    /// Publishes as the setup says, and gives what the harness measured.
    fn publish(&self, setup: &Setup<'_>, place: &Place, server: &Server) -> Result<Value> {
        let sink = &place.sink.address;
        let port = sink
            .rsplit(':')
            .next()
            .context("an address without a port")?;
        let endpoint_url = format!("{}://{SINK_NAME}:{port}/hook", setup.scheme);
        let sink_url = format!("http://{sink}");
        let server_url = format!("http://{}", server.address);
        let (data, pid) = (
            server.data.to_string_lossy(),
            format!("server={}", server.id()),
        );
        let mut arguments = vec!["load", "--server", &server_url, "--sink-url", &sink_url];
        arguments.extend(["--data-dir", &data, "--pid", &pid]);
        arguments.extend(["--endpoint-url", &endpoint_url]);
        arguments.extend("--body-size 2048 --timeout-s 15".split_whitespace());
        arguments.extend(setup.options.split_whitespace());
        let run = harness(&self.binaries, arguments)?;
        let refused = number(&run, "/refused")?;
        ensure!(refused == 0.0, "the server refused {refused} calls");
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

/// Where a run takes place: a folder and a sink of its own.
struct Place {
    folder: TempDir,
    sink: Sink,
}

impl Place {
    fn new(binaries: &Binaries) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for the run")?;
        let sink = Sink::start(binaries, Some(folder.path()))?;
        Ok(Self { folder, sink })
    }

    /// A server on the folder's store, which it finds as the last one left it.
    fn start_server(&self, binaries: &Binaries) -> Result<Server> {
        self.start_storing(binaries, None)
    }

    /// The same with its store at a URL.
    fn start_storing(&self, binaries: &Binaries, store: Option<&str>) -> Result<Server> {
        let folder = self.folder.path();
        let (name, ca_file) = (format!("{SINK_NAME}=127.0.0.1"), folder.join("ca.pem"));
        let settings = [
            ("DESTINATIONS__STATIC_NAMES", OsStr::new(&name)),
            ("DESTINATIONS__CA_FILE", ca_file.as_os_str()),
            ("STORE", OsStr::new(store.unwrap_or_default())),
        ];
        Server::start(binaries, folder, &settings)
    }
}

/// Takes a run several times and keeps the one in the middle by one of its figures, with that figure
/// of all.
fn middle(by: &str, take: impl Fn() -> Result<Value>) -> Result<Value> {
    let mut runs = (0..TIMES).map(|_| take()).collect::<Result<Vec<_>>>()?;
    let of = |run: &Value| run.pointer(by).and_then(Value::as_f64).unwrap_or_default();
    runs.sort_by(|a, b| of(a).total_cmp(&of(b)));
    let all: Vec<f64> = runs.iter().map(of).collect();
    let mut middle = runs.swap_remove(TIMES / 2);
    middle["all"] = json!({ by: all });
    Ok(middle)
}

/// The clock that the sink reads, too.
#[expect(
    clippy::disallowed_methods,
    reason = "when the server was started is what is measured from"
)]
fn unix_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.expect("the clock is past 1970").as_micros() as u64
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sink is asked again and again until something has arrived"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_in_the_middle_is_kept_whole() {
        let rates = RefCell::new(vec![30.0, 10.0, 20.0]);
        let run = middle("/rate", || {
            let rate: f64 = rates.borrow_mut().pop().unwrap();
            Ok(json!({ "rate": rate, "cpu": rate * 2.0 }))
        });
        let kept = json!({ "rate": 20.0, "cpu": 40.0, "all": { "/rate": [10.0, 20.0, 30.0] } });
        assert_eq!(run.unwrap(), kept);
    }
}
