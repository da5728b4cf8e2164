//! Text that stands for a missing value.

use serde::Serialize;

/// Text that stands for a missing value unless a list says otherwise: what CSV writers, spreadsheets, databases and
/// `str()` of pandas' missing values leave. Blanks around it and the case of its letters do not count, except in `None`,
/// for "none" is a class in many tables.
pub const DEFAULT_MISSING_TEXTS: [&str; 12] =
    ["", "NA", "N/A", "#N/A", "#NA", "<NA>", "NaN", "-NaN", "NaT", "NULL", "\\N", "None"];

/// Text that stands for a missing label, prediction or id: a list where one was given, else [`DEFAULT_MISSING_TEXTS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MissingTexts(pub Option<Vec<String>>);

impl MissingTexts {
    /// All of them.
    pub fn texts(&self) -> Vec<&str> {
        match &self.0 {
            Some(texts) => texts.iter().map(String::as_str).collect(),
            None => DEFAULT_MISSING_TEXTS.to_vec(),
        }
    }

    /// Whether a text is one of them. The empty text always is.
    pub fn has(&self, text: &str) -> bool {
        let text = text.trim();
        text.is_empty()
            || match &self.0 {
                Some(texts) => texts.iter().any(|missing| missing.trim() == text),
                None => DEFAULT_MISSING_TEXTS.iter().any(|&missing| match missing {
                    "None" => text == missing,
                    missing => text.eq_ignore_ascii_case(missing),
                }),
            }
    }
}
