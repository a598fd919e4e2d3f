//! `cargo xtask sim`: simulated worlds by the thousand, the faults that they have to find, scenarios.
//!
//! The simulation is a program of its own, in `sim/`; this file builds it as the tests are built, with
//! the planted faults in it, and hands the arguments on. `main.rs` calls it, for a person and as part
//! of the tests.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Seeds that the tests run, and within which each planted fault has to be found.
const TESTED: [&str; 4] = ["--seeds", "2000", "--planted", "1000"];
/// The scenario that they run besides.
const RECOVERY: [&str; 2] = ["--scenario", "recovery"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the simulation is asked: --seeds N, --seed S, --scenario NAME, and what `-- --help` lists
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the simulation as it was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    simulate(&arguments)
}

/// Runs what belongs to the tests.
pub(crate) fn test() -> Result<()> {
    simulate(&TESTED)?;
    simulate(&RECOVERY)
}

fn simulate(arguments: &[&str]) -> Result<()> {
    // With these features all that it depends on is compiled once for it and the tests.
    let build = "build --quiet --workspace --all-features --bin harkara-sim";
    let build: Vec<&str> = build.split(' ').collect();
    crate::cargo(&build, "correct what does not compile")?;
    // This program was built into the same folder.
    let this = std::env::current_exe().context("failed to find this program")?;
    let program = this.with_file_name("harkara-sim");
    let status = Command::new(&program)
        .args(arguments)
        .status()
        .with_context(|| format!("failed to start {}", program.display()))?;
    ensure!(
        status.success(),
        "the simulation failed; it says where, and `cargo xtask sim --seed S` looks into a seed"
    );
    Ok(())
}
