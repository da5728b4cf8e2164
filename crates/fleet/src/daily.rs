//! Finds the day in the path of a daily snapshot, so that a fleet file can use `{day}`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use driftsweep::model::dated;
use driftsweep::snapshot::Snapshot;
use driftsweep_common::address;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;

/// How the current snapshot of a model is to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// One snapshot for all days.
    Plain,
    /// One snapshot per day.
    Daily {
        /// The path with `{day}` in it.
        pattern: String,
        /// The newest day there is.
        newest: Date,
        /// The number of days found, where they were searched.
        days: usize,
    },
    /// Possibly one per day; the reason why that is uncertain.
    Unclear(String),
}

/// How a snapshot that was given by a path, a glob or a directory is to be named.
///
/// # Errors
/// As for [`Snapshot::files`]; [`Error::NotFound`] for a path with `{day}` of which there is no day until tomorrow.
pub fn naming(spec: &str, today: Date) -> Result<Naming> {
    if spec.contains("{day") {
        return naming_of_dated_path(spec, today);
    }
    // A day in the query of a signed link does not count.
    if spec.contains("#rows=") || address::split_query(spec).1.is_some() {
        return Ok(Naming::Plain);
    }
    match find(spec) {
        FoundDay::Day(pattern, newest) => return Ok(Naming::Daily { pattern, newest, days: 1 }),
        FoundDay::Unclear(reason) => return Ok(Naming::Unclear(reason)),
        FoundDay::None => {}
    }
    let single = !spec.contains(['*', '?', '[']) && std::path::Path::new(spec).is_file();
    if single {
        return Ok(Naming::Plain);
    }
    let glob = spec.contains(['*', '?', '[']);
    let root = if glob { String::new() } else { format!("{}/", spec.trim_end_matches('/')) };
    // The pattern of each file, and the days that exist.
    let mut patterns: BTreeMap<Option<String>, Vec<Date>> = BTreeMap::new();
    for path in Snapshot::files(spec)? {
        let text = path.to_string_lossy().replace('\\', "/");
        let inside = text.strip_prefix(&root).unwrap_or(&text);
        match find(inside) {
            FoundDay::Day(pattern, day) => patterns.entry(Some(folder_of_the_day(&pattern))).or_default().push(day),
            FoundDay::Unclear(reason) => return Ok(Naming::Unclear(reason)),
            FoundDay::None => patterns.entry(None).or_default().push(today),
        }
    }
    let dated: Vec<&str> = patterns.keys().flatten().map(String::as_str).collect();
    let Some(pattern) = common(&dated) else {
        return Ok(match dated.first() {
            None => Naming::Plain,
            Some(one) => Naming::Unclear(format!("its files name their days in several ways, one of them {root}{one}")),
        });
    };
    if patterns.contains_key(&None) {
        return Ok(Naming::Unclear("some of its files name a day, others do not".into()));
    }
    let pattern = if glob { in_glob(spec, &pattern) } else { Some(format!("{root}{pattern}")) };
    let Some(pattern) = pattern else {
        return Ok(Naming::Unclear("its files name a day, but the pattern leaves open where".into()));
    };
    let mut days: Vec<Date> = patterns.into_values().flatten().collect();
    days.sort_unstable();
    days.dedup();
    let newest = days.last().copied().unwrap_or(today);
    Ok(Naming::Daily { pattern, newest, days: days.len() })
}

/// The path of a day.
///
/// # Errors
/// [`Error::BadValue`] for a format that is none.
pub fn of_day(pattern: &str, day: Date) -> Result<String> {
    let bad = |reason: String| Error::BadValue { what: "current".into(), reason };
    // A sweep reads the day before it.
    let sweep = day.tomorrow().and_then(|next| next.to_zoned(TimeZone::UTC)).map_err(|e| bad(e.to_string()))?;
    dated(pattern, sweep.timestamp(), &TimeZone::UTC).map_err(bad)
}

/// The paths of all days, as a glob.
pub fn of_all_days(pattern: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut left = pattern;
    while let Some((before, rest)) = left.split_once("{day") {
        let (format, after) = rest.split_once('}').unwrap_or((rest, ""));
        // A format may span several folders.
        let folders = vec!["*"; format.matches('/').count() + 1].join("/");
        parts.push(format!("{before}{folders}"));
        left = after;
    }
    parts.push(left.to_owned());
    parts.concat().replace("**", "*")
}

/// A path that names its day already: the newest that exists.
fn naming_of_dated_path(pattern: &str, today: Date) -> Result<Naming> {
    dated(pattern, Timestamp::UNIX_EPOCH, &TimeZone::UTC)
        .map_err(|reason| Error::BadValue { what: "current".into(), reason })?;
    // Each day costs a request in an object store.
    let most = if storage::is_remote(pattern) { 60 } else { 40 * 366 };
    // In some time zones it is already tomorrow.
    let mut day = today.tomorrow().unwrap_or(today);
    for _ in 0..most {
        match Snapshot::files(&of_day(pattern, day)?) {
            Ok(_) => return Ok(Naming::Daily { pattern: pattern.into(), newest: day, days: 1 }),
            Err(Error::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        let Ok(before) = day.checked_sub(1.day()) else { break };
        day = before;
    }
    Err(Error::NotFound { path: pattern.into() })
}

/// The day that a path contains.
enum FoundDay {
    None,
    /// The path with `{day}`, and the day.
    Day(String, Date),
    Unclear(String),
}

/// Finds the one day that a path names.
fn find(path: &str) -> FoundDay {
    let (mut text, mut days) = (String::new(), Vec::new());
    let mut left = path;
    while !left.is_empty() {
        let at_number = !text.ends_with(|c: char| c.is_ascii_digit());
        match day_at(left).filter(|_| at_number) {
            Some((length, format, day)) => {
                text.push_str(if format == "%F" { "{day}" } else { "" });
                if format != "%F" {
                    text.push_str(&format!("{{day:{format}}}"));
                }
                days.push(day);
                left = &left[length..];
                // A time of day: there are several snapshots a day.
                let hour = left.trim_start_matches(['T', 't', '_', '-', '.', ' ']);
                let digits = hour.bytes().take_while(u8::is_ascii_digit).count();
                if hour.len() < left.len() && matches!(digits, 2 | 4 | 6) && day_at(hour).is_none() {
                    return FoundDay::Unclear(format!("'{path}' may name a time of day in addition to the day"));
                }
            }
            None => {
                let next = left.chars().next().map_or(1, char::len_utf8);
                text.push_str(&left[..next]);
                left = &left[next..];
            }
        }
    }
    days.dedup();
    match days.as_slice() {
        [] => in_folders(path).map_or(FoundDay::None, |(pattern, day)| FoundDay::Day(pattern, day)),
        [day] => FoundDay::Day(with_year_and_month(&text, *day), *day),
        _ => FoundDay::Unclear(format!("'{path}' names several days")),
    }
}

/// A day that a text begins with: its length, its format, and the day.
fn day_at(text: &str) -> Option<(usize, &'static str, Date)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i16>().ok()).flatten();
    let of = |year: &str, month: &str, day: &str| {
        let (year, month, day) = (number(year)?, number(month)?, number(day)?);
        let found = Date::new(year, month as i8, day as i8).ok()?;
        (1990..2100).contains(&year).then_some(found)
    };
    let ends = |length: usize| !text[length..].starts_with(|c: char| c.is_ascii_digit());
    if let Some(head) = text.get(..10).filter(|head| head.is_ascii() && ends(10)) {
        let separators = head[4..5] == head[7..8];
        let format = match &head[4..5] {
            "-" => "%F",
            "_" => "%Y_%m_%d",
            "." => "%Y.%m.%d",
            _ => "",
        };
        if separators
            && !format.is_empty()
            && let Some(day) = of(&head[..4], &head[5..7], &head[8..])
        {
            return Some((10, format, day));
        }
    }
    let head = text.get(..8).filter(|head| head.is_ascii() && ends(8))?;
    Some((8, "%Y%m%d", of(&head[..4], &head[4..6], &head[6..])?))
}

/// A day in three folders: `2026/11/24` or `year=2026/month=11/day=24`.
fn in_folders(path: &str) -> Option<(String, Date)> {
    let parts: Vec<&str> = path.split('/').collect();
    // The key with its `=`, the digits, and what follows them.
    let part = |text: &'_ str, keys: &[&str]| -> Option<(String, String, String)> {
        let (key, value) = text.split_once('=').unwrap_or(("", text));
        let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
        let known = key.is_empty() || keys.contains(&&*key.to_ascii_lowercase());
        let key = if text.contains('=') { format!("{key}=") } else { String::new() };
        known.then(|| (key, digits.clone(), value[digits.len()..].to_owned()))
    };
    for (i, three) in parts.windows(3).enumerate() {
        let found = (
            part(three[0], &["year", "yyyy", "yy", "y"]),
            part(three[1], &["month", "mm", "m"]),
            part(three[2], &["day", "dd", "d"]),
        );
        let (Some(year), Some(month), Some(day)) = found else { continue };
        // Folders without keys are written with two digits, and only a file may have more to its name.
        let keyed = !day.0.is_empty();
        let two = |digits: &str| digits.len() == 2 || (keyed && digits.len() == 1);
        let last = i + 3 == parts.len();
        if year.1.len() != 4 || !two(&month.1) || !two(&day.1) || !year.2.is_empty() || !month.2.is_empty() {
            continue;
        }
        if [&year.0, &month.0, &day.0].iter().any(|key| key.is_empty() == keyed)
            || !(day.2.is_empty() || (last && day.2.starts_with('.')))
        {
            continue;
        }
        let (Ok(y), Ok(m), Ok(d)) = (year.1.parse::<i16>(), month.1.parse::<i8>(), day.1.parse::<i8>()) else {
            continue;
        };
        let Some(date) = Date::new(y, m, d).ok().filter(|_| (1990..2100).contains(&y)) else { continue };
        let middle = if keyed {
            // Without leading zeros, as Spark writes numbers.
            let short = |digits: &str, format: &str| match digits.len() {
                1 => format!("{{day:%-{format}}}"),
                _ => format!("{{day:%{format}}}"),
            };
            let (month_format, day_format) = (short(&month.1, "m"), short(&day.1, "d"));
            format!("{}{{day:%Y}}/{}{month_format}/{}{day_format}", year.0, month.0, day.0)
        } else {
            "{day:%Y/%m/%d}".into()
        };
        let (before, after) = (parts[..i].join("/"), parts[i + 3..].join("/"));
        let before = if i > 0 { format!("{before}/") } else { before };
        let after = if last { day.2 } else { format!("{}/{after}", day.2) };
        return Some((format!("{before}{middle}{after}"), date));
    }
    None
}

/// Replaces folders that repeat the year, and then the month, of a day that is named further down.
fn with_year_and_month(pattern: &str, day: Date) -> String {
    let parts: Vec<&str> = pattern.split('/').collect();
    let Some(at) = parts.iter().position(|part| part.contains("{day")) else { return pattern.into() };
    let (year, month) = (format!("{:04}", day.year()), format!("{:02}", day.month()));
    let ends = |part: &str, digits: &str| {
        let key = part.strip_suffix(digits)?;
        (key.is_empty() || key.ends_with('=')).then(|| key.to_owned())
    };
    let mut made: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    if at >= 2
        && let (Some(y), Some(m)) = (ends(parts[at - 2], &year), ends(parts[at - 1], &month))
    {
        made[at - 2] = format!("{y}{{day:%Y}}");
        made[at - 1] = format!("{m}{{day:%m}}");
    } else if at >= 1
        && let Some(y) = ends(parts[at - 1], &year)
    {
        made[at - 1] = format!("{y}{{day:%Y}}");
    } else if at >= 1
        && let Some(key) = ends(parts[at - 1], &format!("{year}-{month}"))
    {
        made[at - 1] = format!("{key}{{day:%Y-%m}}");
    }
    made.join("/")
}

/// A pattern up to the folder that names the day: all files in it are the day's.
fn folder_of_the_day(pattern: &str) -> String {
    let end = pattern.rfind("{day").and_then(|at| Some(at + pattern[at..].find('}')?)).unwrap_or(pattern.len());
    match pattern[end..].find('/') {
        Some(folder) => pattern[..=end + folder].to_owned(),
        None => pattern.to_owned(),
    }
}

/// What several patterns have in common: the same up to the day, and then the same ending.
fn common(patterns: &[&str]) -> Option<String> {
    let (first, others) = patterns.split_first()?;
    if others.is_empty() {
        return Some((*first).to_owned());
    }
    let split = |pattern: &str| {
        let end = pattern.rfind('}')? + 1;
        let name = &pattern[end..];
        let ending = name.rfind('.').map_or("", |at| &name[at..]);
        (!name.contains('/')).then(|| (pattern[..end].to_owned(), ending.to_owned()))
    };
    if let Some((head, ending)) = split(first)
        && others.iter().all(|other| split(other).is_some_and(|(h, e)| h == head && e == ending))
    {
        return Some(format!("{head}*{ending}"));
    }
    // Numbers with and without a leading zero: they are written without.
    let shortened: Vec<String> =
        patterns.iter().map(|p| p.replace("{day:%m}", "{day:%-m}").replace("{day:%d}", "{day:%-d}")).collect();
    shortened.iter().all(|other| *other == shortened[0]).then(|| shortened[0].clone())
}

/// A glob with the day in it: its own parts, and that of the files which names the day.
fn in_glob(glob: &str, pattern: &str) -> Option<String> {
    if glob.contains("**") {
        return None;
    }
    // A format may hold slashes.
    let mut parts: Vec<String> = Vec::new();
    let mut inside = false;
    for part in pattern.split('/') {
        match parts.last_mut().filter(|_| inside) {
            Some(last) => last.push_str(&format!("/{part}")),
            None => parts.push(part.to_owned()),
        }
        inside = parts.last().is_some_and(|last| last.matches('{').count() > last.matches('}').count());
    }
    let mut given = glob.split('/');
    let mut made = Vec::new();
    for part in parts {
        let folders = 1 + part.matches("{day").count().min(1) * part.matches('/').count();
        let own: Vec<&str> = given.by_ref().take(folders).collect();
        if part.is_empty() && own.is_empty() {
            break;
        }
        made.push(if part.contains("{day") { part } else { own.join("/") });
    }
    made.extend(given.map(str::to_owned));
    Some(made.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(String, String)> {
        match find(path) {
            FoundDay::Day(pattern, day) => Some((pattern, day.to_string())),
            _ => None,
        }
    }

    #[test]
    fn the_day_in_a_path_is_found_and_reads_back_the_same() {
        for (path, pattern) in [
            ("production/date=2026-11-24/", "production/date={day}/"),
            ("production/2026-11-24.parquet", "production/{day}.parquet"),
            ("p/sales_20261124.csv", "p/sales_{day:%Y%m%d}.csv"),
            ("p/20261124", "p/{day:%Y%m%d}"),
            ("p/2026_11_24/x.csv", "p/{day:%Y_%m_%d}/x.csv"),
            ("p/2026/11/24/", "p/{day:%Y/%m/%d}/"),
            ("2026/11/24.parquet", "{day:%Y/%m/%d}.parquet"),
            ("p/year=2026/month=11/day=24/", "p/year={day:%Y}/month={day:%m}/day={day:%d}/"),
            ("p/year=2026/month=1/day=4/a.pq", "p/year={day:%Y}/month={day:%-m}/day={day:%-d}/a.pq"),
            ("p/2026/11/2026-11-24/", "p/{day:%Y}/{day:%m}/{day}/"),
            ("p/2026-11/2026-11-24.csv", "p/{day:%Y-%m}/{day}.csv"),
            ("s3://b/dt=2026-11-24/part-0.parquet", "s3://b/dt={day}/part-0.parquet"),
            ("p/date=2026-11-24/churn-2026-11-24.pq", "p/date={day}/churn-{day}.pq"),
        ] {
            let (made, day) = found(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(made, pattern);
            assert_eq!(of_day(&made, day.parse().unwrap()).unwrap(), path);
        }
        for path in [
            "production/",
            "p/2026-02-30.csv",
            "p/12026-11-24.csv",
            "p/v2026112/x",
            "p/123456789.csv",
            "p/2026-11/x.csv",
            "p/2026/11/24x/",
            "p/2026/13/01/",
            "p/1234-01-01.csv",
            "p/é2026-1-24",
            // Several, or with a time of day.
            "p/2026-11-01_2026-11-24.csv",
            "p/2026-11-24T03.csv",
            "p/2026-11-24_0300.csv",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn files_of_one_day_each_have_a_pattern_in_common() {
        let of = |paths: &[&str]| {
            let patterns: std::collections::BTreeSet<String> =
                paths.iter().map(|path| folder_of_the_day(&found(path).unwrap().0)).collect();
            common(&patterns.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(of(&["date=2026-11-23/a.pq", "date=2026-11-24/b.pq"]).unwrap(), "date={day}/");
        assert_eq!(of(&["2026-11-23-part1.pq", "2026-11-24-part2.pq"]).unwrap(), "{day}*.pq");
        assert_eq!(of(&["2026/11/23/a.pq", "2026/11/24/a.pq"]).unwrap(), "{day:%Y/%m/%d}/");
        assert_eq!(
            of(&["year=2026/month=9/day=30/a.pq", "year=2026/month=11/day=24/a.pq"]).unwrap(),
            "year={day:%Y}/month={day:%-m}/day={day:%-d}/"
        );
        assert_eq!(of(&["a/2026-11-23.pq", "b/2026-11-24.pq"]), None);
        assert_eq!(in_glob("p/*.pq", "p/{day}.pq").unwrap(), "p/{day}.pq");
        assert_eq!(in_glob("p/date=*/x-*.pq", "p/date={day}/").unwrap(), "p/date={day}/x-*.pq");
        assert_eq!(in_glob("p/*/*/*/a.pq", "p/{day:%Y/%m/%d}/").unwrap(), "p/{day:%Y/%m/%d}/a.pq");
        assert_eq!(of_all_days("p/{day:%Y/%m/%d}/x.pq"), "p/*/*/*/x.pq");
        assert_eq!(of_all_days("p/date={day}/"), "p/date=*/");
        assert_eq!(of_all_days("p/{day}*.csv"), "p/*.csv");
    }
}
