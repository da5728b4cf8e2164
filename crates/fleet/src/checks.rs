//! Checks of single settings that several tables share.

use std::path::Path;

use jiff::tz::TimeZone;

use driftsweep_common::address::Location;
use driftsweep_common::storage;
use driftsweep_extensions::value::Money;

pub(crate) use driftsweep_extensions::value::{Validated, in_range, text};

pub(crate) fn money(what: &str, units: f64) -> Validated<Money> {
    let amount = Money::of(units).filter(|amount| *amount >= Money::ZERO);
    amount.ok_or_else(|| format!("{what} = {units} is not an amount of money: give 0 or more, at most a trillion"))
}

/// The time zone with a name.
pub(crate) fn zone(name: &str) -> Validated<TimeZone> {
    TimeZone::get(name).map_err(|_| match TimeZone::get("Europe/Berlin") {
        Ok(_) => format!("no time zone is called '{name}'; give a name such as Europe/Berlin or UTC"),
        Err(_) => format!("time zone '{name}': this machine has no time zones; install tzdata, or set TZDIR"),
    })
}

/// A path of the fleet file; relative ones are relative to its folder.
pub(crate) fn resolve(folder: &Path, path: &str) -> Location {
    if Path::new(path).is_absolute() || storage::is_remote(path) || folder.as_os_str().is_empty() {
        return path.into();
    }
    folder.join(path).into()
}
