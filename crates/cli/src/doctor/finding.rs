//! What `doctor` finds, and how it is shown.

use driftsweep_report::output::Page;

pub use driftsweep_extensions::check::{Finding, Findings, Severity};

/// A severity as it is shown.
fn word(level: Severity) -> &'static str {
    match level {
        Severity::Note => "note",
        Severity::Warning => "WARNING",
        Severity::Broken => "BROKEN",
    }
}

/// From this number of models on, a finding that is the same for all of them is one line.
const COLLAPSE_FROM: usize = 4;

/// Lines for people: the findings of each model, those of many models only once.
pub fn lines<'a>(page: &mut Page, models: impl Iterator<Item = (&'a str, &'a Findings)>) {
    let mut found: Vec<(&Finding, Vec<&str>)> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for (name, findings) in models {
        for finding in &findings.0 {
            let key = (finding.level, &*finding.about, &*finding.reason);
            let place = *at.entry(key).or_insert_with(|| {
                found.push((finding, Vec::new()));
                found.len() - 1
            });
            found[place].1.push(name);
        }
    }
    for (finding, names) in found {
        let alone = names.len() < COLLAPSE_FROM;
        for name in if alone { &names[..] } else { &names[..1] } {
            let others = if alone { String::new() } else { format!(" and {} more models", names.len() - 1) };
            let about = if finding.about.is_empty() { String::new() } else { format!(" {}", finding.about) };
            page.line(format_args!("  {:<8} {name}{others}{about}: {}", word(finding.level), finding.reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_of_many_models_is_one_line() {
        let mut same = Findings::default();
        same.add(Severity::Broken, "retrain", "no such program");
        same.add(Severity::Broken, "retrain", "no such program");
        assert_eq!(same.of(Severity::Broken), 1);
        let mut own = same.clone();
        own.add(Severity::Note, "", "its own");
        let models = [("a", &same), ("b", &same), ("c", &own), ("d", &same)];
        let mut page = Page::new();
        lines(&mut page, models.into_iter());
        assert_eq!(
            page.to_string(),
            "  BROKEN   a and 3 more models retrain: no such program\n  note     c: its own\n"
        );
        let mut page = Page::new();
        lines(&mut page, models[..2].iter().copied());
        assert_eq!(page.to_string(), "  BROKEN   a retrain: no such program\n  BROKEN   b retrain: no such program\n");
    }
}
