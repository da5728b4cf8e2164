//! CSV that is safe for spreadsheets: no text is run as a formula.

use std::borrow::Cow;

use super::{Content, Document, unencodable};
use driftsweep::sweep::flat::FlatValue;
use driftsweep_common::error::Result;
use driftsweep_common::escape;

/// CSV, written row by row. A text that a spreadsheet would read as a formula gets a leading `'`, and hidden characters
/// are escaped. Texts that need neither, and numbers, are written as they are.
pub struct Csv(csv::Writer<Vec<u8>>);

impl Csv {
    /// CSV with a heading.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::BadValue`] where it cannot be encoded.
    pub fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut csv = Self(csv::Writer::from_writer(Vec::new()));
        csv.row(heading.into_iter().map(|name| FlatValue::Text(name.into())))?;
        Ok(csv)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::BadValue`] where it cannot be encoded.
    pub fn row(&mut self, cells: impl IntoIterator<Item = FlatValue>) -> Result<()> {
        let cells = cells.into_iter().map(|cell| match cell {
            FlatValue::Text(text) => safe(&text).into_owned(),
            FlatValue::Float(value) => value.map_or(String::new(), |x| format!("{x:?}")),
            FlatValue::Int(value) => value.to_string(),
            FlatValue::Bool(value) => value.to_string(),
        });
        self.0.write_record(cells).map_err(|e| unencodable(&e))
    }

    /// All of it.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::BadValue`] where it cannot be encoded.
    pub fn finish(self) -> Result<Document> {
        Ok(Document(Content::Bytes(self.0.into_inner().map_err(|e| unencodable(&e))?)))
    }
}

/// A text as a cell.
fn safe(text: &str) -> Cow<'_, str> {
    let shown = escape::escape_invisible(text);
    // A number is not a formula, whatever its sign.
    if is_number(&shown) {
        return shown;
    }
    // Where lists are separated by semicolons, a spreadsheet starts a new cell after one.
    let starts = std::iter::once(0).chain(shown.match_indices(';').map(|(at, _)| at + 1));
    let formulas: Vec<usize> = starts.filter(|&at| is_formula(&shown[at..])).collect();
    if formulas.is_empty() {
        return shown;
    }
    let mut safe = String::with_capacity(shown.len() + formulas.len());
    let mut from = 0;
    for at in formulas {
        safe.push_str(&shown[from..at]);
        safe.push('\'');
        from = at;
    }
    safe.push_str(&shown[from..]);
    Cow::Owned(safe)
}

/// Whether a spreadsheet may read a text as a formula: by its first character, after spaces and quotes. Some accept the
/// full-width forms, too.
fn is_formula(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
    text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_becomes_text_and_numbers_and_names_stay_as_they_are() {
        for (text, wanted) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1+1", "'+1+1"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1+1", "\\t=1+1"),
            ("\r=1", "\\r=1"),
            ("  =1", "'  =1"),
            ("\"=1", "'\"=1"),
            ("＝1+1", "'＝1+1"),
            ("x;=1+1;y; @z", "x;'=1+1;y;' @z"),
            ("-", "'-"),
            // Numbers, as values of segments may be.
            ("-1", "-1"),
            ("+2.5e-3", "+2.5e-3"),
            ("-inf", "'-inf"),
            // Everything else.
            ("dep_delay", "dep_delay"),
            ("a=b", "a=b"),
            ("'quoted'", "'quoted'"),
            ("a;b", "a;b"),
            ("größe (€)\u{a0}x", "größe (€)\u{a0}x"),
            ("a\nb\u{1b}", "a\\nb\\u{1b}"),
            ("", ""),
        ] {
            assert_eq!(safe(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn negative_figures_are_figures_and_quoting_is_that_of_csv() {
        let mut csv = Csv::new(["name", "psi", "rows", "drifted"]).unwrap();
        csv.row([
            FlatValue::Text("a, \"b\"".into()),
            FlatValue::Float(Some(-0.25)),
            FlatValue::Int(3),
            FlatValue::Bool(true),
        ])
        .unwrap();
        csv.row([FlatValue::Text("=1".into()), FlatValue::Float(None), FlatValue::Int(0), FlatValue::Bool(false)])
            .unwrap();
        let text = String::from_utf8(csv.finish().unwrap().bytes(None).into_owned()).unwrap();
        assert_eq!(text, "name,psi,rows,drifted\n\"a, \"\"b\"\"\",-0.25,3,true\n'=1,,0,false\n");
    }
}
