//! Amounts, times and addresses as columns. An amount is two: its number, and its unit beside it. SQLite's integers are
//! signed: what does not fit is an error, never a wrapped number.

use super::StoreError;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Amount, Kes, Millis, Msats, Sats, Unit, UnixSeconds};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::Row;

macro_rules! integer_to_column {
    ($($unit:ident),*) => {$(
        impl ToSql for $unit {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let value = i64::try_from(self.0)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                Ok(ToSqlOutput::from(value))
            }
        }
    )*};
}

macro_rules! integer_from_column {
    ($($unit:ident),*) => {$(
        impl FromSql for $unit {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$unit> {
                let value = value.as_i64()?;
                u64::try_from(value).map($unit).map_err(|_| FromSqlError::OutOfRange(value))
            }
        }
    )*};
}

integer_to_column!(Sats, Msats, Millis, Allotment, UnixSeconds);
// Money is read together with its unit: see `money`.
integer_from_column!(Millis, Allotment, UnixSeconds);

/// The number; the unit has a column of its own.
impl ToSql for Amount {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number = i64::try_from(self.number);
        let number = number.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(ToSqlOutput::from(number))
    }
}

impl ToSql for Metric {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for Metric {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Metric> {
        Metric::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for Unit {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_str()))
    }
}

impl FromSql for Unit {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Unit> {
        let text = value.as_str()?;
        Unit::parse(text).ok_or_else(|| FromSqlError::Other(Box::new(UnitNotKnown::named(text))))
    }
}

/// A row has a unit that this program does not know, or that amounts of its kind do not have: a newer one has written
/// it.
#[derive(Debug, thiserror::Error)]
#[error("amounts in '{0}' are not known here")]
pub(super) struct UnitNotKnown(pub String);

impl UnitNotKnown {
    fn named(unit: &str) -> UnitNotKnown {
        UnitNotKnown(unit.chars().filter(char::is_ascii_alphanumeric).take(16).collect())
    }
}

/// The amount in the column `at`, whose unit is in the column `unit`; `None` where the row holds none.
pub(super) fn money_if_any<M: TryFrom<Amount>>(
    row: &Row,
    at: usize,
    unit: usize,
) -> rusqlite::Result<Option<M>> {
    let Some(number) = row.get::<_, Option<i64>>(at)? else { return Ok(None) };
    let number = u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))?;
    let amount = Amount { number, unit: row.get(unit)? };
    M::try_from(amount).map(Some).map_err(|_| {
        let cause = UnitNotKnown::named(amount.unit.as_str());
        rusqlite::Error::FromSqlConversionFailure(unit, Type::Text, Box::new(cause))
    })
}

/// The amount in the column `at`, whose unit is in the column `unit`.
pub(super) fn money<M: TryFrom<Amount>>(row: &Row, at: usize, unit: usize) -> rusqlite::Result<M> {
    let nothing = || rusqlite::Error::InvalidColumnType(at, "amount".to_owned(), Type::Null);
    money_if_any(row, at, unit)?.ok_or_else(nothing)
}

pub(super) fn unit_of(text: &str) -> Result<Unit, StoreError> {
    Unit::parse(text).ok_or_else(|| StoreError::UnitNotKnown(UnitNotKnown::named(text).0))
}

pub(super) fn mac_of(text: &str) -> Result<MacAddr, StoreError> {
    text.parse().map_err(|_| StoreError::unreadable("mac"))
}

pub(super) fn mint_of(text: &str) -> Result<MintUrl, StoreError> {
    MintUrl::parse(text).map_err(|_| StoreError::unreadable("mint"))
}

// The same through the narrow door, whose numbers are plain.

pub(super) fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::unreadable("number"))
}

pub(super) fn millis(number: i64) -> Millis {
    Millis(u64::try_from(number).unwrap_or(0))
}

pub(super) fn seconds(number: i64) -> UnixSeconds {
    UnixSeconds(u64::try_from(number).unwrap_or(0))
}

pub(super) fn kes(number: i64) -> Result<Kes, StoreError> {
    u64::try_from(number).map(Kes).map_err(|_| StoreError::unreadable("amount"))
}
