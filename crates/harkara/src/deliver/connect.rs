//! From a destination to an open stream: resolve, judge, dial, secure.
//!
//! A name is looked up once for each connection, every address it has is judged, and only those
//! addresses are dialled; [`Judged`] can be made in no other way. The transport calls the three
//! steps in turn and times them. HTTP is unknown here, and so is why anybody is called.

mod dial;
mod permits;
mod roots;
mod stream;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use harkara_core::delivery::Failure;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{Resolver, TokioResolver};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::permits::Permits;
use self::roots::Tls;
use super::guard::{Destination, Host, Policy, Scheme, judge_address};

pub use self::dial::{Dialler, EgressError};
pub use self::permits::Permit;
pub use self::roots::{OwnAuthorities, Roots, RootsError};
pub use self::stream::Stream;

/// A name may have more; the rest is not dialled.
const MAX_ADDRESSES: usize = 16;
/// A longer chain of names is a loop, or somebody who wants to keep us busy.
const MAX_ALIASES: usize = 8;
/// Each of the look-up's two tries.
const LOOK_UP_TRY: Duration = Duration::from_secs(2);
/// How long an answer is remembered, whatever its sender says.
const REMEMBERED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const REMEMBERED_FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long each step to a connection may take, and how many may lead to one place.
#[derive(Clone, Debug)]
pub struct ConnectLimits {
    pub resolve: Duration,
    /// One address.
    pub connect_one: Duration,
    /// All addresses of a name.
    pub connect: Duration,
    pub tls: Duration,
    /// Requests under way to one address.
    pub permits_per_address: usize,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(4),
            connect_one: Duration::from_secs(3),
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            permits_per_address: 128,
        }
    }
}

/// Addresses that the policy let through, all of one name: the only ones that are ever dialled.
#[derive(Debug)]
pub struct Judged(Vec<SocketAddr>);

/// Makes connections that cannot lead where the policy forbids.
pub struct Connector {
    policy: Arc<Policy>,
    resolver: TokioResolver,
    dialler: Dialler,
    permits: Permits,
    tls: Tls,
    limits: ConnectLimits,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconnected {
    /// Each address of the name has as many requests under way as it may have. Nothing was dialled.
    Crowded,
    Failed(Failure),
}

impl From<Failure> for Unconnected {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Connector {
    /// Looks names up as the system is set up to, but for its hosts file and search list.
    pub fn new(
        policy: Arc<Policy>,
        roots: &Roots,
        dialler: Dialler,
        limits: ConnectLimits,
    ) -> Result<Self, NetError> {
        let mut builder = Resolver::builder_tokio()?;
        restrict(builder.options_mut());
        let resolver = builder.build()?;
        Ok(Self::with_resolver(
            policy, roots, dialler, limits, resolver,
        ))
    }

    /// Looks names up with a resolver of the caller's.
    pub fn with_resolver(
        policy: Arc<Policy>,
        roots: &Roots,
        dialler: Dialler,
        limits: ConnectLimits,
        resolver: TokioResolver,
    ) -> Self {
        Self {
            policy,
            resolver,
            dialler,
            permits: Permits::new(limits.permits_per_address),
            tls: Tls::new(roots.clone()),
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
            tracing::warn!(
                host = destination.authority,
                "a name leads to a forbidden address"
            );
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
                let aliases: HashSet<_> = found
                    .as_lookup()
                    .answers()
                    .iter()
                    .filter(|record| record.record_type() == RecordType::CNAME)
                    .map(|record| &record.name)
                    .collect();
                if aliases.len() > MAX_ALIASES {
                    return Err(Failure::DnsFailed);
                }
                let mut addresses: Vec<_> = found.iter().collect();
                // Hosts without IPv6 are still common, receivers without IPv4 hardly exist.
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok(addresses)
            }
            Err(NetError::Timeout) => Err(Failure::DnsTimeout),
            Err(_) => Err(Failure::DnsFailed),
        }
    }

    /// The right to one request to an address that is connected already.
    pub fn permit(&self, address: IpAddr) -> Option<Permit> {
        self.permits.take(address)
    }

    /// Connects to the first address that answers, among those that have a permit left.
    pub async fn dial(&self, judged: &Judged) -> Result<(TcpStream, Permit), Unconnected> {
        let one_after_another = async {
            let mut last = Unconnected::Crowded;
            for address in &judged.0 {
                let Some(permit) = self.permits.take(address.ip()) else {
                    continue;
                };
                let dialled = self.dialler.connect(*address);
                let failure = match timeout(self.limits.connect_one, dialled).await {
                    Ok(Ok(stream)) => return Ok((check_peer(stream, judged)?, permit)),
                    Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                        Failure::ConnectRefused
                    }
                    Ok(Err(_)) => Failure::ConnectFailed,
                    Err(_) => Failure::ConnectTimeout,
                };
                last = failure.into();
            }
            Err(last)
        };
        timeout(self.limits.connect, one_after_another)
            .await
            .unwrap_or(Err(Failure::ConnectTimeout.into()))
    }

    /// Every address that was dialled so far.
    #[cfg(test)]
    pub(super) fn dialled(&self) -> Vec<SocketAddr> {
        self.dialler.dialled.lock().unwrap().clone()
    }

    /// Encrypts the connection, if the URL asks for it, with whoever proves to be the URL's host.
    pub async fn secure(
        &self,
        stream: TcpStream,
        destination: &Destination,
        own: Option<OwnAuthorities<'_>>,
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
        let connector = self.tls.connector(own)?;
        match timeout(self.limits.tls, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(_)) => Err(Failure::TlsFailed),
            Err(_) => Err(Failure::TlsTimeout),
        }
    }
}

/// No hosts file, two short tries, and a memory that neither floods the name servers nor outlives a
/// merchant's move.
pub(super) fn restrict(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Never;
    // So that they can be counted.
    options.preserve_intermediates = true;
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

#[cfg(test)]
mod tests;
