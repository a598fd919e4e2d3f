//! Settings as TOML again: what `harkara check-config` prints.
//!
//! Every setting is shown with the value that will be used, derived ones included; the text can be
//! read as a settings file. Nothing is decided here.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::{Config, StoreUrl};

impl Config {
    /// What will be used, as TOML that gives the same settings again, but for the credentials in
    /// `store`. Nothing else is to be masked: no other setting holds a secret.
    pub fn render(&self) -> String {
        let Self {
            log,
            api,
            delivery,
            retention,
            destinations,
            gateway,
            dashboard,
            ..
        } = self;
        let ports: Vec<_> = destinations.ports.iter().map(u16::to_string).collect();
        let list = |items: Vec<String>| items.join(", ");
        let private = list(destinations.allow_private.iter().map(quoted).collect());
        let egress = list(destinations.egress.iter().map(quoted).collect());
        let proxies = list(dashboard.trusted_proxies.iter().map(quoted).collect());
        let refuse = list(destinations.refuse.iter().map(quoted).collect());
        let nat64 = list(destinations.nat64.iter().map(quoted).collect());
        let names: Vec<_> = destinations
            .static_names
            .iter()
            .map(|(name, address)| format!("{} = {}", quoted(name), quoted(address)))
            .collect();
        [
            format!("environment = {}", quoted(self.environment)),
            format!("data_dir = {}", quoted(self.data_dir.display())),
            format!("store = {}", quoted(shown_store(self.store.as_ref()))),
            format!("listen = {}", quoted(self.listen)),
            format!("public_url = {}", quoted(self.public_url(self.listen))),
            format!("shutdown_seconds = {}", self.shutdown.as_secs()),
            "\n[log]".into(),
            format!("level = {}", quoted(log.level.as_str().to_lowercase())),
            format!("format = {}", quoted(log.format)),
            "\n[api]".into(),
            format!("connections = {}", api.connections),
            format!("body_limit_bytes = {}", api.body_limit_bytes),
            format!("json_depth = {}", api.json_depth),
            "\n[delivery]".into(),
            format!("permits = {}", delivery.permits),
            format!("permits_per_merchant = {}", delivery.permits_per_merchant),
            format!("permits_per_endpoint = {}", delivery.permits_per_endpoint),
            format!("permits_per_address = {}", delivery.permits_per_address),
            format!("inbox_events = {}", delivery.inbox_events),
            format!("inbox_bytes = {}", delivery.inbox_bytes),
            format!(
                "attempt_timeout_seconds = {}",
                delivery.attempt_timeout.as_secs()
            ),
            format!("sweep_seconds = {}", delivery.sweep.as_secs()),
            format!("disable_after_days = {}", days(delivery.disable_after)),
            "\n[retention]".into(),
            format!("bodies_days = {}", days(retention.bodies)),
            format!("events_days = {}", days(retention.events)),
            "\n[destinations]".into(),
            format!("allow_http = {}", destinations.allow_http),
            format!("allow_private = [{private}]"),
            format!("ports = [{}]", ports.join(", ")),
            format!("static_names = {{ {} }}", names.join(", ")),
            format!(
                "ca_file = {}",
                quoted(shown_path(destinations.ca_file.as_deref()))
            ),
            format!("egress = [{egress}]"),
            format!("refuse = [{refuse}]"),
            format!("nat64 = [{nat64}]"),
            "\n[gateway]".into(),
            format!("dummy = {}", gateway.dummy),
            format!(
                "dummy_pending_seconds = {}",
                gateway.dummy_pending.as_secs()
            ),
            "\n[dashboard]".into(),
            format!("trusted_proxies = [{proxies}]\n"),
        ]
        .join("\n")
    }
}

fn shown_store(store: Option<&StoreUrl>) -> String {
    store.map(ToString::to_string).unwrap_or_default()
}

fn shown_path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// A length of time as it is set.
pub fn days(span: Duration) -> u64 {
    span.as_secs() / 86_400
}

/// A TOML string.
fn quoted(value: impl Display) -> String {
    toml::Value::from(value.to_string()).to_string()
}
