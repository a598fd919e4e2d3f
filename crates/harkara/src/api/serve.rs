//! The listener and its connections: how many, how long a silent client is borne, and how they end.
//!
//! HTTP/1 alone: its parser starts the clock with the connection, where one that first guesses the
//! version waits for ever for the bytes to guess from. What is said on a connection is the router's
//! business. `app.rs` runs this.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Api, answer, router};
use crate::dashboard::Peer;

/// How long a client may take to send the head of a request, from when it could have begun.
const REQUEST_HEAD: Duration = Duration::from_secs(15);

/// What clients may take of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections open at once; beyond them, new ones wait in the kernel's backlog.
    pub connections: usize,
    /// For the head of a request.
    pub head: Duration,
}

impl Bounds {
    /// So many connections, and the usual time for a head.
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            head: REQUEST_HEAD,
        }
    }
}

/// Answers requests until it is told to stop, then lets the open ones finish. Dropped before that,
/// it cuts their connections.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let routes = router(api.clone());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            // A stop signal whose sender is gone is a stop as well.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            stream = accept(&listener), if connections.len() < bounds.connections => stream,
        };
        let Some((stream, peer)) = stream else {
            continue;
        };
        let (api, routes) = (api.clone(), routes.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answer = answer(api.clone(), routes.clone(), request.map(Body::new));
            async { Ok::<_, Infallible>(answer.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a client's connection ended badly");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "failed to set TCP_NODELAY");
            }
            Some((stream, peer.ip()))
        }
        Err(error) => {
            // Out of file descriptors, most likely: a moment later some will be free.
            tracing::warn!(%error, "failed to accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::World;

    /// A server on a port of its own, and the way to stop it.
    async fn start(world: &World, bounds: Bounds) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, world.api.clone(), bounds, stopped));
        (address, stop)
    }

    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_hung_up_on() {
        let world = World::new().await;
        let bounds = Bounds {
            connections: 10,
            head: Duration::from_millis(20),
        };
        let (address, _stop) = start(&world, bounds).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        silent.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_its_turn() {
        let world = World::new().await;
        let (address, _stop) = start(&world, Bounds::new(1)).await;
        let first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut answer = std::pin::pin!(ask(&mut second));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut answer).await;
        assert!(early.is_err(), "the first is still open");
        drop(first);
        assert!(answer.await.starts_with("HTTP/1.1 200"));
    }
}
