//! A deterministic simulation of Harkara: the real rules and the real dispatcher on virtual time.
//!
//! Each seed draws a world (`plan`) and runs it (`world`): processes (`carry`, `api`, `faults`), a disk
//! that keeps written and flushed apart (`disk`, `store`), receivers that misbehave (`receiver`), and an
//! oracle that watches from outside (`check`). One seed replays everything. `recovery` is laid out
//! instead of drawn, and has bounds of its own. `cargo xtask sim` runs it.

mod api;
mod carry;
mod check;
mod dice;
mod disk;
mod equivalence;
mod faults;
mod marks;
mod plan;
mod planted;
mod receiver;
mod recovery;
mod seeds;
mod store;
mod trace;
mod world;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

/// Runs simulated worlds and checks what must hold in each of them.
#[derive(Parser)]
#[command(name = "harkara-sim")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// Runs this seed alone, and prints all that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// The first of the seeds.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Puts known faults in, one at a time, and asks for each to be found within this many seeds.
    #[arg(long, value_name = "SEEDS")]
    planted: Option<u64>,
    /// Compares the model of the store with the real one in this many cases, and does nothing else.
    #[arg(long, value_name = "CASES")]
    equivalence: Option<u64>,
    /// Runs this scenario alone, prints its figures, and fails when one of its bounds is broken.
    #[arg(long)]
    scenario: Option<Scenario>,
}

/// A world that is laid out rather than drawn.
#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// An endpoint fails for a day, then recovers with 100,000 deliveries waiting.
    Recovery,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return seeds::replay(seed);
    }
    if let Some(cases) = args.equivalence {
        return equivalence::run(args.first, cases, None);
    }
    if let Some(scenario) = args.scenario {
        return match scenario {
            Scenario::Recovery => recovery::run(),
        };
    }
    ensure!(
        args.seeds > 0,
        "failed to run no seeds: ask for one or more"
    );
    seeds::run(args.first, args.seeds)?;
    args.planted.map_or(Ok(()), seeds::find_planted)
}
