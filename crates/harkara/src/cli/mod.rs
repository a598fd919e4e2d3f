//! The command line: arguments in, text and exit codes out.
//!
//! Each command calls what exists elsewhere; nothing is decided here. Exit codes: 0 done, 1 a check
//! failed, 2 wrong usage or configuration.

mod demo;
mod moving;
mod serve;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use anyhow::Context;

use crate::config::{self, Config, ConfigError, LogConfig, LogFormat};
use crate::store::Store;

/// Payment webhooks that arrive: at least once, in order, with the reason when they do not.
#[derive(Debug, Parser)]
#[command(name = "harkara", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server. Without any configuration it is a sandbox with its data beside it.
    Serve(serve::ServeArguments),
    /// Start a server and a merchant, cause every event there is, and watch them arrive.
    Demo(demo::DemoArguments),
    /// Bring the schema of a store in Postgres up to date; a file is brought so by `serve`.
    Migrate(MigrateArguments),
    /// Copy a whole store that nobody serves, from a file to Postgres or back, and compare the two.
    Move(moving::MoveArguments),
    /// Read the configuration as `serve` would, and print what would be used.
    CheckConfig(CheckArguments),
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
    /// A TOML file; `HARKARA_…` variables win over it.
    #[arg(long, env = config::FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store is: `postgres://user:password@host/database`. Wins over all other settings of
    /// it; without any, it is a file in the data folder.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl ConfigArguments {
    fn read(&self) -> Result<Config, ConfigError> {
        Config::from_process(self.config.as_deref(), self.store.as_deref())
    }
}

#[derive(Debug, clap::Args)]
struct MigrateArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only say what would be applied.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print every setting with its default and what it means, instead.
    #[arg(long)]
    defaults: bool,
}

/// Carries the command out.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Migrate(arguments) => migrate(&arguments),
        Command::Move(arguments) => moving::copy(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::CheckConfig(arguments) => check_config(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("harkara: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check_config(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    if arguments.defaults {
        anstream::print!("{}", config::DEFAULTS);
        return Ok(ExitCode::SUCCESS);
    }
    let config = arguments.config.read()?;
    anstream::print!("{}", config.render());
    Ok(ExitCode::SUCCESS)
}

fn migrate(arguments: &MigrateArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.read()?;
    let Some(url) = &config.store else {
        anyhow::bail!(
            "migrate: no store in Postgres is set; a file is brought up to date by `serve`"
        );
    };
    let missing = Store::migrate(url.expose(), arguments.dry_run)
        .map_err(|error| anyhow::Error::new(error.source))
        .with_context(|| format!("migrate {url}"))?;
    let done = match (arguments.dry_run, missing.is_empty()) {
        (_, true) => "is up to date",
        (true, false) => "would get:",
        (false, false) => "has got:",
    };
    anstream::println!("{url} {done}");
    for migration in missing {
        anstream::println!("  {migration}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends log lines to standard error: ours at the level that is set, the libraries' only when
/// something is wrong.
fn start_log(log: &LogConfig) {
    use std::io::IsTerminal as _;
    let filter = format!("warn,harkara={}", log.level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A runtime with so many threads of this name.
fn runtime(name: &str, threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        .worker_threads(threads)
        .enable_all()
        .build()?)
}

/// How many things this machine does at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
