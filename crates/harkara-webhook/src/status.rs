//! Statuses: the words that say where an order, refund, mandate or notification stands.
//!
//! Contents keep a status as text, so that a word from the future can still be read, and offer
//! these as typed views. Which status may follow which is the server's business.

use crate::words::words;

words! {
    /// Where an order, or a transaction, stands.
    "order status" OrderStatus {
        /// The order exists; only the reply to its creation says so.
        Created = "CREATED",
        /// Nobody has tried to pay.
        New = "NEW",
        /// A transaction began.
        Started = "STARTED",
        /// The money is there.
        Charged = "CHARGED",
        /// The platform declined.
        JuspayDeclined = "JUSPAY_DECLINED",
        /// The customer is proving to be themselves.
        PendingVbv = "PENDING_VBV",
        /// The customer proved to be themselves.
        VbvSuccessful = "VBV_SUCCESSFUL",
        /// The money is reserved.
        Authorized = "AUTHORIZED",
        /// The customer did not prove to be themselves.
        AuthenticationFailed = "AUTHENTICATION_FAILED",
        /// The bank said no.
        AuthorizationFailed = "AUTHORIZATION_FAILED",
        /// The bank is being asked.
        Authorizing = "AUTHORIZING",
        /// The customer pays on delivery.
        CodInitiated = "COD_INITIATED",
        /// The reserved money was let go.
        Voided = "VOIDED",
        /// Letting the reserved money go is under way.
        VoidInitiated = "VOID_INITIATED",
        /// Taking the reserved money is under way.
        CaptureInitiated = "CAPTURE_INITIATED",
        /// The reserved money could not be taken.
        CaptureFailed = "CAPTURE_FAILED",
        /// The reserved money could not be let go.
        VoidFailed = "VOID_FAILED",
        /// The money went back without being asked for.
        AutoRefunded = "AUTO_REFUNDED",
        /// A part of the money is there.
        PartialCharged = "PARTIAL_CHARGED",
    }
}

impl OrderStatus {
    /// The number that goes with the word as `status_id`.
    pub const fn id(self) -> i64 {
        match self {
            Self::Created => 1,
            Self::New => 10,
            Self::Started => 20,
            Self::Charged => 21,
            Self::JuspayDeclined => 22,
            Self::PendingVbv => 23,
            Self::VbvSuccessful => 24,
            Self::Authorized => 25,
            Self::AuthenticationFailed => 26,
            Self::AuthorizationFailed => 27,
            Self::Authorizing => 28,
            Self::CodInitiated => 29,
            Self::Voided => 31,
            Self::VoidInitiated => 32,
            Self::CaptureInitiated => 33,
            Self::CaptureFailed => 34,
            Self::VoidFailed => 35,
            Self::AutoRefunded => 36,
            Self::PartialCharged => 37,
        }
    }
}

words! {
    /// Where a refund stands.
    "refund status" RefundStatus {
        /// Under way.
        Pending = "PENDING",
        /// The money went back.
        Success = "SUCCESS",
        /// The money did not go back.
        Failure = "FAILURE",
        /// Nobody knows; a person has to find out.
        ManualReview = "MANUAL_REVIEW",
    }
}

words! {
    /// Where a mandate stands.
    "mandate status" MandateStatus {
        /// Waiting for its registration.
        Created = "CREATED",
        /// Can be charged.
        Active = "ACTIVE",
        /// Cannot be charged for now.
        Paused = "PAUSED",
        /// Ended before its time.
        Revoked = "REVOKED",
        /// Could not be registered.
        Failure = "FAILURE",
        /// Its last day has passed.
        Expired = "EXPIRED",
    }
}

words! {
    /// Where a pre-debit notification stands.
    "notification status" NotificationStatus {
        /// Asked for.
        Created = "CREATED",
        /// On its way.
        Pending = "PENDING",
        /// The customer was told.
        Success = "SUCCESS",
        /// The customer could not be told.
        Failure = "FAILURE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_status_has_its_number() {
        let table: String = OrderStatus::ALL
            .iter()
            .map(|status| format!("{:>2} {status}\n", status.id()))
            .collect();
        insta::assert_snapshot!(table, @r"
         1 CREATED
        10 NEW
        20 STARTED
        21 CHARGED
        22 JUSPAY_DECLINED
        23 PENDING_VBV
        24 VBV_SUCCESSFUL
        25 AUTHORIZED
        26 AUTHENTICATION_FAILED
        27 AUTHORIZATION_FAILED
        28 AUTHORIZING
        29 COD_INITIATED
        31 VOIDED
        32 VOID_INITIATED
        33 CAPTURE_INITIATED
        34 CAPTURE_FAILED
        35 VOID_FAILED
        36 AUTO_REFUNDED
        37 PARTIAL_CHARGED
        ");
    }

    #[test]
    fn a_status_is_its_text() {
        for &status in OrderStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        insta::assert_snapshot!(
            "DONE".parse::<RefundStatus>().unwrap_err(),
            @r#"read refund status "DONE": expected one of PENDING, SUCCESS, FAILURE, MANUAL_REVIEW"#
        );
        insta::assert_snapshot!(
            serde_json::from_str::<MandateStatus>("5").unwrap_err(),
            @"invalid type: integer `5`, expected a string at line 1 column 1"
        );
    }
}
