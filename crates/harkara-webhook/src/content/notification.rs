//! `content.notification`: how telling the customer of a coming debit went.
//!
//! Its dates are seconds since 1970 written as text, unlike those of orders. Webhooks themselves
//! are never called notifications.

use crate::content::content;
use crate::status::NotificationStatus;

content! {
    /// The pre-debit notice of a mandate.
    Notification {
        /// Always `notification`.
        object: String,
        /// A number, as text.
        id: String,
        /// The caller's own id of it.
        object_reference_id: String,
        /// A word of [`NotificationStatus`]; see [`Notification::status`].
        status: String,
        /// What it announces a debit of: `MANDATE`.
        source_object: String,
        /// The debit it announces.
        source_info: SourceInfo,
        /// The mandate it belongs to.
        mandate: NotificationMandate,
        /// The kind of notice.
        notification_type: String,
        /// Who told the customer.
        provider_name: String,
        /// What they answered.
        provider_response: String,
        /// What the customer was told.
        description: String,
        /// Why it failed, as a code.
        response_code: String,
        /// Why it failed, in words.
        response_message: String,
        /// When it was asked for, in seconds since 1970, as text.
        date_created: String,
        /// When it last changed, in seconds since 1970, as text.
        last_updated: String,
    }
}

impl Notification {
    /// The caller's own id of it.
    pub fn object_reference_id(&self) -> Option<&str> {
        self.object_reference_id.value().map(String::as_str)
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<NotificationStatus> {
        self.status.value()?.parse().ok()
    }

    /// Whether the customer was told.
    pub fn is_success(&self) -> bool {
        self.status() == Some(NotificationStatus::Success)
    }
}

content! {
    /// The debit that is announced.
    SourceInfo {
        /// How much; text on this wire, as in `1.0`.
        amount: String,
        /// When, in seconds since 1970, as text.
        txn_date: String,
    }
}

content! {
    /// The mandate that a notification belongs to.
    NotificationMandate {
        /// 22 letters and digits.
        mandate_id: String,
    }
}
