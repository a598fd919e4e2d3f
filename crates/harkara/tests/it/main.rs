//! The integration tests, all in one binary: one link, and one place to look.
//!
//! A module here is a part of the product seen from outside, or a promise about the source itself.
//! Unit tests live beside what they test. Nothing shares a port or a file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![expect(
    unreachable_pub,
    reason = "nothing in a test binary is reachable from outside"
)]

mod app;
mod browser;
mod crash;
mod deliver;
mod demo;
mod egress;
mod events;
mod explain;
mod foreign;
mod golden;
mod hang_up;
mod isolation;
mod mandates;
mod moving;
mod nodes;
mod once;
mod page;
mod payments;
mod process;
mod production;
mod refusals;
mod replays;
mod same_start;
mod sandbox;
mod secrets;
mod signatures;
mod snapshots;
mod stopping;
mod tidy;

#[path = "../shared/schema.rs"]
mod schema;
/// The same that the project's own commands start.
#[path = "../../../../xtask/src/postgres/server.rs"]
mod server;
#[path = "../shared/wire.rs"]
mod wire;
