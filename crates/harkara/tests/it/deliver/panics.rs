//! A task of the dispatcher that panics costs what it was about, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harkara::clock::Clock;
use harkara::deliver::attempt::Attempter;
use harkara::deliver::dispatcher::Limits;
use harkara::deliver::inbox::{Inbox, InboxBound};
use harkara::deliver::run::Loop;
use harkara::deliver::transport::{Request, Sending, Sent, Transport};
use harkara_webhook::EventName;
use tokio::sync::{Notify, watch};

use super::world::{World, answer_200};

/// Panics once, then answers 200.
struct Clumsy {
    calls: AtomicUsize,
    answered: Arc<Notify>,
}

impl Transport for Clumsy {
    fn send(&self, _: Request) -> Sending<'_> {
        let first = self.calls.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            assert!(!first, "the first call panics");
            self.answered.notify_one();
            Sent::Answer(answer_200())
        })
    }
}

#[tokio::test]
async fn an_attempt_that_panics_is_made_again() {
    let mut world = World::new();
    world.endpoint("ep_1", |_| {}).await;
    world.event("1", EventName::OrderSucceeded, "").await;
    let (inbox, inputs) = Inbox::new(InboxBound {
        deliveries: 10,
        bytes: 10_000,
        lease: Duration::from_secs(120),
    });
    let answered = Arc::new(Notify::new());
    let transport = Clumsy {
        calls: AtomicUsize::new(0),
        answered: answered.clone(),
    };
    let clock = Clock::system();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(
        Loop {
            store: world.store.clone(),
            clock: clock.clone(),
            inbox,
            inputs,
            attempter: Arc::new(Attempter {
                store: world.store.clone(),
                vault: world.vault(),
                transport: Arc::new(transport),
                clock,
            }),
            limits: Limits {
                permits: 1,
                permits_per_merchant: 1,
                permits_per_endpoint: 1,
                disable_after: Duration::from_secs(5 * 86_400),
                lease: Duration::from_secs(120),
                attempt: Duration::from_secs(65),
                sweep: Duration::from_millis(20),
            },
            stop: stopped,
        }
        .run(),
    );
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, answered.notified())
        .await
        .unwrap();
    stop.send(true).unwrap();
    tokio::time::timeout(patience, running)
        .await
        .unwrap()
        .unwrap();
}
