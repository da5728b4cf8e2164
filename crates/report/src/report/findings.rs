//! The findings of a sweep: features that drifted, that could not be compared, or that are not judged until something
//! is corrected.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::table::{self, ShownFeature, features, last_lines, most_drifted, place, right, rows_text};
use super::{Row, counted};
use crate::output::{CellColor, Page, Table, TableCell};
use driftsweep::sweep::{Feature, ModelReport, SweepReport};
use driftsweep_common::error::Status;

/// Most findings that are listed.
const MAX_FINDINGS: usize = 40;

pub fn sweep(report: &SweepReport, rows: &[Row<'_>]) -> Page {
    let mut page = Page::new();
    let mut models: IndexMap<&str, Vec<&ModelReport>> = IndexMap::new();
    for model in &report.models {
        models.entry(&model.model).or_default().push(model);
    }
    let concerned: Vec<(&str, &[&ModelReport])> =
        models.iter().map(|(name, reports)| (*name, &reports[..])).filter(|(_, all)| concerns(all)).collect();
    if !concerned.is_empty() {
        let mut table = Table::new([
            "model",
            "compared",
            "features",
            "drifted",
            "not compared",
            "not judged",
            "most drifted, or error",
        ]);
        table.less_important(&["compared", "features", "not judged", "not compared"]);
        for (name, reports) in &concerned {
            add_model(&mut table, name, reports);
        }
        page.table(table);
    }
    let found = findings(rows);
    if !found.is_empty() {
        page.append(features(found, MAX_FINDINGS, true, "--top 0 shows all, with those that did not drift"));
    }
    last_lines(&mut page, report);
    page
}

/// Whether a model has findings.
fn concerns(reports: &[&ModelReport]) -> bool {
    reports
        .iter()
        .any(|report| report.error.is_some() || report.features.iter().any(|feature| class(feature).is_some()))
}

/// The class of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FindingClass {
    Failed,
    Drifted,
    /// The column must be corrected before it can be judged. Too few rows are reported for the model as a whole.
    ToBeFixed,
}

fn class(feature: &Feature) -> Option<FindingClass> {
    match feature.status {
        status if status.is_failure() => Some(FindingClass::Failed),
        _ if feature.verdict.drifted => Some(FindingClass::Drifted),
        Status::UnsupportedType | Status::AllNull => Some(FindingClass::ToBeFixed),
        _ => None,
    }
}

fn add_model(table: &mut Table, name: &str, reports: &[&ModelReport]) {
    let names_of = |wanted: &dyn Fn(&Feature) -> bool| {
        let features = reports.iter().flat_map(|report| &report.features).filter(|feature| wanted(feature));
        features.map(|feature| &*feature.name).collect::<BTreeSet<&str>>().len()
    };
    let drifted = names_of(&|feature| feature.verdict.drifted);
    let failed = names_of(&|feature| feature.status.is_failure());
    let not_judged = names_of(&Feature::is_not_judged);
    let errors: Vec<(String, &str)> =
        reports.iter().filter_map(|report| Some((place(report), report.error.as_deref()?))).collect();
    let last = match &errors[..] {
        [] => most_drifted(reports.iter().flat_map(|report| &report.features)),
        [(place, error), more @ ..] => {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let others = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
            format!("{place}{error}{others}")
        }
    };
    table.row([
        TableCell::from(name),
        right(match reports {
            [only] => rows_text(only.rows),
            several => counted(several.len(), "comparison"),
        }),
        right(names_of(&|_| true)),
        right(drifted).tinted((drifted > 0).then_some(CellColor::Yellow)),
        right(failed).tinted((failed > 0).then_some(CellColor::Red)),
        right(not_judged),
        TableCell::from(last).tinted((!errors.is_empty()).then_some(CellColor::Red)),
    ]);
}

/// A feature in all windows and segments.
type FeatureRows<'a> = Vec<(&'a ModelReport, &'a Feature)>;

/// One line for each feature with a finding, with the worst figures of all its windows and segments.
fn findings<'a>(rows: &[Row<'a>]) -> Vec<ShownFeature<'a>> {
    let mut found: IndexMap<(&str, &str, FindingClass), FeatureRows<'a>> = IndexMap::new();
    for &(model, feature) in rows {
        if let (Some(model), Some(class)) = (model, class(feature)) {
            found.entry((&model.model, &feature.name, class)).or_default().push((model, feature));
        }
    }
    let line = |((model, _, _), all): ((&'a str, &str, FindingClass), FeatureRows<'a>)| {
        let (_, worst) = all.iter().copied().min_by(|a, b| table::worse_first(a.1, b.1))?;
        let reports: Vec<&ModelReport> = all.iter().map(|(report, _)| *report).collect();
        Some(ShownFeature { model, place: places(&reports), feature: worst })
    };
    found.into_iter().filter_map(line).collect()
}

/// A short text for windows and segments.
fn places(reports: &[&ModelReport]) -> String {
    if let [only] = reports {
        return place(only);
    }
    let distinct = |of: fn(&ModelReport) -> &str| reports.iter().map(|report| of(report)).collect::<BTreeSet<&str>>();
    let (windows, segments) = (distinct(|report| &report.window), distinct(|report| &report.segment));
    let parts: Vec<&str> = segments.iter().copied().filter(|segment| !segment.is_empty()).collect();
    let whole = segments.contains("");
    let named = match (whole, &parts[..]) {
        (true, []) => String::new(),
        (true, [one]) => format!("all and {one}"),
        (true, several) => format!("all and {} segments", several.len()),
        (false, [one]) => (*one).to_owned(),
        (false, several) => format!("{} segments", several.len()),
    };
    let times = match windows.len() {
        1 => windows.first().copied().unwrap_or_default().to_owned(),
        n => format!("{n} windows"),
    };
    [named, times].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::sweep::Rows;

    fn report(window: &str, segment: &str) -> ModelReport {
        let report = serde_json::json!({
            "model": "m",
            "window": window,
            "segment": segment,
            "importance": 1.0,
            "rows": Rows::default(),
            "counts_hash": "",
            "drifted": 0,
            "significant": 0,
            "features": [],
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn windows_and_segments_of_one_finding_are_told_in_a_few_words() {
        for (found, wanted) in [
            (&[("", "")][..], ""),
            (&[("day", "")], "day"),
            (&[("day", "north")], "day north"),
            (&[("", ""), ("", "north")], "all and north"),
            (&[("", ""), ("", "north"), ("", "south")], "all and 2 segments"),
            (&[("", "north"), ("", "south")], "2 segments"),
            (&[("day", ""), ("7d", "")], "2 windows"),
            (&[("day", ""), ("day", "north"), ("7d", "south")], "all and 2 segments, 2 windows"),
            (&[("day", ""), ("day", "north")], "all and north, day"),
            (&[("day", "north"), ("7d", "north")], "north, 2 windows"),
        ] {
            let reports: Vec<ModelReport> = found.iter().map(|(window, segment)| report(window, segment)).collect();
            assert_eq!(places(&reports.iter().collect::<Vec<_>>()), wanted, "{found:?}");
        }
    }
}
