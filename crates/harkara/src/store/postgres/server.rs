//! Where a store in Postgres is, and how connections to it are secured: what its URL says.
//!
//! A connection that leaves the machine is encrypted, and the server's certificate must be valid for
//! the name it is called by. `link.rs` and `nodes.rs` connect; nothing else knows the URL.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::{Client, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::deliver::connect::Roots;
use crate::store::error::{DbError, DbErrorKind};

/// A server whose network says nothing for so long is not waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection is told first. Statements name our tables only, so the search path is left as
/// the URL or the role has it.
const SETTINGS: &str = "
    set application_name = 'harkara';
    set default_transaction_isolation = 'read committed';
    set synchronous_commit = on;
    set lock_timeout = '5s';
    set idle_in_transaction_session_timeout = '30s'";

/// A server, and how to speak to it.
pub(in crate::store) struct Server {
    config: Config,
    /// `None` where nothing is encrypted, for it stays on this machine or the URL says so.
    tls: Option<MakeRustlsConnect>,
}

impl Server {
    /// Reads a `postgres://` URL. Besides what its other users understand, `sslrootcert` names a file
    /// with the authorities that the server's certificate may come from, instead of the platform's.
    pub(in crate::store) fn parse(url: &str) -> Result<Self, DbError> {
        let (url, root_file) = without_root_file(url);
        let mut config: Config = url.parse().map_err(|error| {
            // The error does not repeat the URL, which has a password.
            DbError::caused(DbErrorKind::Down, error)
        })?;
        config.connect_timeout(CONNECT_TIMEOUT);
        // A server that is gone without a word must not hold up what another would do: less, in all,
        // than a node may be silent.
        config.tcp_user_timeout(Duration::from_secs(6));
        config.keepalives_idle(Duration::from_secs(2));
        config.keepalives_interval(Duration::from_secs(1));
        config.keepalives_retries(3);
        // Of several servers the one is meant that can be written to, whichever that is just now.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let is_secured = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Require => true,
            _ => !config.get_hosts().iter().all(is_here),
        };
        config.ssl_mode(match is_secured {
            true => SslMode::Require,
            false => SslMode::Disable,
        });
        let tls = is_secured.then(|| secured(root_file.as_deref()));
        Ok(Self {
            config,
            tls: tls.transpose()?.map(MakeRustlsConnect::new),
        })
    }

    /// A connection whose calls block.
    pub(in crate::store) fn connect(&self) -> Result<Client, DbError> {
        let config = postgres::Config::from(self.config.clone());
        let mut client = match &self.tls {
            Some(tls) => config.connect(tls.clone())?,
            None => config.connect(NoTls)?,
        };
        client.batch_execute(SETTINGS)?;
        Ok(client)
    }

    /// A connection on which several statements can be under way, with the task that drives it.
    pub(super) fn connect_on(
        &self,
        runtime: &Runtime,
    ) -> Result<(tokio_postgres::Client, JoinHandle<()>), DbError> {
        // What ends a connection is told to whoever uses it next.
        let (client, driver) = match &self.tls {
            Some(tls) => {
                let (client, driven) = runtime.block_on(self.config.connect(tls.clone()))?;
                (client, runtime.spawn(async { drop(driven.await) }))
            }
            None => {
                let (client, driven) = runtime.block_on(self.config.connect(NoTls))?;
                (client, runtime.spawn(async { drop(driven.await) }))
            }
        };
        runtime.block_on(client.batch_execute(SETTINGS))?;
        Ok((client, driver))
    }
}

/// Whether a connection to a host stays on this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
    }
}

/// A URL without its `sslrootcert`, which the driver does not know, and with the modes that it does:
/// whatever is encrypted is verified as well.
fn without_root_file(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let mut root_file = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", path)) => {
                root_file = Some(percent_decode_str(path).decode_utf8_lossy().into_owned());
            }
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(pair),
        }
    }
    (format!("{base}?{}", kept.join("&")), root_file)
}

/// With the platform's authorities, or those of a file alone.
fn secured(root_file: Option<&str>) -> Result<ClientConfig, DbError> {
    let Some(path) = root_file else {
        let roots = Roots::load(None);
        let roots = roots.map_err(|error| DbError::caused(DbErrorKind::Down, error))?;
        return Ok(roots.config_beside_http());
    };
    let unusable = |why: String| DbError::down(format!("sslrootcert {path} cannot be used: {why}"));
    let pem = std::fs::read(Path::new(path)).map_err(|error| unusable(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        let added = store.add(certificate);
        added.map_err(|error| unusable(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| DbError::caused(DbErrorKind::Down, error))?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a connection by this URL is encrypted.
    fn is_secured(url: &str) -> bool {
        Server::parse(url).unwrap().tls.is_some()
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_the_url_says_otherwise() {
        let table = [
            ("postgres:///pay?host=/var/run/postgresql", false),
            ("postgres://localhost/pay", false),
            ("postgres://127.0.0.1/pay", false),
            ("postgres://db.example/pay", true),
            ("postgres://me:secret@10.1.0.7:5433/pay", true),
            ("postgres://db.example/pay?sslmode=disable", false),
            ("postgres://localhost/pay?sslmode=require", true),
            ("postgres://localhost/pay?sslmode=verify-full", true),
            ("postgres:///pay?host=/run/one&host=/run/other", false),
            ("postgres://localhost,db.example/pay", true),
        ];
        for (url, secured) in table {
            assert_eq!(is_secured(url), secured, "{url}");
        }
    }

    #[test]
    fn of_several_servers_the_one_that_can_be_written_to_is_meant() {
        let wanted = |url: &str| {
            let config = Server::parse(url).unwrap().config;
            (config.get_hosts().len(), config.get_target_session_attrs())
        };
        let any = TargetSessionAttrs::Any;
        assert_eq!(wanted("postgres://db.example/pay"), (1, any));
        for url in [
            "postgres://one.example:5432,other.example:6432/pay",
            "postgres:///pay?host=/run/one&host=/run/other",
            "postgres://one.example,other.example/pay?target_session_attrs=any",
        ] {
            assert_eq!(wanted(url), (2, TargetSessionAttrs::ReadWrite), "{url}");
        }
    }

    #[test]
    fn a_file_of_authorities_is_ours_to_read() {
        let url =
            "postgres://db.example/pay?user=me&sslrootcert=/etc/my%20ca.pem&sslmode=verify-ca";
        let (url, file) = without_root_file(url);
        assert_eq!(url, "postgres://db.example/pay?user=me&sslmode=require");
        assert_eq!(file.as_deref(), Some("/etc/my ca.pem"));
        let missing = Server::parse("postgres://db.example/pay?sslrootcert=/no/such.pem");
        let error = missing.err().unwrap();
        assert_eq!(error.kind, DbErrorKind::Down);
        assert!(error.source.to_string().contains("/no/such.pem"));
    }
}
