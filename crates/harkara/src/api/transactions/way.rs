//! What a transaction is paid with: gateway, method and instrument, out of what a client sent.
//!
//! Here alone is a card's number in anybody's hands, and it is not kept. Nothing is stored;
//! `POST /txns` calls it.

use harkara_core::dummy;
use harkara_core::mandate::Mandate;
use harkara_core::merchant::Merchant;
use harkara_core::txn::{Card, Gateway, PaymentWay};

use crate::api::Api;
use crate::api::input::Input;
use crate::error::ApiError;

/// What an order was created with, for the transactions that do not say.
pub(super) struct Wishes {
    pub(super) gateway_id: Option<i64>,
    pub(super) auto_capture: bool,
}

/// What a debit is made with.
pub(super) struct Standing {
    pub(super) mandate: Mandate,
    /// The gateway that it was registered with, and that knows of it.
    pub(super) gateway: Gateway,
}

/// Reads what is paid with. The order's wishes hold for what the call does not say; a debit by
/// mandate is paid as its mandate was registered, whatever the call says.
pub(super) fn payment_way(
    api: &Api,
    merchant: &Merchant,
    input: &Input,
    wishes: Wishes,
    standing: Option<&Standing>,
) -> Result<PaymentWay, ApiError> {
    let registered = standing.map(|standing| &standing.gateway);
    let gateway = gateway(api, input, wishes.gateway_id, registered)?;
    let forced = input.one_of("dummy_outcome", dummy::FORCED_TXN)?;
    if forced.is_some() && !gateway.is_dummy() {
        return Err(ApiError::field(
            "dummy_outcome",
            "is for the DUMMY gateway alone",
        ));
    }
    let instrument = match standing {
        Some(standing) => instrument_of(&standing.mandate),
        None => instrument(api, merchant, input)?,
    };
    let redirect = input.flag("redirect_after_payment")?;
    Ok(PaymentWay {
        gateway,
        payment_method_type: instrument.payment_method_type,
        payment_method: instrument.payment_method,
        card: instrument.card,
        payer_vpa: instrument.payer_vpa,
        redirect: redirect.unwrap_or(standing.is_none()),
        auto_capture: input.flag("auto_capture")?.unwrap_or(wishes.auto_capture),
        metadata: input.object("metadata")?,
        forced,
    })
}

/// The customer's side of a payment.
struct Instrument {
    payment_method_type: String,
    payment_method: String,
    card: Option<Card>,
    payer_vpa: Option<String>,
}

/// The gateway has the card of a mandate; we have not.
fn instrument_of(mandate: &Mandate) -> Instrument {
    Instrument {
        payment_method_type: mandate.payment_method_type.clone(),
        payment_method: mandate.payment_method.clone(),
        card: None,
        payer_vpa: mandate.payer_vpa.clone(),
    }
}

fn instrument(api: &Api, merchant: &Merchant, input: &Input) -> Result<Instrument, ApiError> {
    let payment_method_type = input.required("payment_method_type")?.to_uppercase();
    let card = match payment_method_type.as_str() {
        "CARD" => Some(card(api, merchant, input)?),
        _ => None,
    };
    let payer_vpa = input
        .short("upi_vpa", 255)?
        .or(input.short("payer_vpa", 255)?);
    let payment_method = match (input.short("payment_method", 64)?, &card) {
        (Some(named), _) => named.to_uppercase(),
        (None, Some(card)) if !card.card_brand.is_empty() => card.card_brand.clone(),
        (None, _) => payment_method_type.clone(),
    };
    Ok(Instrument {
        payment_method_type,
        payment_method,
        card,
        payer_vpa,
    })
}

/// Who carries the payment out: the one named, else the order's, else the mandate's, else the
/// sandbox's.
fn gateway(
    api: &Api,
    input: &Input,
    of_order: Option<i64>,
    of_mandate: Option<&Gateway>,
) -> Result<Gateway, ApiError> {
    let dummy = api.config.gateway.dummy;
    let wanted = input.integer("gateway_id")?.or(of_order);
    match wanted.or(of_mandate.map(|gateway| gateway.id)) {
        None | Some(Gateway::DUMMY_ID) if dummy => Ok(Gateway::dummy()),
        Some(Gateway::DUMMY_ID) => Err(ApiError::field(
            "gateway_id",
            "100 is the DUMMY gateway, which is switched off",
        )),
        None => Err(ApiError::missing("gateway_id")),
        Some(id) => {
            let known = of_mandate.filter(|gateway| gateway.id == id);
            let known = known.map(|gateway| gateway.name.clone());
            let name = input.short("gateway", 64)?.or(known);
            let name = name.unwrap_or_else(|| format!("GATEWAY_{id}"));
            Ok(Gateway { id, name })
        }
    }
}

/// Takes from a card what may be kept; the number and the code go no further than this function. Of
/// a saved card only the token came, and what it stands for is known to whoever saved it.
fn card(api: &Api, merchant: &Merchant, input: &Input) -> Result<Card, ApiError> {
    let (secret, seen) = match (input.text("card_number"), input.text("card_token")) {
        (None, Some(token)) => (token.to_owned(), Seen::default()),
        _ => {
            let number = card_number(input)?;
            let seen = Seen {
                last_four_digits: number[number.len() - 4..].to_owned(),
                card_isin: number[..6].to_owned(),
                card_brand: brand(&number),
            };
            (number, seen)
        }
    };
    let fingerprint = |scope: &str| {
        let mac = api.vault.fingerprint("card", &[scope, &secret]);
        harkara_core::id::hex(&mac[..16])
    };
    Ok(Card {
        last_four_digits: seen.last_four_digits,
        card_isin: seen.card_isin,
        card_brand: seen.card_brand.to_owned(),
        card_type: String::new(),
        card_issuer: String::new(),
        name_on_card: input.short("name_on_card", 64)?.unwrap_or_default(),
        expiry_month: input.short("card_exp_month", 2)?.unwrap_or_default(),
        expiry_year: input.short("card_exp_year", 4)?.unwrap_or_default(),
        card_reference: fingerprint(merchant.merchant_id.as_str()),
        card_fingerprint: fingerprint(""),
    })
}

/// What a card's number may be remembered by.
#[derive(Default)]
struct Seen {
    last_four_digits: String,
    card_isin: String,
    card_brand: &'static str,
}

fn card_number(input: &Input) -> Result<String, ApiError> {
    let number: String = input.required("card_number")?.split([' ', '-']).collect();
    if !(12..=19).contains(&number.len()) || !passes_luhn(&number) {
        return Err(ApiError::field("card_number", "is no card number"));
    }
    Ok(number)
}

fn passes_luhn(number: &str) -> bool {
    let mut sum = 0;
    for (n, c) in number.chars().rev().enumerate() {
        let Some(digit) = c.to_digit(10) else {
            return false;
        };
        let doubled = if n % 2 == 1 { digit * 2 } else { digit };
        sum += doubled / 10 + doubled % 10;
    }
    sum % 10 == 0
}

/// The scheme, by the number's first digits (ISO/IEC 7812 ranges of the schemes in use in India).
fn brand(number: &str) -> &'static str {
    let first = |n: usize| number[..n].parse::<u32>().unwrap_or(0);
    match (first(1), first(2), first(3), first(4)) {
        (4, ..) => "VISA",
        (_, 51..=55, ..) | (.., 2221..=2720) => "MASTERCARD",
        (_, 34 | 37, ..) => "AMEX",
        (_, 60 | 65 | 81 | 82, ..) | (_, _, 508, _) => "RUPAY",
        (_, 36 | 38, ..) | (_, _, 300..=305, _) => "DINERS",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_told_apart_by_their_first_digits() {
        let rows = [
            ("4242424242424242", "VISA"),
            ("5299920210000277", "MASTERCARD"),
            ("2223003122003222", "MASTERCARD"),
            ("371449635398431", "AMEX"),
            ("6521525212345674", "RUPAY"),
        ];
        for (number, expected) in rows {
            assert_eq!(brand(number), expected, "{number}");
        }
        assert!(passes_luhn("4242424242424242"));
        assert!(!passes_luhn("4242424242424241"));
        assert!(!passes_luhn("4242x24242424242"));
    }
}
