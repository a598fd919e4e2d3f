//! CPU and memory of process trees, read from /proc.
//!
//! Linux alone has what is read here. `limit` and `load` watch themselves and whatever `--pid` names;
//! nothing is started or ended.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// CPU time in /proc is counted in units of `1/USER_HZ`, which Linux fixes at 100 per second.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to watch, with all its descendants: `--pid name=1234` or `--pid 1234`.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl Watched {
    /// The harness itself.
    pub(crate) fn this(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pid: std::process::id(),
        }
    }
}

impl std::str::FromStr for Watched {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            name: name.to_owned(),
            pid: pid.parse()?,
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Sample {
    cpu_s: f64,
    rss_mb: f64,
}

/// What a watched tree used while it was watched.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    pub(crate) cpu_s_per_1000: f64,
    pub(crate) rss_start_mb: f64,
    pub(crate) rss_peak_mb: f64,
    pub(crate) rss_end_mb: f64,
}

/// Samples the watched trees until told to stop.
pub(crate) struct Monitor {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<BTreeMap<String, (Sample, f64)>>,
    watched: Vec<Watched>,
    machine: (f64, f64),
}

impl Monitor {
    pub(crate) fn start(watched: Vec<Watched>) -> Result<Self> {
        let mut seen = BTreeMap::new();
        for w in &watched {
            let first = sample(w.pid).with_context(|| format!("no process {}", w.pid))?;
            seen.insert(w.name.clone(), (first, first.rss_mb));
        }
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let list = watched.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            loop {
                tokio::select! {
                    _ = &mut stopped => return seen,
                    _ = tick.tick() => {}
                }
                for w in &list {
                    if let (Some((_, peak)), Some(now)) = (seen.get_mut(&w.name), sample(w.pid)) {
                        *peak = peak.max(now.rss_mb);
                    }
                }
            }
        });
        Ok(Self {
            stop,
            task,
            watched,
            machine: machine_cpu()?,
        })
    }

    /// Usage by name since the start, and the busy share of the whole machine.
    pub(crate) async fn finish(self, deliveries: u64) -> Result<(BTreeMap<String, Usage>, f64)> {
        let (busy, total) = machine_cpu()?;
        let machine_busy = (busy - self.machine.0) / (total - self.machine.1).max(1.0);
        let mut usage = BTreeMap::new();
        let last: Vec<_> = self
            .watched
            .iter()
            .map(|w| (w.name.clone(), sample(w.pid)))
            .collect();
        // The task may have ended with an error, which the next line reports.
        let _ = self.stop.send(());
        let seen = self.task.await?;
        for (name, last) in last {
            let (first, peak) = seen[&name];
            // A watched process that has gone leaves its last figures unknown.
            let Some(last) = last else { continue };
            let cpu_s = last.cpu_s - first.cpu_s;
            usage.insert(
                name,
                Usage {
                    cpu_s,
                    cpu_s_per_1000: cpu_s * 1000.0 / deliveries.max(1) as f64,
                    rss_start_mb: first.rss_mb,
                    rss_peak_mb: peak.max(last.rss_mb),
                    rss_end_mb: last.rss_mb,
                },
            );
        }
        Ok((usage, machine_busy))
    }
}

/// CPU: own time of each live process plus that of children already waited for, so
/// a backend that ends mid-run is still counted. Memory: private memory of all
/// processes plus the largest shared part, so a shared buffer pool counts once.
fn sample(root: u32) -> Option<Sample> {
    let mut cpu_ticks = 0.0;
    let (mut anon_kb, mut shared_kb) = (0.0, 0.0_f64);
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        let (Some(ticks), Some((anon, shared))) = (cpu_ticks_of(pid), memory_kb(pid)) else {
            if pid == root {
                return None;
            }
            continue;
        };
        cpu_ticks += ticks;
        anon_kb += anon;
        shared_kb = shared_kb.max(shared);
        todo.extend(children(pid));
    }
    Some(Sample {
        cpu_s: cpu_ticks / TICKS_PER_SECOND,
        rss_mb: (anon_kb + shared_kb) / 1024.0,
    })
}

fn cpu_ticks_of(pid: u32) -> Option<f64> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After "pid (comm) ", field 0 is the state; utime, stime, cutime, cstime are 11..=14.
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    fields.map(|f| f.parse::<f64>().ok()).sum()
}

fn memory_kb(pid: u32) -> Option<(f64, f64)> {
    let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((field("RssAnon:")?, field("RssFile:")? + field("RssShmem:")?))
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Busy and total CPU ticks of the machine.
fn machine_cpu() -> Result<(f64, f64)> {
    let stat = read_to_string("/proc/stat")?;
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .context("empty /proc/stat")?
        .split_whitespace()
        .skip(1)
        .take(8) // user nice system idle iowait irq softirq steal
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    let total: f64 = ticks.iter().sum();
    Ok((total - ticks[3] - ticks[4], total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_named() {
        let named: Watched = "server=17".parse().unwrap();
        assert_eq!((named.name.as_str(), named.pid), ("server", 17));
        let bare: Watched = "17".parse().unwrap();
        assert_eq!((bare.name.as_str(), bare.pid), ("17", 17));
        assert!("server=x".parse::<Watched>().is_err());
    }

    #[test]
    fn this_process_has_memory() {
        assert!(sample(std::process::id()).unwrap().rss_mb > 0.0);
    }
}
