//! The reasons why columns of CSV files are text because of a few values.

use super::Column;

/// Why a column of a CSV file is text.
#[derive(Clone, Debug)]
pub struct TextReason {
    /// The file, the line, the value there, and the reason.
    pub text: String,
    /// Whether at least nine in ten of the column's values are numbers, or formatted numbers (`1.234,56`).
    pub nearly_numbers: bool,
}

impl Column {
    /// Why it should not be compared with this many categories: except for a few values of its CSV file it has numbers,
    /// and text was not requested.
    pub(crate) fn text_by_accident(&self, categories: usize) -> Option<String> {
        let note = self.note.as_ref().filter(|note| note.nearly_numbers && categories > MAX_CATEGORIES)?;
        Some(format!(
            "nearly all its values are numbers, but {}; leave such fields empty, or set kind = \"categorical\"",
            note.text
        ))
    }
}

/// Most distinct values with which numbers may be categories: sizes, grades, classes.
const MAX_CATEGORIES: usize = 100;
