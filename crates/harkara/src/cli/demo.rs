//! `harkara demo`: a server and a merchant in one process, every kind of event there is, and proof
//! that each arrived.
//!
//! Here is the order of the show and what is printed. `stage.rs` sets it up, `story.rs` makes things
//! happen, `report.rs` makes the text. Nothing stays behind: the stage is a temporary folder.

mod client;
mod report;
mod stage;
mod story;

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::Level;

use self::report::Row;
use self::stage::{MERCHANT, OLD, Stage, list, row, text};
use self::story::{OLD_VERSION, RETRIED};
use super::{processors, runtime, start_log};
use crate::config::{LogConfig, LogFormat};
use crate::receiver::{Arrival, MerchantServer};

/// Enough for a slow machine many times over; a healthy one needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(50);

#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Leave the server and the merchant running afterwards, until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    keep: bool,
    /// Print one JSON object per webhook that arrives, and one for the summary.
    #[arg(long)]
    json: bool,
}

/// Who reads what is printed.
#[derive(Clone, Copy)]
enum Face {
    People,
    Machines,
}

/// Runs the demo; it fails unless every kind of event arrived and is known to have.
pub(super) fn demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    start_log(&LogConfig {
        level: Level::WARN,
        format: LogFormat::Text,
    });
    runtime("demo", processors())?.block_on(run(arguments))
}

async fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let stage = Stage::set_up().await?;
    let shown = tokio::select! {
        shown = show(&stage, arguments) => shown,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            // Left running, this is how it ends.
            Ok(()) if arguments.keep => Ok(ExitCode::SUCCESS),
            Ok(()) => Ok(ExitCode::from(130)),
            Err(error) => Err(error.into()),
        },
    };
    stage.clear().await?;
    shown
}

async fn show(stage: &Stage, arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let face = if arguments.json {
        Face::Machines
    } else {
        Face::People
    };
    let mut live = Live {
        merchant: &stage.merchant,
        face,
        printed: 0,
    };
    if let Face::People = face {
        let (server, merchant) = (&stage.app.public_url, stage.merchant.url(""));
        anstream::println!(
            "Harkara at {server}, its merchant at {merchant}\n\n{}",
            Row::head()
        );
    }
    tokio::select! {
        told = timeout_at(Instant::now() + PATIENCE, stage.tell()) => {
            // When the time is up, the summary says what is missing.
            told.unwrap_or(Ok(()))?;
        }
        never = live.follow() => match never {},
    }
    let summary = stage.summary().await?;
    live.catch_up();
    let complete = summary.is_complete();
    match face {
        Face::Machines => anstream::println!("{}", summary.json()),
        Face::People => {
            if complete {
                print_retry(stage).await?;
                print_withheld(stage).await?;
            }
            anstream::println!("\n{}", summary.text());
        }
    }
    if arguments.keep {
        print_what_to_try(stage).await?;
        match live.follow().await {}
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rows of the table, printed as webhooks arrive.
struct Live<'a> {
    merchant: &'a MerchantServer,
    face: Face,
    printed: usize,
}

impl Live<'_> {
    async fn follow(&mut self) -> Infallible {
        loop {
            let arrival = self.merchant.arrival(self.printed).await;
            self.print(&arrival);
        }
    }

    /// Prints what is there already.
    fn catch_up(&mut self) {
        for arrival in &self.merchant.arrivals()[self.printed..] {
            self.print(arrival);
        }
    }

    fn print(&mut self, arrival: &Arrival) {
        self.printed += 1;
        let row = row(arrival);
        match self.face {
            Face::People => anstream::println!("{}", row.line()),
            Face::Machines => anstream::println!("{}", row.json()),
        }
    }
}

/// The event that the merchant failed to take twice, attempt by attempt.
async fn print_retry(stage: &Stage) -> anyhow::Result<()> {
    let event_id = stage.event(EventName::OrderSucceeded, RETRIED).await?;
    let of_event = stage
        .shop
        .get(&format!("/events/{event_id}/deliveries"))
        .await?;
    let delivery_id = text(&of_event["deliveries"][0], "delivery_id")?;
    let delivery = stage
        .shop
        .get(&format!("/deliveries/{delivery_id}/attempts"))
        .await?;
    anstream::println!("\nA retry that succeeds after two 500s: ORDER_SUCCEEDED of {RETRIED}");
    let mut first = None;
    for attempt in list(&delivery, "attempts") {
        let at = Timestamp::parse_iso(text(attempt, "started_at")?).unwrap_or_default();
        let after = at.since(*first.get_or_insert(at)).as_secs_f64();
        let sentence = text(attempt, "sentence")?;
        anstream::println!("  attempt {} after {after:.1} s: {sentence}", attempt["n"]);
    }
    Ok(())
}

/// The event that the second endpoint did not get, in the words of `explain`.
async fn print_withheld(stage: &Stage) -> anyhow::Result<()> {
    let event_id = stage.event(EventName::TxnCharged, OLD_VERSION).await?;
    let explained = stage
        .shop
        .get(&format!("/events/{event_id}/explain"))
        .await?;
    anstream::println!(
        "\nWithheld by version: TXN_CHARGED of {OLD_VERSION}, for the endpoint at {}",
        OLD.version
    );
    for endpoint in list(&explained, "endpoints") {
        let facts: Vec<&str> = list(endpoint, "facts").filter_map(Value::as_str).collect();
        if facts.iter().any(|fact| fact.starts_with("withheld")) {
            facts.iter().for_each(|fact| anstream::println!("  {fact}"));
        }
    }
    Ok(())
}

async fn print_what_to_try(stage: &Stage) -> anyhow::Result<()> {
    let event_id = stage.event(EventName::TxnCharged, OLD_VERSION).await?;
    let (url, key) = (&stage.app.public_url, &stage.shop_key);
    anstream::println!("\nLeft running until Ctrl-C. What arrives is printed below.");
    anstream::println!("  server         {url}");
    anstream::println!("  platform key   {}", stage.platform_key);
    anstream::println!("  merchant       {MERCHANT}");
    anstream::println!("  merchant key   {key}");
    anstream::println!("\nTry:");
    anstream::println!("  curl -u {key}: {url}/orders/{RETRIED}");
    anstream::println!("  curl -u {key}: '{url}/events?limit=5&bodies=true'");
    anstream::println!("  curl -u {key}: {url}/events/{event_id}/explain");
    anstream::println!("  curl -u {key}: -d order_id=mine -d amount=8 {url}/orders\n");
    Ok(())
}
