//! From a destination to an open stream: resolve, judge, dial, secure.
//!
//! A name is looked up once for each connection, every address it has is judged, and only those
//! addresses are dialled; [`Judged`] can be made in no other way. The transport calls the three
//! steps in turn and times them. HTTP is unknown here, and so is why anybody is called.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use harkara_core::delivery::Failure;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::{Resolver, TokioResolver};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::guard::{Destination, Host, Policy, Scheme, judge_address};

/// A name may have more; the rest is not dialled.
const MAX_ADDRESSES: usize = 16;
/// Each of the look-up's two tries.
const LOOK_UP_TRY: Duration = Duration::from_secs(2);
/// How long an answer is remembered, whatever its sender says.
const REMEMBERED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const REMEMBERED_FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long each step to a connection may take.
#[derive(Clone, Debug)]
pub struct ConnectLimits {
    pub resolve: Duration,
    /// One address.
    pub connect_one: Duration,
    /// All addresses of a name.
    pub connect: Duration,
    pub tls: Duration,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(4),
            connect_one: Duration::from_secs(3),
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
        }
    }
}

/// Whose certificates are trusted. Built once, at start.
#[derive(Clone)]
pub struct Roots {
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    note: Option<String>,
}

/// Why no set of trusted certificates could be made.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("read the extra CA certificates: the file is not PEM; use one that holds certificates")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("read the extra CA certificates: the file holds none; add one or drop the setting")]
    Empty,
    #[error("trust the CA certificates: one of them is damaged or none is left")]
    Tls(#[source] rustls::Error),
    #[error("trust the CA certificates: no verifier can be built from them")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

impl Roots {
    /// The system's store, or the bundled Mozilla roots where it has none, and with either the
    /// certificates of `extra_pem`, such as a sandbox's own CA.
    pub fn load(extra_pem: Option<&[u8]>) -> Result<Self, RootsError> {
        let extra = extra_pem
            .map(read_certificates)
            .transpose()?
            .unwrap_or_default();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Asked without the extra certificates first: with them, an empty store is no error.
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(&provider));
        let (verifier, note): (Arc<dyn ServerCertVerifier>, _) = match system {
            Ok(verifier) if extra.is_empty() => (Arc::new(verifier), None),
            Ok(_) => {
                let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
                    extra,
                    Arc::clone(&provider),
                );
                (Arc::new(verifier.map_err(RootsError::Tls)?), None)
            }
            Err(error) => {
                let note = format!(
                    "the system's certificate store cannot be used ({error}); trusting the bundled \
                     Mozilla roots, which age with this program: install the ca-certificates \
                     package"
                );
                (bundled(extra, Arc::clone(&provider))?, Some(note))
            }
        };
        Ok(Self {
            verifier,
            provider,
            note,
        })
    }

    /// What an operator should hear at start.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket that is shown to another address than it came from can smuggle bytes into it.
        config.resumption = Resumption::disabled();
        config
    }
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(RootsError::Pem)?;
    if certificates.is_empty() {
        Err(RootsError::Empty)
    } else {
        Ok(certificates)
    }
}

fn bundled(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, RootsError> {
    let mut store: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    for certificate in extra {
        store.add(certificate).map_err(RootsError::Tls)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
    Ok(verifier.map_err(RootsError::Verifier)?)
}

/// Addresses that the policy let through, all of one name: the only ones that are ever dialled.
#[derive(Debug)]
pub struct Judged(Vec<SocketAddr>);

/// An open connection, encrypted or, where the policy allows it, not.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Makes connections that cannot lead where the policy forbids.
pub struct Connector {
    policy: Arc<Policy>,
    resolver: TokioResolver,
    tls: TlsConnector,
    limits: ConnectLimits,
}

impl Connector {
    /// Looks names up as the system is set up to, but for its hosts file and search list.
    pub fn new(
        policy: Arc<Policy>,
        roots: &Roots,
        limits: ConnectLimits,
    ) -> Result<Self, NetError> {
        let mut builder = Resolver::builder_tokio()?;
        restrict(builder.options_mut());
        Ok(Self::with_resolver(policy, roots, limits, builder.build()?))
    }

    /// Looks names up with a resolver of the caller's.
    pub fn with_resolver(
        policy: Arc<Policy>,
        roots: &Roots,
        limits: ConnectLimits,
        resolver: TokioResolver,
    ) -> Self {
        let tls = TlsConnector::from(Arc::new(roots.client_config()));
        Self {
            policy,
            resolver,
            tls,
            limits,
        }
    }

    /// What this connector goes by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where a destination is, if every one of its addresses may be called.
    pub async fn resolve(&self, destination: &Destination) -> Result<Judged, Failure> {
        let addresses = match &destination.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => match self.policy.static_names.get(name) {
                Some(ip) => vec![*ip],
                None => timeout(self.limits.resolve, self.look_up(name))
                    .await
                    .unwrap_or(Err(Failure::DnsTimeout))?,
            },
        };
        if addresses.is_empty() {
            return Err(Failure::DnsFailed);
        }
        // One forbidden address among good ones is an attack or a mistake, never a wish.
        if !addresses.iter().all(|ip| judge_address(*ip, &self.policy)) {
            return Err(Failure::BlockedDestination);
        }
        let port = destination.port;
        Ok(Judged(
            addresses
                .into_iter()
                .take(MAX_ADDRESSES)
                .map(|ip| SocketAddr::new(ip, port))
                .collect(),
        ))
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        // The dot makes the name absolute, so that no search list is tried.
        match self.resolver.lookup_ip(format!("{name}.")).await {
            Ok(found) => {
                let mut addresses: Vec<_> = found.iter().collect();
                // Hosts without IPv6 are still common, receivers without IPv4 hardly exist.
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok(addresses)
            }
            Err(NetError::Timeout) => Err(Failure::DnsTimeout),
            Err(_) => Err(Failure::DnsFailed),
        }
    }

    /// Connects to the first address that answers.
    pub async fn dial(&self, judged: &Judged) -> Result<TcpStream, Failure> {
        let one_after_another = async {
            let mut last = Failure::ConnectFailed;
            for address in &judged.0 {
                match timeout(self.limits.connect_one, TcpStream::connect(*address)).await {
                    Ok(Ok(stream)) => return check_peer(stream, judged),
                    Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                        last = Failure::ConnectRefused;
                    }
                    Ok(Err(_)) => last = Failure::ConnectFailed,
                    Err(_) => last = Failure::ConnectTimeout,
                }
            }
            Err(last)
        };
        timeout(self.limits.connect, one_after_another)
            .await
            .unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Encrypts the connection, if the URL asks for it, with whoever proves to be the URL's host.
    pub async fn secure(
        &self,
        stream: TcpStream,
        destination: &Destination,
    ) -> Result<Stream, Failure> {
        match destination.scheme {
            Scheme::Http => return Ok(Stream::Plain(stream)),
            Scheme::Https => {}
        }
        let name = match &destination.host {
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| Failure::TlsFailed)?
            }
            Host::Address(ip) => ServerName::from(*ip),
        };
        match timeout(self.limits.tls, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(_)) => Err(Failure::TlsFailed),
            Err(_) => Err(Failure::TlsTimeout),
        }
    }
}

/// No hosts file, two short tries, and a memory that neither floods the name servers nor outlives a
/// merchant's move.
fn restrict(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = LOOK_UP_TRY;
    // Retries after the first try.
    options.attempts = 1;
    options.positive_min_ttl = Some(REMEMBERED.0);
    options.positive_max_ttl = Some(REMEMBERED.1);
    options.negative_min_ttl = Some(REMEMBERED_FAILURE.0);
    options.negative_max_ttl = Some(REMEMBERED_FAILURE.1);
}

/// Whoever answered must be who was dialled: a rule in the kernel may have led elsewhere.
fn check_peer(stream: TcpStream, judged: &Judged) -> Result<TcpStream, Failure> {
    let peer = stream.peer_addr().map_err(|_| Failure::ConnectFailed)?;
    if !judged.0.contains(&peer) {
        return Err(Failure::BlockedDestination);
    }
    stream
        .set_nodelay(true)
        .map_err(|_| Failure::ConnectFailed)?;
    Ok(stream)
}

macro_rules! on_either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Plain($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Self::Tls($inner) => {
                let $inner = Pin::new($inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(self, inner => inner.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, inner => inner.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, inner => inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests;
