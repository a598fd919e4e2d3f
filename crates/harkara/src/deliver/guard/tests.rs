use proptest::prelude::*;

use super::*;

/// One place opened of each kind: a network, a name, a port.
fn sandbox() -> Policy {
    Policy {
        allow_http: true,
        allow_private: vec!["127.0.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()],
        ports: vec![443, 8443, 9000],
        static_names: BTreeMap::from([
            ("shop".to_owned(), Ipv4Addr::LOCALHOST.into()),
            ("shop.test".to_owned(), Ipv4Addr::LOCALHOST.into()),
        ]),
        own_hosts: vec!["pay.example.com".to_owned()],
        ..Policy::production()
    }
}

fn say(url: &str, policy: &Policy) -> String {
    match admit(url, policy) {
        Ok(destination) => {
            let Destination {
                url,
                scheme,
                host,
                port,
                authority,
                target,
            } = destination;
            format!("{url} = {scheme:?} {host:?} {port}, Host: {authority}, POST {target}")
        }
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn a_destination_in_all_its_parts() {
    let production = |url| say(url, &Policy::production());
    insta::assert_snapshot!(
        production("HTTPS://Shop.Example.COM.:443/hooks/../pay?order=1"),
        @r#"https://shop.example.com/pay?order=1 = Https Name("shop.example.com") 443, Host: shop.example.com, POST /pay?order=1"#
    );
    insta::assert_snapshot!(
        production("https://bücher.example.com:8443"),
        @r#"https://xn--bcher-kva.example.com:8443/ = Https Name("xn--bcher-kva.example.com") 8443, Host: xn--bcher-kva.example.com:8443, POST /"#
    );
    insta::assert_snapshot!(
        say("http://[fd00::1]:81/x", &sandbox()),
        @"http://[fd00::1]:81/x = Http Address(fd00::1) 81, Host: [fd00::1]:81, POST /x"
    );
}

#[test]
fn what_is_refused_in_production() {
    use Refused::{
        AddressLiteral, Fragment, HostName, Malformed, NotHttps, Port, PrivateName, SingleLabel,
        UserInfo,
    };

    let character = |character, position| Refused::Character {
        character,
        position,
    };
    for (url, refused) in [
        ("http://shop.example.com/", NotHttps),
        ("ftp://shop.example.com/", NotHttps),
        ("gopher://shop.example.com/", NotHttps),
        ("javascript:alert(1)", Malformed),
        ("", Malformed),
        ("shop.example.com", Malformed),
        ("https:shop.example.com", Malformed),
        ("https:/shop.example.com", Malformed),
        ("https:///shop.example.com", Malformed),
        ("https://", Malformed),
        ("https://shop.example.com:99999/", Malformed),
        // Characters that parsers drop or read in their own way.
        (" https://shop.example.com/", character(' ', 1)),
        ("https://shop.example.com/\n", character('\n', 26)),
        ("https://shop.exa\tmple.com/", character('\t', 17)),
        (
            "https://shop.example.com\\@other.example.com/",
            character('\\', 25),
        ),
        ("https://shop.example.com/\0", character('\0', 26)),
        ("https://shop.example.com/é", character('é', 26)),
        ("https://shop.example.com/a b", character(' ', 27)),
        ("https://shop.example.com/\u{85}", character('\u{85}', 26)),
        ("https://user@shop.example.com/", UserInfo),
        ("https://user:password@shop.example.com/", UserInfo),
        ("https://@shop.example.com/", UserInfo),
        ("https://shop.example.com/#part", Fragment),
        ("https://shop.example.com/#", Fragment),
        ("https://shop.example.com:80/", Port { port: 80 }),
        ("https://shop.example.com:22/", Port { port: 22 }),
        ("https://shop.example.com:0/", Port { port: 0 }),
        // One address in the spellings that the parser folds into it.
        ("https://127.0.0.1/", AddressLiteral),
        ("https://127.0.0.1./", AddressLiteral),
        ("https://127.1/", AddressLiteral),
        ("https://2130706433/", AddressLiteral),
        ("https://0x7f000001/", AddressLiteral),
        ("https://0177.0.0.1/", AddressLiteral),
        ("https://１２７.０.０.１/", AddressLiteral),
        ("https://127。0。0。1/", AddressLiteral),
        ("https://%31%32%37.0.0.1/", AddressLiteral),
        ("https://8.8.8.8/", AddressLiteral),
        ("https://[::1]/", AddressLiteral),
        ("https://[::ffff:127.0.0.1]/", AddressLiteral),
        ("https://[2606:4700::1111]/", AddressLiteral),
        ("https://[fe80::1%25eth0]/", Malformed),
        ("https://256.0.0.1/", Malformed),
        ("https://localhost/", SingleLabel),
        ("https://shop/", SingleLabel),
        ("https://shop./", SingleLabel),
        ("https://shop.localhost/", PrivateName),
        ("https://LOCALHOST.localdomain/", PrivateName),
        ("https://printer.local/", PrivateName),
        ("https://api.default.svc.cluster.local/", PrivateName),
        ("https://api.default.svc/", PrivateName),
        ("https://metadata.google.internal/", PrivateName),
        ("https://metadata.google.internal./", PrivateName),
        ("https://nas.home.arpa/", PrivateName),
        ("https://hidden.onion/", PrivateName),
        ("https://shop.test/", PrivateName),
        ("https://shop.invalid/", PrivateName),
        ("https://shop..example.com/", HostName),
        ("https://shop.example.com../", HostName),
        ("https://.example.com/", HostName),
        ("https://shop!.example.com/", HostName),
        ("https://shop,other.example.com/", HostName),
    ] {
        assert_eq!(admit(url, &Policy::production()), Err(refused), "{url:?}");
    }
}

#[test]
fn lengths() {
    let production = Policy::production();
    let of_bytes = |bytes: usize| {
        let start = "https://shop.example.com/";
        format!("{start}{}", "a".repeat(bytes - start.len()))
    };
    assert!(admit(&of_bytes(2048), &production).is_ok());
    assert_eq!(
        admit(&of_bytes(2049), &production),
        Err(Refused::TooLong { bytes: 2049 })
    );
    // A quote becomes three bytes.
    let quoted = format!("{}\"", of_bytes(2047));
    assert_eq!(
        admit(&quoted, &production),
        Err(Refused::TooLong { bytes: 2050 })
    );

    let label = "a".repeat(63);
    assert!(admit(&format!("https://{label}.example.com/"), &production).is_ok());
    assert_eq!(
        admit(&format!("https://a{label}.example.com/"), &production),
        Err(Refused::HostName)
    );
    assert_eq!(
        admit(
            &format!("https://{label}.{label}.{label}.{label}.example.com/"),
            &production
        ),
        Err(Refused::HostName)
    );
}

#[test]
fn a_sandbox_opens_single_places() {
    let outcome = |url| admit(url, &sandbox()).map(|d| d.port);
    assert_eq!(outcome("http://127.0.0.1:5000/"), Ok(5000));
    assert_eq!(outcome("https://127.0.0.1/"), Ok(443));
    assert_eq!(
        outcome("http://127.0.0.2:5000/"),
        Err(Refused::AddressLiteral)
    );
    assert_eq!(
        outcome("http://[::ffff:127.0.0.1]:5000/"),
        Err(Refused::AddressLiteral)
    );
    assert_eq!(outcome("http://[fd00::1]:5000/"), Ok(5000));
    assert_eq!(outcome("http://shop/"), Ok(80));
    assert_eq!(outcome("http://shop.test:5000/"), Ok(5000));
    assert_eq!(outcome("http://other.test/"), Err(Refused::PrivateName));
    assert_eq!(outcome("https://shop.example.com:9000/"), Ok(9000));
    assert_eq!(
        outcome("http://shop.example.com/"),
        Err(Refused::Port { port: 80 })
    );
    assert_eq!(outcome("https://pay.example.com/"), Err(Refused::OwnHost));
    assert_eq!(
        outcome("https://api.PAY.example.com./"),
        Err(Refused::OwnHost)
    );
    assert_eq!(outcome("https://repay.example.com/"), Ok(443));
}

/// The table again, as ranges and in another notation than the code's.
const REFUSED_V4_RANGES: [(&str, &str); 18] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
];

fn v4_ranges() -> [(u32, u32); 18] {
    let number = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
    REFUSED_V4_RANGES.map(|(first, last)| (number(first), number(last)))
}

fn is_public_v4(ip: u32) -> bool {
    !v4_ranges()
        .iter()
        .any(|&(first, last)| (first..=last).contains(&ip))
}

fn judge_v4(ip: u32) -> bool {
    judge_address(IpAddr::V4(ip.into()), &Policy::production())
}

/// All of them, by runs. Nothing but being in one of the code's networks can set two addresses apart,
/// so a run between two of their edges is judged alike; and it lies in the table's favour or against
/// it as a whole, or an edge of the table would be within.
#[test]
fn every_ipv4_address_by_the_runs_it_lies_in() {
    let edges = REFUSED_V4.iter().flat_map(|net| {
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        [Some(first), last.checked_add(1)]
    });
    let mut starts: Vec<u32> = edges.flatten().chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts[1..].iter().map(|start| start - 1).chain([u32::MAX]);
    let mut covered = 0_u64;
    for (start, end) in starts.iter().copied().zip(ends) {
        covered += u64::from(end - start) + 1;
        let run = (start + 1)..=end;
        for (first, last) in v4_ranges() {
            let after = last.checked_add(1);
            let within = run.contains(&first) || after.is_some_and(|ip| run.contains(&ip));
            assert!(
                !within,
                "{} to {}",
                Ipv4Addr::from(first),
                Ipv4Addr::from(last)
            );
        }
        for ip in [start, start + (end - start) / 2, end] {
            assert_eq!(judge_v4(ip), is_public_v4(ip), "{}", Ipv4Addr::from(ip));
        }
    }
    assert_eq!(covered, 1 << 32);
}

#[test]
fn ipv4_at_every_edge_and_the_ends_of_every_block() {
    let edges = v4_ranges().into_iter().flat_map(|(first, last)| {
        [
            first.saturating_sub(1),
            first,
            first + 1,
            last - 1,
            last,
            last.saturating_add(1),
        ]
    });
    let blocks = (0..=u32::from(u16::MAX)).flat_map(|block| [block << 16, block << 16 | 0xffff]);
    for ip in edges.chain(blocks) {
        assert_eq!(judge_v4(ip), is_public_v4(ip), "{}", Ipv4Addr::from(ip));
    }
}

#[test]
#[ignore = "four thousand million addresses, one by one: `cargo xtask sweep`"]
fn every_ipv4_address_one_by_one() {
    let production = Policy::production();
    let mut next = 0_u64;
    let mut sweep = |until: u64, public: bool| {
        for ip in next..until {
            let ip = Ipv4Addr::from(u32::try_from(ip).unwrap());
            assert_eq!(judge_address(IpAddr::V4(ip), &production), public, "{ip}");
        }
        next = until;
    };
    for (first, last) in v4_ranges() {
        sweep(first.into(), true);
        sweep(u64::from(last) + 1, false);
    }
    assert_eq!(next, 1 << 32);
}

/// Within `2000::/3`; everything outside of it is refused too.
const REFUSED_V6_RANGES: [(&str, &str); 7] = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];

/// What the table says, and for the form that writes an IPv4 address at its end, what that says.
fn is_public_v6(ip: u128) -> bool {
    let number = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
    let refused = REFUSED_V6_RANGES
        .iter()
        .any(|(first, last)| (number(first)..=number(last)).contains(&ip));
    let (form, inner) = ((ip >> 32) as u32, ip as u32);
    let is_isatap = [0x0000_5efe, 0x0200_5efe].contains(&form);
    !refused && (!is_isatap || is_public_v4(inner))
}

fn check_v6(ip: u128) {
    let judged = Ipv6Addr::from(ip);
    assert_eq!(
        judge_address(IpAddr::V6(judged), &Policy::production()),
        is_public_v6(ip),
        "{judged}"
    );
}

#[test]
fn ipv6_at_every_edge_and_many_places_between() {
    let number = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
    let ranges = REFUSED_V6_RANGES.map(|(first, last)| (number(first), number(last)));
    let edges = ranges.iter().flat_map(|&(first, last)| {
        [
            first.saturating_sub(1),
            first,
            first + 1,
            last - 1,
            last,
            last.saturating_add(1),
        ]
    });
    let between = (0..=u128::from(u32::MAX))
        .step_by(65_521)
        .map(|top| (top << 96) | 0x1234);
    edges.chain(between).for_each(check_v6);
}

/// An IPv4 address hidden in each form that there is for it: what is refused as it is, is refused in
/// every form, and ISATAP alone, under a public prefix, lets a public one pass.
#[test]
fn ipv4_hidden_in_ipv6_at_every_edge() {
    let edges = v4_ranges()
        .into_iter()
        .flat_map(|(first, last)| [first.saturating_sub(1), first, last, last.saturating_add(1)]);
    for inner in edges {
        let ip = u128::from(inner);
        let mapped = 0xffff_u128 << 32 | ip;
        let translated = 0xffff_u128 << 48 | ip;
        let nat64 = 0x0064_ff9b_u128 << 96 | ip;
        let nat64_local = 0x0064_ff9b_0001_u128 << 80 | ip;
        let sixtofour = 0x2002_u128 << 112 | ip << 80 | 1;
        let teredo = 0x2001_u128 << 112 | u128::from(!inner);
        for hidden in [
            ip,
            mapped,
            translated,
            nat64,
            nat64_local,
            sixtofour,
            teredo,
        ] {
            let hidden = Ipv6Addr::from(hidden);
            assert!(
                !judge_address(IpAddr::V6(hidden), &Policy::production()),
                "{hidden}"
            );
        }
        for form in [0x0000_5efe_u128, 0x0200_5efe] {
            let isatap = 0x2606_4700_u128 << 96 | form << 32 | ip;
            check_v6(isatap);
            assert_eq!(is_public_v6(isatap), is_public_v4(inner));
        }
    }
}

/// Two million of no plan, most of them where something can go wrong.
#[test]
fn ipv6_at_random() {
    let mut state = 7_u64;
    // SplitMix64.
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    let number = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
    let firsts = REFUSED_V6_RANGES.map(|(first, _)| number(first));
    let table: Vec<(u128, u128)> = REFUSED_V6_RANGES
        .iter()
        .map(|(first, last)| (number(first), number(last)))
        .collect();
    let production = Policy::production();
    for turn in 0..500_000 {
        let any = random() << 64 | random();
        let global = any >> 3 | 1 << 125;
        let near = firsts[turn % firsts.len()] ^ any >> 8;
        let isatap = global >> 64 << 64 | 0x5efe << 32 | any & 0xffff_ffff;
        for ip in [any, global, near] {
            let refused = table
                .iter()
                .any(|(first, last)| (first..=last).contains(&&ip));
            let judged = Ipv6Addr::from(ip);
            assert_eq!(
                judge_address(judged.into(), &production),
                !refused,
                "{judged}"
            );
        }
        check_v6(isatap);
    }
}

#[test]
fn addresses_that_hide_another() {
    let production = Policy::production();
    let judge = |ip: &str, policy: &Policy| judge_address(ip.parse().unwrap(), policy);
    for ip in [
        "::1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2002:0808:0808::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "5f00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:169.254.169.254",
    ] {
        assert!(!judge(ip, &production), "{ip}");
    }
    assert!(judge("2606:4700::1111", &production));
    assert!(judge("2606:4700::5efe:8.8.8.8", &production));
    assert!(judge("2606:4700::1:5efe:10.0.0.1", &production));

    let translated = Policy {
        nat64: vec!["64:ff9b::/96".parse().unwrap()],
        ..production
    };
    assert!(judge("64:ff9b::8.8.8.8", &translated));
    assert!(!judge("64:ff9b::10.0.0.1", &translated));
    assert!(!judge("64:ff9b:1::8.8.8.8", &translated));
}

#[test]
fn networks_that_the_operator_opens_and_closes() {
    let policy = Policy {
        refuse: vec!["8.8.0.0/16".parse().unwrap()],
        ..sandbox()
    };
    let judge = |ip: &str| judge_address(ip.parse().unwrap(), &policy);
    assert!(judge("127.0.0.1"));
    assert!(!judge("127.0.0.2"));
    assert!(!judge("::ffff:127.0.0.1"));
    assert!(judge("fd12::1"));
    assert!(!judge("8.8.8.8"));
    assert!(judge("9.9.9.9"));
}

proptest! {
    #[test]
    fn any_text_is_admitted_or_refused(text in "\\PC*") {
        let _ = admit(&text, &sandbox());
        let _ = admit(&format!("https://{text}"), &sandbox());
    }

    #[test]
    fn what_is_admitted_stays_admitted_in_its_normal_form(
        host in "[a-zA-Z0-9._-]{1,20}\\.(com|in|COM)\\.?",
        port in prop::option::of(prop::sample::select(vec![443u16, 8443, 80])),
        path in "[!-~]{0,20}",
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let url = format!("https://{host}{port}/{path}");
        if let Ok(first) = admit(&url, &Policy::production()) {
            prop_assert!(first.url.is_ascii());
            prop_assert_eq!(admit(&first.url, &Policy::production()), Ok(first));
        }
    }
}
