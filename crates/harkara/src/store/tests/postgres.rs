//! What is so only of Postgres: several nodes, transactions that overlap, connections that end.
//!
//! Each returns at once when the tests are run on SQLite.

use std::collections::BTreeSet;

use ::postgres::{Client, NoTls};
use harkara_core::access::Role;

use super::people::{line, link};
use super::*;
use crate::store::views::owing;

/// `None` unless the tests are run on Postgres.
async fn world() -> Option<(World, Beside)> {
    let world = World::new().await;
    let url = world.place.url()?.to_owned();
    Some((world, Beside::connect(url)))
}

/// A connection of the test's own. The client blocks, so it lives on a thread of its own.
struct Beside(std::sync::mpsc::Sender<Job>);

type Job = Box<dyn FnOnce(&mut Client) + Send>;

impl Beside {
    fn connect(url: String) -> Self {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        std::thread::spawn(move || {
            let mut client = Client::connect(&url, NoTls).unwrap();
            queue.iter().for_each(|job| job(&mut client));
        });
        Self(jobs)
    }

    /// Runs statements some time.
    fn start(&self, sql: &'static str) {
        let job = move |client: &mut Client| client.batch_execute(sql).unwrap();
        self.0.send(Box::new(job)).unwrap();
    }

    /// What a query counts.
    async fn count(&self, sql: String) -> i64 {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let job = move |client: &mut Client| {
            let row = client.query_one(&sql, &[]);
            done.send(row.map(|row| row.get(0))).unwrap();
        };
        self.0.send(Box::new(job)).unwrap();
        is_done.await.unwrap().unwrap()
    }

    /// What a query answers, a text for each row.
    async fn texts(&self, sql: String) -> String {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let job = move |client: &mut Client| {
            let rows = client.query(&sql, &[]).unwrap();
            let texts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            done.send(texts.join("\n")).unwrap();
        };
        self.0.send(Box::new(job)).unwrap();
        is_done.await.unwrap()
    }

    /// Runs statements, and returns when they are done.
    async fn run(&self, sql: &'static str) {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let job = move |client: &mut Client| done.send(client.batch_execute(sql)).unwrap();
        self.0.send(Box::new(job)).unwrap();
        is_done.await.unwrap().unwrap();
    }
}

/// The schema of a test's store, which its URL ends with.
fn schema(world: &World) -> &str {
    let url = world.place.url().expect("it is in Postgres");
    url.rsplit("%3D").next().expect("a split has a part")
}

fn ids(page: &FeedPage) -> Vec<&str> {
    let events = page.events.iter();
    events.map(|(event, _)| event.event_id.as_str()).collect()
}

#[tokio::test]
async fn the_feed_passes_over_no_position_that_is_still_open() {
    let Some((world, beside)) = world().await else {
        return;
    };
    world.born("a", "o-1", None).await;
    assert_eq!(world.store.last_position(&ms()).await.unwrap(), 1);
    beside.run("begin; select nextval('event_positions')").await;
    world.born("c", "o-2", None).await;
    let first = world.store.feed(&ms(), everything()).await.unwrap();
    assert_eq!(ids(&first), ["evt_a"], "b may yet come between them");
    // A replay would end too early, and nobody would know.
    let last = world.store.last_position(&ms()).await;
    assert_eq!(kind(last), DbErrorKind::Busy);
    beside.run("rollback").await;
    let mut rest = everything();
    rest.after = Some(first.next);
    let rest = world.store.feed(&ms(), rest).await.unwrap();
    assert_eq!((ids(&rest), rest.next), (vec!["evt_c"], 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_claim_at_once_never_have_the_same() {
    let Some((world, _)) = world().await else {
        return;
    };
    for n in 0..60 {
        world.born(&format!("d{n}"), &format!("o-{n}"), None).await;
    }
    let other = World {
        store: world.place.open().await,
        place: Place::file(),
    };
    assert_ne!(world.store.node(), other.store.node());
    let mut all = Vec::new();
    for _ in 0..20 {
        let (here, there) = tokio::join!(world.claim(at(1), 4), other.claim(at(1), 4));
        all.extend(here.into_iter().chain(there));
    }
    let different: BTreeSet<&str> = all.iter().map(|c| c.delivery_id.as_str()).collect();
    assert_eq!((all.len(), different.len()), (60, 60));
    assert!(all.iter().all(|claimed| claimed.fence == 1));
}

#[tokio::test]
async fn what_a_node_holds_is_free_once_it_has_left() {
    let Some((world, _)) = world().await else {
        return;
    };
    let other = world.place.open().await;
    world.born("a", "o-1", Some(at(30))).await;
    let free = async |store: &Store| store.sweep(at(1)).await.unwrap().endpoints.len();
    assert_eq!(free(&other).await, 0);
    let World {
        store,
        place: _here,
    } = world;
    drop(store);
    assert_eq!(free(&other).await, 1);
}

/// The commit that is under way when its connection ends may have been made or not: whoever asks again
/// finds out, and has it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_ended_at_any_moment_lose_nothing_and_double_nothing() {
    let Some((world, beside)) = world().await else {
        return;
    };
    const EVENTS: usize = 150;
    let schema = schema(&world);
    // Ours are known by where they look.
    let ended = format!("create table {schema}.ended (pid bigint)");
    beside.run(ended.leak()).await;
    let end = format!(
        "with ours as materialized (
            select a.pid from pg_stat_activity a
            where a.application_name = 'harkara' and a.pid in (
                select pid from pg_locks where locktype = 'relation' and relation in (
                    select oid from pg_class where relnamespace = '{schema}'::regnamespace)))
        insert into {schema}.ended select pid from ours where pg_terminate_backend(pid)"
    );
    let end: &'static str = end.leak();
    let (mut refused, mut found) = (0, 0);
    for n in 0..EVENTS {
        // Not waited for: it happens somewhere in what follows.
        beside.start(end);
        loop {
            let mut unit = Commit::new(ms(), at(0));
            unit.events
                .push(event(&format!("e{n}"), &format!("o-{}", n % 7)));
            match world.store.commit(unit).await {
                Ok(_) => break,
                Err(error) if error.kind == DbErrorKind::Stale => {
                    let id = EventId::new(format!("evt_e{n}"));
                    if let Ok(Some(_)) = world.store.event(&ms(), &id).await {
                        found += 1;
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind, DbErrorKind::Busy, "{}", error.source);
                    refused += 1;
                }
            }
        }
    }
    let feed = loop {
        match world.store.feed(&ms(), everything()).await {
            Ok(feed) => break feed,
            Err(error) => assert_eq!(error.kind, DbErrorKind::Busy),
        }
    };
    let different: BTreeSet<&str> = ids(&feed).into_iter().collect();
    assert_eq!((feed.events.len(), different.len()), (EVENTS, EVENTS));
    for n in 0..7 {
        let key = format!("order/o-{n}");
        let of_order = feed.events.iter().filter(|(event, _)| event.subject == key);
        let sequences: Vec<i64> = of_order.map(|(event, _)| event.sequence).collect();
        let expected: Vec<i64> = (1..).take(sequences.len()).collect();
        assert_eq!(sequences, expected);
    }
    let ended = world.list("select cast(count(*) as text) from ended").await;
    println!("{ended} ended, {refused} refused, {found} found made");
    assert_ne!(ended, "0", "no connection was ended in a transaction");
}

/// Two sessions meet at the endpoint: one gives it a delivery, the other deletes it. Both are held up
/// where they write deliveries, in either order, and then let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_deleted_while_it_is_given_a_delivery_keeps_none() {
    for commit_is_first in [true, false] {
        let Some((world, beside)) = world().await else {
            return;
        };
        let other = world.place.open().await;
        // Each of its kinds is there before: one that is due, and one that waits for it.
        world.born("due", "o-1", None).await;
        world.born("waits", "o-1", None).await;
        let mut works: [Work<_>; 2] = [
            Box::pin(commit_new(world.store.clone())),
            Box::pin(delete_endpoint(other.clone())),
        ];
        if !commit_is_first {
            works.reverse();
        }
        let lock = "begin; lock table deliveries in share mode";
        let results = held_up((&world, &beside), lock, works).await;
        let results = results.map(|result| result.map_err(|error| error.kind));
        // What was planned for an endpoint that is gone by then is planned anew.
        let second = match commit_is_first {
            true => Ok(()),
            false => Err(DbErrorKind::Stale),
        };
        assert_eq!(results, [Ok(()), second]);
        let event = world.store.event(&ms(), &EventId::new("evt_new")).await;
        assert_eq!(event.unwrap().is_some(), commit_is_first);
        let left = "select delivery_id from deliveries where state in ('pending', 'waiting')";
        assert_eq!(world.list(left).await, "");
        let sweep = world.store.sweep(at(90)).await.unwrap();
        assert!(sweep.endpoints.is_empty());
    }
}

/// Two sessions meet at a person: one stores a link that they make, the other takes their role away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_made_while_its_maker_loses_the_right_to_it_is_there_no_more() {
    for link_is_first in [true, false] {
        let Some((world, beside)) = world().await else {
            return;
        };
        world.join("asha", ms(), Role::Admin).await;
        let other = world.place.open().await;
        let mut works: [Work<bool>; 2] = [
            Box::pin(make_link(world.store.clone())),
            Box::pin(take_role(other.clone())),
        ];
        if !link_is_first {
            works.reverse();
        }
        let lock = "begin; lock table links in share mode";
        let results = held_up((&world, &beside), lock, works).await;
        assert_eq!(results, [true, link_is_first]);
        assert_eq!(world.store.links(&ms()).await.unwrap(), []);
    }
}

async fn make_link(store: Store) -> bool {
    let link = link("l", ms(), Role::Support);
    store.put_link(link, line("invited", 10)).await.unwrap()
}

async fn take_role(store: Store) -> bool {
    let (ms, entry) = (ms(), line("changed a role", 20));
    let roles = (Role::Admin, Some(Role::Support));
    let changed = store.change_member((&ms, "usr_asha"), roles, entry).await;
    changed.unwrap() == MemberChange::Done
}

type Work<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// What becomes of two works of which each is held up at a table that `lock` locks, or the second behind
/// the first.
async fn held_up<T: Send + 'static>(
    (world, beside): (&World, &Beside),
    lock: &'static str,
    works: [Work<T>; 2],
) -> [T; 2] {
    beside.run(lock).await;
    let schema = schema(world);
    let held_up = format!(
        "select count(distinct pid) from pg_locks where not granted and pid in (
            select pid from pg_locks where locktype = 'relation' and relation in (
                select oid from pg_class where relnamespace = '{schema}'::regnamespace))"
    );
    let mut tasks = Vec::new();
    for work in works {
        tasks.push(tokio::spawn(work));
        let are_held_up = async {
            while beside.count(held_up.clone()).await < tasks.len() as i64 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(LOCK_PATIENCE, are_held_up).await;
        in_time.expect("each is held up at what the test has locked, or behind the other");
    }
    beside.run("rollback").await;
    let (second, first) = (tasks.pop().unwrap(), tasks.pop().unwrap());
    [first.await.unwrap(), second.await.unwrap()]
}

/// Less than a session waits for a lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(4);

async fn commit_new(store: Store) -> Result<(), DbError> {
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("new", "o-new"));
    unit.lease_until = Some(at(30));
    store.commit(unit).await.map(drop)
}

async fn delete_endpoint(store: Store) -> Result<(), DbError> {
    let (merchant_id, endpoint_id) = (ms(), ep("ep_1"));
    let deleted = store.delete_endpoint(&merchant_id, &endpoint_id, "gone", at(1));
    deleted.await.map(drop)
}

/// The database's clock is moved, for ours cannot be: a function of the schema stands before the one
/// that is built in.
#[tokio::test]
async fn a_node_whose_clock_is_not_the_databases_does_not_start() {
    let Some((world, beside)) = world().await else {
        return;
    };
    let schema = schema(&world);
    let set = async |seconds: i64| {
        let sql = format!(
            "create or replace function {schema}.clock_timestamp() returns timestamptz language sql
            as $$ select pg_catalog.clock_timestamp() + interval '{seconds} s' $$"
        );
        beside.run(sql.leak()).await;
    };
    let url = format!("{},pg_catalog", world.place.url().unwrap());
    let start = async || {
        let url = url.clone();
        let connect = move || Store::connect(&url);
        tokio::task::spawn_blocking(connect).await.unwrap()
    };
    for (seconds, way) in [(-60, "ahead of"), (60, "behind")] {
        set(seconds).await;
        let refused = start().await.map(drop).unwrap_err();
        let said = refused.source.to_string();
        assert_eq!(refused.kind, DbErrorKind::Down);
        assert!(said.contains(&format!("ms {way} the database's")), "{said}");
    }
    set(1).await;
    let store = start().await.unwrap();
    let ahead = store.clock_ahead_ms().unwrap();
    assert!((-1_000..-500).contains(&ahead), "{ahead}");
    assert_eq!(world.store.clock_ahead_ms(), Some(0));
    // One that runs goes on, and shows it from its next beat on.
    set(60).await;
    let is_shown = async {
        while store.clock_ahead_ms().unwrap() > -50_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), is_shown).await;
    in_time.unwrap();
}

#[tokio::test]
async fn a_body_stays_while_somebody_is_about_to_send_it_again() {
    let Some((world, beside)) = world().await else {
        return;
    };
    let mut unit = Commit::new(ms(), at(0));
    unit.events.push(event("a", "o-1"));
    unit.events[0].deliveries.clear();
    world.store.commit(unit).await.unwrap();
    // As a resend does, whose delivery is not there yet.
    beside
        .run("begin; select 1 from event_bodies where position = 1 for key share")
        .await;
    let forget = async || world.store.forget(Kept::Bodies, vec![1..=1]).await;
    assert_eq!(kind(forget().await), DbErrorKind::Busy);
    beside.run("rollback").await;
    assert_eq!(forget().await.unwrap(), 1);
}

#[tokio::test]
async fn of_many_nodes_the_eldest_deletes_what_is_old() {
    let Some((world, _)) = world().await else {
        return;
    };
    let second = world.place.open().await;
    let eldest = [world.store.is_eldest().await, second.is_eldest().await];
    assert_eq!(eldest.map(Result::unwrap), [true, false]);
    drop(world.store);
    assert!(second.is_eldest().await.unwrap());
}

/// Parts of tables have indexes of their own, which are taken only by who asks in their words.
#[tokio::test]
async fn what_is_owed_is_found_by_its_index() {
    let Some((world, beside)) = world().await else {
        return;
    };
    beside
        .run("set enable_seqscan = off; set enable_bitmapscan = off")
        .await;
    let [_, ended] = owing();
    let owing = ended.replace("?1", "1").replace("?2", "500");
    let plan = beside.texts(format!("explain {owing}")).await;
    assert!(
        plan.contains("Index Scan Backward using deliveries_owed"),
        "{plan}"
    );
    assert!(
        plan.contains("Index Scan using deliveries_pkey on deliveries r"),
        "{plan}"
    );
    assert!(!plan.contains("Sort"), "{plan}");
    drop(world);
}
