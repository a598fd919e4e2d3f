//! The one place that opens a socket to a receiver, and the addresses of ours that it leaves from.
//!
//! Merchants let our addresses through their firewalls, so where some are named no other is used: a
//! receiver of a family that none of them has is not reached. Whether an address may be called is
//! not asked here; `connect.rs` dials what was judged, and nothing else.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpSocket, TcpStream};

/// What Linux gives out to outgoing connections, and nobody should listen on.
const PORTS: Range<u16> = 32_768..61_000;
const PORT_TRIES: usize = 8;
/// More than the longest answer that is read to its end.
const UNREAD_BYTES: u32 = 64 * 1024;

/// Opens connections from the operator's addresses in turn, or, without any, from whichever the
/// system picks.
#[derive(Debug, Default)]
pub struct Dialler {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    turn: AtomicUsize,
    /// Every address that was dialled, so that tests can say which were not.
    #[cfg(test)]
    pub(super) dialled: std::sync::Mutex<Vec<SocketAddr>>,
}

/// An egress address that nothing can be sent from.
#[derive(Debug, thiserror::Error)]
#[error(
    "send from {address}: this machine does not have that address; give it the address, or take \
     it out of destinations.egress"
)]
pub struct EgressError {
    address: IpAddr,
    #[source]
    source: io::Error,
}

impl Dialler {
    /// Leaves from these addresses, each of which is tried out here.
    pub fn leaving_from(addresses: &[IpAddr]) -> Result<Self, EgressError> {
        for &address in addresses {
            std::net::UdpSocket::bind((address, 0))
                .map_err(|source| EgressError { address, source })?;
        }
        let (v4, v6) = addresses.iter().partition(|address| address.is_ipv4());
        // Not where the last start began: its connections may linger.
        let turn = RandomState::new().hash_one(0) as u32;
        Ok(Self {
            v4,
            v6,
            turn: AtomicUsize::new(turn as usize),
            #[cfg(test)]
            dialled: std::sync::Mutex::default(),
        })
    }

    /// Opens a connection to exactly this address.
    pub(super) async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        #[cfg(test)]
        self.dialled.lock().unwrap().push(peer);
        if self.v4.is_empty() && self.v6.is_empty() {
            return socket(peer)?.connect(peer).await;
        }
        let mut failed = ErrorKind::AddrNotAvailable.into();
        for _ in 0..PORT_TRIES {
            let Some(source) = self.source(peer) else {
                break;
            };
            match connect_from(source, peer).await {
                // Somebody has this port, or had it to this peer a moment ago.
                Err(e)
                    if matches!(e.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) =>
                {
                    failed = e;
                }
                done => return done,
            }
        }
        Err(failed)
    }

    /// The next address and port to leave from. The system would pick a port for an address before it
    /// knows the peer, give it to no other, and be out of them at some 470 connections a second.
    fn source(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let sources = match peer {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = sources.get(turn.checked_rem(sources.len())?)?;
        let port = PORTS.start + u16::try_from(turn / sources.len() % PORTS.len()).ok()?;
        Some(SocketAddr::new(*address, port))
    }
}

async fn connect_from(source: SocketAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(peer)?;
    // So that one port can lead to many peers.
    socket.set_reuseaddr(true)?;
    socket.bind(source)?;
    socket.connect(peer).await
}

/// A socket that keeps little of what was not asked for. The system would take megabytes from a
/// receiver that answers without end, for each connection, and the time to copy them.
fn socket(peer: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match peer {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_recv_buffer_size(UNREAD_BYTES)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Leaves from two addresses, the first of which comes first.
    fn dialler(first: &str, second: &str) -> Dialler {
        let addresses = [first, second].map(|text| text.parse().unwrap());
        let mut dialler = Dialler::leaving_from(&addresses).unwrap();
        *dialler.turn.get_mut() &= !1;
        dialler
    }

    #[tokio::test]
    async fn connections_leave_from_the_named_addresses_in_turn() {
        let (_listener, peer) = listener().await;
        let dialler = dialler("127.0.0.3", "127.0.0.4");
        let mut sources = Vec::new();
        for _ in 0..4 {
            let stream = dialler.connect(peer).await.unwrap();
            sources.push(stream.local_addr().unwrap().ip().to_string());
        }
        assert_eq!(
            sources,
            ["127.0.0.3", "127.0.0.4", "127.0.0.3", "127.0.0.4"]
        );
        let other_family = SocketAddr::from((Ipv6Addr::LOCALHOST, peer.port()));
        let refused = dialler.connect(other_family).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
    }

    #[tokio::test]
    async fn a_receiver_that_answers_without_end_is_not_read_ahead() {
        let (listener, peer) = listener().await;
        let ours = Dialler::default().connect(peer).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let (mut ours, mut theirs) = (ours.into_std().unwrap(), theirs.into_std().unwrap());
        let (flood, mut buffer) = (vec![0; 1 << 20], vec![0; 1 << 23]);
        // The system would keep more and more for one that reads fast.
        let mut read = 0;
        while read < 1 << 26 {
            while theirs.write(&flood).is_ok() {}
            read += ours.read(&mut buffer).unwrap_or(0);
        }
        while theirs.write(&flood).is_ok() {}
        let unread = ours.peek(&mut buffer).unwrap_or(0);
        assert!(unread <= 2 * UNREAD_BYTES as usize, "{unread} bytes");
    }

    #[tokio::test]
    async fn one_port_leads_to_many_peers_and_to_each_of_them_once() {
        let (_first, first) = listener().await;
        let (_second, second) = listener().await;
        let mut dialler = dialler("127.0.0.5", "127.0.0.6");
        let turn = *dialler.turn.get_mut();
        let mut from = async |peer| {
            *dialler.turn.get_mut() = turn;
            dialler.connect(peer).await.unwrap()
        };
        let [one, two, again] = [from(first).await, from(second).await, from(first).await];
        assert_eq!(one.local_addr().unwrap(), two.local_addr().unwrap());
        assert_ne!(one.local_addr().unwrap(), again.local_addr().unwrap());
    }

    #[test]
    fn an_egress_address_that_this_machine_does_not_have_is_refused() {
        let refused = Dialler::leaving_from(&["192.0.2.1".parse().unwrap()]).unwrap_err();
        insta::assert_snapshot!(refused, @r"
        send from 192.0.2.1: this machine does not have that address; give it the address, or take it out of destinations.egress
        ");
    }
}
