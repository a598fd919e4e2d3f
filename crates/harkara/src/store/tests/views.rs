//! What is shown about what is stored.

use harkara_core::delivery::DeliveryState;

use super::*;

#[tokio::test]
async fn an_order_is_found_by_all_its_names() {
    let world = World::new().await;
    let mut row = order("Order-1", 1);
    row.refs = vec![
        (RefKind::TxnUuid, "moz1".to_owned()),
        (RefKind::TxnId, "ms-Order-1-1".to_owned()),
        (RefKind::Refund, "r-1".to_owned()),
    ];
    let unit = Commit {
        writes: vec![Write::Order(row)],
        ..Commit::new(ms(), at(0))
    };
    world.store.commit(unit).await.unwrap();
    let store = &world.store;
    let by_id = store
        .order(&ms(), &OrderId::new("oRDER-1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (by_id.order_id.as_str(), by_id.origin),
        ("Order-1", Origin::Own)
    );
    assert_eq!(
        (by_id.amount_minor, by_id.currency.as_deref()),
        (Some(100), Some("INR"))
    );
    let by_link = store.order_by_internal_id("ordeh_order-1").await.unwrap();
    assert_eq!(by_link.as_ref(), Some(&by_id));
    for (kind, value) in [
        (RefKind::TxnUuid, "moz1"),
        (RefKind::TxnId, "ms-Order-1-1"),
        (RefKind::Refund, "r-1"),
    ] {
        let by_ref = store.order_by_ref(&ms(), kind, value).await.unwrap();
        assert_eq!(by_ref.as_ref(), Some(&by_id), "{kind:?}");
    }
    let other = MerchantId::new("other");
    assert_eq!(
        store.order(&other, &OrderId::new("order-1")).await.unwrap(),
        None
    );
    assert_eq!(
        store
            .order_by_ref(&other, RefKind::Refund, "r-1")
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn pages_of_orders() {
    let world = World::new().await;
    for (n, name) in (0..).zip(["a", "b", "c", "d"]) {
        let mut row = order(name, 1);
        row.created_at = at(n);
        row.status = if n < 2 { "CHARGED" } else { "NEW" }.to_owned();
        row.customer_id = (n == 1).then(|| "cust".to_owned());
        let mut unit = Commit {
            writes: vec![Write::Order(row)],
            ..Commit::new(ms(), at(n))
        };
        unit.events.push(event(&format!("of-{name}"), name));
        unit.lease_until = Some(at(100));
        let claimed = world.store.commit(unit).await.unwrap().claimed.remove(0);
        if name != "d" {
            world
                .store
                .settle(settle(&claimed, Verdict::Delivered, at(5)))
                .await
                .unwrap();
        }
    }
    let mut report = String::new();
    let mut check = async |what: &str, filter: OrderFilter| {
        let page = world.store.orders(&ms(), &filter).await.unwrap();
        let ids: Vec<&str> = page.orders.iter().map(|o| o.order_id.as_str()).collect();
        report.push_str(&format!("{what:<18} {} of {}\n", ids.join(" "), page.total));
    };
    let all = || OrderFilter {
        limit: 10,
        ..OrderFilter::default()
    };
    check("all", all()).await;
    check(
        "second page of 3",
        OrderFilter {
            limit: 3,
            offset: 3,
            ..all()
        },
    )
    .await;
    check(
        "charged",
        OrderFilter {
            status: Some("CHARGED".to_owned()),
            ..all()
        },
    )
    .await;
    check(
        "of a customer",
        OrderFilter {
            customer_id: Some("cust".to_owned()),
            ..all()
        },
    )
    .await;
    let (after, before) = (Some(at(1)), Some(at(3)));
    check(
        "from b until d",
        OrderFilter {
            created_after: after,
            created_before: before,
            ..all()
        },
    )
    .await;
    check(
        "notified",
        OrderFilter {
            notified: Some(true),
            ..all()
        },
    )
    .await;
    check(
        "not notified",
        OrderFilter {
            notified: Some(false),
            ..all()
        },
    )
    .await;
    insta::assert_snapshot!(report, @r"
    all                d c b a of 4
    second page of 3   a of 4
    charged            b a of 2
    of a customer      b of 1
    from b until d     c b of 2
    notified           c b a of 3
    not notified       d of 1
    ");
}

#[tokio::test]
async fn notified_means_that_nobody_lacks_it() {
    let world = World::new().await;
    world
        .store
        .put_endpoint(&endpoint("ep_2"), 0)
        .await
        .unwrap();
    let mut unit = Commit::new(ms(), at(0));
    unit.lease_until = Some(at(100));
    let mut new = event("one", "o-1");
    let mut two = delivery("two", &new.event.id);
    two.endpoint_id = ep("ep_2");
    new.deliveries.push(two);
    unit.events.push(new);
    let [one, two] = &world.store.commit(unit).await.unwrap().claimed[..] else {
        panic!("both were due");
    };
    let mut report = String::new();
    let id = EventId::new("evt_one");
    let mut check = async |what: &str, settle: Settle| {
        world.store.settle(settle).await.unwrap();
        let (event, _) = world.store.event(&ms(), &id).await.unwrap().unwrap();
        report.push_str(&format!("{what:<28} {}\n", event.notified));
    };
    let again = async |name: &str, kind: DeliveryKind| {
        let mut again = delivery(name, &id);
        (again.kind, again.endpoint_id) = (kind, ep("ep_2"));
        world
            .store
            .insert_replay(again, at(2), Some(at(50)))
            .await
            .unwrap()
            .unwrap()
    };
    check("the first has it", settle(one, Verdict::Delivered, at(1))).await;
    check(
        "the second gives up",
        settle(two, Verdict::Exhausted, at(1)),
    )
    .await;
    let test = again("test", DeliveryKind::Test).await;
    check(
        "a test reaches the second",
        settle(&test, Verdict::Delivered, at(2)),
    )
    .await;
    let replay = again("replay", DeliveryKind::Replay).await;
    check(
        "a replay reaches the second",
        settle(&replay, Verdict::Delivered, at(3)),
    )
    .await;
    insta::assert_snapshot!(report, @r"
    the first has it             false
    the second gives up          false
    a test reaches the second    false
    a replay reaches the second  true
    ");
    let mut unnotified = everything();
    unnotified.filter.notified = Some(false);
    let feed = world.store.feed(&ms(), unnotified).await.unwrap();
    assert_eq!(feed.events, []);
}

/// The names of a page's events, and where the next one begins.
fn shown(page: &FeedPage) -> String {
    let names: Vec<&str> = page
        .events
        .iter()
        .map(|(event, _)| event.event_id.as_str().trim_start_matches("evt_"))
        .collect();
    format!("[{}] then after {}", names.join(" "), page.next)
}

#[tokio::test]
async fn the_feed_goes_on_after_a_position() {
    let world = World::new().await;
    for (name, order) in [("a", "o-1"), ("b", "o-2"), ("c", "o-1")] {
        world.born(name, order, None).await;
    }
    let mut report = String::new();
    let mut check = async |what: &str, ask: FeedAsk| {
        let page = world.store.feed(&ms(), ask).await.unwrap();
        report.push_str(&format!("{what:<18} {}\n", shown(&page)));
    };
    let (mut two, mut rest) = (everything(), everything());
    (two.limit, rest.after) = (2, Some(2));
    check("two", two).await;
    check("the rest", rest.clone()).await;
    rest.after = Some(3);
    check("the end", rest).await;
    let mut of_order = everything();
    of_order.filter.subject = Some(Subject::Order(OrderId::new("O-1")));
    check("of an order", of_order).await;
    let mut of_name = everything();
    of_name.filter.name = Some("ORDER_FAILED".to_owned());
    check("of a name", of_name).await;
    insta::assert_snapshot!(report, @r"
    two                [a b] then after 2
    the rest           [c] then after 3
    the end            [] then after 3
    of an order        [a c] then after 3
    of a name          [] then after 3
    ");
}

/// A page costs no more than it may, and the next one goes on where it ended.
#[tokio::test]
async fn the_feed_gives_a_bounded_page_at_a_time() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.born(name, name, None).await;
    }
    let pages = async |mut ask: FeedAsk, rows, body_bytes| {
        let mut report = String::new();
        loop {
            let after = ask.after;
            let bounds = Bounds { rows, body_bytes };
            let page = world.store.feed_within(&ms(), ask.clone(), bounds).await;
            let page = page.unwrap();
            ask.after = Some(page.next);
            report.push_str(&format!("{}\n", shown(&page)));
            if Some(page.next) == after {
                return report;
            }
        }
    };
    let mut none = everything();
    none.filter.name = Some("ORDER_FAILED".to_owned());
    insta::assert_snapshot!(pages(none, 2, 0).await, @r"
    [] then after 2
    [] then after 4
    [] then after 5
    [] then after 5
    ");
    let mut all = everything();
    all.filter.notified = Some(false);
    insta::assert_snapshot!(pages(all, 2, 0).await, @r"
    [a b] then after 2
    [c d] then after 4
    [e] then after 5
    [] then after 5
    ");
    let mut bodies = everything();
    bodies.bodies = true;
    let size = "body of a".len();
    insta::assert_snapshot!(pages(bodies.clone(), 2, 2 * size).await, @r"
    [a b] then after 2
    [c d] then after 4
    [e] then after 5
    [] then after 5
    ");
    let nothing = Bounds {
        rows: 2,
        body_bytes: 0,
    };
    let first = world.store.feed_within(&ms(), bodies, nothing).await;
    assert_eq!(
        first.unwrap().events[0].1.as_deref(),
        Some(&b"body of a"[..]),
        "the first is given however large it is"
    );
}

#[tokio::test]
async fn health_counts_what_is_left() {
    let world = World::new().await;
    for (name, order) in [("a", "o-1"), ("b", "o-1"), ("c", "o-2")] {
        world.born(name, order, None).await;
    }
    let left = Counts {
        pending: 2,
        waiting: 1,
        oldest_due_at: Some(at(0)),
    };
    assert_eq!(world.store.counts(None).await.unwrap(), left);
    assert_eq!(world.store.counts(Some(&ms())).await.unwrap(), left);
    let bounded = Counts { pending: 1, ..left };
    assert_eq!(world.store.counts_to(1, None).await.unwrap(), bounded);
    let other = MerchantId::new("other");
    assert_eq!(
        world.store.counts(Some(&other)).await.unwrap(),
        Counts::default()
    );
    assert_eq!(world.delivery("b").await.state, DeliveryState::Waiting);
}

#[tokio::test]
async fn endpoints_are_cached_and_never_older_than_a_write() {
    let world = World::on_file().await;
    let urls = async || {
        let endpoints = world.store.endpoints(&ms()).await.unwrap();
        endpoints
            .iter()
            .map(|e| e.url.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let first = world.store.endpoints(&ms()).await.unwrap();
    let second = world.store.endpoints(&ms()).await.unwrap();
    assert!(
        Arc::ptr_eq(&first, &second),
        "the second look costs nothing"
    );
    let mut changed = endpoint("ep_1");
    changed.url = "https://merchant.example/new".to_owned();
    assert_eq!(world.store.put_endpoint(&changed, 1).await.unwrap(), 2);
    assert_eq!(urls().await, "https://merchant.example/new");
    assert_eq!(
        kind(world.store.put_endpoint(&changed, 1).await),
        DbErrorKind::Stale
    );
}

#[test]
fn a_load_that_began_before_a_write_is_not_kept() {
    let cache: Cache<&str, &str> = Cache::new();
    let cache::Found::Missing { generation } = cache.find(&"ms") else {
        panic!("nothing is there yet");
    };
    cache.forget(&"ms");
    cache.keep(generation, "ms", "as it was before the write");
    assert!(matches!(cache.find(&"ms"), cache::Found::Missing { .. }));
}

#[tokio::test]
async fn merchants_keys_and_answers() {
    let world = World::new().await;
    let store = &world.store;
    let mut merchant = MerchantRow {
        merchant_id: ms(),
        doc: "{}".to_owned(),
        version: 1,
        created_at: at(0),
    };
    store.put_merchant(merchant.clone()).await.unwrap();
    assert_eq!(*store.merchant(&ms()).await.unwrap().unwrap(), merchant);
    assert_eq!(
        kind(store.put_merchant(merchant.clone()).await),
        DbErrorKind::Stale
    );
    merchant.version = 2;
    merchant.doc = "{\"name\":\"Shop\"}".to_owned();
    store.put_merchant(merchant.clone()).await.unwrap();
    assert_eq!(*store.merchant(&ms()).await.unwrap().unwrap(), merchant);
    assert_eq!(store.merchants().await.unwrap(), [merchant]);

    let mut key = ApiKeyRow {
        key_id: "k1".to_owned(),
        merchant_id: ms(),
        hash: "hash".to_owned(),
        doc: "{}".to_owned(),
        created_at: at(0),
        revoked_at: None,
    };
    store.insert_api_key(key.clone()).await.unwrap();
    assert_eq!(*store.api_key("k1").await.unwrap().unwrap(), key);
    store.revoke_api_key(&ms(), "k1", at(9)).await.unwrap();
    key.revoked_at = Some(at(9));
    assert_eq!(*store.api_key("k1").await.unwrap().unwrap(), key);
    assert_eq!(store.api_keys(&ms()).await.unwrap(), [key]);
    assert_eq!(
        kind(store.revoke_api_key(&ms(), "k1", at(9)).await),
        DbErrorKind::Stale
    );

    let answer = NewIdempotencyKey {
        key: "req-1".to_owned(),
        request_hash: "h".to_owned(),
        response: "{\"ok\":true}".to_owned(),
    };
    let scheduled = ScheduledOutcome {
        merchant_id: ms(),
        id: "s-1".to_owned(),
        due_at: at(5),
        doc: "{}".to_owned(),
    };
    let mut unit = Commit::new(ms(), at(0));
    unit.idempotency = Some(answer.clone());
    unit.schedule = vec![scheduled.clone()];
    store.commit(unit).await.unwrap();
    assert_eq!(
        store.idempotency(&ms(), "req-1").await.unwrap(),
        Some(answer)
    );
    assert_eq!(store.idempotency(&ms(), "req-2").await.unwrap(), None);
    assert_eq!(store.next_scheduled().await.unwrap(), Some(at(5)));
    assert_eq!(store.due_scheduled(at(4), 10).await.unwrap(), []);
    assert_eq!(store.due_scheduled(at(5), 10).await.unwrap(), [scheduled]);
}
