//! What merchants were told about their endpoints, oldest first.
//!
//! Settles write these rows (`sqlite/settle.rs`); the API lists them.

use harkara_core::id::{EndpointId, MerchantId};
use harkara_core::time::Timestamp;

use crate::store::Store;
use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::sql::params;

/// Something that a merchant was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationalEvent {
    /// Counts the merchant's from 1.
    pub position: i64,
    pub endpoint_id: EndpointId,
    pub kind: String,
    pub sentence: String,
    pub created_at: Timestamp,
}

impl Store {
    /// What a merchant was told after this position.
    pub async fn operational_events(
        &self,
        merchant_id: &MerchantId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<OperationalEvent>, DbError> {
        let merchant_id = merchant_id.clone();
        self.read_long(move |conn| {
            let sql = "
                select position, endpoint_id, kind, sentence, created_at from operational_events
                where merchant_id = ?1 and position > ?2 order by position limit ?3";
            conn.rows(sql, params![merchant_id.as_str(), after, limit], |row| {
                Ok(OperationalEvent {
                    position: row.get("position")?,
                    endpoint_id: EndpointId::new(row.get::<_, String>("endpoint_id")?),
                    kind: row.get("kind")?,
                    sentence: row.get("sentence")?,
                    created_at: row.at("created_at")?,
                })
            })
        })
        .await
    }
}
