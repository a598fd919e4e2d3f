use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::deliver::guard::admit;

/// A name server that knows these addresses, whatever it is asked for.
#[derive(Clone)]
enum Zone {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    Silent,
}

/// Answers one question: the same header and question again, then the addresses of its type.
fn reply(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let name_end = 12 + question[12..].iter().position(|&b| b == 0)? + 1;
    let asked_type = question[name_end + 1];
    let addresses = match zone {
        Zone::Addresses(addresses) => addresses.as_slice(),
        Zone::NoSuchName => &[],
        Zone::Silent => return None,
    };
    let records: Vec<_> = addresses
        .iter()
        .filter(|ip| asked_type == if ip.is_ipv4() { 1 } else { 28 })
        .map(|ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        })
        .collect();
    let code = if matches!(zone, Zone::NoSuchName) {
        3
    } else {
        0
    };
    let count = u8::try_from(records.len()).unwrap();
    let mut reply = question[..2].to_vec();
    reply.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend_from_slice(&question[12..name_end + 4]);
    for record in records {
        let length = u8::try_from(record.len()).unwrap();
        reply.extend_from_slice(&[0xc0, 12, 0, asked_type, 0, 1, 0, 0, 0, 60, 0, length]);
        reply.extend_from_slice(&record);
    }
    Some(reply)
}

async fn connector(zone: Zone) -> Connector {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut connection = ConnectionConfig::udp();
    connection.port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = reply(&buffer[..length], &zone) {
                socket.send_to(&reply, asker).await.unwrap();
            }
        }
    });
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    let mut builder = Resolver::builder_with_config(
        ResolverConfig::from_name_servers(vec![server]),
        TokioRuntimeProvider::default(),
    );
    restrict(builder.options_mut());
    let policy = Policy {
        allow_private: vec!["127.0.0.1/32".parse().unwrap()],
        ..Policy::production()
    };
    let limits = ConnectLimits {
        resolve: Duration::from_millis(200),
        ..ConnectLimits::default()
    };
    let roots = Roots::load(None).unwrap();
    Connector::with_resolver(Arc::new(policy), &roots, limits, builder.build().unwrap())
}

async fn resolve(zone: Zone) -> Result<Vec<SocketAddr>, Failure> {
    let connector = connector(zone).await;
    let destination = admit("https://shop.example.com:8443/", connector.policy()).unwrap();
    connector.resolve(&destination).await.map(|judged| judged.0)
}

fn ips(texts: &[&str]) -> Zone {
    Zone::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[tokio::test]
async fn every_address_of_both_families_is_judged() {
    let found = resolve(ips(&["2606:4700::1111", "8.8.8.8", "9.9.9.9"]))
        .await
        .unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["8.8.8.8:8443", "9.9.9.9:8443", "[2606:4700::1111]:8443"]
    );

    for forbidden in [
        "10.0.0.1",
        "127.0.0.2",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "2002:a00::1",
    ] {
        let zone = ips(&["8.8.8.8", "2606:4700::1111", forbidden]);
        assert_eq!(
            resolve(zone).await,
            Err(Failure::BlockedDestination),
            "{forbidden}"
        );
    }
}

#[tokio::test]
async fn a_name_without_addresses() {
    assert_eq!(resolve(Zone::NoSuchName).await, Err(Failure::DnsFailed));
    assert_eq!(resolve(ips(&[])).await, Err(Failure::DnsFailed));
    assert_eq!(resolve(Zone::Silent).await, Err(Failure::DnsTimeout));
}

#[tokio::test]
async fn the_next_address_is_dialled_when_one_refuses() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let open = listener.local_addr().unwrap();
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let connector = connector(Zone::NoSuchName).await;

    let stream = connector.dial(&Judged(vec![unused, open])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
    assert!(stream.nodelay().unwrap());

    let refused = connector.dial(&Judged(vec![unused])).await.unwrap_err();
    assert_eq!(refused, Failure::ConnectRefused);
}

#[tokio::test]
async fn a_peer_that_was_not_judged_is_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let open = listener.local_addr().unwrap();
    let stream = TcpStream::connect(open).await.unwrap();
    let judged = Judged(vec![SocketAddr::new(
        Ipv6Addr::LOCALHOST.into(),
        open.port(),
    )]);
    assert_eq!(
        check_peer(stream, &judged).unwrap_err(),
        Failure::BlockedDestination
    );
}

#[test]
fn extra_certificates_must_be_certificates() {
    let refused = |pem: &[u8]| Roots::load(Some(pem)).err().unwrap().to_string();
    insta::assert_snapshot!(
        refused(b"hello"),
        @"read the extra CA certificates: the file holds none; add one or drop the setting"
    );
    insta::assert_snapshot!(
        refused(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"),
        @"read the extra CA certificates: the file is not PEM; use one that holds certificates"
    );
}
