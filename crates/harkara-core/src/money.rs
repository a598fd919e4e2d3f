//! Money inside Harkara: whole hundredths and a currency, never a float.
//!
//! `Amount` itself is part of the contract, since it is also how the wire writes money.

use std::fmt;

pub use harkara_webhook::Amount;
use serde::{Deserialize, Serialize};

/// ISO 4217 codes of currencies in use. A code outside the list is refused at the edge.
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB \
    BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB \
    EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD \
    JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP \
    MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON \
    RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP \
    TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG";

/// A currency by its three-letter code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// What an order is in when nobody says.
    pub const INR: Self = Self(*b"INR");

    /// The currency with this code, in any case; `None` when there is no such currency.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.to_ascii_uppercase().into_bytes().try_into().ok()?;
        let known = CODES
            .split_ascii_whitespace()
            .any(|known| known.as_bytes() == code);
        known.then_some(Self(code))
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only listed ASCII codes are made")
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("unknown currency '{text}'"))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_currencies_parse() {
        assert_eq!(Currency::parse("inr"), Some(Currency::INR));
        for unknown in ["", "IN", "INRR", "XYZ", "₹₹₹"] {
            assert_eq!(Currency::parse(unknown), None, "{unknown}");
        }
    }
}
