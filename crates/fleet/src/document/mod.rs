//! The text of the fleet file: parsed with the positions of tables and values, so that a message names their line.

pub(crate) mod finite;
mod keys;
mod parser_messages;
mod renamed;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::DeTable;

use driftsweep_common::error::Error;

/// A mistake in the text, and its position in bytes, if that is known.
#[derive(Debug, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) at: Option<usize>,
    pub(crate) reason: String,
}

/// What was checked, or the mistake in it.
pub(crate) type Checked<T> = Result<T, Mistake>;

impl Mistake {
    pub(crate) fn at(at: usize, reason: String) -> Self {
        Self { at: Some(at), reason }
    }

    /// The error for the user, with the line in place of the position.
    pub(crate) fn in_file(self, path: &Path, text: &str) -> Error {
        let line = self.at.map(|at| text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1);
        Error::Fleet { path: path.into(), line, reason: self.reason }
    }
}

impl From<String> for Mistake {
    fn from(reason: String) -> Self {
        Self { at: None, reason }
    }
}

/// A table or value of the file with its position; the default, without one, where the file leaves it out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Located<T> {
    at: Option<usize>,
    value: T,
}

impl<T> Located<T> {
    pub(crate) fn get(&self) -> &T {
        &self.value
    }

    /// The result of a check. A mistake whose position is not known better has that of the whole.
    pub(crate) fn check<R, E: Into<Mistake>>(&self, check: impl FnOnce(&T) -> Result<R, E>) -> Checked<R> {
        Located { at: self.at, value: &self.value }.into_checked(check)
    }

    /// The same, where the check uses up the table.
    pub(crate) fn into_checked<R, E: Into<Mistake>>(self, check: impl FnOnce(T) -> Result<R, E>) -> Checked<R> {
        check(self.value).map_err(|mistake| {
            let Mistake { at, reason } = mistake.into();
            Mistake { at: at.or(self.at), reason }
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { at: Some(spanned.span().start), value: spanned.into_inner() })
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Located<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// The content of a text, and what should be changed in it although it is understood.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Checked<(T, Option<Mistake>)> {
    let refused = |error: toml::de::Error| {
        let at = error.span().map(|span| span.start);
        let key = at.and_then(|at| keys::at(text, at));
        Mistake { at, reason: parser_messages::reworded(error.message(), key.as_deref()) }
    };
    let mut document = DeTable::parse(text).map_err(refused)?;
    if let Some(mistake) = finite::first_mistake(document.get_ref()) {
        return Err(mistake);
    }
    let hint = renamed::rename(document.get_mut())?;
    T::deserialize(toml::de::Deserializer::from(document)).map(|content| (content, hint)).map_err(refused)
}

#[cfg(test)]
mod tests {
    use driftsweep::model::Options;
    use driftsweep_common::error::Error;

    use crate::Fleet;

    const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";

    fn line(text: &str) -> (Option<usize>, String) {
        match Fleet::parse(text, "f.toml".as_ref(), &Options::new()) {
            Err(Error::Fleet { line, reason, .. }) => (line, reason),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Files with one mistake, in the line that ends in `# HERE`.
    #[test]
    fn a_mistake_has_the_line_of_its_table_whatever_comments_and_strings_look_like() {
        // Each of them looks like the table that has the mistake.
        let misleading = "# see [budget], [queue], [approval] and [defaults.trigger] below\n\
                          name = \"[budget] [queue] [approval]\" # [defaults.retrain] [defaults.thresholds]\n\
                          time_zone = \"\"\"\nUTC\\\n\n   \"\"\"\n";
        for (mistake, words) in [
            ("[budget] # HERE\nmonth = -1", "month = -1"),
            ("[ \"budget\" ] # HERE\n# [budget]\nmonth = -1", "month = -1"),
            ("budget = { month = -1 } # HERE", "month = -1"),
            ("budget.month = -1 # HERE", "month = -1"),
            ("[queue] # HERE\nmax_concurrent = 0", "max_concurrent = 0"),
            ("queue.resources.gpu = 0 # HERE", "gpu = 0"),
            ("[queue.resources] # HERE\ngpu = 0", "gpu = 0"),
            ("[approval] # HERE\nabove = -1", "above = -1"),
            ("approval = { approvers = [[]] } # HERE", "could never answer"),
            (
                "[approval]\nabove = 3\nsignatures = \"always\" # HERE\napprovers = [[\"ana\"]]",
                "has no key to sign with",
            ),
            ("[defaults] # HERE\nbins = 1", "between 2 and 1000"),
            ("[defaults.thresholds]\n[defaults] # HERE\nbins = 1", "between 2 and 1000"),
            ("[defaults]\n[defaults.thresholds] # HERE\nks_p = 2.0", "between 0 and 1"),
            ("[defaults]\nthresholds = { ks_p = 2.0 } # HERE", "between 0 and 1"),
            ("[defaults]\nthresholds.ks_p = 2.0 # HERE", "between 0 and 1"),
            ("defaults.thresholds.ks_p = 2.0 # HERE", "between 0 and 1"),
            ("[defaults.thresholds]\n[defaults.trigger] # HERE\noff = []\nschedule = \"x\"", "give minute, hour"),
            ("[defaults.trigger]\n[defaults.trigger.drift]\n[defaults.retrain] # HERE\ncommand = []", "runs nothing"),
            ("[defaults.trigger]\ncooldown = \"5\" # HERE", "defaults.trigger.cooldown: it is not a length of time"),
            ("wait_for_data = \"-1h\" # HERE", "wait_for_data: it is not a length of time"),
            ("sweep = \"soon\" # HERE", "schedule 'soon'"),
            ("[[notify]]\nname = \"[[notify]]\"\nfile = \"x\"\n[[notify]] # HERE\nname = \"n\"", "give one of file"),
            ("[[model]] # HERE\nname = \"[[model]]\"\nbaseline = \"a\"\ncurrent = \"b\"\nbins = 1", "between 2 and"),
        ] {
            for (text, ends) in [(misleading, "\n"), ("", "\n"), (misleading, "\r\n"), ("\u{feff}", "\n")] {
                let text = format!("{text}{mistake}\n{MODEL}");
                let wanted = text.lines().position(|line| line.ends_with("# HERE")).map(|place| place + 1);
                let (found, reason) = line(&text.replace('\n', ends));
                assert!(found == wanted && reason.contains(words), "{text}\nline {found:?}: {reason}");
            }
        }
    }
}
