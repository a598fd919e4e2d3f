//! Where we refuse to call: `admit()` judges a URL, `judge_address()` an address.
//!
//! Pure: no name is resolved and no socket opened here. The API asks before an endpoint is saved,
//! the transport before each attempt and again for each address that a name resolves to; both get
//! the same answer from the same [`Policy`]. What is not known to be a public place is refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Url;

const MAX_URL_BYTES: usize = 2048;
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Names under these never lead to a public place.
const PRIVATE_SUFFIXES: [&str; 13] = [
    "corp",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "svc",
    "test",
];

/// What may be called. Production is the strictest; a sandbox opens single places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether a URL may do without TLS.
    pub allow_http: bool,
    /// Networks that may be called although they are not public.
    pub allow_private: Vec<IpNet>,
    /// Ports of public destinations.
    pub ports: Vec<u16>,
    /// Names, in lower case, that have this address and are never looked up.
    pub static_names: BTreeMap<String, IpAddr>,
    /// The platform's own names, in lower case: calling ourselves would make an amplifier.
    pub own_hosts: Vec<String>,
    /// Public networks that are nonetheless ours, or are not to be called.
    pub refuse: Vec<IpNet>,
    /// Prefixes of 96 bits whose last 32 bits are an IPv4 address that is called through a
    /// translator.
    pub nat64: Vec<Ipv6Net>,
}

impl Policy {
    /// Public HTTPS destinations alone.
    pub fn production() -> Self {
        Self {
            allow_http: false,
            allow_private: Vec::new(),
            ports: vec![443, 8443],
            static_names: BTreeMap::new(),
            own_hosts: Vec::new(),
            refuse: Vec::new(),
            nat64: Vec::new(),
        }
    }

    fn allows_private(&self, ip: IpAddr) -> bool {
        self.allow_private.iter().any(|net| net.contains(&ip))
    }
}

/// Whether a call is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// Who is called, before any name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// In lower case, ASCII, without the trailing dot.
    Name(String),
    /// An address that the policy allows to be written out.
    Address(IpAddr),
}

/// A URL that passed: what is needed to dial it, and no second way to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The normalised form, which is the one to store.
    pub url: String,
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// The `Host` header: the host, and the port unless it is the scheme's own.
    pub authority: String,
    /// Path and query, as the request line has them.
    pub target: String,
}

/// Why a URL is not called, as a sentence for the merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "the URL must not be longer than {MAX_URL_BYTES} bytes, and has {bytes}; move what \
         identifies the order out of it"
    )]
    TooLong { bytes: usize },
    #[error(
        "the URL must not contain {character:?} at position {position}; percent-encode it or \
         remove it"
    )]
    Character { character: char, position: usize },
    #[error("the URL cannot be read; write it like https://shop.example.com/webhooks")]
    Malformed,
    #[error("the URL must begin with https://; what is sent must be encrypted")]
    NotHttps,
    #[error(
        "the URL must not contain a username or password; they are set beside the URL and sent in \
         the Authorization header"
    )]
    UserInfo,
    #[error("the URL must not contain '#'; what follows it is never sent")]
    Fragment,
    #[error("the URL must not use port {port}; use 443 or 8443, or ask the operator to allow it")]
    Port { port: u16 },
    #[error("the URL must name its host; an address such as 203.0.113.7 is not called")]
    AddressLiteral,
    #[error("the URL's host must be a full name with a dot, such as shop.example.com")]
    SingleLabel,
    #[error("the URL's host is not a valid name; use letters, digits, '-' and '.'")]
    HostName,
    #[error("the URL's host is under a name that no public server has; use a public name")]
    PrivateName,
    #[error("the URL leads back to this platform; use the address of your own server")]
    OwnHost,
    #[error("two ways of reading the URL disagree about its host or port; write it more plainly")]
    Ambiguous,
}

/// Reads a URL and says where it leads, or why it is not called.
pub fn admit(url: &str, policy: &Policy) -> Result<Destination, Refused> {
    check_raw(url)?;
    let mut url = Url::parse(url).map_err(|_| Refused::Malformed)?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" if policy.allow_http => Scheme::Http,
        _ => return Err(Refused::NotHttps),
    };
    if url.fragment().is_some() {
        return Err(Refused::Fragment);
    }
    if let Some(undotted) = url.domain().and_then(|name| name.strip_suffix('.')) {
        let undotted = undotted.to_owned();
        url.set_host(Some(&undotted))
            .map_err(|_| Refused::HostName)?;
    }
    let host = check_host(url.host().ok_or(Refused::Malformed)?, policy)?;
    let port = url.port_or_known_default().ok_or(Refused::Malformed)?;
    if !policy.ports.contains(&port) && !is_sandboxed(&host, policy) {
        return Err(Refused::Port { port });
    }
    check_same_reading(&url, port)?;
    let bytes = url.as_str().len();
    if bytes > MAX_URL_BYTES {
        return Err(Refused::TooLong { bytes });
    }
    Ok(Destination {
        scheme,
        host,
        port,
        authority: url[url::Position::BeforeHost..url::Position::AfterPort].to_owned(),
        target: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
        url: url.into(),
    })
}

/// Looks at the text as it was given. The parser would drop a tab, take a backslash for a slash and
/// percent-encode the rest without a word, so that another reader of the same text sees another URL.
fn check_raw(url: &str) -> Result<(), Refused> {
    let bytes = url.len();
    if bytes > MAX_URL_BYTES {
        return Err(Refused::TooLong { bytes });
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Refused::Malformed);
    };
    let host_from = scheme.len() + "://".len();
    let host_to = host_from + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let offends = |(at, c): (usize, char)| {
        let in_host = (host_from..host_to).contains(&at);
        c.is_control() || c == ' ' || c == '\\' || !(c.is_ascii() || in_host)
    };
    if let Some((position, (_, character))) = (1..)
        .zip(url.char_indices())
        .find(|&(_, place)| offends(place))
    {
        return Err(Refused::Character {
            character,
            position,
        });
    }
    match &url[host_from..host_to] {
        "" => Err(Refused::Malformed),
        authority if authority.contains('@') => Err(Refused::UserInfo),
        _ => Ok(()),
    }
}

fn check_host(host: url::Host<&str>, policy: &Policy) -> Result<Host, Refused> {
    let literal = match host {
        url::Host::Domain(name) => return check_name(name, policy),
        url::Host::Ipv4(ip) => IpAddr::V4(ip),
        url::Host::Ipv6(ip) => IpAddr::V6(ip),
    };
    if policy.allows_private(literal) {
        Ok(Host::Address(literal))
    } else {
        Err(Refused::AddressLiteral)
    }
}

fn check_name(name: &str, policy: &Policy) -> Result<Host, Refused> {
    let label_is_fine = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    if name.len() > MAX_HOST_BYTES || !name.split('.').all(label_is_fine) {
        return Err(Refused::HostName);
    }
    if policy.own_hosts.iter().any(|own| is_under(name, own)) {
        return Err(Refused::OwnHost);
    }
    if !policy.static_names.contains_key(name) {
        if !name.contains('.') {
            return Err(Refused::SingleLabel);
        }
        if PRIVATE_SUFFIXES.iter().any(|suffix| is_under(name, suffix)) {
            return Err(Refused::PrivateName);
        }
    }
    Ok(Host::Name(name.to_owned()))
}

fn is_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether the operator wrote this host into the settings, which stands for any of its ports.
fn is_sandboxed(host: &Host, policy: &Policy) -> bool {
    match host {
        Host::Name(name) => policy.static_names.contains_key(name),
        Host::Address(ip) => policy.allows_private(*ip),
    }
}

/// Reads the normalised text once more, with the parser that HTTP libraries use, and requires that
/// it finds the same host and port.
fn check_same_reading(url: &Url, port: u16) -> Result<(), Refused> {
    let uri: http::Uri = url.as_str().parse().map_err(|_| Refused::Ambiguous)?;
    let same_host = uri.host() == url.host_str();
    let uri_port = uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    });
    if same_host && uri_port == Some(port) {
        Ok(())
    } else {
        Err(Refused::Ambiguous)
    }
}

/// The IPv4 networks that are not public.
const REFUSED_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),        // This host, on Linux.
    v4(10, 0, 0, 0, 8),       // Private.
    v4(100, 64, 0, 0, 10),    // Carrier-grade translation; a cloud's metadata service.
    v4(127, 0, 0, 0, 8),      // Loopback.
    v4(168, 63, 129, 16, 32), // A cloud's host service, on a public address.
    v4(169, 254, 0, 0, 16),   // Link-local; most clouds' metadata services.
    v4(172, 16, 0, 0, 12),    // Private.
    v4(192, 0, 0, 0, 24),     // Protocol assignments.
    v4(192, 0, 2, 0, 24),     // Documentation.
    v4(192, 31, 196, 0, 24),  // AS112.
    v4(192, 52, 193, 0, 24),  // Multicast translation.
    v4(192, 88, 99, 0, 24),   // 6to4 relays.
    v4(192, 168, 0, 0, 16),   // Private.
    v4(192, 175, 48, 0, 24),  // AS112.
    v4(198, 18, 0, 0, 15),    // Benchmarks.
    v4(198, 51, 100, 0, 24),  // Documentation.
    v4(203, 0, 113, 0, 24),   // Documentation.
    v4(224, 0, 0, 0, 3),      // Multicast, reserved, broadcast.
];

/// The one IPv6 network that is public.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What within it is not: it is a tunnel to somewhere else, or nobody's.
const REFUSED_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),           // Protocol assignments; Teredo tunnels.
    v6([0x2001, 0x0db8, 0], 32),      // Documentation.
    v6([0x2002, 0, 0], 16),           // 6to4 tunnels.
    v6([0x2620, 0x004f, 0x8000], 48), // AS112.
    v6([0x3fff, 0, 0], 20),           // Documentation.
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6([a, b, c]: [u16; 3], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// Whether an address may be called. Everything that dials asks this one function.
pub fn judge_address(ip: IpAddr, policy: &Policy) -> bool {
    if policy.allows_private(ip) {
        return true;
    }
    if policy.refuse.iter().any(|net| net.contains(&ip)) {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !REFUSED_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => judge_v6(ip, policy),
    }
}

fn judge_v6(ip: Ipv6Addr, policy: &Policy) -> bool {
    if policy
        .nat64
        .iter()
        .any(|net| net.prefix_len() == 96 && net.contains(&ip))
    {
        return judge_address(IpAddr::V4(last_32_bits(ip)), policy);
    }
    if !PUBLIC_V6.contains(&ip) || REFUSED_V6.iter().any(|net| net.contains(&ip)) {
        return false;
    }
    // ISATAP writes an IPv4 address behind `0:5efe` or `200:5efe`, under any prefix.
    let [_, _, _, _, flags, marker, _, _] = ip.segments();
    let is_isatap = marker == 0x5efe && (flags == 0 || flags == 0x0200);
    !is_isatap || judge_address(IpAddr::V4(last_32_bits(ip)), policy)
}

fn last_32_bits(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests;
