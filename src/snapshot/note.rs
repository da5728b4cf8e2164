//! What is said of columns of CSV files that are text because of a few values.

use super::Column;

/// Why a column of a CSV file is text.
#[derive(Clone, Debug)]
pub struct TextReason {
    /// The file, the line, a value there, and what is wrong with it.
    pub text: String,
    /// Whether at least nine in ten of the column's values are numbers, or numbers as people write them (`1.234,56`).
    pub nearly_numbers: bool,
}

impl Column {
    /// Why it should not be compared by so many categories: without a few values of its CSV file it would hold numbers,
    /// and nobody has asked for it to be read as text.
    pub fn text_by_accident(&self, categories: usize) -> Option<String> {
        let note = self.note.as_ref().filter(|note| note.nearly_numbers && categories > MAX_CATEGORIES)?;
        Some(format!(
            "nearly all its values are numbers, but {}; leave such fields empty, or ask for kind = \"categorical\"",
            note.text
        ))
    }
}

/// Distinct values up to which numbers may as well be names: sizes, grades, classes.
const MAX_CATEGORIES: usize = 100;
