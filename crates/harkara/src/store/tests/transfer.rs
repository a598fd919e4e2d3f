//! A store that is copied into another is the same store, wherever it was stopped on the way.
//!
//! The target is where the tests are run: another file, or Postgres.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use harkara_core::delivery::Withheld;
use harkara_core::id::{MandateId, NotificationRef, ReplayJobId};
use harkara_core::replay::{Definition, Done, Job, JobState, Standing};
use harkara_core::retention::Retention;

use super::*;
use crate::store::transfer::{PAGE, TABLES, transfer};

/// Everything of a place, moved to another.
async fn copy(from: &Place, to: &Place) -> Result<Vec<Compared>, DbError> {
    let (from, to) = (site(from), site(to));
    let run = move || transfer(&from, &to, 3, &mut |_, _| Ok(()));
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The same, stopped after some pages.
async fn begin(from: &Place, to: &Place, pages: usize) -> Result<Vec<Compared>, DbError> {
    let (from, to) = (site(from), site(to));
    let mut left = pages;
    let run = move || {
        transfer(&from, &to, 2, &mut |_, _| {
            left -= 1;
            match left {
                0 => Err(DbError::new(DbErrorKind::Busy, "stopped")),
                _ => Ok(()),
            }
        })
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn site(place: &Place) -> Site {
    match place.url() {
        Some(url) => Site::Postgres(url.to_owned()),
        None => Site::Folder(place.folder().to_owned()),
    }
}

/// Why a store cannot be opened.
async fn refusal(place: &Place) -> String {
    let site = site(place);
    let open = move || match site {
        Site::Folder(folder) => Store::open(&folder).map(drop),
        Site::Postgres(url) => Store::connect(&url).map(drop),
    };
    let opened = tokio::task::spawn_blocking(open).await.unwrap();
    opened.unwrap_err().source.to_string()
}

fn cause<T: std::fmt::Debug>(result: Result<T, DbError>) -> String {
    result.unwrap_err().source.to_string()
}

fn sums(compared: &[Compared]) -> BTreeMap<&str, &Sum> {
    let sums = compared
        .iter()
        .inspect(|one| assert!(one.is_equal(), "{one:?}"));
    sums.map(|one| (one.table, &one.target)).collect()
}

/// A file with something in each table, and each kind of delivery; its store is closed.
async fn filled() -> Place {
    let world = World::on_file().await;
    people::fill(&world).await;
    let World { store, place } = world;
    store.keep_fact("key_ring", "ring").await.unwrap();
    let merchant = MerchantRow {
        merchant_id: ms(),
        doc: "{\"name\":\"Märchen\"}".to_owned(),
        version: 1,
        created_at: at(0),
    };
    store.put_merchant(merchant).await.unwrap();
    // In the order of their bytes, which is nobody's alphabet.
    for (key_id, merchant_id) in [("platform", ""), ("B", "ms"), ("a", "ms"), ("ä", "ms")] {
        let key = ApiKeyRow {
            key_id: key_id.to_owned(),
            merchant_id: MerchantId::new(merchant_id),
            hash: "00ff".to_owned(),
            doc: "{}".to_owned(),
            created_at: at(0),
            revoked_at: None,
        };
        store.insert_api_key(key).await.unwrap();
    }
    store.put_endpoint(&endpoint("ep_2"), 0).await.unwrap();

    // Long ago, so that all that is left of it is what is known afterwards.
    let mut long_ago = Commit::new(ms(), at(0));
    long_ago.events.push(event("forgotten", "o-0"));
    long_ago.events[0].deliveries.clear();
    store.commit(long_ago).await.unwrap();
    let mut row = order("Own-1", 1);
    row.refs = vec![
        (RefKind::TxnUuid, "moz1".to_owned()),
        (RefKind::Refund, "r-1".to_owned()),
    ];
    let mut own = Commit::new(ms(), at(0));
    own.writes.push(Write::Order(row));
    own.events.push(event("delivered", "Own-1"));
    own.events[0].request_hash = Some("ab".repeat(32));
    let due_at = at(50);
    own.schedule.push(ScheduledOutcome {
        merchant_id: ms(),
        id: "later".to_owned(),
        due_at,
        doc: "{}".to_owned(),
    });
    own.idempotency = Some(NewIdempotencyKey {
        key: "once".to_owned(),
        request_hash: "h".to_owned(),
        response: "r".to_owned(),
    });
    store.commit(own).await.unwrap();
    let mandate = MandateRow {
        mandate_id: MandateId::new("man"),
        doc: "{}".to_owned(),
        version: 1,
        status: "ACTIVE".to_owned(),
        customer_id: Some("cust".to_owned()),
        order_id: None,
        created_at: at(1),
    };
    let mut unit = Commit::new(ms(), at(1));
    unit.writes.push(Write::Mandate(mandate));
    store.commit(unit).await.unwrap();
    for (kind, id) in [
        (SnapshotKind::Order, "foreign-1"),
        (SnapshotKind::Mandate, "foreign-2"),
        (SnapshotKind::Notification, "foreign-3"),
    ] {
        let snapshot = SnapshotRow {
            kind,
            id: id.to_owned(),
            status: "CHARGED".to_owned(),
            customer_id: None,
            now: at(1),
        };
        let mut unit = Commit::new(ms(), at(1));
        unit.writes.push(Write::Snapshot(snapshot));
        unit.events.push(event(id, id));
        let body = r#"{"content":{"order":{},"mandate":{},"notification":{}}}"#;
        unit.events[0].event.body = Bytes::from(body);
        unit.events[0].deliveries[0].withheld = Some(Withheld::SwitchedOff);
        store.commit(unit).await.unwrap();
    }

    let world = World { store, place };
    for (name, order) in [("gives-up", "o-1"), ("fails", "o-2"), ("held", "o-3")] {
        world.born(name, order, None).await;
    }
    for claimed in world.claim(at(2), 9).await {
        let verdict = match claimed.delivery_id.as_str() {
            "delivered" => Verdict::Delivered,
            "gives-up" => Verdict::Exhausted,
            "fails" => Verdict::RetryAt(at(60)),
            _ => continue,
        };
        let mut settle = settle(&claimed, verdict, at(3));
        settle.attempt.evidence = Evidence {
            url: "https://merchant.example/webhooks".to_owned(),
            dns_us: Some(5),
            answer_headers: vec![("server".to_owned(), "nginx".to_owned())],
            answer_body: "so\nlong\t\\".repeat(20),
            ..Evidence::default()
        };
        settle.told = (verdict == Verdict::Exhausted).then(|| NewOperationalEvent {
            kind: "endpoint_failing",
            sentence: "It fails.".to_owned(),
        });
        world.store.settle(settle).await.unwrap();
    }
    // Waits for the one that a node holds, which will be gone.
    world.born("waits", "o-3", None).await;
    world.born("fresh", "o-4", None).await;
    let job = Job {
        merchant_id: ms(),
        id: ReplayJobId::new("rpl_1"),
        definition: Definition {
            endpoint_id: ep("ep_1"),
            to_endpoint_id: ep("ep_2"),
            event_names: Default::default(),
            states: Standing::LOST.into(),
            from: None,
            to: None,
            rate: 50,
        },
        created_at: at(4),
        matched: 1,
        last_position: 9,
        cursor: 2,
        done: Done::default(),
        state: JobState::Running,
        reason: None,
        changed_at: at(4),
    };
    let stored = world.store.insert_replay_job(job, None, 1);
    assert!(stored.await.unwrap());
    let retention = Retention {
        bodies: Duration::from_secs(1),
        events: Duration::from_secs(1),
    };
    world.store.mark(retention, at(5)).await.unwrap();
    for kept in [Kept::Bodies, Kept::Events] {
        assert_eq!(world.store.forget(kept, vec![1..=1]).await.unwrap(), 1);
    }
    world.store.close().await;
    world.place
}

/// All that the views show of a store, in lines.
async fn shown(store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut show = |what: &dyn std::fmt::Debug| lines.push(format!("{what:?}"));
    show(&store.fact("key_ring").await.unwrap());
    show(&store.merchants().await.unwrap());
    show(&store.api_keys(&ms()).await.unwrap());
    show(&store.api_keys(&MerchantId::platform()).await.unwrap());
    show(&store.endpoint_rows(&ms()).await.unwrap());
    show(&store.operational_events(&ms(), 0, 10).await.unwrap());
    let all = OrderFilter {
        limit: 10,
        ..OrderFilter::default()
    };
    show(&store.orders(&ms(), &all).await.unwrap());
    let by_ref = store.order_by_ref(&ms(), RefKind::Refund, "r-1").await;
    show(&by_ref.unwrap());
    for id in ["man", "foreign-2"] {
        show(&store.mandate(&ms(), &MandateId::new(id)).await.unwrap());
    }
    let notification = NotificationRef::new("foreign-3");
    show(&store.notification(&ms(), &notification).await.unwrap());
    show(&store.idempotency(&ms(), "once").await.unwrap());
    show(&store.due_scheduled(at(90), 10).await.unwrap());
    show(&store.running_replay_jobs().await.unwrap());
    show(&store.counts(None).await.unwrap());
    show(&store.next_scheduled().await.unwrap());
    let mut ask = everything();
    ask.bodies = true;
    let feed = store.feed(&ms(), ask).await.unwrap();
    for (event, body) in feed.events {
        show(&(&event, body));
        let deliveries = store.deliveries_of_event(&ms(), &event.event_id).await;
        for delivery in deliveries.unwrap() {
            let attempts = store.attempts(&ms(), &delivery.delivery_id).await;
            show(&(delivery, attempts.unwrap()));
        }
    }
    lines
}

#[test]
fn the_list_of_tables_is_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let conn = rusqlite::Connection::open(sqlite::database(folder.path())).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut named = texts(
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite%'
            and name not in ('nodes', 'refinery_schema_history')",
    );
    let mut listed: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    named.sort_unstable();
    listed.sort_unstable();
    assert_eq!(
        named, listed,
        "list it in transfer.rs, or say there why not"
    );
    for table in TABLES {
        let columns = |which: &str| {
            let name = table.name;
            texts(&format!(
                "select name from pragma_table_info('{name}') where {which}"
            ))
        };
        assert_eq!(columns("pk > 0 order by pk"), table.key, "{}", table.name);
        assert_eq!(
            columns("pk = 0 order by cid"),
            table.others,
            "{}",
            table.name
        );
    }
}

#[tokio::test]
async fn what_is_moved_is_shown_as_before_and_moved_back_it_is_the_same() {
    let (file, there, back) = (filled().await, Place::new(), Place::file());
    let before = shown(&file.open().await).await;
    let moved = copy(&file, &there).await.unwrap();
    let empty = sums(&moved).into_iter().filter(|(_, sum)| sum.rows == 0);
    assert_eq!(empty.map(|(table, _)| table).collect::<Vec<_>>(), [""; 0]);
    std::fs::remove_dir(back.folder()).unwrap();
    let again = copy(&there, &back).await.unwrap();
    let mode = std::fs::metadata(back.folder()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o077, 0, "a new folder is its owner's alone");
    assert_eq!(sums(&moved), sums(&again));
    for place in [&there, &back] {
        assert_eq!(shown(&place.open().await).await, before);
    }
}

#[tokio::test]
async fn the_new_store_goes_on_where_the_old_one_stopped() {
    let (file, there) = (filled().await, Place::new());
    let store = file.open().await;
    let (last, node) = (store.last_position(&ms()).await.unwrap(), store.node());
    drop(store);
    copy(&file, &there).await.unwrap();
    let store = there.open().await;
    assert_eq!(
        store.node(),
        node + 1,
        "what earlier nodes held is nobody's"
    );
    let world = World {
        store,
        place: there,
    };
    let of_old = world.born("next", "o-3", None).await.events.remove(0);
    assert_eq!((of_old.position, of_old.sequence), (last + 1, 3));
    let of_new = world.born("first", "o-new", None).await.events.remove(0);
    assert_eq!((of_new.position, of_new.sequence), (last + 2, 1));
    let mut other = endpoint("ep_3");
    other.merchant_id = MerchantId::new("another");
    world.store.put_endpoint(&other, 0).await.unwrap();
    // Long before the old lease of `held` would have ended; `waits` and `next` are behind it.
    assert_eq!(names(&world.claim(at(5), 9).await), "held fresh first");
    assert_eq!(
        names(&world.claim(at(60), 9).await),
        "held fresh first fails"
    );

    let (before, World { store, place }) = (shown(&world.store).await, world);
    drop(store);
    let back = Place::file();
    copy(&place, &back).await.unwrap();
    assert_eq!(shown(&back.open().await).await, before);
}

#[tokio::test]
async fn a_move_that_is_stopped_anywhere_goes_on_and_nobody_opens_it_meanwhile() {
    let (file, there) = (filled().await, Place::new());
    let (mut stops, unfinished) = (0, "it is a copy that `harkara move` has not finished");
    let moved = loop {
        match begin(&file, &there, 3).await {
            Ok(moved) => break moved,
            Err(error) => assert!(cause(Err::<(), _>(error)).ends_with(": stopped")),
        }
        assert!(refusal(&there).await.starts_with(unfinished));
        let of_part = cause(copy(&there, &Place::file()).await);
        assert!(of_part.contains(unfinished), "{of_part}");
        stops += 1;
    };
    assert!(stops > 5, "{stops}");
    let whole = copy(&file, &Place::new()).await.unwrap();
    assert_eq!(sums(&moved), sums(&whole));
    there.open().await;
}

/// On Postgres, where there may be others.
#[tokio::test]
async fn nobody_joins_a_store_while_it_is_copied() {
    let (file, there, back) = (filled().await, Place::new(), Place::file());
    let moved = copy(&file, &there).await.unwrap();
    let Some(url) = there.url().map(str::to_owned) else {
        return;
    };
    let (from, to) = (site(&there), site(&back));
    let run = move || {
        let mut joined = Vec::new();
        let again = transfer(&from, &to, PAGE, &mut |table, _| {
            if table == "events" {
                joined.push(Store::connect(&url).map(drop));
            }
            Ok(())
        });
        (again, joined)
    };
    let (again, joined) = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(sums(&moved), sums(&again.unwrap()));
    let [joined] = joined.try_into().unwrap();
    assert_eq!(kind(joined), DbErrorKind::Busy);
}

#[tokio::test]
async fn a_source_that_was_served_meanwhile_is_another() {
    let (file, there) = (filled().await, Place::new());
    begin(&file, &there, 9).await.unwrap_err();
    drop(file.open().await);
    let refused = cause(copy(&file, &there).await);
    assert_eq!(
        refused,
        "the store to fill: it has the beginning of a copy of another store, or of this one before \
         that was served again; take an empty database, schema or folder"
    );
}

#[tokio::test]
async fn a_target_that_is_somebodys_is_refused_and_stays_as_it_is() {
    let file = filled().await;
    let World { store, place } = World::new().await;
    let served = cause(copy(&file, &place).await);
    let why = if place.is_file() {
        "another process serves"
    } else {
        "it is being served (by node 1)"
    };
    assert!(served.contains(why), "{served}");
    assert!(cause(copy(&place, &Place::file()).await).contains(why));
    let before = shown(&store).await;
    drop(store);
    let refused = cause(copy(&file, &place).await);
    assert_eq!(
        refused,
        "the store to fill: it has rows in counters already; take an empty database, schema or folder"
    );
    let store = place.open().await;
    assert_eq!((store.node(), shown(&store).await), (2, before));
}

#[tokio::test]
async fn there_must_be_something_to_move() {
    let (nowhere, to) = (Place::file(), Place::file());
    let refused = cause(copy(&nowhere, &to).await);
    assert!(
        refused.ends_with("harkara.db; name the data folder"),
        "{refused}"
    );
    for place in [&nowhere, &to] {
        assert_eq!(std::fs::read_dir(place.folder()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_row_that_differs_is_told_and_the_copy_is_not_whole() {
    let (file, there) = (filled().await, Place::file());
    let (from, to, path) = (site(&file), site(&there), sqlite::database(there.folder()));
    let spoil = move |table: &str, _: usize| {
        if table == "replay_jobs" {
            let conn = rusqlite::Connection::open(&path).unwrap();
            conn.execute(
                "update deliveries set attempts = 7 where delivery_id = ?1",
                [b"held"],
            )
            .unwrap();
        }
        Ok(())
    };
    let run = move || transfer(&from, &to, PAGE, &mut { spoil });
    let compared = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let differing = compared.iter().filter(|one| !one.is_equal());
    let differing: Vec<&str> = differing.map(|one| one.table).collect();
    assert_eq!(differing, ["deliveries"]);
    assert!(refusal(&there).await.contains("has not finished"));
}
