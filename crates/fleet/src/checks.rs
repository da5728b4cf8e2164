//! Checks of single settings that several tables share.

use std::fmt::Display;
use std::ops::RangeInclusive;

use jiff::tz::TimeZone;

use crate::money::Money;

/// A checked setting, or what is wrong with it.
pub(crate) type Validated<T> = Result<T, String>;

pub(crate) fn money(what: &str, units: f64) -> Validated<Money> {
    let amount = Money::of(units).filter(|amount| *amount >= Money::ZERO);
    amount.ok_or_else(|| format!("{what} = {units} is not an amount of money: give 0 or more, at most a trillion"))
}

/// Checks one number against its range.
pub(crate) fn in_range<T: PartialOrd + Display>(what: &str, value: T, range: RangeInclusive<T>) -> Validated<T> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(format!("{what} = {value} must be between {} and {}", range.start(), range.end())),
    }
}

pub(crate) fn text(what: &str, value: &str) -> Validated<()> {
    let fine = !value.trim().is_empty() && value.len() <= 256 && !value.contains('\0');
    if fine { Ok(()) } else { Err(format!("{what} = \"{}\" is no name", value.escape_debug())) }
}

/// The time zone with a name.
pub(crate) fn zone(name: &str) -> Validated<TimeZone> {
    TimeZone::get(name).map_err(|_| match TimeZone::get("Europe/Berlin") {
        Ok(_) => format!("no time zone is called '{name}'; give a name such as Europe/Berlin or UTC"),
        Err(_) => format!("time zone '{name}': this machine has no time zones; install tzdata, or set TZDIR"),
    })
}
