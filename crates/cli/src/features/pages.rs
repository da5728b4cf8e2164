//! What people read of `driftsweep features`.

use std::path::Path;

use driftsweep::sweep::Comparison;
use driftsweep_features::{FeaturePipeline, FeatureVersion, Manifest, SetFile, SkewReport, SkewStatus, Verification};
use driftsweep_report::output::{CellColor, Page, Table, TableCell};
use driftsweep_report::report::counted;

/// Digits of a hash that are shown.
const SHOWN_DIGITS: usize = 12;

fn short(hash: &str) -> &str {
    hash.get(..SHOWN_DIGITS).unwrap_or(hash)
}

fn count(n: u64, noun: &str) -> String {
    counted(usize::try_from(n).unwrap_or(usize::MAX), noun)
}

/// A feature set.
pub fn show(pipeline: &FeaturePipeline, version: &FeatureVersion) -> Page {
    let mut page = Page::new();
    page.line(format_args!(
        "Feature set '{}', version {} ({})",
        pipeline.set.name,
        short(&version.features),
        counted(version.columns.len(), "feature")
    ));
    let mut table = Table::new(["feature", "type"]);
    for (name, kind) in &version.columns {
        table.row([name, kind]);
    }
    page.table(table);
    for (name, files) in pipeline.sources() {
        let bytes = files.iter().map(|file| file.bytes).sum::<u64>();
        let first = files.first().map_or_else(String::new, |file| format!(", {}", file.path));
        page.line(format_args!("{name}: {}, {}{first}", counted(files.len(), "file"), bytesize::ByteSize(bytes)));
    }
    match &version.label {
        Some(label) => page.line(format_args!("Label: version {}", short(label))),
        None => page.line("No label is declared: the training set has none."),
    }
    page
}

/// What was materialised.
pub fn manifest(manifest: &Manifest, folder: &Path) -> Page {
    let mut table = Table::new(["file", "from", "to", "rows", "with label", "sha256"]);
    for set in manifest.training.iter().chain([&manifest.validation]) {
        let from = set.from.map_or_else(|| "the first".into(), |from| from.to_string());
        let cells = [
            set.file.clone(),
            from,
            set.to.to_string(),
            set.rows.to_string(),
            set.labelled.to_string(),
            short(&set.sha256).to_owned(),
        ];
        table.row(cells);
    }
    table.align_right(3..5);
    let mut page = Page::new();
    page.table(table);
    page.line(format_args!(
        "Feature set '{}', version {}, as of {}, in {}",
        manifest.feature_set,
        short(&manifest.feature_version),
        manifest.as_of,
        folder.display()
    ));
    for (name, rows) in manifest.events.iter().filter(|(_, rows)| rows.without_time > 0) {
        page.line(format_args!(
            "event_table '{name}': {} of {} without event_time or known_at are not used",
            rows.without_time,
            count(rows.rows, "row")
        ));
    }
    for (name, rows) in manifest.events.iter().filter(|(_, rows)| rows.known_before_event > 0) {
        page.line(format_args!(
            "event_table '{name}': {} of {} were known before they happened; check known_at unless these are plans",
            rows.known_before_event,
            count(rows.rows, "row")
        ));
    }
    let of =
        |set: &SetFile| set.missing.iter().filter(|(_, n)| **n == set.rows).map(|(name, _)| name.clone()).collect();
    let empty: Vec<String> = manifest.training.as_ref().map(of).unwrap_or_default();
    if !empty.is_empty() {
        page.line(format_args!(
            "No row of the training set has a value of {}; check the keys (`on`) and the times of their tables",
            empty.join(", ")
        ));
    }
    page
}

/// What the truncation test found.
pub fn verification(found: &Verification) -> Page {
    let mut table = Table::new(["cut at", "predictions compared", "deleted", "features that changed"]);
    for cut in &found.cuts {
        let deleted: Vec<String> = cut.deleted.iter().map(|(name, rows)| format!("{rows} of {name}")).collect();
        let changed: Vec<&str> = cut.different.keys().map(String::as_str).collect();
        let (text, color) = match (changed.is_empty(), cut.tells()) {
            (false, _) => (changed.join(", "), Some(CellColor::Red)),
            (true, true) => ("none".into(), None),
            (true, false) => ("nothing could be compared".into(), Some(CellColor::Yellow)),
        };
        table.row([
            TableCell::from(&cut.at.to_string()),
            TableCell::from(&cut.rows.to_string()).right(),
            TableCell::long(&deleted.join(", ")),
            TableCell::long(&text).tinted(color),
        ]);
    }
    let mut page = Page::new();
    page.table(table);
    for cut in &found.cuts {
        for (name, different) in &cut.different {
            let example = &different.example;
            page.line(format_args!(
                "{name}: {} changed when what was known from {} on was deleted; for example id {} at {}: {} became {}",
                count(different.rows, "row"),
                cut.at,
                example.id,
                example.prediction_time,
                example.with_future,
                example.without_future
            ));
        }
    }
    let set = format!("'{}', version {}", found.feature_set, short(&found.feature_version));
    let tells = found.cuts.iter().any(|cut| cut.tells());
    page.section(match (found.passed(), found.reproducible, tells) {
        (true, _, _) => format!(
            "Feature set {set} passes: no feature of {} changes when what was known later is deleted.",
            count(found.rows, "prediction")
        ),
        (false, _, false) => format!(
            "Feature set {set} was not tested: no event or prediction was deleted by any cut. Give a longer period, or a cut by \
             --at."
        ),
        (false, false, _) => format!(
            "Feature set {set} does not pass: the same computation did not give the same values twice. Use functions that do not \
             depend on the order of rows."
        ),
        (false, true, _) => format!(
            "Feature set {set} does not pass: features see what was known later. Use only rows with known_at before \
             prediction_time, for example by a lookup."
        ),
    });
    page
}

/// How features differ from what serving logged.
pub fn skew(skew: &SkewReport, distributions: Option<&Comparison>) -> Page {
    let mut page = Page::new();
    let mut table =
        Table::new(["feature", "status", "rows", "differ", "no value in log", "only in log", "largest", "pattern"]);
    let mut equal = 0;
    for (name, feature) in &skew.features {
        if feature.status == SkewStatus::Equal && feature.different == 0 {
            equal += 1;
            continue;
        }
        let (status, color) = match feature.status {
            SkewStatus::Equal => ("within limits", None),
            SkewStatus::Different => ("differs", Some(CellColor::Red)),
            SkewStatus::NotLogged => ("not logged", Some(CellColor::Red)),
            SkewStatus::OtherKind => ("other kind", Some(CellColor::Red)),
        };
        let number = |n: u64| TableCell::from(&n.to_string()).right();
        table.row([
            TableCell::from(name),
            TableCell::from(status).tinted(color),
            number(feature.compared),
            number(feature.different),
            number(feature.only_computed),
            number(feature.only_logged),
            TableCell::from(&if feature.largest > 0.0 { format!("{}", feature.largest) } else { String::new() })
                .right(),
            TableCell::long(feature.pattern.as_deref().unwrap_or_default()),
        ]);
    }
    if equal < skew.features.len() {
        page.table(table);
    }
    for (name, feature) in &skew.features {
        for example in &feature.examples {
            page.line(format_args!(
                "{name}, id {}: {} by the definition, {} in the log",
                example.id, example.computed, example.logged
            ));
        }
    }
    let ids = &skew.ids;
    page.line(format_args!(
        "{}, {}: {} matched by id, {} not in the log, {} unexpected in the log, {} with an id that is there more than once, {} \
         without an id",
        count(ids.predictions, "prediction"),
        count(ids.logged, "logged row"),
        ids.matched,
        ids.missing,
        ids.unexpected,
        ids.duplicate,
        ids.predictions_without_id + ids.logged_without_id
    ));
    if let Some(found) = distributions {
        page.section(
            "Few ids match; the distributions of the definition and of the log, compared as by `driftsweep compare`:",
        );
        let drifted: Vec<&str> =
            found.features.iter().filter(|feature| feature.verdict.drifted).map(|feature| &*feature.name).collect();
        match &*drifted {
            [] => page.line(format_args!("none of {} drifted", counted(found.features.len(), "feature"))),
            drifted => page.line(format_args!("drifted: {}", drifted.join(", "))),
        }
    }
    let set = format!("'{}', version {}", skew.feature_set, short(&skew.feature_version));
    if skew.blocks() {
        page.section(format_args!("Feature set {set} differs from what serving logged; training is blocked:"));
        skew.findings.iter().for_each(|finding| page.line(format_args!("- {finding}")));
    } else {
        page.section(format_args!(
            "Feature set {set} is what serving logged: {} equal in {}.",
            counted(equal, "feature"),
            count(ids.matched, "row")
        ));
    }
    page
}
