//! The project's own commands, run as `cargo xtask <command>`.
//!
//! Everything that a contributor or CI runs has one name here, and the same command line behind it.
//! How fast the server is, `bench.rs` finds out; `sim.rs` runs simulated worlds; `dictionary.rs` trains
//! what stored bodies are compressed with; what a command needs of the machine is `needs.rs`'s business,
//! and a server to store in that of `postgres.rs`.
//! No product code lives here, and of the product's crates only the contract is needed to build it.

mod bench;
mod dictionary;
mod needs;
mod postgres;
mod sim;

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::postgres::Postgres;

/// Commands for people who work on Harkara.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test of every crate and the simulation, after installing what they need.
    ///
    /// This is what CI runs. The tests need a C compiler, Node and Python for two libraries that judge
    /// our signatures, Chromium for the dashboard, and the programs of a Postgres, on which those of the
    /// server run once more.
    Test,
    /// Looks at the code without running the product: formatting, lints, tidiness.
    ///
    /// Run it before each commit; it is quick when little has changed.
    Check,
    /// Asks about every IPv4 address whether it may be called: all 2^32 of them, in release.
    ///
    /// The ordinary tests prove the same by runs of addresses; this takes nothing for granted.
    Sweep,
    /// Measures the server against what this machine can do, in less than ten minutes.
    ///
    /// It builds release binaries and starts a fresh server for each figure. Nothing else should
    /// run meanwhile.
    Bench(bench::Args),
    /// Trains the dictionary that stored bodies are compressed with, from made-up payloads.
    ///
    /// One that was released is never trained again: bodies name it by its number.
    Dictionary(dictionary::Args),
    /// Runs simulated worlds with faults drawn from seeds: `--seeds N`, or `--seed S` for one; or a
    /// scenario: `--scenario recovery`.
    Sim(sim::Args),
    /// Draws the pictures of the dashboard in docs/screenshots anew. Look at them before you commit them.
    Screenshots,
}

/// The one test that takes minutes even in release.
const SWEEP: &str = "every_ipv4_address_one_by_one";

/// The one that writes into the documents.
const PICTURES: &str = "browser::pictures::";

fn main() -> Result<()> {
    let task = Arguments::parse().task;
    let (name, result, took) = timed(|| match task {
        Task::Test => ("test", test()),
        Task::Check => ("check", check()),
        Task::Sweep => ("sweep", sweep()),
        Task::Bench(args) => ("bench", bench::run(&args)),
        Task::Dictionary(args) => ("dictionary", dictionary::run(&args)),
        Task::Sim(args) => ("sim", sim::run(&args)),
        Task::Screenshots => ("screenshots", screenshots()),
    });
    let ended = if result.is_ok() { "passed" } else { "failed" };
    eprintln!(
        "cargo xtask {name} {ended} after {:.1} s",
        took.as_secs_f64()
    );
    result
}

fn test() -> Result<()> {
    needs::c_compiler()?;
    needs::browser()?;
    let oracles = needs::oracles()?;
    let programs = postgres::programs()?;
    let postgres = Postgres::start(programs.clone(), "")?;
    // What is ignored otherwise needs these.
    let oracles = ("TEST_ORACLES", oracles.as_os_str());
    cargo_with(
        &[oracles],
        &[
            "test",
            "--workspace",
            "--all-features",
            "--",
            "--include-ignored",
            "--skip",
            SWEEP,
            "--skip",
            PICTURES,
        ],
        "correct the tests shown above",
    )?;
    let url = postgres.url();
    let postgres_url = ("TEST_POSTGRES", OsStr::new(&url));
    let postgres_programs = ("TEST_POSTGRES_PROGRAMS", programs.as_os_str());
    eprintln!("the same once more, on Postgres: {url}");
    cargo_with(
        &[oracles, postgres_url, postgres_programs],
        // Of the workspace, though the server's are meant: with other features all would be built again.
        &[
            "test",
            "--workspace",
            "--all-features",
            "--lib",
            "--test",
            "it",
            "--",
            "--include-ignored",
            "--skip",
            SWEEP,
            "--skip",
            "tidy",
            // Pages do not know what they are read from.
            "--skip",
            "browser::",
        ],
        "correct the tests shown above, which passed on SQLite",
    )?;
    sim::test()
}

fn sweep() -> Result<()> {
    needs::c_compiler()?;
    cargo(
        &[
            "test",
            "--release",
            "--package",
            "harkara",
            "--lib",
            "--",
            "--ignored",
            SWEEP,
        ],
        "correct the tables in deliver/guard.rs",
    )
}

fn screenshots() -> Result<()> {
    needs::c_compiler()?;
    needs::browser()?;
    cargo(
        &[
            "test",
            "--workspace",
            "--all-features",
            "--test",
            "it",
            "--",
            "--ignored",
            PICTURES,
        ],
        "the test shown above draws them",
    )
}

fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], "run `cargo fmt --all`")?;
    needs::c_compiler()?;
    cargo(
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ],
        "correct the lines shown above",
    )?;
    cargo(
        &["test", "--package", "harkara", "--test", "it", "tidy"],
        "each message above names what to write instead",
    )
}

/// Runs cargo, the one that runs us, and says what to do when it fails.
fn cargo(arguments: &[&str], remedy: &str) -> Result<()> {
    cargo_with(&[], arguments, remedy)
}

/// The same with variables in its environment.
fn cargo_with(variables: &[(&str, &OsStr)], arguments: &[&str], remedy: &str) -> Result<()> {
    let line = arguments.join(" ");
    eprintln!("$ cargo {line}");
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .envs(variables.iter().copied())
        .status()
        .with_context(|| format!("failed to start cargo {line}"))?;
    if !status.success() {
        bail!("`cargo {line}` failed ({status}); {remedy}");
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a command took is progress output"
)]
fn timed(run: impl FnOnce() -> (&'static str, Result<()>)) -> (&'static str, Result<()>, Duration) {
    let start = std::time::Instant::now();
    let (name, result) = run();
    (name, result, start.elapsed())
}
