//! What is so only of a SQLite file: its settings, a disk that is full, and how it finds rows.

use harkara_core::id::digest;

use super::*;
use crate::store::pen::LAST_SEQUENCE;
use crate::store::replays::{ANY, DELIVERED_OF_MOMENT, LOST, RUNNING};
use crate::store::retention::{OLD_BODIES, OLD_EVENTS, OLD_KEYS};
use crate::store::units::commit::INSERT_DELIVERY;
use crate::store::units::forget::KEEP_DOCS;
use crate::store::units::place::UNSETTLED_BEFORE;
use crate::store::units::sweep::{DUE_NEXT, IS_DUE, NEXT_ENDPOINT};
use crate::store::views::{events_sql, orders_sql, owing};

#[tokio::test]
async fn the_file_is_set_up_so_that_one_flush_of_its_log_outlives_the_power() {
    let world = World::on_file().await;
    let settings = world.store.write(|pen| {
        let mut settings = String::new();
        for name in ["journal_mode", "synchronous", "page_size", "mmap_size"] {
            let pragma = format!("pragma {name}");
            pen.find(&pragma, params![], |row| {
                settings.push_str(&format!("{name}: {:?}\n", row.value(0.into())?));
                Ok(())
            })?;
        }
        Ok(settings)
    });
    insta::assert_snapshot!(settings.await.unwrap(), @r#"
    journal_mode: Text("wal")
    synchronous: Int(1)
    page_size: Int(4096)
    mmap_size: Int(0)
    "#);
}

#[tokio::test]
async fn a_full_disk_refuses_the_batch_and_the_store_goes_on_when_there_is_room() {
    let world = World::on_file().await;
    let limit = |pages: &'static str| {
        world.store.write(move |pen| {
            let pragma = format!("pragma max_page_count = {pages}");
            pen.find(&pragma, params![], |row| row.get::<_, i64>(0))
        })
    };
    limit("1").await.unwrap();
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("big", "o-1"));
    // Hashes, for what repeats itself takes no room.
    let noise = (0..20_000).flat_map(|n| digest(&[&n.to_string()]));
    unit.events[0].event.body = noise.collect();
    assert_eq!(
        kind(world.store.commit(unit.clone()).await),
        DbErrorKind::Busy
    );
    limit("1000000").await.unwrap();
    let committed = world.store.commit(unit).await.unwrap();
    assert_eq!(committed.events[0].position, 1);
}

/// The conditions of partial indexes are worked out at each write.
#[tokio::test]
async fn hot_writes_make_no_temporary_tables() {
    let world = World::on_file().await;
    for sql in [INSERT_DELIVERY, settle::APPLY] {
        let steps = explain(&world, "explain", sql, "opcode").await;
        assert!(steps.contains(&"IdxInsert".to_owned()), "{steps:?}");
        assert!(!steps.contains(&"OpenEphemeral".to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn hot_reads_walk_partial_indexes() {
    let world = World::on_file().await;
    let mut plans = String::new();
    for sql in [
        NEXT_ENDPOINT,
        IS_DUE,
        DUE_NEXT,
        claim::DUE,
        LAST_SEQUENCE,
        UNSETTLED_BEFORE,
        settle::STORED,
        settle::WAITING_ON,
    ] {
        plans.push_str(&plan(&world, sql).await);
    }
    insta::assert_snapshot!(plans, @r"
    SEARCH deliveries USING COVERING INDEX deliveries_due (endpoint>?)

    SEARCH deliveries USING INDEX deliveries_due (endpoint=? AND retried=? AND due_at<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH nodes USING PRIMARY KEY (node=?)

    SEARCH deliveries USING COVERING INDEX deliveries_due (endpoint=? AND retried=? AND due_at>?)

    SEARCH d USING INDEX deliveries_due (endpoint=? AND retried=? AND due_at>? AND due_at<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH nodes USING PRIMARY KEY (node=?)
    SEARCH e USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH w USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH s USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN

    CO-ROUTINE known
    COMPOUND QUERY
    LEFT-MOST SUBQUERY
    SEARCH events USING COVERING INDEX events_by_subject (subject=?)
    UNION ALL
    SEARCH forgotten_subjects USING PRIMARY KEY (subject=?)
    SEARCH known

    SEARCH deliveries USING INDEX deliveries_open (subject=? AND endpoint=? AND sequence<?)

    SEARCH d USING INDEX deliveries_by_id (delivery_id=?)
    SEARCH p USING INTEGER PRIMARY KEY (rowid=?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH attempts USING PRIMARY KEY (delivery=?)
    CORRELATED SCALAR SUBQUERY 2
    SEARCH deliveries USING COVERING INDEX deliveries_waiting (waiting_on=?)

    SEARCH deliveries USING INDEX deliveries_waiting (waiting_on=?)
    USE TEMP B-TREE FOR ORDER BY
    ");
}

#[tokio::test]
async fn a_sweep_costs_the_same_whatever_waits_for_a_dead_endpoint() {
    let world = World::on_file().await;
    let copy = "
        insert into deliveries select delivery + value, delivery_id || value, endpoint, subject,
            sequence, kind, order_mode, url_override, state, reason, waiting_on, overtaking, attempts,
            retried, due_at, fence, node, lease_until, created_at, settled_at
        from deliveries, (with recursive n (value) as (
            select 1 union all select value + 1 from n where value < ?1) select value from n)
        where delivery_id = x'61'";
    world.born("a", "o-1", None).await;
    let mut steps = Vec::new();
    for backlog in [100_i64, 5_000] {
        world
            .store
            .write(move |pen| {
                pen.execute(
                    "delete from deliveries where delivery_id <> x'61'",
                    params![],
                )?;
                pen.execute(copy, params![backlog])
            })
            .await
            .unwrap();
        let (conn, now) = (connect(&world), at(1).as_micros());
        let mut spent = 0;
        for (sql, params) in [
            (NEXT_ENDPOINT, rusqlite::params![0]),
            (IS_DUE, rusqlite::params![1, 0, i64::MAX, now]),
            (DUE_NEXT, rusqlite::params![1, now]),
        ] {
            let mut statement = conn.prepare(sql).unwrap();
            statement.query_row(params, |_| Ok(())).unwrap();
            spent += statement.get_status(rusqlite::StatementStatus::VmStep);
        }
        steps.push(spent);
    }
    assert_eq!(steps[0], steps[1]);
}

/// A page that had to be sorted would read all that follow it.
#[tokio::test]
async fn jobs_and_their_events_are_found_by_keys() {
    let world = World::on_file().await;
    let mut plans = String::new();
    for sql in [LOST, ANY, RUNNING, DELIVERED_OF_MOMENT] {
        plans.push_str(&plan(&world, sql).await);
    }
    insta::assert_snapshot!(plans, @r"
    SEARCH d USING INDEX deliveries_lost (endpoint=? AND rowid>? AND rowid<?)
    SEARCH e USING INTEGER PRIMARY KEY (rowid=?)
    SEARCH w USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN

    SEARCH e USING INDEX events_by_merchant (merchant=? AND rowid>? AND rowid<?)
    SEARCH w USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    SEARCH d USING INTEGER PRIMARY KEY (rowid>? AND rowid<?) LEFT-JOIN

    SCAN replay_jobs USING INDEX replay_jobs_running

    SEARCH d USING INDEX deliveries_by_id (delivery_id>? AND delivery_id<?)
    SEARCH e USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN
    ");
}

/// A step of the keeper goes by the numbers of what is left, and looks at nothing else.
#[tokio::test]
async fn what_is_old_is_found_by_its_number() {
    let world = World::on_file().await;
    let mut plans = String::new();
    for sql in [OLD_BODIES, OLD_EVENTS, OLD_KEYS] {
        plans.push_str(&plan(&world, sql).await);
    }
    for sql in KEEP_DOCS {
        plans.push_str(&plan(&world, sql).await);
    }
    insta::assert_snapshot!(plans, @r"
    SEARCH b USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH d USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)

    SEARCH e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?)
    SCALAR SUBQUERY 2
    SEARCH events

    SEARCH idempotency_keys USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)
    SCALAR SUBQUERY 1
    SEARCH idempotency_keys

    SEARCH orders USING INTEGER PRIMARY KEY (rowid=?)
    LIST SUBQUERY 2
    SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?)

    SEARCH mandates USING INDEX mandates_by_position (position>? AND position<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?)

    SEARCH notifications USING INDEX notifications_by_position (position>? AND position<?)
    CORRELATED SCALAR SUBQUERY 1
    SEARCH b USING INTEGER PRIMARY KEY (rowid=?)
    ");
}

/// One that had to be sorted would read all that follow it, bodies included.
#[tokio::test]
async fn a_page_of_the_feed_is_found_in_order() {
    let world = World::on_file().await;
    let mut asks = vec![everything()];
    let mut of_order = everything();
    of_order.filter.subject = Some(Subject::Order(OrderId::new("o-1")));
    asks.push(of_order);
    for mut ask in asks {
        ask.bodies = true;
        ask.filter.notified = Some(false);
        let plan = explain(&world, "explain query plan", &page_sql(&ask), "detail").await;
        assert!(plan[0].starts_with("SEARCH e USING"), "{plan:?}");
        assert!(
            plan.iter().all(|step| !step.contains("ORDER BY")),
            "{plan:?}"
        );
    }
}

/// Whatever is asked of the lists and figures for people, it is found by keys and in order.
#[tokio::test]
async fn pages_for_people_never_read_a_table_that_grows() {
    let world = World::on_file().await;
    let mut statements = owing().to_vec();
    statements.push(TRAFFIC.to_owned());
    let unpaid = RecentOrders {
        is_paid: true,
        notified: Some(false),
        ..RecentOrders::default()
    };
    statements.push(orders_sql(&unpaid));
    statements.push(events_sql(&RecentEvents {
        notified: Some(false),
        ..RecentEvents::default()
    }));
    let mut first = Vec::new();
    for sql in &statements {
        let plan = explain(&world, "explain query plan", sql, "detail").await;
        let slow = ["SCAN", "ORDER BY", "AUTOMATIC"];
        let is_slow = |step: &String| slow.iter().any(|word| step.contains(word));
        assert!(!plan.iter().any(is_slow), "{sql}\n{plan:?}");
        first.push(plan[0].clone());
    }
    insta::assert_snapshot!(first.join("\n"), @r"
    SEARCH d USING INDEX deliveries_due (endpoint=?)
    SEARCH d USING INDEX deliveries_owed (endpoint=?)
    SEARCH e USING COVERING INDEX events_by_merchant (merchant=? AND rowid>?)
    SEARCH o USING INDEX orders_by_age (merchant=? AND created_at>? AND created_at<?)
    SEARCH e USING INDEX events_by_merchant (merchant=? AND rowid>? AND rowid<?)
    ");
}

/// One era after another, of those that the merchant has; only the numbers of the customer's own orders are
/// sorted.
#[tokio::test]
async fn a_customers_orders_are_found_by_eras() {
    let world = World::on_file().await;
    let of_customer = RecentOrders {
        customer_id: Some("c".to_owned()),
        ..RecentOrders::default()
    };
    let plan = plan(&world, &orders_sql(&of_customer)).await;
    let (found, _) = plan.split_once("\nSEARCH m ").unwrap();
    insta::assert_snapshot!(found, @r"
    SEARCH o USING INTEGER PRIMARY KEY (rowid=?)
    LIST SUBQUERY 12
    MATERIALIZE eras
    SETUP
    SEARCH e USING COVERING INDEX orders_by_customer (merchant=?)
    RECURSIVE STEP
    SCAN eras
    CORRELATED SCALAR SUBQUERY 9
    SEARCH e USING COVERING INDEX orders_by_customer (merchant=? AND <expr><?)
    SCAN eras
    SEARCH o USING INDEX orders_by_customer (merchant=? AND <expr>=? AND customer_id=? AND created_at>? AND created_at<?)
    USE TEMP B-TREE FOR ORDER BY
    ");
}

/// How SQLite means to find the rows of a statement.
async fn plan(world: &World, sql: &str) -> String {
    let steps = explain(world, "explain query plan", sql, "detail").await;
    steps.join("\n") + "\n\n"
}

/// A column of what SQLite says it would do.
async fn explain(world: &World, how: &str, sql: &str, column: &str) -> Vec<String> {
    let conn = connect(world);
    let mut statement = conn.prepare(&format!("{how} {sql}")).unwrap();
    let unbound = vec![rusqlite::types::Null; statement.parameter_count()];
    let steps = statement.query_map(rusqlite::params_from_iter(unbound), |row| row.get(column));
    steps.unwrap().collect::<Result<_, _>>().unwrap()
}

/// A connection of the test's own.
fn connect(world: &World) -> rusqlite::Connection {
    rusqlite::Connection::open(sqlite::database(world.place.folder())).unwrap()
}
