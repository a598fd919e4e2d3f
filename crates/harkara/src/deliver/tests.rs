//! What tests of several rooms need: a name server that says what a test wants it to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::net::UdpSocket;

/// What a name server knows, whatever it is asked for.
#[derive(Clone)]
pub(super) enum Zone {
    Addresses(Vec<IpAddr>),
    /// So many names that each stand for the next, told at once, and the addresses of the last.
    Aliases(usize, Vec<IpAddr>),
    /// Each name stands for another, which has to be asked for.
    Endless,
    NoSuchName,
    Silent,
}

pub(super) fn ips(texts: &[&str]) -> Zone {
    Zone::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// Answers on a port of its own, until the test ends.
pub(super) struct NameServer {
    port: u16,
    zone: Arc<Mutex<Zone>>,
    questions: Arc<AtomicUsize>,
}

impl NameServer {
    pub(super) async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            port: socket.local_addr().unwrap().port(),
            zone: Arc::new(Mutex::new(zone)),
            questions: Arc::default(),
        };
        let (zone, questions) = (server.zone.clone(), server.questions.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
                questions.fetch_add(1, Ordering::SeqCst);
                let zone = zone.lock().unwrap().clone();
                if let Some(reply) = reply(&buffer[..length], &zone) {
                    socket.send_to(&reply, asker).await.unwrap();
                }
            }
        });
        server
    }

    /// From now on it knows something else.
    pub(super) fn set(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    pub(super) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// A resolver that asks this server alone.
    pub(super) fn resolver(&self, change: impl FnOnce(&mut ResolverOpts)) -> TokioResolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let mut builder = Resolver::builder_with_config(
            ResolverConfig::from_name_servers(vec![server]),
            TokioRuntimeProvider::default(),
        );
        super::connect::restrict(builder.options_mut());
        change(builder.options_mut());
        builder.build().unwrap()
    }
}

const A: u8 = 1;
const CNAME: u8 = 5;

/// The same header and question again, then what the zone knows of the type that is asked for.
fn reply(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let name_end = 12 + question[12..].iter().position(|&b| b == 0)? + 1;
    let (name, asked_type) = (&question[12..name_end], question[name_end + 1]);
    let mut records: Vec<(Vec<u8>, u8, Vec<u8>)> = Vec::new();
    let mut add_addresses = |name: &[u8], addresses: &[IpAddr]| {
        for ip in addresses
            .iter()
            .filter(|ip| ip.is_ipv4() == (asked_type == A))
        {
            let bytes = match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            records.push((name.to_vec(), asked_type, bytes));
        }
    };
    match zone {
        Zone::Addresses(addresses) => add_addresses(name, addresses),
        Zone::Aliases(count, addresses) => {
            let names: Vec<Vec<u8>> = (0..=*count)
                .map(|n| match n {
                    0 => name.to_vec(),
                    n => alias(n),
                })
                .collect();
            add_addresses(&names[*count], addresses);
            let chain = names.windows(2);
            let chain = chain.map(|pair| (pair[0].clone(), CNAME, pair[1].clone()));
            records.splice(0..0, chain);
        }
        Zone::Endless => records.push((name.to_vec(), CNAME, alias(name.len()))),
        Zone::NoSuchName => {}
        Zone::Silent => return None,
    }
    let code = 3 * u8::from(matches!(zone, Zone::NoSuchName));
    let count = u8::try_from(records.len()).unwrap();
    let mut reply = question[..2].to_vec();
    reply.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend_from_slice(&question[12..name_end + 4]);
    for (name, kind, data) in records {
        reply.extend_from_slice(&name);
        let length = u8::try_from(data.len()).unwrap();
        reply.extend_from_slice(&[0, kind, 0, 1, 0, 0, 0, 60, 0, length]);
        reply.extend_from_slice(&data);
    }
    Some(reply)
}

/// A name of so many letters below `example`, as the wire has it.
fn alias(letters: usize) -> Vec<u8> {
    let mut name = vec![u8::try_from(letters).unwrap()];
    name.extend(vec![b'a'; letters]);
    name.extend_from_slice(b"\x07example\x00");
    name
}
