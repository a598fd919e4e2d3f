//! `cargo xtask bench`: the figures that the server is held to, one line each.
//!
//! `figures.rs` says what is measured and what must be reached, `lab.rs` takes the runs behind the
//! figures, `processes.rs` starts and ends what takes part. The measuring itself is the harness's,
//! in `bench/`. No test calls this, and no figure fails it: machines differ.

mod figures;
mod lab;
mod processes;

use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::figures::{FIGURES, Figure, NOT_YET};
use self::lab::Lab;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the figures and all that is behind them to FILE as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take these alone, such as P1,P3; what they are compared with is measured too
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    only: Vec<String>,
    /// Divide how much is measured by this; the figures are only good with 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), hide = true)]
    smaller: u64,
}

/// Takes the figures and prints each as soon as it is known.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |number: &str| {
        args.only.is_empty() || args.only.iter().any(|it| it.eq_ignore_ascii_case(number))
    };
    for number in &args.only {
        let known = FIGURES
            .iter()
            .any(|(it, _)| it.eq_ignore_ascii_case(number));
        let names: Vec<_> = FIGURES.iter().map(|(number, _)| *number).collect();
        ensure!(
            known,
            "failed to find the figure {number}: there are {}",
            names.join(", ")
        );
    }
    let compiles = "correct what does not compile";
    // The server as it is shipped.
    let server = ["build", "--profile", "dist", "--package", "harkara"];
    crate::cargo(&server, compiles)?;
    let harness = ["build", "--release", "--package", "webhook-bench"];
    crate::cargo(&harness, compiles)?;
    let begun = unix_seconds();
    let lab = Lab::new(args.smaller)?;
    let (mut taken, mut failed) = (Vec::new(), Vec::new());
    for (number, take) in FIGURES.iter().filter(|(number, _)| wanted(number)) {
        match take(&lab) {
            Ok(figure) => {
                println!("{figure}");
                taken.push(figure);
            }
            Err(error) => {
                println!("{number:<6}not measured: {error:#}");
                failed.push(*number);
            }
        }
    }
    if args.only.is_empty() {
        for (number, why) in NOT_YET {
            println!("{number:<6}not measured: {why}");
        }
    }
    let seconds = unix_seconds().saturating_sub(begun);
    eprintln!("measured in {seconds} s");
    if let Some(path) = &args.json {
        let mut report = report(&taken, &lab)?;
        report["seconds"] = seconds.into();
        let report = format!("{report:#}\n");
        fs::write(path, report).with_context(|| format!("failed to write {}", path.display()))?;
    }
    if !failed.is_empty() {
        bail!(
            "failed to take {}; the lines above say why",
            failed.join(", ")
        );
    }
    Ok(())
}

fn report(figures: &[Figure], lab: &Lab) -> Result<Value> {
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo").context("failed to read /proc/meminfo")?;
    let memory_kb = memory.split_whitespace().nth(1);
    let not_measured: Value = NOT_YET
        .iter()
        .map(|(number, why)| json!({ "number": number, "why": why }))
        .collect();
    Ok(json!({
        "unix_seconds": unix_seconds(),
        "machine": {
            "cores": cores.get(),
            "memory_kb": memory_kb.and_then(|kb| kb.parse::<u64>().ok()),
        },
        "figures": figures.iter().map(Figure::json).collect::<Value>(),
        "not_measured": not_measured,
        "runs": lab.runs(),
    }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a report says when it was made, and nothing else reads it"
)]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
