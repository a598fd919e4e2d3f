//! Runs seeds on every core and sums up: violations, markers, replays, planted faults.
//!
//! What happens within a seed is `world.rs`'s business, and in which order seeds are run changes
//! nothing. `main.rs` calls it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::check::{Invariant, Violation};
use crate::dice::Dice;
use crate::marks::{Mark, Marks};
use crate::plan::Plan;
use crate::planted::Fault;
use crate::trace::Trace;
use crate::world::{Report, World};

/// Seeds that are run twice, to compare their traces.
const REPLAYED: u64 = 20;
/// From this many seeds on, every marker must have been reached.
const MARKED: u64 = 2000;

/// Runs one seed and prints what happens.
pub(crate) fn replay(seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    println!("{:#?}", Plan::draw(&mut dice));
    let report = run_one(seed, None, true);
    println!(
        "seed {seed}: trace {:016x}, {} lines",
        report.hash, report.lines
    );
    match report.result {
        Ok(()) => Ok(()),
        Err(Violation { invariant, what }) => bail!("seed {seed} breaks {invariant}: {what}"),
    }
}

/// Runs seeds, each of which must keep every promise.
pub(crate) fn run(first: u64, count: u64) -> Result<()> {
    let sum = run_all(first, count, None, false);
    for (seed, Violation { invariant, what }) in &sum.violations {
        println!("seed {seed} breaks {invariant}: {what}");
    }
    let days = Duration::from_micros(sum.simulated_us).as_secs_f64() / 86_400.0;
    println!(
        "{count} seeds from {first}: {} events, {days:.0} simulated days",
        sum.lines
    );
    for mark in Mark::ALL {
        println!("{:>9}  {}", sum.marks.count(*mark), mark.words());
    }
    let broken = sum.violations.len();
    ensure!(
        broken == 0,
        "{broken} seeds broke a promise; look into one with --seed"
    );
    for seed in first..first + count.min(REPLAYED) {
        let (one, other) = (run_one(seed, None, false), run_one(seed, None, false));
        ensure!(
            one.hash == other.hash,
            "seed {seed} does not repeat: something else is drawn on"
        );
    }
    let missed = Mark::ALL.iter().find(|mark| sum.marks.count(**mark) == 0);
    match missed {
        Some(mark) if count >= MARKED => bail!("never reached: {}", mark.words()),
        Some(_) | None => Ok(()),
    }
}

/// Runs seeds with one fault after the other, until each is found.
pub(crate) fn find_planted(within: u64) -> Result<()> {
    let mut missed = 0;
    println!("{:<24} {:>6}  found by", "planted fault", "seeds");
    for fault in Fault::ALL {
        let sum = run_all(0, within, Some(*fault), true);
        let name = format!("{fault:?}");
        match sum.violations.first_key_value() {
            Some((seed, violation)) => {
                println!("{name:<24} {:>6}  {}", seed + 1, violation.invariant);
            }
            None => {
                missed += 1;
                println!("{name:<24} {:>6}", "none");
            }
        }
    }
    ensure!(
        missed == 0,
        "{missed} planted faults were not found within {within} seeds"
    );
    Ok(())
}

/// What came of many seeds.
struct Sum {
    marks: Marks,
    lines: u64,
    simulated_us: u64,
    violations: BTreeMap<u64, Violation>,
}

/// Takes the seeds in turns on every core. When one is enough, it stops after the first violation.
fn run_all(first: u64, count: u64, fault: Option<Fault>, one_is_enough: bool) -> Sum {
    let sum = Mutex::new(Sum {
        marks: Marks::new(),
        lines: 0,
        simulated_us: 0,
        violations: BTreeMap::new(),
    });
    let next = AtomicU64::new(first);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let report = run_one(seed, fault, false);
            let mut sum = sum.lock().expect("nobody panics with it");
            sum.marks.add(&report.marks);
            sum.lines += report.lines;
            sum.simulated_us += report.simulated_us;
            if let Err(violation) = report.result {
                sum.violations.insert(seed, violation);
                if one_is_enough {
                    // Seeds below this one are under way already, and finish.
                    next.fetch_max(first + count, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    sum.into_inner().expect("nobody panicked with it")
}

/// Runs one seed; a panic is a broken promise like any other.
fn run_one(seed: u64, fault: Option<Fault>, print: bool) -> Report {
    Fault::plant(fault);
    let mut dice = Dice::new(seed);
    let plan = Plan::draw(&mut dice);
    let run = || World::new(plan, dice, fault, Trace::new(print)).run();
    let report = catch_unwind(AssertUnwindSafe(run));
    Fault::plant(None);
    report.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Report {
            hash: 0,
            lines: 0,
            simulated_us: 0,
            marks: Marks::new(),
            result: Err(Violation {
                invariant: Invariant::NoPanic,
                what: what.unwrap_or_default(),
            }),
        }
    })
}
