//! Settings: the embedded defaults, then one optional TOML file, then `HARKARA_*` variables.
//!
//! Text becomes final types here, is checked here, once, and goes down as plain structs, one per
//! concern; nobody else reads the environment, and there is no global. `cli/` calls
//! [`Config::from_process`], tests and the simulation [`Config::load`]. A new setting is a line in
//! `harkara.default.toml`, a field, a line in `read` and one in `render.rs`.

mod egress;
mod layers;
mod notes;
mod render;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harkara_core::retention::Retention;
use ipnet::{IpNet, Ipv6Net};
use tracing::Level;
use url::Url;

use self::layers::Layers;

pub use self::egress::Egress;
pub use self::layers::ConfigError;
pub use self::render::days;

/// Every setting with its explanation: the defaults themselves, not a copy of them.
pub const DEFAULTS: &str = include_str!("../../../harkara.default.toml");

/// The variable that names the settings file when no argument does.
pub const FILE_VARIABLE: &str = "HARKARA_CONFIG";

/// The variable of `store`, whose value `--store` has before all others.
const STORE_VARIABLE: &str = "HARKARA_STORE";

/// Where a store in Postgres is. It has a password, so it is shown without.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// `None` unless it is a URL of Postgres.
    pub fn parse(text: &str) -> Option<Self> {
        let is_ours = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        is_ours.then(|| Self(text.to_owned()))
    }

    /// With its password, for the store alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&layers::without_password(&self.0))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub environment: Environment,
    pub data_dir: PathBuf,
    /// `None` for a file in the data folder.
    pub store: Option<StoreUrl>,
    pub listen: SocketAddr,
    /// As set; [`Config::public_url`] has the one to use.
    pub public_url: Option<Url>,
    pub shutdown: Duration,
    pub log: LogConfig,
    pub api: ApiConfig,
    pub delivery: DeliveryConfig,
    pub retention: Retention,
    pub destinations: DestinationsConfig,
    pub gateway: GatewayConfig,
    pub dashboard: DashboardConfig,
}

/// Whether this server handles anybody's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Sandbox,
    Production,
}

/// What is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub level: Level,
    pub format: LogFormat,
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Machines: one object a line.
    Json,
}

/// What the API's clients may ask of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Open at once; more wait to be accepted.
    pub connections: usize,
    pub body_limit_bytes: usize,
    pub json_depth: usize,
}

/// How much the dispatcher does at once, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    pub permits: usize,
    pub permits_per_merchant: usize,
    /// For an endpoint that answers well; it begins with fewer.
    pub permits_per_endpoint: usize,
    pub permits_per_address: usize,
    pub inbox_events: usize,
    pub inbox_bytes: usize,
    pub attempt_timeout: Duration,
    pub sweep: Duration,
    /// How long an endpoint may do nothing but fail before it is disabled.
    pub disable_after: Duration,
}

/// Which addresses may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationsConfig {
    pub allow_http: bool,
    pub allow_private: Vec<IpNet>,
    pub ports: Vec<u16>,
    /// Names in lower case that are not looked up.
    pub static_names: BTreeMap<String, IpAddr>,
    pub ca_file: Option<PathBuf>,
    /// Where connections leave from, in turn; without any, the system picks.
    pub egress: Vec<Egress>,
    /// Public networks that are not called nonetheless.
    pub refuse: Vec<IpNet>,
    /// Prefixes of 96 bits behind which a translator reaches IPv4.
    pub nat64: Vec<Ipv6Net>,
}

/// The gateway that moves no money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    pub dummy: bool,
    pub dummy_pending: Duration,
}

/// The pages for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DashboardConfig {
    /// Who is believed when it says where a browser is.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Config {
    fn default() -> Self {
        Self::load(None, std::iter::empty())
            .expect("the embedded defaults are valid; a test reads them")
    }
}

impl Config {
    /// The settings of this process: `file` (from `--config`), then its environment, then `store`
    /// (from `--store`).
    pub fn from_process(file: Option<&Path>, store: Option<&str>) -> Result<Self, ConfigError> {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        let store = store.map(|url| (STORE_VARIABLE.to_owned(), url.to_owned()));
        Self::load(file, env.chain(store))
    }

    /// The settings of a file and an environment. Without `file`, `HARKARA_CONFIG` may name one.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let env: BTreeMap<_, _> = env.collect();
        let mut layers = Layers::defaults();
        if let Some(path) = file.or_else(|| env.get(FILE_VARIABLE).map(Path::new)) {
            layers.add_file(path)?;
        }
        layers.add_environment(&env)?;
        Self::read(&layers, &env)
    }

    fn read(layers: &Layers, env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let wanted = "\"sandbox\" or \"production\"";
        let environment = layers.parse("environment", wanted, Environment::named)?;
        let config = Self {
            environment,
            data_dir: layers.parse("data_dir", "the path of a directory", path)?,
            store: store(layers, env)?,
            listen: listen(layers, env)?,
            public_url: layers.optional("public_url", PUBLIC_URL, public_url)?,
            shutdown: layers.seconds("shutdown_seconds", 0..=600)?,
            log: LogConfig::read(layers)?,
            api: ApiConfig::read(layers)?,
            delivery: DeliveryConfig::read(layers)?,
            retention: retention(layers)?,
            destinations: DestinationsConfig::read(layers)?,
            gateway: GatewayConfig::read(layers, environment)?,
            dashboard: DashboardConfig::read(layers)?,
        };
        config.check(layers)?;
        Ok(config)
    }

    /// What no setting can be wrong about alone.
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        let delivery = &self.delivery;
        if delivery.inbox_bytes < self.api.body_limit_bytes {
            let reason = format!(
                "it must hold at least one request body ({} bytes); raise it or lower \
                 api.body_limit_bytes",
                self.api.body_limit_bytes,
            );
            return Err(layers.refuse("delivery.inbox_bytes", reason));
        }
        if self.retention.events < self.retention.bodies {
            let reason = "it must not be less than retention.bodies_days, for nothing keeps a body \
                          without its event";
            return Err(layers.refuse("retention.events_days", reason));
        }
        match self.environment {
            Environment::Sandbox => Ok(()),
            Environment::Production => self.check_production(layers),
        }
    }

    fn check_production(&self, layers: &Layers) -> Result<(), ConfigError> {
        let destinations = &self.destinations;
        let unsafe_settings = [
            (
                "destinations.allow_http",
                destinations.allow_http,
                "production sends payment data over https alone",
            ),
            (
                "destinations.allow_private",
                !destinations.allow_private.is_empty(),
                "in production an endpoint must not reach a private network",
            ),
            (
                "destinations.static_names",
                !destinations.static_names.is_empty(),
                "in production names are looked up, and their addresses checked, each time",
            ),
            (
                "gateway.dummy",
                self.gateway.dummy,
                "the DUMMY gateway calls payments paid that are not",
            ),
        ];
        match unsafe_settings.into_iter().find(|(_, is_set, _)| *is_set) {
            None => Ok(()),
            Some((key, _, reason)) => Err(layers.refuse(
                key,
                format!("{reason}; remove the setting, or set environment = \"sandbox\""),
            )),
        }
    }

    /// The URL that customers and merchants reach this server at. `listening` is the address in
    /// use, which differs from `listen` when that leaves the port to the system.
    pub fn public_url(&self, listening: SocketAddr) -> Url {
        let derived = || {
            let local = match listening.ip().is_unspecified() {
                true => format!("http://localhost:{}", listening.port()),
                false => format!("http://{listening}"),
            };
            Url::parse(&local).expect("an address and a port make a URL")
        };
        self.public_url.clone().unwrap_or_else(derived)
    }
}

impl LogConfig {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            level: layers.parse(
                "log.level",
                "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
                |text| text.parse().ok(),
            )?,
            format: layers.parse("log.format", "\"text\" or \"json\"", LogFormat::named)?,
        })
    }
}

impl ApiConfig {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            connections: layers.number("api.connections", 1..=1_000_000)?,
            body_limit_bytes: layers.number("api.body_limit_bytes", 1_024..=16_777_216)?,
            // The JSON parser itself stops at 128.
            json_depth: layers.number("api.json_depth", 8..=127)?,
        })
    }
}

impl DeliveryConfig {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            permits: layers.number("delivery.permits", 1..=100_000)?,
            permits_per_merchant: layers.number("delivery.permits_per_merchant", 1..=100_000)?,
            permits_per_endpoint: layers.number("delivery.permits_per_endpoint", 1..=1_000)?,
            permits_per_address: layers.number("delivery.permits_per_address", 1..=100_000)?,
            inbox_events: layers.number("delivery.inbox_events", 1..=10_000_000)?,
            inbox_bytes: layers.number("delivery.inbox_bytes", 1_024..=4_294_967_295)?,
            attempt_timeout: layers.seconds("delivery.attempt_timeout_seconds", 1..=60)?,
            sweep: layers.seconds("delivery.sweep_seconds", 1..=60)?,
            disable_after: layers.days("delivery.disable_after_days", 1..=3_650)?,
        })
    }
}

fn retention(layers: &Layers) -> Result<Retention, ConfigError> {
    // A hundred years are for ever.
    Ok(Retention {
        bodies: layers.days("retention.bodies_days", 1..=36_500)?,
        events: layers.days("retention.events_days", 1..=36_500)?,
    })
}

impl DestinationsConfig {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let ports = layers.list("destinations.ports", "ports from 1 to 65535", |text| {
            text.parse().ok().filter(|port| *port != 0)
        })?;
        if ports.is_empty() {
            let reason = "without a port nothing can be sent; name at least 443";
            return Err(layers.refuse("destinations.ports", reason));
        }
        Ok(Self {
            allow_http: layers.switch("destinations.allow_http")?,
            allow_private: layers.list(
                "destinations.allow_private",
                "networks, such as 10.1.0.0/16 or fd00::/8",
                |text| text.parse().ok(),
            )?,
            ports,
            static_names: layers.map(
                "destinations.static_names",
                "names with an address each, such as shop.example=10.1.0.7",
                |name, address| Some((name.to_lowercase(), address.parse().ok()?)),
            )?,
            ca_file: layers.optional("destinations.ca_file", "the path of a PEM file", path)?,
            egress: layers.list("destinations.egress", egress::WANTED, Egress::read)?,
            refuse: layers.list(
                "destinations.refuse",
                "networks, such as 192.0.2.0/28",
                |text| text.parse().ok(),
            )?,
            nat64: layers.list(
                "destinations.nat64",
                "IPv6 prefixes of 96 bits, such as 64:ff9b::/96",
                |text| {
                    text.parse()
                        .ok()
                        .filter(|net: &Ipv6Net| net.prefix_len() == 96)
                },
            )?,
        })
    }
}

impl GatewayConfig {
    fn read(layers: &Layers, environment: Environment) -> Result<Self, ConfigError> {
        let dummy = layers.optional("gateway.dummy", "true, false or empty", |t| t.parse().ok())?;
        Ok(Self {
            dummy: dummy.unwrap_or(environment == Environment::Sandbox),
            dummy_pending: layers.seconds("gateway.dummy_pending_seconds", 0..=3_600)?,
        })
    }
}

impl DashboardConfig {
    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(Self {
            trusted_proxies: layers.list(
                "dashboard.trusted_proxies",
                "networks, such as 10.1.0.0/16 or fd00::/8",
                |text| text.parse().ok(),
            )?,
        })
    }
}

impl Environment {
    fn named(text: &str) -> Option<Self> {
        [Self::Sandbox, Self::Production]
            .into_iter()
            .find(|it| it.to_string() == text)
    }
}

impl LogFormat {
    fn named(text: &str) -> Option<Self> {
        [Self::Text, Self::Json]
            .into_iter()
            .find(|it| it.to_string() == text)
    }
}

impl Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        })
    }
}

impl Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

const PUBLIC_URL: &str = "an http or https URL without user, password, query and fragment, such as \
                          https://pay.example.com";

fn public_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// Hosting platforms choose a port and tell it in `PORT`; our own variable is more deliberate.
fn store(layers: &Layers, env: &BTreeMap<String, String>) -> Result<Option<StoreUrl>, ConfigError> {
    let wanted = "empty, or postgres://user:password@host/database";
    let set = layers.optional("store", wanted, StoreUrl::parse)?;
    let usual = || StoreUrl::parse(env.get("DATABASE_URL")?);
    Ok(set.or_else(usual))
}

fn listen(layers: &Layers, env: &BTreeMap<String, String>) -> Result<SocketAddr, ConfigError> {
    let wanted = "an IP address and a port, such as 127.0.0.1:8080";
    let mut listen: SocketAddr = layers.parse("listen", wanted, |text| text.parse().ok())?;
    if let Some(port) = env
        .get("PORT")
        .filter(|_| !env.contains_key("HARKARA_LISTEN"))
    {
        listen.set_port(port.parse().map_err(|_| ConfigError::Refused {
            key: "the port of listen".into(),
            value: format!("{port:?}"),
            origin: "PORT".into(),
            reason: "it must be a number from 0 to 65535".into(),
        })?);
    }
    Ok(listen)
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
