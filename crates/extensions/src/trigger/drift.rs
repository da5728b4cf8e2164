//! The drift trigger: which columns of a model drift, by effect size and significance, in enough of the last sweeps,
//! and whether there are enough of them.

use serde::{Deserialize, Serialize};

pub use super::distribution::DistributionShape;
use super::{ExplainView, Sheet, SweepView, TriggerProperties, TriggerSettings, TriggerVerdict};
use crate::value::{Origin, Setting, Validated, check_range};
use driftsweep::model::Role;
use driftsweep::rule::{self, FALSE_DISCOVERY_RATE};
use driftsweep::sweep::{Feature, ModelReport};
use driftsweep_common::error::Result;
use driftsweep_common::escape::for_display;

/// The table `trigger.drift` of the fleet file.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DriftTable {
    /// Fires where this many columns drift. By default 1.
    at_least: Option<usize>,
    /// Fires where this share of the columns drifts.
    share: Option<f64>,
    /// Fires where this share of the importance of the columns drifts.
    weighted_share: Option<f64>,
    /// How often a column must be over its threshold: now, and at `2 of 3` (the default) of the last sweeps.
    persistence: Option<String>,
    /// The false discovery rate up to which a test is significant. By default 0.05.
    fdr: Option<f64>,
}

/// How many features must drift for the trigger to fire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// A number of features.
    AtLeast(usize),
    /// A share of the compared features.
    Share(f64),
    /// A share of the importance of the compared features.
    WeightedShare(f64),
}

/// In how many of the last sweeps a column must be over its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// In this many ...
    pub hits: usize,
    /// ... of this many sweeps.
    pub of: usize,
}

/// When drift triggers a training.
#[derive(Clone, Debug)]
pub struct DriftTrigger {
    /// How many features must drift.
    pub quorum: Setting<Quorum>,
    /// In how many of the last sweeps each of them.
    pub persistence: Setting<Persistence>,
    /// False discovery rate over all tests of a sweep up to which a test is called, in reports and for the trigger.
    pub fdr: Setting<f64>,
}

impl DriftTable {
    fn quorum(&self) -> Validated<Option<Quorum>> {
        let at_least = check_range("at_least", self.at_least, 1..=1_000_000)?.map(Quorum::AtLeast);
        let share = |what, share| match check_range(what, share, 0.0..=1.0)? {
            Some(0.0) => Err(format!("{what} = 0 would always hold; use at_least = 1")),
            share => Ok(share),
        };
        let shares = [
            share("share", self.share)?.map(Quorum::Share),
            share("weighted_share", self.weighted_share)?.map(Quorum::WeightedShare),
        ];
        let mut given = shares.into_iter().chain([at_least]).flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err("give one of at_least, share and weighted_share".into()),
            (quorum, None) => Ok(quorum),
        }
    }

    fn persistence(&self) -> Validated<Option<Persistence>> {
        let Some(text) = &self.persistence else { return Ok(None) };
        let wrong = || format!("persistence = \"{text}\": write \"2 of 3\", at most of 100");
        let (hits, of) = text.split_once(" of ").ok_or_else(wrong)?;
        let (hits, of) = (hits.trim().parse().map_err(|_| wrong())?, of.trim().parse().map_err(|_| wrong())?);
        if hits == 0 || hits > of || of > 100 { Err(wrong()) } else { Ok(Some(Persistence { hits, of })) }
    }

    fn fdr(&self) -> Validated<Option<f64>> {
        match check_range("fdr", self.fdr, 0.0..=1.0)? {
            Some(0.0) => Err("fdr = 0 would call no test, and no feature could drift; use fdr = 0.05".into()),
            fdr => Ok(fdr),
        }
    }
}

impl TriggerSettings for DriftTrigger {
    type Table = DriftTable;
    type Verdict = DriftVerdict;

    const PROPERTIES: TriggerProperties =
        TriggerProperties { compares_with_baseline: true, place: 0, ..TriggerProperties::DEFAULT };

    fn resolve(model: Option<&DriftTable>, fleet: Option<&DriftTable>) -> Validated<Self> {
        let none = DriftTable::default();
        let (model, fleet) = (model.unwrap_or(&none), fleet.unwrap_or(&none));
        let usual = Persistence { hits: 2, of: 3 };
        Ok(Self {
            quorum: Setting::nearest(model.quorum()?, fleet.quorum()?, Quorum::AtLeast(1)),
            persistence: Setting::nearest(model.persistence()?, fleet.persistence()?, usual),
            fdr: Setting::nearest(model.fdr()?, fleet.fdr()?, FALSE_DISCOVERY_RATE),
        })
    }

    fn missing(&self, _: bool) -> Option<&'static str> {
        None
    }

    fn judge(&self, view: &SweepView<'_>) -> Result<Option<DriftVerdict>> {
        Ok(Some(judge(self, view)))
    }

    fn explain(&self, found: Option<&DriftVerdict>, _: &ExplainView<'_>, page: &mut Sheet) {
        if let Some(found) = found {
            show(page, found);
        }
    }
}

/// A figure of a column against its threshold and its test, and where the threshold was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftSignal {
    /// The figure.
    #[serde(flatten)]
    pub figure: rule::Signal,
    /// Where its threshold was set.
    pub origin: Origin,
}

/// A column that is over its thresholds, or near them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftColumn {
    /// Its name.
    pub feature: String,
    /// Its role.
    pub role: Role,
    /// Its weight where importance is used.
    pub importance: f64,
    /// Its figures.
    pub signals: Vec<DriftSignal>,
    /// Whether one of them counts as drift at this sweep.
    pub over: bool,
    /// At how many of the last sweeps one did, including this one.
    pub hits: usize,
    /// Whether the column drifts: at enough sweeps.
    pub drifts: bool,
    /// Its distribution on both sides, where it is over its thresholds at this sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<DistributionShape>,
}

/// One window and segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftComparison {
    /// The window.
    pub window: String,
    /// The segment.
    pub segment: String,
    /// Why it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Columns that could be judged.
    pub judged: usize,
    /// Columns that could not be compared although they should have been.
    pub failed: Vec<String>,
    /// Columns that drift.
    pub drifting: usize,
    /// Their share of those judged.
    pub share: f64,
    /// Their share of the importance of those judged.
    pub weighted_share: f64,
    /// Whether the trigger condition is met.
    pub met: bool,
    /// Columns over their thresholds now or at one of the last sweeps, and the nearest to them.
    pub columns: Vec<DriftColumn>,
}

/// The drift trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftVerdict {
    /// Whether it fires.
    pub fired: bool,
    /// How many columns must drift.
    pub quorum: Setting<Quorum>,
    /// At how many of the last sweeps.
    pub persistence: Setting<Persistence>,
    /// Sweeps that were available, including this one.
    pub sweeps: usize,
    /// False discovery rate up to which a test counts.
    pub fdr: Setting<f64>,
    /// Each window and segment.
    pub comparisons: Vec<DriftComparison>,
}

/// Most columns near their thresholds that are stored.
const MAX_NEAR_LIMIT: usize = 5;

/// Evaluates the reports of a model.
fn judge(settings: &DriftTrigger, view: &SweepView<'_>) -> DriftVerdict {
    let (model, persistence) = (view.model, settings.persistence);
    let compare = |report: &&ModelReport| {
        let (mut judged, mut weight, mut failed, mut columns) = (0, 0.0, Vec::new(), Vec::new());
        for feature in &report.features {
            if feature.status.is_failure() {
                failed.push(format!("{}: {}", feature.name, feature.status.name()));
            }
            let signals = signals(view, feature);
            if signals.is_empty() {
                continue;
            }
            let importance = model.importance_of(&feature.name);
            judged += 1;
            weight += importance;
            let over = feature.verdict.drifted;
            let hits = (view.hits)([&report.window, &report.segment, &feature.name]) + usize::from(over);
            columns.push(DriftColumn {
                feature: feature.name.clone(),
                role: model.role_of(&feature.name),
                importance,
                signals,
                over,
                hits,
                drifts: over && hits >= persistence.value.hits,
                shape: feature
                    .counts
                    .as_ref()
                    .filter(|_| over)
                    .and_then(|counts| DistributionShape::of(counts, values(feature))),
            });
        }
        let drifting = columns.iter().filter(|column| column.drifts).count();
        let weights = columns.iter().filter(|column| column.drifts).map(|column| column.importance);
        let drifting_weight = weights.fold(0.0, |sum, weight| sum + weight);
        let share = if judged > 0 { drifting as f64 / judged as f64 } else { 0.0 };
        let weighted_share = if weight > 0.0 { drifting_weight / weight } else { 0.0 };
        let near = |column: &DriftColumn| {
            column.signals.iter().map(|s| s.figure.value.abs() / s.figure.limit).fold(0.0, f64::max)
        };
        columns.sort_by(|a, b| (b.over, b.hits).cmp(&(a.over, a.hits)).then(near(b).total_cmp(&near(a))));
        let kept = columns.iter().filter(|column| column.hits > 0).count();
        columns.truncate(kept.max(MAX_NEAR_LIMIT));
        DriftComparison {
            window: report.window.clone(),
            segment: report.segment.clone(),
            error: report.error.clone(),
            judged,
            failed,
            drifting,
            share,
            weighted_share,
            met: drifting > 0
                && match settings.quorum.value {
                    Quorum::AtLeast(least) => drifting >= least,
                    Quorum::Share(least) => share >= least,
                    Quorum::WeightedShare(least) => weighted_share >= least,
                },
            columns,
        }
    };
    let comparisons: Vec<DriftComparison> = view.reports.iter().map(compare).collect();
    DriftVerdict {
        fired: comparisons.iter().any(|comparison| comparison.met),
        quorum: settings.quorum,
        persistence,
        sweeps: view.sweeps + 1,
        fdr: settings.fdr,
        comparisons,
    }
}

/// The values of a column on both sides: rows that are not missing.
fn values(feature: &Feature) -> [u64; 2] {
    [&feature.baseline, &feature.current].map(|side| side.rows.saturating_sub(side.null + side.nan))
}

/// What the rules say of a column: nothing if it could not be judged.
fn signals(view: &SweepView<'_>, feature: &Feature) -> Vec<DriftSignal> {
    let with_origin = |figure: &rule::Signal| DriftSignal {
        origin: (view.threshold_origin)(&feature.name, figure.key()),
        figure: figure.clone(),
    };
    feature.verdict.signals.iter().map(with_origin).collect()
}

impl DriftVerdict {
    /// The columns over their thresholds at this sweep.
    pub fn hits(&self) -> impl Iterator<Item = (&DriftComparison, &DriftColumn)> {
        let columns = self.comparisons.iter().flat_map(|c| c.columns.iter().map(move |column| (c, column)));
        columns.filter(|(_, column)| column.over)
    }

    /// Columns that could be judged, over all windows and segments.
    pub fn judged(&self) -> usize {
        self.comparisons.iter().map(|comparison| comparison.judged).sum()
    }
}

impl Quorum {
    /// Why the trigger cannot fire where a number of columns is compared, if so.
    pub fn too_large_for(self, columns: usize) -> Option<String> {
        match self {
            Self::AtLeast(least) if least > columns => Some(format!(
                "it cannot fire: at_least = {least}, and only {columns} {} compared; use a smaller at_least, or share",
                if columns == 1 { "column is" } else { "columns are" }
            )),
            _ => None,
        }
    }
}

impl TriggerVerdict for DriftVerdict {
    fn reason(&self) -> Option<String> {
        let met = self.comparisons.iter().filter(|c| c.met).max_by_key(|c| c.drifting)?;
        let names: Vec<String> = met
            .columns
            .iter()
            .filter(|column| column.drifts)
            .take(3)
            .map(|column| {
                let signals = column.signals.iter().map(|signal| &signal.figure).filter(|figure| figure.drifted());
                let figures: Vec<_> = signals.map(|s| format!("{} {:.3} > {}", s.metric, s.value, s.limit)).collect();
                format!("{} ({})", for_display(&column.feature), figures.join(", "))
            })
            .collect();
        let more = if met.drifting > names.len() { ", …" } else { "" };
        let place = [&*met.window, &*met.segment]
            .iter()
            .filter(|x| !x.is_empty())
            .fold(String::new(), |t, x| t + " in " + &for_display(x));
        Some(format!("{} of {} columns drift{place}: {}{more}", met.drifting, met.judged, names.join(", ")))
    }

    fn not_judged(&self) -> Option<String> {
        let most = self.comparisons.iter().map(|comparison| comparison.judged).max().filter(|&most| most > 0)?;
        self.quorum.value.too_large_for(most)
    }

    /// What meets the condition.
    fn details(&self) -> Self {
        let mut drift = self.clone();
        drift.comparisons.retain(|comparison| comparison.met);
        drift.comparisons.iter_mut().for_each(|comparison| comparison.columns.retain(|column| column.drifts));
        drift
    }

    fn evidence(&self, most: usize) -> Option<Vec<String>> {
        let mut lines = vec![self.reason().unwrap_or_default()];
        let columns = || {
            let of = |comparison: &DriftComparison| {
                let names = [("window", comparison.window.clone()), ("segment", comparison.segment.clone())];
                let named = names.into_iter().filter(|(_, name)| !name.is_empty());
                named.map(|(what, name)| format!(" ({what} {})", for_display(&name))).collect::<String>()
            };
            self.comparisons.iter().flat_map(move |c| c.columns.iter().map(move |column| (of(c), column)))
        };
        for (place, column) in columns().take(most) {
            lines.push(format!("{}{place}: {}", for_display(&column.feature), figures(column)));
            if let Some(shape) = &column.shape {
                lines.push(format!("  {}", shape.line()));
            }
        }
        let more = columns().count().saturating_sub(most);
        if more > 0 {
            lines.push(format!("… and {more} more columns"));
        }
        Some(lines)
    }
}

/// The figures by which a column drifts.
fn figures(column: &DriftColumn) -> String {
    let figure = |signal: &rule::Signal| {
        let q = signal.q_value.map(|q| format!(", q {q:.2e}")).unwrap_or_default();
        format!("{} {:.4} above {}{q}", signal.metric, signal.value, signal.limit)
    };
    column
        .signals
        .iter()
        .map(|signal| &signal.figure)
        .filter(|figure| figure.drifted())
        .map(figure)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Shows the verdict, with every column that is near its thresholds.
fn show(page: &mut Sheet, found: &DriftVerdict) {
    let quorum = match found.quorum.value {
        Quorum::AtLeast(least) => format!("at least {least} columns"),
        Quorum::Share(share) => format!("{} % of the columns", 100.0 * share),
        Quorum::WeightedShare(share) => format!("{} % of the importance of the columns", 100.0 * share),
    };
    page.section(format_args!("drift: {}", if found.fired { "fires" } else { "does not fire" }));
    page.line(format_args!(
        "  needs {quorum} ({}), each over its threshold at {} of {} sweeps ({}; {} available), with tests at a false \
         discovery rate of {}",
        found.quorum.origin.name(),
        found.persistence.value.hits,
        found.persistence.value.of,
        found.persistence.origin.name(),
        found.sweeps,
        found.fdr
    ));
    for comparison in &found.comparisons {
        show_comparison(page, found, comparison);
    }
}

/// Shows a window and segment.
fn show_comparison(page: &mut Sheet, found: &DriftVerdict, comparison: &DriftComparison) {
    let mut place = String::new();
    for (what, name) in [("window", &comparison.window), ("segment", &comparison.segment)] {
        if !name.is_empty() {
            place += &format!("{what} {name}, ");
        }
    }
    if let Some(error) = &comparison.error {
        page.line(format_args!("  {place}not compared: {error}"));
        return;
    }
    page.line(format_args!(
        "  {place}{} of {} columns count as drifted ({:.1} %; {:.1} % of the importance)",
        comparison.drifting,
        comparison.judged,
        100.0 * comparison.share,
        100.0 * comparison.weighted_share
    ));
    for failed in &comparison.failed {
        page.line(format_args!("  not judged: {failed}"));
    }
    let heading = ["column", "figure", "value", "limit", "q", "over", "counts as drift, or would if"];
    let mut rows = Vec::new();
    for column in &comparison.columns {
        for (i, signal) in column.signals.iter().enumerate() {
            let figure = &signal.figure;
            let name = if i == 0 { column.feature.clone() } else { String::new() };
            let role = match column.role {
                _ if i > 0 => "",
                Role::Feature => "",
                Role::Prediction => " (prediction)",
                Role::Label => " (label)",
            };
            rows.push([
                name + role,
                figure.metric.clone(),
                format!("{:.4}", figure.value),
                format!("{} ({})", figure.limit, signal.origin.name()),
                figure.q_value.map_or("–".into(), |q| format!("{q:.1e}")),
                if i == 0 { format!("{} of {}", column.hits, found.sweeps) } else { String::new() },
                change(column, figure, found),
            ]);
        }
    }
    page.table(heading, rows);
    let more = comparison.judged.saturating_sub(comparison.columns.len());
    if more > 0 {
        page.line(format_args!("  and {more} more, far from their thresholds"));
    }
}

/// What would have to change for a figure to count as drift.
fn change(column: &DriftColumn, signal: &rule::Signal, found: &DriftVerdict) -> String {
    match (signal.over, signal.significant) {
        (true, true) if column.drifts => "drifts".into(),
        (true, true) => {
            format!(
                "it is over its threshold at {} of {} sweeps",
                found.persistence.value.hits, found.persistence.value.of
            )
        }
        (true, false) => format!("its q is at most {}", found.fdr.value),
        (false, _) if signal.value.abs() > signal.limit => {
            match signal.rule().and_then(|rule| rule.largest_p.as_ref()) {
                Some(largest) => format!("its p-value is below {}, too", largest.key),
                None => "it is above its noise level, too".into(),
            }
        }
        (false, _) => format!("{} is above {}", signal.metric, signal.limit),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::trigger::ModelPast;
    use driftsweep::model::Model;

    /// Features of a report: name, importance, drifted or not; `None` where it could not be judged.
    type Columns = [(&'static str, f64, Option<bool>)];

    fn report(columns: &Columns) -> ModelReport {
        let feature = |(name, _, drifted): &(&str, f64, Option<bool>)| {
            let side = json!({ "rows": 5000, "null": 0, "nan": 0, "neg_inf": 0, "pos_inf": 0, "type": "f64" });
            let value = if *drifted == Some(true) { 0.4 } else { 0.1 };
            let signal = json!({
                "metric": "psi", "value": value, "limit": 0.15, "over": value > 0.15, "q_value": 0.001, "significant": true,
            });
            json!({
                "name": name,
                "kind": "numeric",
                "status": "ok",
                "baseline": side,
                "current": side,
                "metrics": {},
                "verdict": {
                    "drifted": *drifted == Some(true),
                    "reasons": [],
                    "signals": drifted.map_or(json!([]), |_| json!([signal])),
                },
                "counts_hash": "",
            })
        };
        let features: Vec<Value> = columns.iter().map(feature).collect();
        serde_json::from_value(json!({
            "model": "m", "window": "", "segment": "", "importance": 1.0, "rows": { "baseline": 5000, "current": 5000 },
            "counts_hash": "", "drifted": 0, "significant": 0, "features": features,
        }))
        .unwrap()
    }

    /// The verdict on a report by settings in the fleet file. `earlier`: at how many of two earlier sweeps each column was over.
    fn verdict(columns: &Columns, settings: &str, earlier: usize) -> DriftVerdict {
        let table: DriftTable = toml::from_str(settings).unwrap();
        let trigger = DriftTrigger::resolve(Some(&table), None).unwrap();
        let mut model = Model::new("m", "a", "b");
        for (name, importance, _) in columns {
            let settings = driftsweep::model::ColumnSettings { importance: Some(*importance), ..Default::default() };
            model.columns.insert((*name).into(), settings);
        }
        let report = report(columns);
        let view = SweepView {
            as_of: jiff::Timestamp::UNIX_EPOCH,
            model: &model,
            past: ModelPast::default(),
            reports: &[&report],
            threshold_origin: &|_, _| Origin::BuiltIn,
            sweeps: 2,
            hits: &|_| earlier,
            labels: None,
        };
        judge(&trigger, &view)
    }

    #[test]
    fn a_number_of_columns_that_there_are_not_is_said_to_never_fire() {
        let columns: &Columns = &[("a", 1.0, Some(true)), ("b", 1.0, Some(false)), ("c", 1.0, None)];
        let said = |settings: &str| verdict(columns, settings, 3).not_judged();
        assert!(said("at_least = 3").unwrap().contains("at_least = 3, and only 2 columns are compared"));
        assert_eq!(said("at_least = 2"), None);
        assert_eq!(said("share = 1.0"), None);
        let unjudged: &Columns = &[("a", 1.0, None)];
        assert_eq!(verdict(unjudged, "at_least = 3", 3).not_judged(), None, "there was nothing to judge");
    }

    #[test]
    fn it_fires_when_enough_columns_have_drifted_at_enough_sweeps() {
        const FOUR: &Columns =
            &[("a", 8.0, Some(true)), ("b", 1.0, Some(true)), ("c", 1.0, Some(false)), ("d", 0.0, Some(false))];
        for (settings, earlier, fires) in [
            // By default one column, at two of three sweeps.
            ("", 0, false),
            ("", 1, true),
            ("persistence = \"1 of 1\"", 0, true),
            ("persistence = \"3 of 3\"", 1, false),
            ("persistence = \"3 of 3\"", 2, true),
            ("at_least = 2", 1, true),
            ("at_least = 3", 1, false),
            ("share = 0.5", 1, true),
            ("share = 0.51", 1, false),
            ("weighted_share = 0.9", 1, true),
            ("weighted_share = 0.91", 1, false),
        ] {
            let found = verdict(FOUR, settings, earlier);
            assert_eq!(found.fired, fires, "{settings} after {earlier}: {found:?}");
            assert_eq!(found.reason().is_some(), fires, "{settings}");
        }
        let found = verdict(FOUR, "persistence = \"1 of 1\"", 0);
        let reason = "2 of 4 columns drift: a (psi 0.400 > 0.15), b (psi 0.400 > 0.15)";
        assert_eq!(found.reason().as_deref(), Some(reason));
    }

    #[test]
    fn columns_that_could_not_be_judged_count_on_neither_side() {
        let found = verdict(&[("a", 1.0, Some(true)), ("b", 5.0, None)], "share = 1.0\npersistence = \"1 of 1\"", 0);
        let comparison = &found.comparisons[0];
        assert_eq!((found.fired, comparison.judged, comparison.share), (true, 1, 1.0));
        // Where nothing was judged, nothing drifts.
        assert!(!verdict(&[("b", 5.0, None)], "persistence = \"1 of 1\"", 2).fired);
        // What was over at earlier sweeps only does not drift now.
        assert!(!verdict(&[("a", 1.0, Some(false))], "persistence = \"1 of 3\"", 2).fired);
    }
}
