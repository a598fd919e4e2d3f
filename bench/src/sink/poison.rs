//! Receivers that do what none should, each kind in its own way and at an address of its own.
//!
//! Raw sockets, for no HTTP library would let us do this. Nothing that is sent here is read or
//! counted but by its connection. `load --poison` asks where they are and what came of them.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

const DRIP: Duration = Duration::from_millis(100);
const SLOW_ANSWER: Duration = Duration::from_secs(3);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to ask which receivers there are; they listen at 127.0.1.1 and up
    #[arg(long, default_value = "127.0.0.1:9901")]
    addr: SocketAddr,
}

/// One receiver, as whoever asks is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Poisoned {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) connections: u64,
}

/// What a receiver does to whoever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    ClosesAtAccept,
    NeverAnswers,
    DripsHead,
    DripsBody,
    EndlessHeaders,
    HugeStatusLine,
    ResetsAnywhere,
    Garbage,
    BadTls,
    RedirectsToItself,
    HundredThousandContinues,
    TwoAnswersAtOnce,
    GzipBomb,
    FailsSlowly,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::ClosesAtAccept,
        Self::NeverAnswers,
        Self::DripsHead,
        Self::DripsBody,
        Self::EndlessHeaders,
        Self::HugeStatusLine,
        Self::ResetsAnywhere,
        Self::Garbage,
        Self::BadTls,
        Self::RedirectsToItself,
        Self::HundredThousandContinues,
        Self::TwoAnswersAtOnce,
        Self::GzipBomb,
        Self::FailsSlowly,
    ];

    fn scheme(self) -> &'static str {
        if self == Self::BadTls {
            "https"
        } else {
            "http"
        }
    }
}

struct Receiver {
    kind: Kind,
    url: String,
    connections: Cell<u64>,
}

/// Harms whoever calls until the process is ended.
pub(crate) async fn run(args: Args) -> Result<()> {
    let listen = async |address: SocketAddr| {
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("failed to listen on {address}"))
    };
    let local = LocalSet::new();
    let mut receivers = Vec::new();
    for (n, kind) in (1..).zip(Kind::ALL) {
        // Endpoints of the world do not share an address, and a server may bound what one may have.
        let address = IpAddr::from(Ipv4Addr::new(127, 0, 1, n));
        let listener = listen((address, 0).into()).await?;
        let receiver = Rc::new(Receiver {
            kind,
            url: format!("{}://{}/hook", kind.scheme(), listener.local_addr()?),
            connections: Cell::default(),
        });
        receivers.push(receiver.clone());
        local.spawn_local(receive(receiver, listener));
    }
    let asked = listen(args.addr).await?;
    println!("poison listening on http://{}", asked.local_addr()?);
    local
        .run_until(async move {
            loop {
                let (stream, _) = asked.accept().await?;
                // Who asks and goes away needs no answer.
                drop(tell(&receivers, stream).await);
            }
        })
        .await
}

async fn receive(receiver: Rc<Receiver>, listener: TcpListener) {
    loop {
        // Without room for another connection, the next of them may find some.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(DRIP).await;
            continue;
        };
        receiver.connections.set(receiver.connections.get() + 1);
        let receiver = receiver.clone();
        // The other side is to leave, however it does.
        spawn_local(async move { drop(harm(&receiver, stream).await) });
    }
}

/// Does its worst to one connection, then waits for the other side to go.
async fn harm(receiver: &Receiver, mut stream: TcpStream) -> io::Result<()> {
    if receiver.kind == Kind::ClosesAtAccept {
        return Ok(());
    }
    let mut request = [0; 4096];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    match receiver.kind {
        Kind::ClosesAtAccept | Kind::NeverAnswers => {}
        Kind::DripsHead => drip(&mut stream, "HTTP/1.1 200 OK\r\nX: ").await?,
        Kind::DripsBody => drip(&mut stream, "HTTP/1.1 200 OK\r\n\r\n").await?,
        Kind::EndlessHeaders => {
            flood(
                &mut stream,
                "HTTP/1.1 200 OK\r\n",
                b"X-More: of the same\r\n",
            )
            .await?;
        }
        Kind::HugeStatusLine => flood(&mut stream, "HTTP/1.1 200 ", b"OK, and so on, ").await?,
        Kind::ResetsAnywhere => {
            let said = &OK.as_bytes()[..fastrand::usize(..=OK.len())];
            stream.write_all(said).await?;
            return stream.set_zero_linger();
        }
        Kind::Garbage | Kind::BadTls => {
            let noise: Vec<u8> = (0..512).map(|_| fastrand::u8(..)).collect();
            stream.write_all(&noise).await?;
        }
        Kind::RedirectsToItself => {
            let Receiver { url, .. } = receiver;
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Kind::HundredThousandContinues => {
            let thousand = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
            for _ in 0..100 {
                stream.write_all(thousand.as_bytes()).await?;
            }
        }
        Kind::TwoAnswersAtOnce => stream.write_all(OK.repeat(2).as_bytes()).await?,
        Kind::GzipBomb => {
            let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\u{1f}";
            // The rest of a gzip header, then bytes that would each become a thousand.
            flood(&mut stream, head, &[0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]).await?;
        }
        Kind::FailsSlowly => {
            sleep(SLOW_ANSWER).await;
            let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
        }
    }
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

/// Begins an answer and goes on with it byte by byte, for as long as somebody listens.
async fn drip(stream: &mut TcpStream, head: &str) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    loop {
        sleep(DRIP).await;
        stream.write_all(b"y").await?;
    }
}

/// Begins an answer and goes on with it as fast as it is read.
async fn flood(stream: &mut TcpStream, head: &str, again: &[u8]) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    let again = again.repeat(1024);
    loop {
        stream.write_all(&again).await?;
    }
}

/// The one well-behaved answer of this process.
async fn tell(receivers: &[Rc<Receiver>], mut stream: TcpStream) -> Result<()> {
    if stream.read(&mut [0; 4096]).await? == 0 {
        return Ok(());
    }
    let all: Vec<_> = receivers
        .iter()
        .map(|receiver| Poisoned {
            kind: receiver.kind,
            url: receiver.url.clone(),
            connections: receiver.connections.get(),
        })
        .collect();
    let body = serde_json::to_string(&all)?;
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caller who asks once and then says no more hears at first.
    async fn heard(kind: Kind) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Receiver {
            kind,
            url: "http://itself/".to_owned(),
            connections: Cell::default(),
        };
        let ask = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            stream.shutdown().await.unwrap();
            // A reset is an end, too.
            drop(stream.take(48).read_to_end(&mut answer).await);
            String::from_utf8_lossy(&answer)
                .escape_default()
                .to_string()
        };
        let (answer, _) = tokio::join!(ask, async {
            let (stream, _) = listener.accept().await.unwrap();
            drop(harm(&receiver, stream).await);
        });
        answer
    }

    #[tokio::test]
    async fn what_is_said_is_what_the_kind_is_called() {
        let mut table = String::new();
        // The others say something else each time, or take their time.
        for kind in [
            Kind::ClosesAtAccept,
            Kind::NeverAnswers,
            Kind::EndlessHeaders,
            Kind::HugeStatusLine,
            Kind::RedirectsToItself,
            Kind::HundredThousandContinues,
            Kind::TwoAnswersAtOnce,
            Kind::GzipBomb,
        ] {
            table += format!("{kind:?}: {}", heard(kind).await).trim_end();
            table += "\n";
        }
        insta::assert_snapshot!(table, @r"
        ClosesAtAccept:
        NeverAnswers:
        EndlessHeaders: HTTP/1.1 200 OK\r\nX-More: of the same\r\nX-More: of
        HugeStatusLine: HTTP/1.1 200 OK, and so on, OK, and so on, OK, a
        RedirectsToItself: HTTP/1.1 302 Found\r\nLocation: http://itself/\r\nCo
        HundredThousandContinues: HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n
        TwoAnswersAtOnce: HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1
        GzipBomb: HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\u{1f}\u{fffd}\u{8}\u{0}\u{0}
        ");
    }
}
