//! Amounts, times and addresses as columns. SQLite's integers are signed: what does not fit is an error, never a
//! wrapped number.

use super::StoreError;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis, Msats, Sats, UnixSeconds};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

macro_rules! integer_column {
    ($($unit:ident),*) => {$(
        impl ToSql for $unit {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let value = i64::try_from(self.0)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                Ok(ToSqlOutput::from(value))
            }
        }

        impl FromSql for $unit {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$unit> {
                let value = value.as_i64()?;
                u64::try_from(value).map($unit).map_err(|_| FromSqlError::OutOfRange(value))
            }
        }
    )*};
}

integer_column!(Sats, Msats, Millis, Allotment, UnixSeconds);

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

pub(super) fn mac_of(text: &str) -> Result<MacAddr, StoreError> {
    text.parse().map_err(|_| StoreError::unreadable("mac"))
}

pub(super) fn mint_of(text: &str) -> Result<MintUrl, StoreError> {
    MintUrl::parse(text).map_err(|_| StoreError::unreadable("mint"))
}
