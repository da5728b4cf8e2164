//! When a model is to be trained again: the settings of the four triggers, each with where it was set.

use std::collections::BTreeMap;
use std::str::FromStr;

use cronexpr::Crontab;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::table::Literal;
use super::window::offset_since;
use crate::address::{Place, shown};
use crate::error::{Error, Result};
use crate::metric::performance::Quality;

/// Where a setting comes from; the nearest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody set it.
    BuiltIn,
    /// `[defaults]` of the fleet file.
    Fleet,
    /// The model's own table.
    Model,
    /// The feature's own table.
    Feature,
}

impl Origin {
    /// As `explain` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built in",
            Self::Fleet => "fleet",
            Self::Model => "model",
            Self::Feature => "feature",
        }
    }
}

/// A setting and where it was set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given<T> {
    /// The setting.
    pub value: T,
    /// Where it was set.
    pub origin: Origin,
}

impl<T> Given<T> {
    /// The nearest of several settings.
    fn nearest(model: Option<T>, fleet: Option<T>, built_in: T) -> Self {
        match (model, fleet) {
            (Some(value), _) => Self { value, origin: Origin::Model },
            (None, Some(value)) => Self { value, origin: Origin::Fleet },
            (None, None) => Self { value: built_in, origin: Origin::BuiltIn },
        }
    }
}

/// One of the four reasons to train a model again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// It is time.
    Schedule,
    /// It predicts worse than it should.
    Performance,
    /// What it sees has moved.
    Drift,
    /// There is much to learn from.
    Volume,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Schedule, Self::Performance, Self::Drift, Self::Volume];

    /// The name in fleet files, events and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Performance => "performance",
            Self::Drift => "drift",
            Self::Volume => "volume",
        }
    }
}

impl FromStr for Trigger {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|trigger| trigger.name() == name)
            .ok_or_else(|| Error::unknown("trigger", name, Self::ALL.map(Self::name)))
    }
}

/// A cron expression of five fields, read by the clock on a wall.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    /// Read in UTC: civil times are put into a zone here, where clocks skip and repeat some.
    crontab: Crontab,
    /// Whether it comes at intervals (`*`, a range or a step among its minutes or hours): it then comes each time that
    /// the clocks show a time which they repeat, and a time of day given as such the first time only.
    at_intervals: bool,
    /// Whether it comes in every hour: it then loses nothing where the clocks skip a time of day. Others come when the
    /// clocks have gone on.
    in_every_hour: bool,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schedule {
    /// Reads an expression such as `30 2 * * 1-5`, or `@daily`.
    ///
    /// # Errors
    /// The reason.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let fields = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            fields => fields,
        };
        let wrong = |reason: String| format!("schedule '{text}': {reason}");
        if fields.split_whitespace().count() != 5 {
            return Err(wrong(
                "give minute, hour, day of month, month and day of week; the zone is `time_zone`".into(),
            ));
        }
        let crontab = |fields: &str| {
            cronexpr::parse_crontab(&format!("{fields} UTC")).map_err(|e| {
                let text = e.to_string();
                wrong(text.lines().last().unwrap_or_default().trim_start_matches(['^', ' ', '-', '|']).to_owned())
            })
        };
        let whole = crontab(fields)?;
        let at_intervals = fields.split_whitespace().take(2).any(|field| field.contains(['*', '-', '/']));
        // Its hours on a day: with all of them the 24th after the first midnight is the next.
        let hours = crontab(&format!("0 {} * * *", fields.split_whitespace().nth(1).unwrap_or_default()))?;
        let hours = hours.iter_after(Timestamp::UNIX_EPOCH).map_err(|e| wrong(e.to_string()))?;
        let last = hours.take(24).map_while(std::result::Result::ok).last();
        let in_every_hour = last.is_some_and(|at| at.timestamp().as_second() == 24 * 60 * 60);
        let schedule = Self { text: text.trim().to_owned(), crontab: whole, at_intervals, in_every_hour };
        // The thirtieth of February never comes.
        match schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC) {
            Some(_) => Ok(schedule),
            None => Err(wrong("it never comes".into())),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after a point in time. What comes at intervals (`0 * * * *`, `*/15 2-4 * * *`) comes each time that
    /// the clocks show a time which they repeat; a time of day (`30 2 * * *`) comes the first time only. Times that the
    /// clocks skip come when they have gone on, unless every hour has its own.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // Before the calendar ends.
        if after.to_zoned(TimeZone::UTC).year() > 9900 {
            return None;
        }
        let (mut after, mut inside) = (after, after);
        // One stretch without a change of the clocks after another; there are few even until a 29th of February.
        for _ in 0..1000 {
            let end = zone.following(inside).next().map(|change| change.timestamp());
            let offset = zone.to_offset(inside);
            let mut from = after;
            let mut skipped = None;
            if let Some(begin) = offset_since(inside, zone) {
                let before = zone.to_offset(just_before(begin)?);
                let forward = SignedDuration::from_secs((offset.seconds() - before.seconds()).into());
                // What the clocks would have shown until then, had they not gone on; or what they show again.
                let until = begin.checked_add(forward.abs()).ok()?;
                if forward.is_positive() && !self.in_every_hour && after < until {
                    skipped = self.next_at(before, after.max(just_before(begin)?)).filter(|&at| at < until);
                } else if forward.is_negative() && !self.at_intervals {
                    from = after.max(just_before(until)?);
                }
            }
            let shown = self.next_at(offset, from);
            let found = [skipped, shown].into_iter().flatten().min();
            match end {
                // The moment of the change belongs to the stretch after it.
                Some(end) if found.is_none_or(|at| at >= end) => (after, inside) = (just_before(end)?, end),
                _ => return found,
            }
        }
        None
    }

    /// The first time after a point in time at which clocks of an offset show one of its times.
    fn next_at(&self, offset: Offset, after: Timestamp) -> Option<Timestamp> {
        let offset = SignedDuration::from_secs(offset.seconds().into());
        // The clock on the wall as if it were that of UTC.
        let shown = self.crontab.find_next(after.checked_add(offset).ok()?).ok()?;
        shown.timestamp().checked_sub(offset).ok()
    }

    /// The last time up to a point in time and after another, if there is one: what was missed in between is caught up
    /// with once.
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.next(after, zone).filter(|&first| first <= until)?;
        // Ever longer stretches before `until`, so that years of minutes are not gone through.
        let mut stretch = SignedDuration::from_mins(2);
        loop {
            let from = until.checked_sub(stretch).unwrap_or(after).max(after);
            let mut found = self.next(from, zone).filter(|&at| at <= until);
            if found.is_some() || from == after {
                while let Some(next) = found.and_then(|at| self.next(at, zone)).filter(|&at| at <= until) {
                    found = Some(next);
                }
                return found.or(Some(first));
            }
            stretch = stretch.checked_mul(4)?;
        }
    }
}

/// The last moment before another.
fn just_before(at: Timestamp) -> Option<Timestamp> {
    at.checked_sub(SignedDuration::from_nanos(1)).ok()
}

/// How many drifting features make a model drift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// So many.
    AtLeast(usize),
    /// Such a share of those compared.
    Share(f64),
    /// Such a share of the importance of those compared.
    WeightedShare(f64),
}

/// In how many of the last sweeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// In so many ...
    pub hits: usize,
    /// ... of so many.
    pub of: usize,
}

/// A model's triggers, resolved.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Those that are off.
    pub off: Given<Vec<Trigger>>,
    /// Training by the calendar, if there is any.
    pub schedule: Given<Option<Schedule>>,
    /// No second event so soon after the last.
    pub cooldown: Given<SignedDuration>,
    /// How many features must drift.
    pub quorum: Given<Quorum>,
    /// In how many of the last sweeps each of them.
    pub persistence: Given<Persistence>,
    /// False discovery rate over all tests of a sweep up to which a test counts.
    pub fdr: Given<f64>,
    /// Which measure of the predictions.
    pub metric: Given<Option<Quality>>,
    /// From where on (down, or up for errors) it triggers.
    pub level: Given<Option<f64>>,
    /// From where on it warns.
    pub warning: Given<Option<f64>>,
    /// Predictions of so long a time ...
    pub performance_within: Given<SignedDuration>,
    /// ... and at most so many, the newest.
    pub rows: Given<usize>,
    /// Fewer labels are too few.
    pub min_labels: Given<usize>,
    /// Confidence of the interval that must lie beyond the level.
    pub confidence: Given<f64>,
    /// Whether new labels alone are a reason: only where `[trigger.volume]` is set.
    pub volume: Given<bool>,
    /// So many new labels ...
    pub labels: Given<u64>,
    /// ... in so long a time.
    pub volume_within: Given<SignedDuration>,
}

impl Triggers {
    /// Why a trigger of a model cannot fire; `None` where it can. `labels` says whether `[model.labels]` is set.
    pub fn inactive(&self, trigger: Trigger, labels: bool) -> Option<String> {
        if self.off.value.contains(&trigger) {
            return Some(format!("off ({})", self.off.origin.name()));
        }
        let missing = match trigger {
            Trigger::Schedule => self.schedule.value.is_none().then_some("schedule"),
            Trigger::Drift => None,
            Trigger::Performance | Trigger::Volume if !labels => Some("[model.labels]"),
            Trigger::Performance => self.level.value.is_none().then_some("trigger.performance.level"),
            Trigger::Volume => (!self.volume.value).then_some("[trigger.volume]"),
        };
        missing.map(|missing| format!("not set: {missing}"))
    }
}

/// Where a model's predictions meet what came true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// The snapshot of the predictions.
    pub predictions: Place,
    /// The snapshot of the labels; the predictions' own if absent.
    pub from: Option<Place>,
    /// The snapshot by which scores are calibrated, with labels: by default the baseline.
    pub reference: Option<Place>,
    /// Names a row on both sides.
    pub id: Option<String>,
    /// When the prediction was made.
    pub time: String,
    /// What came true.
    pub label: String,
    /// What was predicted.
    pub prediction: Option<String>,
    /// The probability of `positive`.
    pub score: Option<String>,
    /// The label that scores are about, where it was named.
    pub positive: Option<String>,
    /// All classes: each label, and the prediction that means the same.
    pub classes: Option<BTreeMap<String, String>>,
    /// Text that stands for a missing label, prediction or id.
    pub missing: MissingTexts,
    /// When the label became known.
    pub label_time: Option<String>,
    /// How long labels take: exactly, where `label_time` does not say, or else at most.
    pub delay: SignedDuration,
    /// Whether the delay was declared.
    pub delay_declared: bool,
    /// A column of the predictions that stands in where labels are missing.
    pub proxy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TriggerTable {
    off: Option<Vec<Trigger>>,
    schedule: Option<String>,
    cooldown: Option<String>,
    #[serde(default)]
    drift: DriftTable,
    #[serde(default)]
    performance: PerformanceTable,
    volume: Option<VolumeTable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DriftTable {
    at_least: Option<usize>,
    share: Option<f64>,
    weighted_share: Option<f64>,
    persistence: Option<String>,
    fdr: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PerformanceTable {
    metric: Option<Quality>,
    level: Option<f64>,
    warning: Option<f64>,
    within: Option<String>,
    rows: Option<usize>,
    min_labels: Option<usize>,
    confidence: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeTable {
    labels: Option<u64>,
    within: Option<String>,
}

/// The classes that labels and predictions name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum ClassTable {
    /// In the same words.
    Same(Vec<Literal>),
    /// Each label with the prediction that means the same.
    Translated(BTreeMap<String, Literal>),
}

impl ClassTable {
    fn resolve(self) -> std::result::Result<BTreeMap<String, String>, String> {
        let classes: BTreeMap<String, String> = match self {
            Self::Same(names) => {
                let names = names.into_iter().map(|name| class(name.text()));
                names.map(|name| (name.clone(), name)).collect()
            }
            Self::Translated(pairs) => {
                pairs.into_iter().map(|(label, said)| (class(label), class(said.text()))).collect()
            }
        };
        if classes.is_empty() { Err("labels: classes lists nothing".into()) } else { Ok(classes) }
    }
}

/// Text that stands for a missing value unless a list says otherwise: what CSV writers, spreadsheets, databases and
/// `str()` of pandas' missing values leave. Blanks around it and the case of its letters do not count, except in `None`,
/// for "none" is a class in many tables.
pub const MISSING: [&str; 12] = ["", "NA", "N/A", "#N/A", "#NA", "<NA>", "NaN", "-NaN", "NaT", "NULL", "\\N", "None"];

/// Text that stands for a missing label, prediction or id: a list where one was given, else [`MISSING`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingTexts(pub Option<Vec<String>>);

impl MissingTexts {
    /// All of them.
    pub fn texts(&self) -> Vec<&str> {
        match &self.0 {
            Some(texts) => texts.iter().map(String::as_str).collect(),
            None => MISSING.to_vec(),
        }
    }

    /// Whether a text is one of them. The empty text always is.
    pub fn has(&self, text: &str) -> bool {
        let text = text.trim();
        text.is_empty()
            || match &self.0 {
                Some(texts) => texts.iter().any(|missing| missing.trim() == text),
                None => MISSING.iter().any(|&missing| match missing {
                    "None" => text == missing,
                    missing => text.eq_ignore_ascii_case(missing),
                }),
            }
    }
}

/// The same text for the same class: labels and predictions are often one a flag or text and the other a number.
pub fn class(text: String) -> String {
    match &*text {
        "true" | "True" | "TRUE" => "1".into(),
        "false" | "False" | "FALSE" => "0".into(),
        whole => match whole.strip_suffix(".0") {
            Some(whole) if whole.parse::<i64>().is_ok() => whole.to_owned(),
            _ => text,
        },
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelTable {
    predictions: Option<String>,
    from: Option<String>,
    reference: Option<String>,
    id: Option<String>,
    time: Option<String>,
    label: String,
    pub(super) prediction: Option<String>,
    pub(super) score: Option<String>,
    positive: Option<Literal>,
    classes: Option<ClassTable>,
    missing: Option<Vec<String>>,
    label_time: Option<String>,
    delay: Option<String>,
    proxy: Option<String>,
}

/// Reads a length of time such as `7d`, `36h` or `90m`; a day has 24 hours.
///
/// # Errors
/// The reason.
pub fn duration(what: &str, text: &str) -> std::result::Result<SignedDuration, String> {
    let span: jiff::Span =
        text.parse().map_err(|_| format!("{what} = \"{text}\" is not a length of time such as 7d or 36h"))?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|e| format!("{what}: {e}"))?;
    if length.is_negative() || length > SignedDuration::from_hours(24 * 3660) {
        return Err(format!("{what} = \"{text}\" must be between 0 and ten years"));
    }
    Ok(length)
}

/// Checks one number against its range.
fn within<T: PartialOrd + std::fmt::Display + Copy>(
    what: &str,
    value: Option<T>,
    range: std::ops::RangeInclusive<T>,
) -> std::result::Result<Option<T>, String> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(format!("{what} = {value} must be between {} and {}", range.start(), range.end()))
        }
        value => Ok(value),
    }
}

impl TriggerTable {
    fn quorum(&self) -> std::result::Result<Option<Quorum>, String> {
        let drift = &self.drift;
        let at_least = within("at_least", drift.at_least, 1..=1_000_000)?.map(Quorum::AtLeast);
        let share = |what, share| match within(what, share, 0.0..=1.0)? {
            Some(0.0) => Err(format!("{what} = 0 would always hold; use at_least = 1")),
            share => Ok(share),
        };
        let shares = [
            share("share", drift.share)?.map(Quorum::Share),
            share("weighted_share", drift.weighted_share)?.map(Quorum::WeightedShare),
        ];
        let mut given = shares.into_iter().chain([at_least]).flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err("give one of at_least, share and weighted_share".into()),
            (quorum, None) => Ok(quorum),
        }
    }

    fn persistence(&self) -> std::result::Result<Option<Persistence>, String> {
        let Some(text) = &self.drift.persistence else { return Ok(None) };
        let wrong = || format!("persistence = \"{text}\": write \"2 of 3\", at most of 100");
        let (hits, of) = text.split_once(" of ").ok_or_else(wrong)?;
        let (hits, of) = (hits.trim().parse().map_err(|_| wrong())?, of.trim().parse().map_err(|_| wrong())?);
        if hits == 0 || hits > of || of > 100 { Err(wrong()) } else { Ok(Some(Persistence { hits, of })) }
    }

    fn schedule(&self) -> std::result::Result<Option<Option<Schedule>>, String> {
        self.schedule.as_deref().map(|text| Schedule::parse(text).map(Some)).transpose()
    }

    /// The settings of a model over those of the fleet over what is built in.
    ///
    /// # Errors
    /// The reason, for a setting that is none.
    pub(super) fn over(&self, fleet: &Self) -> std::result::Result<Triggers, String> {
        let length = |what: &str, text: &Option<String>| text.as_ref().map(|text| duration(what, text)).transpose();
        let given_length = |what: &str, model: &Option<String>, fleet: &Option<String>, days: i64| {
            let built_in = SignedDuration::from_hours(24 * days);
            Ok::<_, String>(Given::nearest(length(what, model)?, length(what, fleet)?, built_in))
        };
        let (p, fp) = (&self.performance, &fleet.performance);
        let [v, fv] = [self, fleet].map(|table| table.volume.clone().unwrap_or_default());
        let metric = Given::nearest(p.metric.map(Some), fp.metric.map(Some), None);
        // A level belongs to a metric: one set for another metric does not carry over.
        let or_default = |metric: Option<Quality>| metric.unwrap_or(Quality::Accuracy);
        let same = p.metric.is_none() || p.metric == Some(or_default(fp.metric));
        let level = |model: Option<f64>, fleet: Option<f64>, built_in: Option<f64>| {
            Given::nearest(model.map(Some), fleet.filter(|_| same).map(Some), built_in)
        };
        let of_shares = metric.value.is_none_or(|metric| metric == Quality::Accuracy);
        let triggers = Triggers {
            off: Given::nearest(self.off.clone(), fleet.off.clone(), Vec::new()),
            schedule: Given::nearest(self.schedule()?, fleet.schedule()?, None),
            cooldown: given_length("cooldown", &self.cooldown, &fleet.cooldown, 7)?,
            quorum: Given::nearest(self.quorum()?, fleet.quorum()?, Quorum::AtLeast(1)),
            persistence: Given::nearest(self.persistence()?, fleet.persistence()?, Persistence { hits: 2, of: 3 }),
            fdr: Given::nearest(
                within("fdr", self.drift.fdr, 0.0..=1.0)?,
                within("fdr", fleet.drift.fdr, 0.0..=1.0)?,
                0.05,
            ),
            metric,
            level: level(p.level, fp.level, Some(0.9).filter(|_| of_shares)),
            warning: level(p.warning, fp.warning, None),
            performance_within: given_length("within", &p.within, &fp.within, 7)?,
            rows: Given::nearest(
                within("rows", p.rows, 1..=100_000_000)?,
                within("rows", fp.rows, 1..=100_000_000)?,
                10_000,
            ),
            min_labels: Given::nearest(
                within("min_labels", p.min_labels, 1..=100_000_000)?,
                within("min_labels", fp.min_labels, 1..=100_000_000)?,
                200,
            ),
            confidence: Given::nearest(
                within("confidence", p.confidence, 0.5..=0.999_999)?,
                within("confidence", fp.confidence, 0.5..=0.999_999)?,
                0.95,
            ),
            volume: Given::nearest(self.volume.as_ref().map(|_| true), fleet.volume.as_ref().map(|_| true), false),
            labels: Given::nearest(
                within("labels", v.labels, 1..=u64::MAX)?,
                within("labels", fv.labels, 1..=u64::MAX)?,
                5000,
            ),
            volume_within: given_length("within", &v.within, &fv.within, 7)?,
        };
        let judged = or_default(triggers.metric.value);
        let most = if judged.higher_is_better() { 1.0 } else { f64::MAX };
        for x in [triggers.level.value, triggers.warning.value].into_iter().flatten() {
            if !(0.0..=most).contains(&x) {
                let range = if most == 1.0 { "between 0 and 1" } else { "0 or more" };
                return Err(format!("level = {x}: {judged} is {range}"));
            }
        }
        if triggers.rows.value < triggers.min_labels.value {
            let (rows, least) = (triggers.rows.value, triggers.min_labels.value);
            return Err(format!("rows = {rows} are fewer than min_labels = {least}"));
        }
        if triggers.performance_within.value.is_zero() || triggers.volume_within.value.is_zero() {
            return Err("within = \"0d\" looks at nothing".into());
        }
        let higher = judged.higher_is_better();
        if let (Some(level), Some(warning)) = (triggers.level.value, triggers.warning.value)
            && (warning < level) == higher
            && warning != level
        {
            return Err(format!("warning = {warning} comes after level = {level}; it must come before"));
        }
        Ok(triggers)
    }
}

impl LabelTable {
    /// Resolved for a model whose current snapshot, baseline and column of times are given.
    ///
    /// # Errors
    /// The reason.
    pub(super) fn resolve(
        self,
        current: &Place,
        baseline: Option<&Place>,
        time: Option<&str>,
        path: impl Fn(&str) -> Place,
    ) -> std::result::Result<Labels, String> {
        let own = |given: &Option<String>| given.as_deref().map(&path);
        let from = own(&self.from);
        if from.is_some() && self.id.is_none() {
            return Err("labels: `from` names another table; name the column that joins the two with `id`".into());
        }
        if self.prediction.is_none() && self.score.is_none() {
            return Err("labels: name the column with the model's `prediction`, its `score`, or both".into());
        }
        let Some(time) = self.time.as_deref().or(time) else {
            return Err("labels: name the column with the `time` of the prediction".into());
        };
        // One day's predictions have no labels before theirs come, and one day's labels are not those of a week.
        if let Some(path) = [&self.predictions, &self.from].into_iter().flatten().find(|path| path.contains("{day")) {
            return Err(format!("labels: '{}' is one day; name those of all days, for example with *", shown(path)));
        }
        if self.predictions.is_none() && current.expose().contains("{day") {
            return Err("labels: `current` is one day; name the predictions of all days with labels.predictions".into());
        }
        let delay = self.delay.as_deref().map(|text| duration("delay", text)).transpose()?;
        Ok(Labels {
            predictions: own(&self.predictions).unwrap_or_else(|| current.clone()),
            reference: own(&self.reference).or_else(|| baseline.cloned()),
            time: time.to_owned(),
            positive: self.positive.map(|positive| class(positive.text())),
            classes: self.classes.map(ClassTable::resolve).transpose()?,
            missing: MissingTexts(self.missing),
            delay_declared: delay.is_some(),
            delay: delay.unwrap_or(match self.label_time {
                Some(_) => SignedDuration::from_hours(24 * 90),
                None => SignedDuration::ZERO,
            }),
            from,
            id: self.id,
            label: self.label,
            prediction: self.prediction,
            score: self.score,
            label_time: self.label_time,
            proxy: self.proxy,
        })
    }

    /// Whether it names the current snapshot as that of the predictions.
    pub(super) fn needs_current(&self) -> bool {
        self.predictions.is_none()
    }
}

impl Labels {
    /// Whether a column is what the model says.
    pub(super) fn says(&self, column: &str) -> bool {
        [&self.prediction, &self.score].into_iter().any(|said| said.as_deref() == Some(column))
    }

    /// Whether a column joins rows and is neither seen, said nor true.
    pub(super) fn only_joins(&self, column: &str) -> bool {
        [self.id.as_deref(), self.label_time.as_deref(), Some(&*self.time)].contains(&Some(column))
    }

    /// The snapshots it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut Place> {
        [&mut self.predictions].into_iter().chain(&mut self.from).chain(&mut self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), TimeZone::get(zone).unwrap());
        let mut at = from.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..n {
            at = schedule.next(at, &zone).unwrap();
            found.push(at.to_zoned(zone.clone()).strftime("%F %H:%M %:z").to_string());
        }
        found
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_comes_once() {
        // Berlin skips 02:30 on the 29th of March 2026, and has it twice on the 25th of October.
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28 02:30 +01:00", "2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00"]);
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]);
        // From within the repeated hour.
        let within = times("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1);
        assert_eq!(within, ["2026-10-26 02:30 +01:00"]);
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29 00:00 +00:00"]);
        // A day that never was: Samoa went from the 29th to the 31st of December 2011.
        let samoa = times("0 12 30 * *", "Pacific/Apia", "2011-12-01T00:00:00Z", 2);
        assert_eq!(samoa, ["2011-12-31 12:00 +14:00", "2012-01-30 12:00 +14:00"]);
    }

    /// How often a schedule comes on a day, by the clocks of a zone.
    fn on(day: &str, schedule: &str, zone: &str) -> Vec<Timestamp> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), TimeZone::get(zone).unwrap());
        let day: jiff::civil::Date = day.parse().unwrap();
        let begin = |day: jiff::civil::Date| day.to_zoned(zone.clone()).unwrap().timestamp();
        let mut at = just_before(begin(day)).unwrap();
        let mut found = Vec::new();
        while let Some(next) = schedule.next(at, &zone).filter(|&next| next < begin(day.tomorrow().unwrap())) {
            assert!(next > at);
            // The same from every point of time in between.
            for part in 1..10 {
                let between =
                    at + SignedDuration::from_nanos((next.as_nanosecond() - at.as_nanosecond()) as i64 / 10 * part);
                assert_eq!(schedule.next(between, &zone), Some(next), "{between}");
            }
            at = next;
            found.push(next);
        }
        found
    }

    #[test]
    fn what_comes_at_intervals_comes_in_both_hours_and_a_time_of_day_once() {
        let (back, forward) = ("2026-10-25", "2026-03-29");
        for (schedule, on_back, on_forward) in [
            ("0 * * * *", 25, 23),
            ("@hourly", 25, 23),
            ("*/15 * * * *", 100, 92),
            ("17,47 0-23 * * *", 50, 46),
            ("* * * * *", 1500, 1380),
            // Every other hour: 02:00 comes twice, or when the clocks have gone on.
            ("0 */2 * * *", 13, 12),
            ("0 1-3 * * *", 4, 2),
            ("*/15 2 * * *", 8, 4),
            ("30 2 * * *", 1, 1),
            ("0,30 2,3 * * *", 4, 2),
            ("30 2,14 * * *", 2, 2),
            ("0 2 * * *", 1, 1),
            ("@daily", 1, 1),
            ("@midnight", 1, 1),
            ("@weekly", 1, 1),
            ("@monthly", 0, 0),
            ("@yearly", 0, 0),
        ] {
            assert_eq!(on(back, schedule, "Europe/Berlin").len(), on_back, "{schedule}");
            assert_eq!(on(forward, schedule, "Europe/Berlin").len(), on_forward, "{schedule}");
            assert_eq!(
                on("2026-10-26", schedule, "Europe/Berlin"),
                on("2026-10-26", schedule, "Etc/GMT-1"),
                "{schedule}"
            );
        }
        // Half an hour, on Lord Howe Island: back from 02:00 to 01:30, and on from 02:00 to 02:30.
        let (back, forward, zone) = ("2026-04-05", "2026-10-04", "Australia/Lord_Howe");
        for (schedule, on_back, on_forward) in [
            ("0 * * * *", 24, 23),
            ("30 * * * *", 25, 24),
            ("*/15 * * * *", 98, 94),
            ("45 1 * * *", 1, 1),
            ("15 2 * * *", 1, 1),
            ("15,30 2 * * *", 2, 2),
        ] {
            assert_eq!(on(back, schedule, zone).len(), on_back, "{schedule}");
            assert_eq!(on(forward, schedule, zone).len(), on_forward, "{schedule}");
        }
        // A midnight that is skipped, and one that comes twice.
        assert_eq!(on("2018-11-04", "@daily", "America/Sao_Paulo").len(), 1);
        assert_eq!(on("2026-11-01", "@daily", "America/Havana").len(), 1);
    }

    #[test]
    fn an_hourly_schedule_looks_at_every_hour_once() {
        use crate::fleet::Period;
        let hour = Period::parse("hour").unwrap();
        for zone in
            ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Pacific/Chatham", "Asia/Kathmandu"]
        {
            let (schedule, zone) = (Schedule::parse("0 * * * *").unwrap(), TimeZone::get(zone).unwrap());
            let mut at = "2026-01-01T00:00:00Z".parse().unwrap();
            let mut looked_at = None;
            for _ in 0..9000 {
                at = schedule.next(at, &zone).unwrap();
                let window = hour.interval(at, &zone).unwrap();
                assert_eq!(window.before, at);
                assert!(looked_at.is_none_or(|until| until == window.from), "{zone:?} {at}");
                looked_at = Some(window.before);
            }
        }
    }

    #[test]
    fn what_was_missed_is_caught_up_with_once_and_quickly() {
        let utc = TimeZone::UTC;
        let latest = |schedule: &str, after: &str, until: &str| {
            let found = Schedule::parse(schedule).unwrap().latest(after.parse().unwrap(), until.parse().unwrap(), &utc);
            found.map(|at| at.to_string())
        };
        let (long_ago, now) = ("1990-01-01T00:00:00Z", "2026-11-23T10:00:30Z");
        assert_eq!(latest("* * * * *", long_ago, now).unwrap(), "2026-11-23T10:00:00Z");
        assert_eq!(latest("0 2 * * 1", long_ago, now).unwrap(), "2026-11-23T02:00:00Z");
        assert_eq!(latest("0 0 29 2 *", long_ago, now).unwrap(), "2024-02-29T00:00:00Z");
        assert_eq!(latest("0 2 * * *", "2026-11-23T02:00:00Z", now), None);
        // The clock was set back.
        assert_eq!(latest("0 2 * * *", "2026-12-01T02:00:00Z", now), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for text in ["", "* * * *", "61 * * * *", "0 0 30 2 *", "0 2 * * * Europe/Berlin", "@never", "a b c d e"] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains("schedule") && error.len() < 200, "{error}");
        }
    }

    #[test]
    fn a_length_of_time_has_days_of_24_hours() {
        assert_eq!(duration("x", "7d").unwrap(), SignedDuration::from_hours(168));
        assert_eq!(duration("x", "1d 12h").unwrap(), SignedDuration::from_hours(36));
        for text in ["", "-1d", "1 month", "20 years", "7"] {
            assert!(duration("x", text).is_err(), "{text}");
        }
    }
}
