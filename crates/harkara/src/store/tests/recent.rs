//! Lists and figures for people: newest first, each page after the one before, within their bounds.

use harkara_core::delivery::{Verdict, Withheld};

use super::*;

impl World {
    /// An order of its own, paid or not, with one event for `ep_1`.
    async fn order(&self, id: &str, seconds: i64, status: &str, minor: i64) {
        let mut row = order(id, 1);
        row.created_at = at(seconds);
        row.status = status.to_owned();
        row.amount_minor = minor;
        row.customer_id = Some(format!("cust-{}", seconds % 2));
        let mut unit = Commit::new(ms(), at(seconds));
        unit.writes.push(Write::Order(row));
        let mut born = event(id, id);
        born.event.created_at = at(seconds);
        unit.events.push(born);
        self.store.commit(unit).await.unwrap();
    }

    /// Answers what is due, oldest first.
    async fn answer(&self, seconds: i64, limit: usize, verdict: Verdict) {
        for claimed in self.claim(at(seconds), limit).await {
            let settled = settle(&claimed, verdict, at(seconds));
            self.store.settle(settled).await.unwrap();
        }
    }

    async fn page(&self, wanted: RecentOrders, looked_at: i64) -> (String, Option<OrderPlace>) {
        let merchant_id = ms();
        let page = self
            .store
            .recent_orders_within(&merchant_id, wanted, looked_at);
        let page = page.await.unwrap();
        let ids: Vec<&str> = page.rows.iter().map(|row| row.order_id.as_str()).collect();
        (ids.join(" "), page.next)
    }
}

#[tokio::test]
async fn orders_are_read_from_the_newest_and_each_once() {
    let world = World::new().await;
    // Two in the same moment, which the page must not lose between them.
    for (id, seconds) in [("a", 1), ("b", 2), ("c", 2), ("d", 3), ("e", 4)] {
        world.order(id, seconds, "NEW", 100).await;
    }
    let mut wanted = RecentOrders {
        limit: 2,
        ..RecentOrders::default()
    };
    let mut pages = Vec::new();
    loop {
        let (ids, next) = world.page(wanted.clone(), 100).await;
        pages.push(ids);
        wanted.after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["e d", "c b", "a"]);
    let between = RecentOrders {
        created_after: Some(at(2)),
        created_before: Some(at(4)),
        limit: 10,
        ..RecentOrders::default()
    };
    assert_eq!(world.page(between, 100).await.0, "d c b");
    let of_customer = RecentOrders {
        customer_id: Some("cust-1".to_owned()),
        limit: 10,
        ..RecentOrders::default()
    };
    assert_eq!(world.page(of_customer, 100).await.0, "d a");
    let nobody = RecentOrders {
        limit: 10,
        ..RecentOrders::default()
    };
    let other = MerchantId::new("other");
    assert_eq!(
        world
            .store
            .recent_orders(&other, nobody)
            .await
            .unwrap()
            .rows,
        []
    );
}

/// Three eras of subjects, in the middle one of which the merchant has no order.
#[tokio::test]
async fn a_customers_orders_are_found_in_every_era_and_in_the_order_of_their_moments() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for number in 1..=1_500 {
        let is_ours = !(500..1_040).contains(&number) && number % 5 > 0;
        let (id, seconds) = (format!("o{number}"), number * 7_919 % 1_000);
        let mut row = order(&id, 1);
        row.created_at = at(seconds);
        row.customer_id = (number % 7 > 0).then(|| format!("cust-{}", number % 7));
        if is_ours && number % 7 == 3 {
            expected.push((seconds, number, id));
        }
        let merchant_id = if is_ours {
            ms()
        } else {
            MerchantId::new("other")
        };
        let mut unit = Commit::new(merchant_id, at(seconds));
        unit.writes.push(Write::Order(row));
        world.store.commit(unit).await.unwrap();
    }
    expected.sort_unstable();
    let expected: Vec<String> = expected.into_iter().rev().map(|(_, _, id)| id).collect();
    let mut wanted = RecentOrders {
        customer_id: Some("cust-3".to_owned()),
        limit: 40,
        ..RecentOrders::default()
    };
    let mut found = Vec::new();
    loop {
        let (ids, next) = world.page(wanted.clone(), 100).await;
        found.extend(ids.split_whitespace().map(str::to_owned));
        wanted.after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
    assert_eq!(found.len(), 109);
}

#[tokio::test]
async fn a_filter_that_lets_few_through_stops_at_its_bound_and_goes_on_from_there() {
    let world = World::new().await;
    for (id, seconds) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)] {
        let status = if id == "a" { "CHARGED" } else { "NEW" };
        world.order(id, seconds, status, 100).await;
    }
    let mut wanted = RecentOrders {
        status: Some("CHARGED".to_owned()),
        limit: 10,
        ..RecentOrders::default()
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (ids, next) = world.page(wanted.clone(), 2).await;
        seen.push((ids, next.map(|place| place.created_at)));
        wanted.after = next;
    }
    let ended = (String::new(), Some(at(4)));
    let further = (String::new(), Some(at(2)));
    assert_eq!(seen, [ended, further, ("a".to_owned(), None)]);
}

#[tokio::test]
async fn orders_are_paid_in_whole_or_in_part() {
    let world = World::new().await;
    let statuses = ["NEW", "CHARGED", "PARTIAL_CHARGED", "JUSPAY_DECLINED"];
    for (seconds, status) in (1..).zip(statuses) {
        world.order(status, seconds, status, 100).await;
    }
    let wanted = RecentOrders {
        is_paid: true,
        limit: 10,
        ..RecentOrders::default()
    };
    let (ids, next) = world.page(wanted.clone(), 100).await;
    assert_eq!((ids.as_str(), next), ("PARTIAL_CHARGED CHARGED", None));
    let (ids, next) = world.page(wanted, 1).await;
    assert!(
        ids.is_empty() && next.is_some(),
        "it goes on after its bound"
    );
}

#[tokio::test]
async fn orders_and_events_are_found_by_whether_they_are_notified() {
    let world = World::new().await;
    for (id, seconds) in [("a", 1), ("b", 2), ("c", 3)] {
        world.order(id, seconds, "CHARGED", 100).await;
    }
    world.answer(10, 1, Verdict::Delivered).await;
    let orders = async |notified| {
        let wanted = RecentOrders {
            notified: Some(notified),
            limit: 10,
            ..RecentOrders::default()
        };
        world.page(wanted, 100).await.0
    };
    assert_eq!(
        (orders(true).await, orders(false).await),
        ("a".into(), "c b".into())
    );
    let events = async |notified, before| {
        let wanted = RecentEvents {
            notified,
            before,
            limit: 2,
            ..RecentEvents::default()
        };
        let page = world.store.recent_events(&ms(), wanted).await.unwrap();
        let ids: Vec<&str> = page.rows.iter().map(|row| row.event_id.as_str()).collect();
        (ids.join(" "), page.next)
    };
    let (first, next) = events(None, None).await;
    assert_eq!(
        (first.as_str(), events(None, next).await),
        ("evt_c evt_b", ("evt_a".into(), None))
    );
    assert_eq!(events(Some(true), None).await.0, "evt_a");
    assert_eq!(events(Some(false), None).await.0, "evt_c evt_b");
    let named = async |name: &str| {
        let wanted = RecentEvents {
            name: Some(name.to_owned()),
            limit: 10,
            ..RecentEvents::default()
        };
        world
            .store
            .recent_events(&ms(), wanted)
            .await
            .unwrap()
            .rows
            .len()
    };
    assert_eq!(
        (named("ORDER_SUCCEEDED").await, named("ORDER_FAILED").await),
        (3, 0)
    );
}

#[tokio::test]
async fn what_was_paid_and_not_told_is_added_up_by_currency() {
    let world = World::new().await;
    assert_eq!(world.store.untold(&ms()).await.unwrap(), Untold::default());
    world.order("New", 1, "NEW", 100).await;
    world.order("Paid", 2, "CHARGED", 250).await;
    world.order("more", 3, "CHARGED", 50).await;
    let untold = world.store.untold(&ms()).await.unwrap();
    assert_eq!((untold.orders, untold.is_more), (2, false));
    assert_eq!(untold.amounts, [("INR".to_owned(), 300)]);
    assert_eq!(untold.oldest, Some((OrderId::new("Paid"), at(2))));
    assert_eq!(
        world
            .store
            .untold(&MerchantId::new("other"))
            .await
            .unwrap()
            .orders,
        0
    );

    // What is given up on is owed all the same, until it is sent again and arrives.
    world.answer(10, 10, Verdict::Exhausted).await;
    assert_eq!(world.store.untold(&ms()).await.unwrap().orders, 2);
    let again = NewDelivery {
        kind: DeliveryKind::Replay,
        ..delivery("again", &EventId::new("evt_Paid"))
    };
    world
        .store
        .insert_replay(again, at(20), None)
        .await
        .unwrap();
    world.answer(21, 10, Verdict::Delivered).await;
    let untold = world.store.untold(&ms()).await.unwrap();
    assert_eq!(untold.oldest, Some((OrderId::new("more"), at(3))));
}

#[tokio::test]
async fn what_is_withheld_does_not_hide_what_is_owed() {
    let world = World::new().await;
    world.order("Paid", 1, "CHARGED", 250).await;
    world.answer(2, 10, Verdict::Exhausted).await;
    for n in 0..5 {
        let mut unit = Commit::new(ms(), at(3));
        for m in 0..100 {
            let mut withheld = event(&format!("{n}-{m}"), "quiet");
            withheld.deliveries[0].withheld = Some(Withheld::SwitchedOff);
            unit.events.push(withheld);
        }
        world.store.commit(unit).await.unwrap();
    }
    let untold = world.store.untold(&ms()).await.unwrap();
    assert_eq!((untold.orders, untold.is_more), (1, false));
}

#[tokio::test]
async fn what_was_sent_again_and_arrived_is_owed_no_more_however_much_it_is() {
    let world = World::new().await;
    let settle_all = async |claimed: Vec<Claimed>, verdict, seconds| {
        let settles: Vec<_> = claimed
            .iter()
            .map(|claimed| settle(claimed, verdict, at(seconds)))
            .collect();
        for settled in world.store.settle_all(settles.into()).await.unwrap() {
            settled.unwrap();
        }
    };
    for n in 0..5 {
        let mut unit = Commit::new(ms(), at(0));
        for m in 0..100 {
            unit.events
                .push(event(&format!("{n}-{m}"), &format!("o-{n}-{m}")));
        }
        world.store.commit(unit).await.unwrap();
    }
    settle_all(world.claim(at(1), 500).await, Verdict::Exhausted, 2).await;
    let untold = world.store.untold(&ms()).await.unwrap();
    assert_eq!((untold.orders, untold.is_more), (0, true));

    let mut replays = tokio::task::JoinSet::new();
    for n in 0..500 {
        let name = format!("{}-{}", n / 100, n % 100);
        let again = NewDelivery {
            kind: DeliveryKind::Replay,
            ..delivery(
                &format!("again-{name}"),
                &EventId::new(format!("evt_{name}")),
            )
        };
        let store = world.store.clone();
        replays.spawn(async move { store.insert_replay(again, at(3), None).await.unwrap() });
    }
    replays.join_all().await;
    settle_all(world.claim(at(4), 500).await, Verdict::Delivered, 5).await;
    assert_eq!(world.store.untold(&ms()).await.unwrap(), Untold::default());
}

#[tokio::test]
async fn nothing_is_owed_to_an_endpoint_that_was_deleted() {
    let world = World::new().await;
    world.order("Paid", 1, "CHARGED", 250).await;
    world.answer(2, 10, Verdict::Exhausted).await;
    assert_eq!(world.store.untold(&ms()).await.unwrap().orders, 1);
    let store = &world.store;
    store
        .delete_endpoint(&ms(), &ep("ep_1"), "gone", at(3))
        .await
        .unwrap();
    assert_eq!(world.store.untold(&ms()).await.unwrap(), Untold::default());
}

#[tokio::test]
async fn traffic_counts_what_became_of_the_newest_events() {
    let world = World::new().await;
    for (id, seconds) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        world.order(id, seconds, "CHARGED", 100).await;
    }
    world.answer(5, 1, Verdict::Delivered).await;
    world.answer(6, 1, Verdict::RetryAt(at(1000))).await;
    world.answer(7, 1, Verdict::Exhausted).await;
    let traffic = world.store.traffic(&ms()).await.unwrap();
    let Traffic {
        events,
        since,
        delivered,
        on_the_way,
        retrying,
        exhausted,
        withheld,
        took,
    } = traffic;
    assert_eq!((events, since), (4, None));
    assert_eq!((delivered, on_the_way, retrying), (1, 1, 1));
    assert_eq!((exhausted, withheld), (1, 0));
    let four = Duration::from_secs(4);
    assert_eq!(took, Some((four, four)), "from the event to the 200");
    let nobody = world.store.traffic(&MerchantId::new("other")).await;
    assert_eq!(nobody.unwrap(), Traffic::default());
}

#[tokio::test]
async fn the_store_says_how_large_it_is() {
    let world = World::new().await;
    assert!(world.store.size().await.unwrap() > 4096);
}
