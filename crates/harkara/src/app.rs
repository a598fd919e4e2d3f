//! The parts put together: builds them from the configuration, owns their tasks and the shutdown.
//!
//! The command line, the demo and the tests start servers with it. The order of stopping is the
//! promise: no new requests and no new attempts, then what is in flight ends, then the store closes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use harkara_core::id::MerchantId;
use harkara_core::merchant::{Merchant, Settings};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::api::serve::{Bounds, serve};
use crate::api::{Api, Parts};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::dashboard;
use crate::deliver::attempt::Attempter;
use crate::deliver::connect::{ConnectLimits, Dialler, Roots};
use crate::deliver::dispatcher::Limits;
use crate::deliver::guard::Policy;
use crate::deliver::inbox::{Inbox, InboxBound};
use crate::deliver::run::Loop;
use crate::deliver::transport::{self, HttpTransport, PoolBounds};
use crate::files;
use crate::gateway::GatewayClock;
use crate::keys::{self, ApiKey, PresentedKey};
use crate::replay::{ReplayLoop, Runner};
use crate::retention::{Keeper, RetentionLoop};
use crate::store::{ApiKeyRow, MerchantRow, Store};
use crate::submit::Submit;
use crate::vault::Vault;

/// The longest that any endpoint may give an attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);

/// What an attempt's settle may take.
const SETTLE_MARGIN: Duration = Duration::from_secs(5);

/// How long a claim lasts: an attempt, its settle, and as much again for waiting in memory.
const LEASE: Duration = Duration::from_secs(120);

/// A running server.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// Without a slash at its end.
    pub public_url: String,
    /// What was made because this is the first start; shown once.
    pub first_start: Option<FirstStart>,
    /// Where the owner sets a name and a password; made anew at each start until somebody has.
    pub owner_link: Option<String>,
    /// Things that whoever runs it should hear.
    pub notes: Vec<String>,
    store: Store,
    accepting: watch::Sender<bool>,
    sending: watch::Sender<bool>,
    server: JoinHandle<()>,
    senders: Vec<JoinHandle<()>>,
    /// Told when a task has ended, which none does before it is told to stop unless it panicked.
    ended: Arc<Notify>,
    shutdown: Duration,
}

/// The credentials of a first start.
pub struct FirstStart {
    pub platform_key: PresentedKey,
    /// A merchant to try things with, in the sandbox alone.
    pub merchant: Option<(MerchantId, PresentedKey)>,
}

impl App {
    /// Starts a server that does everything on this runtime; it answers when this returns.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        Self::start_apart(config, clock, &Handle::current()).await
    }

    /// Starts a server whose deliveries have a runtime to themselves, so that neither callers nor
    /// deliveries wait for a thread behind the other's tasks. `docs/decisions/0008-two-runtimes.md` has
    /// what that gives.
    pub async fn start_apart(
        config: Config,
        clock: Clock,
        deliveries: &Handle,
    ) -> anyhow::Result<Self> {
        // First, for it leaves nothing behind when it fails.
        let dialler = Dialler::leaving_from(&egress(&config))?;
        let folder = config.data_dir.clone();
        own_folder(&folder)?;
        let store = open_store(&config).await?;
        let vault = Arc::new(open_vault(&store, &folder).await?);
        let first_start = first_start(&store, &clock, &config, &folder).await?;

        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen on {}; set `listen` to a free one", config.listen))?;
        let address = listener.local_addr()?;
        let public_url = config
            .public_url(address)
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        let owner_link = dashboard::first_link(&store, &clock, &public_url).await?;
        let policy = Arc::new(policy(&config, &public_url));
        let roots = roots(&config)?;
        let mut notes = config.notes();
        notes.extend(roots.note().map(str::to_owned));
        let files = files::share(
            files::raise(),
            config.delivery.permits,
            config.api.connections,
        );
        notes.extend(files.note);

        let (inbox, inputs) = Inbox::new(InboxBound {
            deliveries: config.delivery.inbox_events,
            bytes: config.delivery.inbox_bytes,
            lease: LEASE,
        });
        let pending = config.gateway.dummy.then_some(config.gateway.dummy_pending);
        let submit = Arc::new(Submit::new(
            store.clone(),
            clock.clone(),
            inbox.clone(),
            public_url.clone(),
            pending,
        ));
        let (accepting, stop_accepting) = watch::channel(false);
        let (sending, stop_sending) = watch::channel(false);
        let ended = Arc::new(Notify::new());
        let dispatcher = Loop {
            store: store.clone(),
            clock: clock.clone(),
            inbox: inbox.clone(),
            inputs,
            attempter: Arc::new(Attempter {
                store: store.clone(),
                vault: vault.clone(),
                transport: Arc::new(HttpTransport::new(
                    policy.clone(),
                    &roots,
                    dialler,
                    transport_limits(&config, files.permits),
                )?),
                clock: clock.clone(),
            }),
            limits: Limits {
                permits: files.permits,
                ..limits(&config)
            },
            stop: stop_sending.clone(),
        };
        let replays = Arc::new(Notify::new());
        let runner = ReplayLoop {
            runner: Runner::new(store.clone(), inbox.clone()),
            clock: clock.clone(),
            woken: replays.clone(),
            stop: stop_sending.clone(),
        };
        let keeper = RetentionLoop {
            keeper: Keeper::new(store.clone(), config.retention),
            clock: clock.clone(),
            stop: stop_sending.clone(),
        };
        let mut senders = vec![
            watched(&ended, deliveries, dispatcher.run()),
            watched(&ended, deliveries, runner.run()),
            watched(&ended, deliveries, keeper.run()),
        ];
        if config.gateway.dummy {
            let gateway = GatewayClock {
                store: store.clone(),
                clock: clock.clone(),
                submit: submit.clone(),
                inbox,
                stop: stop_sending,
            };
            senders.push(watched(&ended, deliveries, gateway.run()));
        }
        let (shutdown, bounds) = (config.shutdown, Bounds::new(files.connections));
        let api = Api::new(Parts {
            store: store.clone(),
            clock,
            vault,
            submit,
            config: Arc::new(config),
            policy,
            public_url: public_url.clone(),
            replays,
            stopping: stop_accepting.clone(),
            requests: AtomicU64::new(0),
        });
        let serving = serve(listener, api, bounds, stop_accepting);
        let server = watched(&ended, &Handle::current(), serving);
        Ok(Self {
            address,
            public_url,
            first_start,
            owner_link,
            notes,
            store,
            accepting,
            sending,
            server,
            senders,
            ended,
            shutdown,
        })
    }

    /// Makes a link by which somebody becomes an owner of the dashboard, for a server whose owners have all
    /// lost their passwords.
    pub async fn another_owner_link(&self, clock: &Clock) -> anyhow::Result<String> {
        Ok(dashboard::owner_link(&self.store, clock, &self.public_url).await?)
    }

    /// Returns when the store has failed or one of the tasks has panicked. The process must end then:
    /// a server that takes orders and tells nobody is worse than one that is started again.
    pub async fn failed(&self) {
        tokio::select! {
            () = self.store.failed() => {}
            () = self.ended.notified() => {}
        }
    }

    /// Stops in order. Requests have at most half of the configured time, so that a slow client
    /// takes none of what attempts need to end. What is still in flight after that is left to the
    /// next start, which finds it in the store.
    pub async fn stop(mut self) {
        let now = tokio::time::Instant::now();
        let (half, deadline) = (now + self.shutdown / 2, now + self.shutdown);
        // Both at once: a request that takes its time must not keep attempts starting. What it still
        // commits is given back by the dispatcher, or found by the next start.
        let _ = self.accepting.send(true);
        let _ = self.sending.send(true);
        if tokio::time::timeout_at(half, &mut self.server)
            .await
            .is_err()
        {
            tracing::warn!("requests were still open at half of the shutdown time and are cut off");
            self.server.abort();
        }
        for mut sender in self.senders {
            if tokio::time::timeout_at(deadline, &mut sender)
                .await
                .is_err()
            {
                tracing::warn!("attempts were still in flight at the end of the shutdown time");
                sender.abort();
            }
        }
        self.store.close().await;
    }
}

/// Makes the data folder for its owner alone. Keys are files in it, so one that others can look into
/// is refused; it is somebody's, and its mode is theirs to change.
fn own_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => anyhow::bail!(
            "use the data folder {shown}: others than its owner can look into it, and the keys are \
             kept there; run `chmod 700 {shown}`, or set `data_dir` to a folder that does not exist"
        ),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let above = folder.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(above)
                .and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(folder))
                .with_context(|| format!("make the data folder {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("look at the data folder {shown}")),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        permits: config.delivery.permits,
        permits_per_merchant: config.delivery.permits_per_merchant,
        permits_per_endpoint: config.delivery.permits_per_endpoint,
        lease: LEASE,
        attempt: ATTEMPT_MAX.saturating_add(SETTLE_MARGIN),
        sweep: config.delivery.sweep,
        disable_after: config.delivery.disable_after,
    }
}

fn transport_limits(config: &Config, permits: usize) -> transport::Limits {
    let delivery = &config.delivery;
    transport::Limits {
        connect: ConnectLimits {
            permits_per_address: delivery.permits_per_address,
            ..ConnectLimits::default()
        },
        pool: PoolBounds {
            per_endpoint: delivery.permits_per_endpoint,
            in_all: permits / 2,
            ..PoolBounds::default()
        },
        ..transport::Limits::default()
    }
}

fn egress(config: &Config) -> Vec<IpAddr> {
    let egress = config.destinations.egress.iter();
    egress.map(|egress| egress.address).collect()
}

/// Runs a task that says when it ends, however it does.
fn watched(
    ended: &Arc<Notify>,
    runtime: &Handle,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let tells = Tells(ended.clone());
    runtime.spawn(async move {
        let _tells = tells;
        task.await;
    })
}

async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let (folder, url) = (config.data_dir.clone(), config.store.clone());
    let store = tokio::task::spawn_blocking(move || match url {
        Some(url) => Store::connect(url.expose()),
        None => Store::open(&folder),
    });
    Ok(store.await??)
}

/// The key ring; a new one only where there is nothing yet that an older one could open. All servers
/// that share a store must have the same.
async fn open_vault(store: &Store, folder: &Path) -> anyhow::Result<Vault> {
    let ring = folder.join("vault.keys");
    let shown = ring.display();
    let used = store.fact("key_ring").await?;
    anyhow::ensure!(
        ring.exists() || used.is_none(),
        "find the key ring {shown}: the store has endpoint passwords that only its ring opens; put it \
         back from its backup, or copy it from a server that uses the same store"
    );
    let vault = Vault::open_or_create(&ring)?;
    let ours = harkara_core::id::hex(&vault.fingerprint("key ring", &[]));
    let used = store.keep_fact("key_ring", &ours).await?;
    anyhow::ensure!(
        used == ours,
        "use the key ring {shown}: the store's passwords and signing secrets are sealed with another; \
         put that back from its backup, or copy it from a server that uses the same store"
    );
    Ok(vault)
}

fn policy(config: &Config, public_url: &str) -> Policy {
    let destinations = &config.destinations;
    let own_host = url::Url::parse(public_url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_ascii_lowercase))
        .filter(|_| config.public_url.is_some());
    // A webhook to where webhooks come from would make an amplifier of us.
    let own = egress(config).into_iter().map(IpNet::from);
    Policy {
        allow_http: destinations.allow_http,
        allow_private: destinations.allow_private.clone(),
        ports: destinations.ports.clone(),
        static_names: destinations.static_names.clone(),
        own_hosts: own_host.into_iter().collect(),
        refuse: destinations.refuse.iter().copied().chain(own).collect(),
        nat64: destinations.nat64.clone(),
    }
}

fn roots(config: &Config) -> anyhow::Result<Roots> {
    let extra = match &config.destinations.ca_file {
        None => None,
        Some(path) => Some(
            std::fs::read(path)
                .with_context(|| format!("read destinations.ca_file {}", path.display()))?,
        ),
    };
    Ok(Roots::load(extra.as_deref())?)
}

/// Makes the platform's key, and in the sandbox a merchant to try things with, unless they exist.
async fn first_start(
    store: &Store,
    clock: &Clock,
    config: &Config,
    folder: &Path,
) -> anyhow::Result<Option<FirstStart>> {
    let platform = MerchantId::platform();
    if !store.api_keys(&platform).await?.is_empty() {
        return Ok(None);
    }
    let merchant = match config.environment {
        Environment::Production => None,
        Environment::Sandbox => Some(sandbox_merchant(store, clock, folder).await?),
    };
    // The platform's key comes last: while it is missing, a start that was cut short begins anew.
    let platform_key = new_key(store, clock, &platform, &folder.join("platform.key")).await?;
    Ok(Some(FirstStart {
        platform_key,
        merchant,
    }))
}

async fn sandbox_merchant(
    store: &Store,
    clock: &Clock,
    folder: &Path,
) -> anyhow::Result<(MerchantId, PresentedKey)> {
    let merchant_id = MerchantId::new("sandbox");
    if store.merchant(&merchant_id).await?.is_none() {
        let merchant = Merchant {
            merchant_id: merchant_id.clone(),
            settings: Settings::default(),
        };
        store
            .put_merchant(MerchantRow {
                merchant_id: merchant_id.clone(),
                doc: serde_json::to_string(&merchant)?,
                version: 1,
                created_at: clock.now(),
            })
            .await?;
    }
    let key = new_key(
        store,
        clock,
        &merchant_id,
        &folder.join("sandbox-merchant.key"),
    )
    .await?;
    Ok((merchant_id, key))
}

/// A key that is kept in a file for its owner alone, and known to the store.
async fn new_key(
    store: &Store,
    clock: &Clock,
    merchant_id: &MerchantId,
    file: &Path,
) -> anyhow::Result<PresentedKey> {
    let (presented, stored) = ApiKey::generate();
    if file.exists() {
        // Left by a start that was cut short before the store knew the key.
        std::fs::remove_file(file).with_context(|| format!("replace {}", file.display()))?;
    }
    keys::write_private(file, format!("{}\n", presented.expose()).as_bytes())
        .with_context(|| format!("write {}", file.display()))?;
    store
        .insert_api_key(ApiKeyRow {
            key_id: stored.key_id.clone(),
            merchant_id: merchant_id.clone(),
            hash: stored.hash_hex(),
            doc: r#"{"name":"first"}"#.to_owned(),
            created_at: clock.now(),
            revoked_at: None,
        })
        .await?;
    Ok(presented)
}
