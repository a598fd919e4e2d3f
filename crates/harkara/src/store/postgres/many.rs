//! The same statement for many rows: how its text becomes one that takes a list for each parameter, and
//! what is asked and gathered in a round.
//!
//! Statements are written once, for one row. Each of them costs a way to the server and back, so what
//! the units of a batch ask and write is carried out for all of them together: a query beside the lists
//! (`lateral`), an insert or an update from the lists (`unnest`). What a statement is about is not known
//! here. `mod.rs` calls this.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use postgres::types::Type;

use super::link::Link;
use crate::store::error::{DbError, DbErrorKind};
use crate::store::sql::{Datum, Many, Params};

/// The rows that one question has.
type Answer = Arc<Vec<postgres::Row>>;

/// What was asked ahead in a round, and what was gathered to be written at its end.
pub(super) struct Round {
    /// Whether writes are gathered at all.
    pub(super) puts_off: bool,
    answers: HashMap<String, HashMap<Vec<Datum>, Answer>>,
    /// By statement, in the order in which each first came.
    gathered: Vec<Many>,
}

impl Round {
    pub(super) fn new(puts_off: bool) -> Self {
        Self {
            puts_off,
            answers: HashMap::new(),
            gathered: Vec::new(),
        }
    }

    /// Asks, and keeps what is answered.
    pub(super) fn ask(&mut self, link: &Link, mut asks: Vec<Many>) -> Result<(), DbError> {
        asks.retain(|(_, each)| !each.is_empty());
        if asks.is_empty() {
            return Ok(());
        }
        let answered = link.query_all(&asks)?;
        for ((sql, each), answered) in asks.into_iter().zip(answered) {
            let mut rows: Vec<Vec<postgres::Row>> = each.iter().map(|_| Vec::new()).collect();
            for row in answered {
                let asked = row.try_get::<_, i64>(row.len() - 1)?;
                // Counted from one.
                let place = usize::try_from(asked - 1).ok();
                match place.and_then(|place| rows.get_mut(place)) {
                    Some(place) => place.push(row),
                    None => {
                        let cause = "an answer belongs to no question";
                        return Err(DbError::new(DbErrorKind::Corrupt, cause));
                    }
                }
            }
            let answers = self.answers.entry(sql).or_default();
            answers.extend(each.into_iter().zip(rows.into_iter().map(Arc::new)));
        }
        Ok(())
    }

    /// What was answered, if this was asked.
    pub(super) fn answer(&self, sql: &str, params: Params<'_>) -> Option<Answer> {
        let answers = self.answers.get(sql)?;
        answers.get(&data(params)).cloned()
    }

    /// Keeps a write for later, with all others of its kind.
    pub(super) fn gather(&mut self, sql: &str, params: Params<'_>) {
        let row = data(params);
        match self.gathered.iter_mut().find(|(known, _)| known == sql) {
            Some((_, rows)) => rows.push(row),
            None => self.gathered.push((sql.to_owned(), vec![row])),
        }
    }

    /// Makes the writes that were kept. Each was to change one row.
    pub(super) fn catch_up(&mut self, link: &Link) -> Result<(), DbError> {
        let gathered = std::mem::take(&mut self.gathered);
        for ((_, rows), changed) in gathered.iter().zip(link.execute_all(&gathered)?) {
            if changed != rows.len() {
                let cause = format!("{changed} of {} rows could be written", rows.len());
                return Err(DbError::stale(cause));
            }
        }
        Ok(())
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.gathered.is_empty()
    }
}

fn data(params: Params<'_>) -> Vec<Datum> {
    params.iter().map(|param| param.bind().into()).collect()
}

/// A query of one row's parameters as one of lists: beside its own columns, the last says, counted from
/// one, whose answer a row is.
pub(super) fn query(sql: &str, types: &[Type]) -> String {
    format!(
        "select r.*, v.asked from {} cross join lateral ({}) r",
        lists(types, " with ordinality", ", asked"),
        of_a_row(sql)
    )
}

/// An insert of values, or an update with one condition, as one of lists. Nothing else is written for
/// many; what else is given comes back as it is, and is refused for its parameters.
pub(super) fn write(sql: &str, types: &[Type]) -> String {
    of_lists(sql, types).unwrap_or_else(|| sql.to_owned())
}

fn of_lists(sql: &str, types: &[Type]) -> Option<String> {
    let lists = lists(types, "", "");
    let sql = of_a_row(sql);
    if sql.trim_start().starts_with("insert into ") {
        let (head, rest) = sql.split_once("values (")?;
        let (values, tail) = rest.split_at(closing(rest)?);
        return Some(format!("{head}select {values} from {lists}{}", &tail[1..]));
    }
    let (head, condition) = sql.rsplit_once("where ")?;
    Some(format!("{head} from {lists} where {condition}"))
}

/// The lists of a statement's parameters, side by side.
fn lists(types: &[Type], with: &str, more: &str) -> String {
    let (mut lists, mut names) = (String::new(), String::new());
    for (n, ty) in (1..).zip(types) {
        let comma = if n == 1 { "" } else { ", " };
        // A string takes all.
        let _ = write!(lists, "{comma}${n}::{}[]", ty.name());
        let _ = write!(names, "{comma}p{n}");
    }
    format!("unnest({lists}){with} as v({names}{more})")
}

/// Parameters as columns of the lists, `v.p1` for `?1`.
fn of_a_row(sql: &str) -> String {
    sql.replace('?', "v.p")
}

/// Where the parenthesis ends that was open before this text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    text.char_indices().find_map(|(at, c)| {
        open += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (open == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_asked_for_each_row_of_the_lists() {
        let sql = "select subject from subjects where merchant = ?1 and key = ?2 for update";
        assert_eq!(
            query(sql, &[Type::INT8, Type::TEXT]),
            "select r.*, v.asked \
             from unnest($1::int8[], $2::text[]) with ordinality as v(p1, p2, asked) \
             cross join lateral \
             (select subject from subjects where merchant = v.p1 and key = v.p2 for update) r"
        );
    }

    #[test]
    fn an_insert_takes_its_rows_from_the_lists() {
        let sql = "insert into t (a, b, c, d) values (?1, coalesce(?2, (0)), 'x', ?1)
            on conflict (a) do update set b = excluded.b where t.b < excluded.b";
        assert_eq!(
            write(sql, &[Type::INT8, Type::BYTEA]),
            "insert into t (a, b, c, d) select v.p1, coalesce(v.p2, (0)), 'x', v.p1 \
             from unnest($1::int8[], $2::bytea[]) as v(p1, p2)
            on conflict (a) do update set b = excluded.b where t.b < excluded.b"
        );
    }

    #[test]
    fn an_update_takes_its_rows_from_the_lists() {
        let sql = "update t set a = ?2, b = b + 1 where c = ?1 and a < ?2";
        assert_eq!(
            write(sql, &[Type::INT8, Type::INT8]),
            "update t set a = v.p2, b = b + 1  \
             from unnest($1::int8[], $2::int8[]) as v(p1, p2) where c = v.p1 and a < v.p2"
        );
    }
}
