//! A primary that is killed under load, and its synchronous standby, which somebody promotes by hand.
//!
//! Every answered commit is on both, so nothing that was acknowledged may be missing on the other.
//! `FAILOVERS` asks for more of them than the test command takes time for.

use super::*;

/// Two servers, of which one follows the other. It takes a few seconds to make one.
struct Pair {
    servers: [Postgres; 2],
    primary: usize,
}

impl Pair {
    async fn start(programs: PathBuf) -> Self {
        for program in ["pg_basebackup", "pg_ctl"] {
            assert!(
                programs.join(program).exists(),
                "{program} is not in {}: install all of Postgres, its client programs too",
                programs.display()
            );
        }
        let servers = [
            Postgres::start(programs.clone(), "").unwrap(),
            Postgres::new(programs).unwrap(),
        ];
        let pair = Self {
            servers,
            primary: 0,
        };
        pair.follow().await;
        pair
    }

    fn primary(&self) -> &Postgres {
        &self.servers[self.primary]
    }

    fn standby(&self) -> &Postgres {
        &self.servers[1 - self.primary]
    }

    /// Names both servers; whichever can be written to is meant.
    fn url(&self) -> String {
        let [one, other] = [0, 1].map(|n: usize| self.servers[n].socket().display());
        format!(
            "postgres:///postgres?host={one}&host={other}&user=harkara&target_session_attrs=read-write"
        )
    }

    /// Makes the other server a copy of the primary that follows it, and has every commit wait for it.
    async fn follow(&self) {
        let (primary, standby) = (self.primary(), self.standby());
        if standby.data().exists() {
            fs::remove_dir_all(standby.data()).unwrap();
        }
        let copy = format!(
            "--host={} --username=harkara --checkpoint=fast --write-recovery-conf --pgdata",
            primary.socket().display()
        );
        standby.run("pg_basebackup", &copy).unwrap();
        standby.configure("cluster_name = 'standby'").unwrap();
        standby.go_on().unwrap();
        let wanted = "synchronous_standby_names = 'standby'";
        primary.configure(wanted).unwrap();
        primary.run("pg_ctl", "reload --pgdata").unwrap();
        let url = primary.url();
        let state = "select coalesce(max(sync_state), 'none') from pg_stat_replication";
        asked_until(&async || ask(&url, state).await, |state| state == "sync").await;
    }

    /// Ends the primary without a word, and makes the standby the primary.
    fn fail_over(&mut self) {
        self.primary().kill().unwrap();
        self.standby()
            .run("pg_ctl", "promote --wait --pgdata")
            .unwrap();
        self.primary = 1 - self.primary;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the test takes is its caller's choice, and no setting"
)]
fn failovers() -> usize {
    let asked = std::env::var("FAILOVERS").ok();
    asked.map_or(2, |text| text.parse().expect("FAILOVERS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_has_all_that_was_acknowledged() {
    let Some(programs) = programs() else {
        return;
    };
    let mut pair = Pair::start(programs).await;
    let url = pair.url();
    let migrating = url.clone();
    let migrate = move || Store::migrate(&migrating, false).unwrap();
    tokio::task::spawn_blocking(migrate).await.unwrap();
    let store = StoreUrl::parse(&url).unwrap();
    let world = World::storing(tempfile::tempdir().unwrap(), store, |_| None).await;
    let mut cluster = Cluster::start(&world);
    let health = Request::get("/health").body(Full::default()).unwrap();
    let health = send(&cluster.nodes[0].address, health).await.ok();
    let durability = health["durability"].as_str().unwrap();
    assert!(
        durability.contains("synchronous standbys standby"),
        "{durability}"
    );
    let failovers = failovers();
    for failover in 1..=failovers {
        world.go_on(MEANWHILE).await;
        pair.fail_over();
        world.go_on(MEANWHILE).await;
        // Back the other way: the one that was killed is made a standby of the other.
        if failover < failovers {
            pair.follow().await;
        }
    }
    let (acknowledged, repeats, longest) = cluster.finish(&world).await;
    println!(
        "{failovers} failovers: {acknowledged} acknowledged, all arrived in order, {repeats} twice; the \
         longest came {longest:?} after its acknowledgement"
    );
}
