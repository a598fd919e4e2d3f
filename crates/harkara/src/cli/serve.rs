//! `harkara serve`: runs a server until it is told to stop or its store fails.

use std::process::ExitCode;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArguments, processors, runtime, start_log};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Environment};

#[derive(Debug, clap::Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print a one-time link by which somebody becomes an owner of the dashboard: for when every owner has
    /// lost the password.
    #[arg(long)]
    owner_link: bool,
}

/// Runs until SIGTERM or SIGINT; a second one ends the process at once, which is as safe as a crash.
pub(super) fn serve(arguments: &ServeArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.read()?;
    start_log(&config.log);
    let callers = runtime("callers", processors())?;
    let deliveries = runtime("deliveries", processors().div_ceil(2))?;
    callers.block_on(run(config, deliveries.handle(), arguments.owner_link))
}

async fn run(config: Config, deliveries: &Handle, owner_link: bool) -> anyhow::Result<ExitCode> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let greeting = Greeting::of(&config);
    let clock = Clock::system();
    let mut app = App::start_apart(config, clock.clone(), deliveries).await?;
    if owner_link {
        app.owner_link = Some(app.another_owner_link(&clock).await?);
    }
    greeting.print(&app);
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = app.failed() => true,
    };
    if failed {
        tracing::error!(
            "a flush was lost or a task panicked; the log says which. Nothing more is taken: start again"
        );
        return Ok(ExitCode::FAILURE);
    }
    tracing::info!("stopping: no new requests, no new attempts; what is in flight may end");
    tokio::select! {
        () = app.stop() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

/// What a start says to people.
struct Greeting {
    environment: &'static str,
    data: String,
    store: String,
}

impl Greeting {
    fn of(config: &Config) -> Self {
        let environment = match config.environment {
            Environment::Sandbox => "sandbox (set environment = \"production\" for real payments)",
            Environment::Production => "production",
        };
        Self {
            environment,
            data: config.data_dir.display().to_string(),
            store: match &config.store {
                Some(url) => url.to_string(),
                None => "a file in the data folder".to_owned(),
            },
        }
    }

    fn print(&self, app: &App) {
        anstream::println!("Harkara {}", env!("CARGO_PKG_VERSION"));
        anstream::println!("  environment  {}", self.environment);
        anstream::println!("  listening    http://{}", app.address);
        anstream::println!("  public URL   {}", app.public_url);
        anstream::println!("  data         {}", self.data);
        anstream::println!("  store        {}", self.store);
        anstream::println!("  dashboard    {}/dashboard", app.public_url);
        for note in &app.notes {
            anstream::println!("  note         {note}");
        }
        if let Some(link) = &app.owner_link {
            anstream::println!();
            anstream::println!("Whoever opens this link first becomes an owner of the dashboard:");
            anstream::println!("  {link}");
        }
        let Some(first) = &app.first_start else {
            return;
        };
        anstream::println!();
        anstream::println!(
            "First start. These keys are shown once; they are also in the data folder,"
        );
        anstream::println!("in files that you alone can read.");
        anstream::println!("  platform key   {}", first.platform_key.expose());
        if let Some((merchant_id, key)) = &first.merchant {
            anstream::println!("  merchant       {merchant_id}");
            anstream::println!("  merchant key   {}", key.expose());
            anstream::println!();
            anstream::println!("Try it:");
            anstream::println!(
                "  curl -u {}: -d order_id=first-1 -d amount=8 {}/orders",
                key.expose(),
                app.public_url
            );
        }
    }
}
