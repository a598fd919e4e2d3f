//! One connection of either engine, as statements see it: text and parameters in, rows out.
//!
//! Statements are written once, for both: parameters are `?1`, `?2`…, truth is 0 or 1, and a
//! parameter whose type nothing tells is cast. The engines carry them out; nothing here knows what a
//! statement is about. Everything in `store/` that reads or writes goes through [`Sql`].

use std::ops::ControlFlow;

use super::error::{DbError, DbErrorKind};

/// A value on its way into a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// What can be a parameter.
pub(super) trait Bind {
    fn bind(&self) -> Param<'_>;
}

/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a dyn Bind];

/// Lists values of any types that can be parameters.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn $crate::store::sql::Bind),*] as $crate::store::sql::Params<'_>
    };
}
pub(super) use params;

macro_rules! bind {
    ($($type:ty: $self:ident => $param:expr),* $(,)?) => {$(
        impl Bind for $type {
            fn bind(&self) -> Param<'_> {
                let $self = self;
                $param
            }
        }
    )*};
}

bind! {
    i64: n => Param::Int(*n),
    u32: n => Param::Int(i64::from(*n)),
    u16: n => Param::Int(i64::from(*n)),
    bool: truth => Param::Int(i64::from(*truth)),
    str: text => Param::Text(text),
    String: text => Param::Text(text),
    [u8]: bytes => Param::Bytes(bytes),
    Vec<u8>: bytes => Param::Bytes(bytes),
}

impl<T: Bind + ?Sized> Bind for &T {
    fn bind(&self) -> Param<'_> {
        (**self).bind()
    }
}

impl<T: Bind> Bind for Option<T> {
    fn bind(&self) -> Param<'_> {
        self.as_ref().map_or(Param::Null, Bind::bind)
    }
}

/// A value on its way out of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'r> {
    Null,
    Int(i64),
    Text(&'r str),
    Bytes(&'r [u8]),
}

/// A value that outlives its row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Datum {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Value<'_>> for Datum {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Int(n) => Self::Int(n),
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Param<'_>> for Datum {
    fn from(param: Param<'_>) -> Self {
        match param {
            Param::Null => Self::Null,
            Param::Int(n) => Self::Int(n),
            Param::Text(text) => Self::Text(text.to_owned()),
            Param::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl Bind for Datum {
    fn bind(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::Int(n) => Param::Int(*n),
            Self::Text(text) => Param::Text(text),
            Self::Bytes(bytes) => Param::Bytes(bytes),
        }
    }
}

/// A statement that is written for one row, and the rows of parameters that it is for.
pub(super) type Many = (String, Vec<Vec<Datum>>);

/// Which column of a row is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column<'a> {
    Named(&'a str),
    Numbered(usize),
}

impl<'a> From<&'a str> for Column<'a> {
    fn from(name: &'a str) -> Self {
        Self::Named(name)
    }
}

impl From<usize> for Column<'_> {
    fn from(index: usize) -> Self {
        Self::Numbered(index)
    }
}

/// A row for as long as it is looked at.
pub(super) trait Values {
    fn value(&self, column: Column<'_>) -> Result<Value<'_>, DbError>;
}

/// A row for as long as it is looked at.
pub(super) type Row<'r> = dyn Values + 'r;

impl<'r> dyn Values + 'r {
    /// A column as one of our types; `Corrupt` when it is not of that type.
    pub(super) fn get<'a, C: Into<Column<'a>>, T: Take>(&self, column: C) -> Result<T, DbError> {
        let column = column.into();
        T::take(self.value(column)?).ok_or_else(|| {
            let cause = format!(
                "column {column:?} is not what was to be in it, {}",
                std::any::type_name::<T>()
            );
            DbError::new(DbErrorKind::Corrupt, cause)
        })
    }
}

/// What can be taken out of a column.
pub(super) trait Take: Sized {
    fn take(value: Value<'_>) -> Option<Self>;
}

macro_rules! take {
    ($($type:ty: $pattern:pat => $taken:expr),* $(,)?) => {$(
        impl Take for $type {
            fn take(value: Value<'_>) -> Option<Self> {
                match value {
                    $pattern => $taken,
                    _ => None,
                }
            }
        }
    )*};
}

take! {
    i64: Value::Int(n) => Some(n),
    u32: Value::Int(n) => n.try_into().ok(),
    u16: Value::Int(n) => n.try_into().ok(),
    bool: Value::Int(n) => Some(n != 0),
    String: Value::Text(text) => Some(text.to_owned()),
    Vec<u8>: Value::Bytes(bytes) => Some(bytes.to_vec()),
}

impl<T: Take> Take for Option<T> {
    fn take(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::take(value).map(Some),
        }
    }
}

/// Looks at a row, and says whether to go on to the next.
pub(super) type See<'a> = &'a mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, DbError>;

/// A connection on which statements can be run, each by its own text.
pub(super) trait Sql {
    /// Runs a statement and counts the rows it changed.
    fn execute(&self, sql: &str, params: Params<'_>) -> Result<usize, DbError>;

    /// Runs a query and shows its rows in turn, until one is said to be the last.
    fn each(&self, sql: &str, params: Params<'_>, see: See<'_>) -> Result<(), DbError>;
}

impl<'c> dyn Sql + 'c {
    /// All rows of a query.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: Params<'_>,
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let mut rows = Vec::new();
        self.each(sql, params, &mut |row| {
            rows.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The first row of a query.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: Params<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        let (mut read, mut found) = (Some(read), None);
        self.each(sql, params, &mut |row| {
            if let Some(read) = read.take() {
                found = Some(read(row)?);
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}
