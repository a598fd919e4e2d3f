use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::TcpListener;

use super::*;
use crate::deliver::guard::admit;
use crate::deliver::tests::{NameServer, Zone, ips};

/// A connector that may call 127.0.0.1 and asks this name server, each time anew.
fn connector(names: &NameServer) -> Connector {
    let policy = Policy {
        allow_private: vec!["127.0.0.1/32".parse().unwrap()],
        ..Policy::production()
    };
    let limits = ConnectLimits {
        resolve: Duration::from_millis(200),
        permits_per_address: 2,
        ..ConnectLimits::default()
    };
    let roots = Roots::load(None).unwrap();
    let resolver = names.resolver(|options| options.cache_size = 0);
    Connector::with_resolver(
        Arc::new(policy),
        &roots,
        Dialler::default(),
        limits,
        resolver,
    )
}

async fn resolve(zone: Zone) -> Result<Vec<SocketAddr>, Failure> {
    let names = NameServer::start(zone).await;
    let connector = connector(&names);
    let destination = admit("https://shop.example.com:8443/", connector.policy()).unwrap();
    connector.resolve(&destination).await.map(|judged| judged.0)
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
async fn of_many_addresses_all_are_judged_and_sixteen_are_dialled() {
    let addresses = |last: IpAddr| {
        let public = (1..=19).map(|n| IpAddr::V4(Ipv4Addr::new(8, 8, 8, n)));
        Zone::Addresses(public.chain([last]).collect())
    };
    let found = resolve(addresses(Ipv4Addr::new(9, 9, 9, 9).into())).await;
    assert_eq!(found.unwrap().len(), 16);
    let found = resolve(addresses(Ipv4Addr::new(10, 0, 0, 1).into())).await;
    assert_eq!(found, Err(Failure::BlockedDestination));
}

#[tokio::test]
async fn a_name_may_stand_for_another_but_not_for_ever() {
    let aliases = |count| Zone::Aliases(count, vec![Ipv4Addr::new(8, 8, 8, 8).into()]);
    assert_eq!(resolve(aliases(1)).await.unwrap().len(), 1);
    assert_eq!(resolve(aliases(8)).await.unwrap().len(), 1);
    assert_eq!(resolve(aliases(9)).await, Err(Failure::DnsFailed));
    let private = Zone::Aliases(1, vec![Ipv4Addr::new(10, 0, 0, 1).into()]);
    assert_eq!(resolve(private).await, Err(Failure::BlockedDestination));

    let names = NameServer::start(Zone::Endless).await;
    let connector = connector(&names);
    let destination = admit("https://shop.example.com/", connector.policy()).unwrap();
    let found = connector.resolve(&destination).await.map(|judged| judged.0);
    assert_eq!(found, Err(Failure::DnsFailed));
    // Of each of the two types.
    assert!(
        names.questions() <= 2 * MAX_ALIASES,
        "{}",
        names.questions()
    );
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
    let connector = connector(&NameServer::start(Zone::NoSuchName).await);

    let (stream, _) = connector.dial(&Judged(vec![unused, open])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), open);
    assert!(stream.nodelay().unwrap());

    let refused = connector.dial(&Judged(vec![unused])).await.unwrap_err();
    assert_eq!(refused, Unconnected::Failed(Failure::ConnectRefused));
}

#[tokio::test]
async fn an_address_without_a_permit_is_passed_over() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let [first, second] = [1, 2].map(|n| SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), port)));
    let connector = connector(&NameServer::start(Zone::NoSuchName).await);
    let judged = Judged(vec![first, second]);
    let mut open = Vec::new();
    for expected in [first, first, second, second] {
        let (stream, permit) = connector.dial(&judged).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), expected);
        open.push(permit);
    }
    let crowded = connector.dial(&judged).await.unwrap_err();
    assert_eq!(crowded, Unconnected::Crowded);
    assert_eq!(connector.dialled().len(), 4);
    open.remove(0);
    assert!(connector.dial(&judged).await.is_ok());
}

/// Between the look-up and the connection a name may move; the connection does not ask again.
#[tokio::test]
async fn what_was_judged_is_what_is_dialled() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = NameServer::start(ips(&["127.0.0.1"])).await;
    let mut connector = connector(&names);
    let mut policy = Policy::clone(&connector.policy);
    policy.ports = vec![port];
    connector.policy = Arc::new(policy);
    let url = format!("https://shop.example.com:{port}/");
    let destination = admit(&url, connector.policy()).unwrap();
    let judged = connector.resolve(&destination).await.unwrap();
    let questions = names.questions();

    names.set(ips(&["127.0.0.2"]));
    let (stream, _) = connector.dial(&judged).await.unwrap();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(stream.peer_addr().unwrap(), here);
    assert_eq!(connector.dialled(), [here]);
    assert_eq!(names.questions(), questions);

    let moved = connector.resolve(&destination).await.unwrap_err();
    assert_eq!(moved, Failure::BlockedDestination);
    assert_eq!(connector.dialled(), [here]);
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
