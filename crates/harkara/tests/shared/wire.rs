//! A wire to Postgres that a test holds in its hand: it carries messages one by one, and can be cut or
//! held still at each of them.
//!
//! Between a store or a node and a real server; what is said is not understood, only where a message
//! ends. The library's tests and the integration tests share this file.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postgres::Config;
use postgres::config::Host;
use socket2::Socket;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Before a message is passed on, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// Asked twice for each message, and may take its time. A break cuts the connection, both ways.
type Gate = dyn Fn(Side, When) -> ControlFlow<()> + Send + Sync;

/// A port of this machine behind which a server is. It is there until the process ends.
pub(crate) struct Wire {
    url: String,
}

impl Wire {
    /// To the server of a URL.
    pub(crate) fn new(
        url: &str,
        gate: impl Fn(Side, When) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        let server: Config = url.parse().expect("the tests' URL is one of Postgres");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let text = |part: Option<&str>| {
            utf8_percent_encode(part.unwrap_or_default(), NON_ALPHANUMERIC).to_string()
        };
        let password = server
            .get_password()
            .map(|bytes| String::from_utf8_lossy(bytes));
        let url = format!(
            "postgres://{}:{}@{address}/{}?sslmode=disable&options={}",
            text(server.get_user()),
            text(password.as_deref()),
            text(server.get_dbname()),
            text(server.get_options()),
        );
        let gate: Arc<Gate> = Arc::new(gate);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                // A server that is not there hangs up.
                if let Ok(there) = dial(&server) {
                    carry(client, there, &gate);
                }
            }
        });
        Self { url }
    }

    /// Where a store is that is to be reached by this wire.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn dial(server: &Config) -> io::Result<Socket> {
    let port = server.get_ports().first().copied().unwrap_or(5432);
    match server.get_hosts().first() {
        Some(Host::Unix(folder)) => {
            Ok(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))?.into())
        }
        Some(Host::Tcp(name)) => {
            let stream = TcpStream::connect((name.as_str(), port))?;
            stream.set_nodelay(true)?;
            Ok(stream.into())
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Carries both ways until one of them ends, or is cut.
fn carry(client: TcpStream, server: Socket, gate: &Arc<Gate>) {
    // Slow at worst.
    let _ = client.set_nodelay(true);
    let (client, server) = (Arc::new(Socket::from(client)), Arc::new(server));
    for (side, from, to) in [
        (Side::Client, client.clone(), server.clone()),
        (Side::Server, server, client),
    ] {
        let gate = gate.clone();
        thread::spawn(move || {
            // How it ended is the business of whoever is at the ends.
            let _ = carry_one_way(side, &from, &to, &*gate);
            for end in [from, to] {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }
}

fn carry_one_way(side: Side, from: &Socket, mut to: &Socket, gate: &Gate) -> io::Result<()> {
    let mut from = BufReader::new(from);
    // A client begins with a message that has no type.
    let mut untyped = side == Side::Client;
    loop {
        let message = message(&mut from, usize::from(!untyped))?;
        untyped = false;
        if gate(side, When::Before).is_break() {
            return Ok(());
        }
        to.write_all(&message)?;
        if gate(side, When::After).is_break() {
            return Ok(());
        }
    }
}

/// A message: its type, a length that counts itself, and what it says.
fn message(from: &mut impl Read, type_length: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; type_length + 4];
    from.read_exact(&mut message)?;
    let length = message.last_chunk().expect("it ends with four bytes");
    let length = u32::from_be_bytes(*length);
    let begun = message.len();
    message.resize(
        type_length + usize::try_from(length).expect("a length fits"),
        0,
    );
    from.read_exact(&mut message[begun..])?;
    Ok(message)
}
