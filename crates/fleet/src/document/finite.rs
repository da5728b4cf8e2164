//! Numbers that are not finite: one `inf` or `nan` in a fleet file would make every sum and comparison with it
//! meaningless.

use toml::de::{DeTable, DeValue};

use super::{Mistake, keys};

/// The mistake of the first number of a document that is not finite.
pub(super) fn first_mistake(document: &DeTable<'_>) -> Option<Mistake> {
    let mut found = Vec::new();
    keys::each(document, &mut |key, value| {
        if let DeValue::Float(number) = value.get_ref()
            && !number.as_str().parse::<f64>().is_ok_and(f64::is_finite)
        {
            let reason = format!("{key} = {number}: a number must be finite; give one, or leave the key out");
            found.push((value.span().start, reason));
        }
    });
    // Tables are not always in the order of the text.
    found.into_iter().min().map(|(at, reason)| Mistake::at(at, reason))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use crate::Fleet;
    use driftsweep::model::Options;

    /// Every number that a fleet file may hold, wherever it stands.
    #[test]
    fn no_number_that_is_not_finite_is_taken_and_the_message_names_key_and_line() {
        let head = "[approval]\napprovers = [[\"ana\"]]\n";
        let model = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
        let retrain = "[model.retrain]\ncommand = [\"true\"]\n";
        for number in ["inf", "-inf", "nan", "+nan", "1e999"] {
            for (text, key, line) in [
                (format!("{head}[budget]\nmonth = {number}\n{model}"), "budget.month", 4),
                (format!("{head}[budget]\nteams = {{ risk = {number} }}\n{model}"), "budget.teams.risk", 4),
                (format!("{head}[defaults.thresholds]\npsi = {number}\n{model}"), "defaults.thresholds.psi", 4),
                (format!("{model}importance = {number}\n"), "model.importance", 5),
                (
                    format!("{model}{model}{retrain}cpu_rate = {number}\n").replacen("\"m\"", "\"n\"", 1),
                    "model.retrain.cpu_rate",
                    11,
                ),
                (format!("{model}{retrain}\n\nassumed_loss = {number}\n"), "model.retrain.assumed_loss", 9),
                (format!("{model}[model.feature.\"x.y\"]\nimportance = {number}\n"), "model.feature.x.y.importance", 6),
                (
                    format!("{head}automatic = [\n  {{ up_to = 5 }},\n  {{ up_to = {number} }},\n]\n{model}"),
                    "approval.automatic.up_to",
                    5,
                ),
            ] {
                let error = Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).unwrap_err().to_string();
                let wanted = format!("f.toml:{line}: {key} = ");
                assert!(error.starts_with(&wanted) && error.contains("must be finite"), "{error}\n{wanted}\n{text}");
            }
        }
    }

    /// Every key that takes a number with a decimal point, by its name, with a fleet file that sets it to `NUMBER`.
    fn settings() -> Vec<(&'static str, String)> {
        let model = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
        let head = "[approval]\napprovers = [[\"ana\"]]\n";
        let mut all = vec![
            ("above", format!("{head}above = NUMBER\n{model}")),
            ("up_to", format!("{head}automatic = [{{ up_to = NUMBER }}]\n{model}")),
            ("month", format!("[budget]\nmonth = NUMBER\n{model}")),
            ("warning", format!("[budget]\nwarning = NUMBER\n{model}")),
            ("teams", format!("[budget.teams]\nrisk = NUMBER\n{model}")),
            ("importance", format!("{model}importance = NUMBER\n")),
            ("importance", format!("{model}[model.feature.x]\nimportance = NUMBER\n")),
            (
                "limit",
                format!("{model}convention = {{ name = \"tfdv\", numeric = {{ metric = \"js\", limit = NUMBER }} }}\n"),
            ),
            ("below", format!("{model}[model.segment.s]\nx = {{ below = NUMBER }}\n")),
            ("from", format!("{model}[model.segment.s]\nx = {{ from = NUMBER }}\n")),
        ];
        for key in THRESHOLDS {
            all.push((key, format!("{model}[model.thresholds]\n{key} = NUMBER\n")));
            all.push((key, format!("[defaults.thresholds]\n{key} = NUMBER\n{model}")));
            all.push((key, format!("{model}[model.feature.x.thresholds]\n{key} = NUMBER\n")));
        }
        for key in ["share", "weighted_share", "fdr"] {
            all.push((key, format!("{model}[model.trigger.drift]\n{key} = NUMBER\n")));
            all.push((key, format!("[defaults.trigger.drift]\n{key} = NUMBER\n{model}")));
        }
        for key in ["level", "warning", "confidence"] {
            all.push((key, format!("{model}[model.trigger.performance]\n{key} = NUMBER\n")));
        }
        for key in ["max_unmatched", "leakage", "confidence", "latency_p95"] {
            all.push((key, format!("{model}[model.gates]\n{key} = NUMBER\n")));
            all.push((key, format!("[defaults.gates]\n{key} = NUMBER\n{model}")));
        }
        for key in ["at_least", "at_most", "better_by", "significance", "margin"] {
            all.push((key, format!("{model}[[model.gates.metrics]]\nmetric = \"auc\"\n{key} = NUMBER\n")));
        }
        for key in ["slope", "intercept"] {
            all.push((key, format!("{model}[model.gates.calibration]\n{key} = [NUMBER, 2.0]\n")));
        }
        for key in ["tpr", "fpr", "selection_rate"] {
            all.push((key, format!("{model}[model.gates.fairness.sex]\n{key} = NUMBER\n")));
        }
        for key in ["atol", "rtol", "max_different", "max_missing", "max_unexpected", "max_duplicate"] {
            all.push((key, format!("{SET}[feature_set.s.serving]\npath = \"p\"\n{key} = NUMBER\n{model}")));
        }
        let labels = "[model.labels]\nid = \"i\"\ntime = \"t\"\nlabel = \"l\"\nprediction = \"p\"\n";
        let rollout = format!("{model}{labels}[model.rollout]\narm = \"a\"\ntraffic = {{ file = \"w\" }}\n");
        for key in ["level", "alarm_level", "prediction_drift"] {
            all.push((key, format!("{rollout}{key} = NUMBER\n")));
        }
        for key in ["tolerance", "margin", "worse", "largest_error"] {
            all.push((key, format!("{rollout}[model.rollout.quality]\n{key} = NUMBER\n")));
        }
        for key in ["tolerance", "margin", "worse", "above", "low", "high"] {
            let check = "[model.rollout.check.c]\nkind = \"slow\"\ncolumn = \"x\"\n";
            all.push((key, format!("{rollout}{check}{key} = NUMBER\n")));
        }
        all.push(("share", format!("{rollout}[[model.rollout.stages]]\nshare = NUMBER\n")));
        let retrain = [
            "gpu_hours",
            "gpu_rate",
            "cpu_hours",
            "cpu_rate",
            "storage",
            "budget",
            "value_per_point_per_day",
            "expected",
            "assumed_loss",
        ];
        for key in retrain {
            all.push((key, format!("{head}{model}[model.retrain]\ncommand = [\"true\"]\n{key} = NUMBER\n")));
            all.push((key, format!("{head}[defaults.retrain]\n{key} = NUMBER\n{model}")));
        }
        all
    }

    #[test]
    fn every_key_that_takes_a_number_refuses_what_is_not_finite_with_key_and_line() {
        for (key, text) in settings() {
            for number in ["inf", "-inf", "+inf", "nan", "-nan", "+nan"] {
                let text = text.replace("NUMBER", number);
                let error = Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).unwrap_err().to_string();
                let line = text.lines().position(|line| line.contains(number)).unwrap() + 1;
                let key = if key == "teams" { "teams.risk" } else { key };
                let named = error.contains(&format!("{key} = ")) && error.contains("must be");
                assert!(named && error.starts_with(&format!("f.toml:{line}: ")), "{text}{error}");
            }
        }
    }

    const SET: &str = "[feature_set.s.spine]\npath = \"p\"\nid = \"i\"\ntime = \"t\"\ncolumns = []\n";

    const THRESHOLDS: [&str; 6] = ["psi", "js", "ks_p", "ks_d", "missing", "missing_p"];

    #[test]
    fn no_threshold_is_forgotten() {
        let all = serde_json::to_value(driftsweep::rule::Thresholds::default()).unwrap();
        let numbers = all.as_object().unwrap().iter().filter(|(_, value)| value.is_f64());
        assert!(numbers.map(|(name, _)| &**name).eq(THRESHOLDS), "{all}");
    }

    /// Keys of what trainings answer, which is JSON and no part of the file.
    const OF_ANSWERS: [&str; 1] = ["metrics"];

    /// The texts of all files below a folder.
    pub(crate) fn read(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            match entry.unwrap().path() {
                path if path.is_dir() => read(&path, found),
                path => found.push(std::fs::read_to_string(path).unwrap()),
            }
        }
    }

    #[test]
    fn no_key_that_takes_a_number_is_forgotten() {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let extensions = concat!(env!("CARGO_MANIFEST_DIR"), "/../extensions/src");
        let engine = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/metric");
        let training = concat!(env!("CARGO_MANIFEST_DIR"), "/../training/src");
        let mut sources = Vec::new();
        [own, extensions, engine, training].into_iter().for_each(|folder| read(Path::new(folder), &mut sources));
        let known: Vec<&str> = settings().into_iter().map(|(key, _)| key).collect();
        let mut found = 0;
        for source in sources {
            // The tables of the file: structs that are read from TOML.
            for table in source.split("#[serde(deny_unknown_fields)]").skip(1) {
                let Some((_, rest)) = table.split_once("struct ") else { continue };
                let fields = rest.split('}').next().unwrap();
                for field in fields.lines().filter(|line| line.contains("f64")) {
                    let key = field.split(':').next().unwrap().split_whitespace().last().unwrap();
                    assert!(known.contains(&key) || OF_ANSWERS.contains(&key), "{key} is not tested");
                    found += 1;
                }
            }
        }
        assert!(found > 20, "{found}");
    }
}
