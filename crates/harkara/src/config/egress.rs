//! An address that webhooks leave from, as the settings write it: the address, `=` and a label.
//!
//! Whether this machine has the address is not known here; the dialler tries it out at the start.

use std::fmt;
use std::net::IpAddr;

/// An address that webhooks are sent from, as merchants are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    pub address: IpAddr,
    pub label: Option<String>,
}

pub(super) const WANTED: &str = "addresses of this machine, each with a label if you like, such as \
                      203.0.113.7 or 203.0.113.7=mumbai-1";

impl Egress {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (address, label) = match text.split_once('=') {
            Some((address, label)) => (address.trim(), Some(label.trim().to_owned())),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let is_one = !address.is_unspecified() && !address.is_multicast();
        let is_label = |label: &String| {
            (1..=64).contains(&label.len())
                && label.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        };
        (is_one && label.as_ref().is_none_or(is_label)).then_some(Self { address, label })
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{}={label}", self.address),
            None => self.address.fmt(f),
        }
    }
}
