//! A harness for webhook delivery servers: it publishes, receives, and compares the two.
//!
//! Five commands, each a process of one thread: `sink` receives, `poison` receives badly, `limit`
//! measures the machine, `load` measures a server, `pages` the dashboard of one. Nothing here knows the
//! insides of any server; what one is asked for over HTTP is in `load/`. `cargo xtask bench` starts it, and README.md explains the figures.

mod clock;
mod http;
mod limit;
mod load;
mod pages;
mod payload;
mod procs;
mod sink;
mod stats;
mod template;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive webhooks, count them, and measure their end-to-end latency
    Sink(sink::Args),
    /// Receive webhooks in all the ways in which nobody should
    Poison(sink::poison::Args),
    /// POST straight to a sink: the most that this machine can deliver
    Limit(limit::Args),
    /// Publish events to a webhook server and wait until the sink has them all
    Load(Box<load::Args>),
    /// Sign in to a dashboard and measure how long its pages take
    Pages(pages::Args),
}

// One thread per process: server, sink and publisher share the machine, so the harness must stay
// cheap and predictable rather than spread over every core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Sink(args) => sink::run(args).await,
        Command::Poison(args) => sink::poison::run(args).await,
        Command::Limit(args) => limit::run(args).await,
        Command::Load(args) => load::run(*args).await,
        Command::Pages(args) => pages::run(args).await,
    }
}
