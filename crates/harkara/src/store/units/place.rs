//! Where a delivery stands in the line of its endpoint and subject.
//!
//! The one place that carries out order modes in SQL: asked when a delivery is born, and again for
//! those behind a delivery whenever it gets an outcome. `commit` and `settle` call it.

use std::ops::ControlFlow;

use harkara_core::delivery::DeliveryState;
use harkara_core::endpoint::OrderMode;

use crate::store::codec::Columns;
use crate::store::error::DbError;
use crate::store::pen::Pen;
use crate::store::sql::params;

/// The line of one endpoint and subject, as seen from one of its members.
pub(super) struct Line {
    pub(super) endpoint: i64,
    pub(super) subject: i64,
    /// The member's own number; it looks at those before.
    pub(super) sequence: i64,
}

/// What those before it mean for a delivery.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The delivery whose outcome it waits for; `None` means that it is due.
    pub(super) waiting_on: Option<i64>,
    /// It is due although an earlier one is not settled.
    pub(super) overtaking: bool,
}

/// Whoever comes right behind a delivery that was born in the same unit, and so has no attempt yet.
pub(super) fn behind(before: i64, mode: OrderMode) -> Place {
    let waits = match mode {
        OrderMode::Hold | OrderMode::Strict => true,
        OrderMode::None => false,
    };
    Place {
        waiting_on: waits.then_some(before),
        overtaking: !waits,
    }
}

pub(in crate::store) const UNSETTLED_BEFORE: &str = "
    select delivery, state, attempts from deliveries
    where subject = ?1 and endpoint = ?2 and sequence < ?3
      and kind = 'event' and state in ('pending', 'waiting')
    order by sequence desc";

/// `strict` waits for the last one that is unsettled, `hold` for the last that has no attempt yet.
pub(super) fn place(pen: &Pen, line: &Line, mode: OrderMode) -> Result<Place, DbError> {
    let mut place = Place::default();
    // Nobody stands before the first.
    if line.sequence == 1 {
        return Ok(place);
    }
    let before = params![line.subject, line.endpoint, line.sequence];
    pen.each_locking((UNSETTLED_BEFORE, "for update"), before, &mut |row| {
        let untried = row.word::<DeliveryState>("state")? == DeliveryState::Waiting
            || row.get::<_, i64>("attempts")? == 0;
        let waits = match mode {
            OrderMode::Hold => untried,
            OrderMode::Strict => true,
            OrderMode::None => false,
        };
        place.overtaking = !waits;
        if waits {
            place.waiting_on = Some(row.get("delivery")?);
        }
        Ok(match waits || mode == OrderMode::None {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    })?;
    Ok(place)
}
