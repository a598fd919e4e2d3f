//! Contents: what stands under `content` in an event, field by field.
//!
//! `content!` turns a list of fields into a wire type: every field may be absent, null, a value or
//! something else, and keys we do not know are kept; the same list makes the schema. Nothing here
//! decides anything about a payment; the server fills these types in, and merchants read them.

mod mandate;
mod notification;
mod order;
mod txn;

#[cfg(test)]
mod tests;

pub use mandate::{Mandate, OrderMandate};
pub use notification::{Notification, NotificationMandate, SourceInfo};
pub use order::{Card, GatewayResponse, Order, PaymentGatewayResponse, PaymentLinks, Refund};
pub use txn::{Txn, TxnDetail};

macro_rules! content {
    (
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[doc = $says:literal])+
                $(#[serde(rename = $wire:literal)])?
                $field:ident: $type:ty,
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[doc = $says])+
                $(#[serde(rename = $wire)])?
                #[serde(skip_serializing_if = "crate::field::Field::is_absent")]
                pub $field: crate::field::Field<$type>,
            )*
            /// The keys that are not listed above.
            #[serde(flatten)]
            pub extra: serde_json::Map<String, serde_json::Value>,
        }

        impl $name {
            /// Leaves out every key that is null, here and in the typed parts; JSON that is kept
            /// as it came stays as it is.
            pub fn drop_nulls(&mut self) {
                $(self.$field.drop_nulls();)*
                self.extra.retain(|_, value| !value.is_null());
            }
        }

        impl crate::field::Wire for $name {
            fn read(json: &str) -> Option<Self> {
                serde_json::from_str(json).ok()
            }

            fn drop_nulls(&mut self) {
                Self::drop_nulls(self);
            }

            fn schema() -> crate::schema::Schema {
                crate::schema::Schema::object([$((
                    // The name on the wire where it is another one.
                    [$($wire,)? stringify!($field)][0],
                    concat!($($says),+),
                    <$type as crate::field::Wire>::schema(),
                ),)*])
            }
        }
    };
}

use content;
