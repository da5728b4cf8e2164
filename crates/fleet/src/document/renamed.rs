//! Keys of the fleet file that had another name in older versions. The former names are still read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Checked, Mistake};

/// The tables that may have a key, its former name, and its present one.
const RENAMED: [(&[&str], &str, &str); 5] = [
    (&["queue"], "at_once", "max_concurrent"),
    (&["defaults", "retrain"], "holds", "valid_for"),
    (&["defaults", "retrain"], "point_a_day", "value_per_point_per_day"),
    (&["model", "retrain"], "holds", "valid_for"),
    (&["model", "retrain"], "point_a_day", "value_per_point_per_day"),
];

/// Gives keys their present names; the hint names all that had a former one, at the first of them.
pub(super) fn rename(document: &mut DeTable<'_>) -> Checked<Option<Mistake>> {
    let mut found = Vec::new();
    for (path, former, present) in RENAMED {
        in_tables(document, path, &mut |table| {
            let Some((key, value)) = table.remove_entry(former) else { return Ok(()) };
            let span = key.span();
            if table.contains_key(present) {
                let reason = format!("{former} is the former name of {present}; give {present} only");
                return Err(Mistake::at(span.start, reason));
            }
            found.push((span.start, format!("{former} is now {present}")));
            table.insert(Spanned::new(span, present.into()), value);
            Ok(())
        })?;
    }
    found.sort();
    let Some(&(at, _)) = found.first() else { return Ok(None) };
    let mut names: Vec<String> = Vec::new();
    for (_, name) in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Some(Mistake::at(at, format!("former names of keys are in use: {}; rename them", names.join(", ")))))
}

/// Calls a function for every table at a path, also in lists of tables.
fn in_tables<'i>(
    table: &mut DeTable<'i>,
    path: &[&str],
    visit: &mut dyn FnMut(&mut DeTable<'i>) -> Checked<()>,
) -> Checked<()> {
    let Some((name, rest)) = path.split_first() else { return visit(table) };
    let values = match table.get_mut(*name).map(Spanned::get_mut) {
        Some(DeValue::Array(values)) => values.iter_mut().map(Spanned::get_mut).collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    };
    values.into_iter().try_for_each(|value| match value {
        DeValue::Table(inner) => in_tables(inner, rest, visit),
        // Reported where the whole file is read.
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use driftsweep::model::Options;

    use crate::Fleet;

    const HEAD: &str = "[approval]\napprovers = [[\"ana\"]]\n";
    const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
    const COMMAND: &str = "[model.retrain]\ncommand = [\"true\"]\n";

    fn read(text: &str) -> Result<Fleet, String> {
        Fleet::parse(text, "f.toml".as_ref(), &Options::new()).map_err(|e| e.to_string())
    }

    #[test]
    fn former_names_are_read_with_one_hint() {
        let settings = |fleet: &Fleet| {
            let retrain = fleet.models[0].retrain.clone().unwrap();
            (fleet.governance.concurrency.fleet, retrain.valid_for, retrain.value_per_point_per_day)
        };
        for text in [
            format!("{HEAD}[queue]\nat_once = 9\n{MODEL}{COMMAND}holds = \"10d\"\npoint_a_day = 7.5\n"),
            format!(
                "queue.at_once = 9\n{HEAD}[defaults]\nretrain = {{ command = [\"true\"], holds = \"10d\", point_a_day = 7.5 }}\n{MODEL}{COMMAND}"
            ),
            format!(
                "{HEAD}[queue]\nat_once = 9\n[defaults.retrain]\ncommand = [\"true\"]\nholds = \"1d\"\n{MODEL}{COMMAND}holds = \"10d\"\npoint_a_day = 7.5\n"
            ),
        ] {
            let former = read(&text).unwrap();
            let hint = former.hint.clone().unwrap();
            let line = text.lines().position(|line| line.contains("at_once")).unwrap() + 1;
            assert!(hint.starts_with(&format!("f.toml:{line}: former names of keys")), "{hint}");
            for words in
                ["at_once is now max_concurrent", "holds is now valid_for", "point_a_day is now value_per_point"]
            {
                assert_eq!(hint.matches(words).count(), 1, "{hint}");
            }
            let present = text.replace("at_once", "max_concurrent").replace("holds", "valid_for");
            let present = read(&present.replace("point_a_day", "value_per_point_per_day")).unwrap();
            assert_eq!((settings(&former), &present.hint), (settings(&present), &None));
            assert_eq!(settings(&present).0, 9);
            assert_eq!(settings(&present).1, jiff::SignedDuration::from_hours(240));
        }
    }

    #[test]
    fn a_former_and_a_present_name_in_one_table_are_refused_by_both() {
        for (text, line, names) in [
            (format!("{HEAD}[queue]\nmax_concurrent = 3\nat_once = 3\n{MODEL}"), 5, ["at_once", "max_concurrent"]),
            (format!("{MODEL}{COMMAND}holds = \"1d\"\nvalid_for = \"1d\"\n"), 7, ["holds", "valid_for"]),
            (
                format!("{MODEL}[defaults.retrain]\npoint_a_day = 1\nvalue_per_point_per_day = 2\n"),
                6,
                ["point_a_day", "value_per_point_per_day"],
            ),
        ] {
            let error = read(&text).unwrap_err();
            let wanted = format!("f.toml:{line}: {} is the former name of {}", names[0], names[1]);
            assert!(error.starts_with(&wanted), "{error}");
        }
    }

    #[test]
    fn a_former_name_elsewhere_is_unknown_and_a_wrong_value_is_named_by_it() {
        for (text, wanted) in [
            (format!("at_once = 3\n{MODEL}"), "f.toml:1: unknown field 'at_once'"),
            (format!("{MODEL}[model.trigger]\nholds = \"1d\"\n"), "f.toml:6: unknown field 'holds'"),
            (format!("{MODEL}{COMMAND}holds = \"1y\"\n"), "f.toml:7: model.retrain.holds: it is not a length of time"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn what_is_stored_of_a_run_keeps_the_former_names() {
        let text = format!("{HEAD}{MODEL}{COMMAND}valid_for = \"10d\"\nvalue_per_point_per_day = 7.5\n");
        let retrain = read(&text).unwrap().models.remove(0).retrain.unwrap();
        let stored = serde_json::to_value(&retrain).unwrap();
        assert_eq!((&stored["holds"], &stored["point_a_day"]), (&"PT240H".into(), &7.5.into()));
        assert_eq!(serde_json::from_value::<crate::RetrainConfig>(stored).unwrap(), retrain);
    }
}
