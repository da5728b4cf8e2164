//! Numbers that are not finite: one `inf` or `nan` anywhere in a fleet file spoils every sum and every comparison that it takes
//! part in.

use toml_edit::Value;

use super::keys;

/// The first number of a document that is not finite: its key with its value, and where it stands.
pub fn first_that_is_not(text: &str) -> Option<(String, Option<usize>)> {
    let mut found = Vec::new();
    keys::each(text, |entry| {
        if let Some(Value::Float(number)) = entry.value
            && !number.value().is_finite()
        {
            found.push((format!("{} = {}", entry.key, number.value()), entry.span.map(|span| span.start)));
        }
    });
    // Tables are not always in the order of the text.
    found.into_iter().min_by_key(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use crate::fleet::{Fleet, Options};

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
                // A number that is too large may be refused as no number at all.
                assert!(
                    (error.contains(&wanted) && error.contains("must be finite")) || number == "1e999",
                    "{error}\n{wanted}\n{text}"
                );
                assert!(error.starts_with("f.toml:"), "{error}");
            }
        }
    }
}
