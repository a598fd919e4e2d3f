//! Writes of orders, mandates, notifications and snapshots of foreign ledgers, each with its guard.
//!
//! Three guards exist: the version, the origin (what was decided here and what a foreign ledger says
//! never overwrite each other), and the names of transactions and refunds, each one order's alone.
//! `commit` calls this, within its unit.

use harkara_core::id::{MerchantId, OrderId, Subject};

use crate::store::codec::{Word, pack_id, prefix};
use crate::store::error::DbError;
use crate::store::pen::Pen;
use crate::store::rows::{MandateRow, NotificationRow, OrderRow, SnapshotKind, SnapshotRow, Write};
use crate::store::sql::params;

/// `doc` is the packed document of a row that has one of its own.
pub(super) fn write(
    pen: &mut Pen,
    (merchant, merchant_id): (i64, &MerchantId),
    write: &Write,
    doc: Option<&[u8]>,
) -> Result<(), DbError> {
    match write {
        Write::Order(row) => order(pen, merchant, row, doc),
        Write::Mandate(row) => mandate(pen, merchant_id, row, doc),
        Write::Notification(row) => notification(pen, merchant_id, row, doc),
        Write::Snapshot(row) => snapshot(pen, (merchant, merchant_id), row),
    }
}

/// An insert that meets a row fails by its key; an update that meets another version changes none.
fn guarded(changed: usize, what: impl std::fmt::Display, version: i64) -> Result<(), DbError> {
    match changed {
        0 => Err(DbError::stale(format!(
            "{what} is not at version {} any more",
            version - 1
        ))),
        _ => Ok(()),
    }
}

const INSERT_ORDER: &str = "
    insert into orders (subject, merchant, order_id, internal_id, doc, version, origin, status,
        amount_minor, currency, customer_id, created_at, updated_at)
    values (?1, ?2, ?3, ?4, ?5, 1, 'own', ?6, ?7, ?8, ?9, ?10, ?11)";

const UPDATE_ORDER: &str = "
    update orders set doc = ?2, version = ?3, status = ?4, amount_minor = ?5, currency = ?6,
        customer_id = ?7, updated_at = ?8
    where subject = ?1 and version = ?3 - 1 and origin = 'own'";

/// Changes no row when the name belongs to another order.
const INSERT_REF: &str = "
    insert into order_refs (merchant, kind, value, subject) values (?1, ?2, ?3, ?4)
    on conflict (merchant, kind, value) do update set subject = excluded.subject
    where order_refs.subject = excluded.subject";

/// The number of an order, and its id as it is written, unless the key says that.
fn number_of<'a>(
    pen: &mut Pen,
    merchant: i64,
    id: &'a str,
) -> Result<(i64, Option<&'a str>), DbError> {
    let key = Subject::Order(OrderId::new(id)).key();
    let as_written = Some(id).filter(|id| key.strip_prefix("order/") != Some(*id));
    Ok((pen.subject(merchant, &key)?.number, as_written))
}

fn order(pen: &mut Pen, merchant: i64, row: &OrderRow, doc: Option<&[u8]>) -> Result<(), DbError> {
    let (subject, as_written) = number_of(pen, merchant, row.order_id.as_str())?;
    let changed = match row.version {
        1 => pen.execute_soon(
            INSERT_ORDER,
            params![
                subject,
                merchant,
                as_written,
                pack_id(prefix::ORDER, &row.internal_id),
                doc,
                row.status,
                row.amount_minor,
                row.currency,
                row.customer_id,
                row.created_at.as_micros(),
                row.updated_at.as_micros(),
            ],
        )?,
        version => pen.execute_soon(
            UPDATE_ORDER,
            params![
                subject,
                doc,
                version,
                row.status,
                row.amount_minor,
                row.currency,
                row.customer_id,
                row.updated_at.as_micros(),
            ],
        )?,
    };
    guarded(changed, format_args!("order {}", row.order_id), row.version)?;
    for (kind, value) in &row.refs {
        let given = pen.execute_soon(INSERT_REF, params![merchant, kind.word(), value, subject])?;
        if given == 0 {
            return Err(DbError::stale(format!(
                "{kind:?} {value} belongs to another order than {}",
                row.order_id
            )));
        }
    }
    Ok(())
}

const INSERT_MANDATE: &str = "
    insert into mandates (merchant_id, mandate_id, doc, version, origin, status, customer_id,
        order_id, created_at)
    values (?1, ?2, ?3, 1, 'own', ?4, ?5, ?6, ?7)";

const UPDATE_MANDATE: &str = "
    update mandates set doc = ?3, version = ?4, status = ?5, customer_id = ?6, order_id = ?7
    where merchant_id = ?1 and mandate_id = ?2 and version = ?4 - 1 and origin = 'own'";

fn mandate(
    pen: &Pen,
    merchant_id: &MerchantId,
    row: &MandateRow,
    doc: Option<&[u8]>,
) -> Result<(), DbError> {
    let (merchant, id) = (merchant_id.as_str(), row.mandate_id.as_str());
    let order_id = row.order_id.as_ref().map(|id| id.as_str());
    let changed = match row.version {
        1 => pen.execute_soon(
            INSERT_MANDATE,
            params![
                merchant,
                id,
                doc,
                row.status,
                row.customer_id,
                order_id,
                row.created_at.as_micros()
            ],
        )?,
        version => pen.execute_soon(
            UPDATE_MANDATE,
            params![
                merchant,
                id,
                doc,
                version,
                row.status,
                row.customer_id,
                order_id
            ],
        )?,
    };
    guarded(changed, format_args!("mandate {id}"), row.version)
}

const INSERT_NOTIFICATION: &str = "
    insert into notifications (merchant_id, object_reference_id, doc, version, origin, status,
        mandate_id, created_at)
    values (?1, ?2, ?3, 1, 'own', ?4, ?5, ?6)";

const UPDATE_NOTIFICATION: &str = "
    update notifications set doc = ?3, version = ?4, status = ?5, mandate_id = ?6
    where merchant_id = ?1 and object_reference_id = ?2 and version = ?4 - 1 and origin = 'own'";

fn notification(
    pen: &Pen,
    merchant_id: &MerchantId,
    row: &NotificationRow,
    doc: Option<&[u8]>,
) -> Result<(), DbError> {
    let (merchant, id) = (merchant_id.as_str(), row.object_reference_id.as_str());
    let mandate_id = row.mandate_id.as_str();
    let changed = match row.version {
        1 => pen.execute_soon(
            INSERT_NOTIFICATION,
            params![
                merchant,
                id,
                doc,
                row.status,
                mandate_id,
                row.created_at.as_micros()
            ],
        )?,
        version => pen.execute_soon(
            UPDATE_NOTIFICATION,
            params![merchant, id, doc, version, row.status, mandate_id],
        )?,
    };
    guarded(changed, format_args!("notification {id}"), row.version)
}

const SNAPSHOT_ORDER: &str = "
    insert into orders (subject, merchant, order_id, position, version, origin, status, customer_id,
        created_at, updated_at)
    values (?1, ?2, ?3, ?4, 1, 'foreign', ?5, ?6, ?7, ?7)
    on conflict (subject) do update set position = excluded.position, doc = null,
        version = orders.version + 1, status = excluded.status,
        customer_id = excluded.customer_id, updated_at = excluded.updated_at
    where orders.origin = 'foreign'";

const SNAPSHOT_MANDATE: &str = "
    insert into mandates (merchant_id, mandate_id, position, version, origin, status, customer_id,
        created_at)
    values (?1, ?2, ?3, 1, 'foreign', ?4, ?5, ?6)
    on conflict (merchant_id, mandate_id) do update set position = excluded.position, doc = null,
        version = mandates.version + 1, status = excluded.status,
        customer_id = excluded.customer_id
    where mandates.origin = 'foreign'";

const SNAPSHOT_NOTIFICATION: &str = "
    insert into notifications (merchant_id, object_reference_id, position, version, origin, status,
        created_at)
    values (?1, ?2, ?3, 1, 'foreign', ?4, ?5)
    on conflict (merchant_id, object_reference_id) do update set position = excluded.position,
        doc = null, version = notifications.version + 1, status = excluded.status
    where notifications.origin = 'foreign'";

fn snapshot(
    pen: &mut Pen,
    (merchant, merchant_id): (i64, &MerchantId),
    row: &SnapshotRow,
) -> Result<(), DbError> {
    let SnapshotRow {
        kind,
        id,
        status,
        customer_id,
        now,
    } = row;
    // The event that tells of it comes next.
    let position = pen.next_position()?;
    let (merchant_id, now) = (merchant_id.as_str(), now.as_micros());
    let changed = match kind {
        SnapshotKind::Order => {
            let (subject, as_written) = number_of(pen, merchant, id)?;
            pen.execute_soon(
                SNAPSHOT_ORDER,
                params![
                    subject,
                    merchant,
                    as_written,
                    position,
                    status,
                    customer_id,
                    now
                ],
            )?
        }
        SnapshotKind::Mandate => pen.execute_soon(
            SNAPSHOT_MANDATE,
            params![merchant_id, id, position, status, customer_id, now],
        )?,
        SnapshotKind::Notification => pen.execute_soon(
            SNAPSHOT_NOTIFICATION,
            params![merchant_id, id, position, status, now],
        )?,
    };
    match changed {
        0 => Err(DbError::stale(format!(
            "{kind:?} {id} was decided here, not by a foreign ledger"
        ))),
        _ => Ok(()),
    }
}
