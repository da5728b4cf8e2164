//! Tables for people.

use std::ops::Range;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Color, ContentArrangement};

use super::shown;

/// Most characters of a cell.
const MAX_CELL_CHARS: usize = 400;

/// Most characters of a cell with longer text.
const MAX_LONG_CELL_CHARS: usize = 4000;

/// A table with a heading.
pub struct Table(comfy_table::Table);

impl Table {
    /// A table without rows.
    pub fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(heading.into_iter().map(|text| TableCell::from(text).0));
        Self(table)
    }

    /// Adds a row.
    pub fn row<C: Into<TableCell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.0.add_row(cells.into_iter().map(|cell| cell.into().0));
    }

    /// Aligns columns of numbers.
    pub fn align_right(&mut self, columns: Range<usize>) {
        for column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// The lines of the table; with colours and line width only for a terminal.
    pub(super) fn text(&self, terminal: bool) -> String {
        if terminal {
            return self.0.to_string();
        }
        let mut table = self.0.clone();
        table.force_no_tty();
        table.to_string()
    }
}

/// A cell of a table; its text is escaped, shown without secrets in addresses, and shortened where it is very long.
pub struct TableCell(comfy_table::Cell);

/// The colour of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellColor {
    /// Needs attention.
    Yellow,
    /// It failed.
    Red,
}

impl TableCell {
    /// A cell with longer text: more of it is shown.
    pub fn long(text: &str) -> Self {
        Self(comfy_table::Cell::new(shown(text, MAX_LONG_CELL_CHARS)))
    }

    /// Aligned right, as numbers are.
    #[must_use]
    pub fn right(self) -> Self {
        Self(self.0.set_alignment(CellAlignment::Right))
    }

    /// In a colour where the table is shown on a terminal.
    #[must_use]
    pub fn tinted(self, tint: Option<CellColor>) -> Self {
        Self(self.0.fg(match tint {
            None => Color::Reset,
            Some(CellColor::Yellow) => Color::Yellow,
            Some(CellColor::Red) => Color::Red,
        }))
    }
}

impl From<&str> for TableCell {
    fn from(text: &str) -> Self {
        Self(comfy_table::Cell::new(shown(text, MAX_CELL_CHARS)))
    }
}

impl From<&String> for TableCell {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for TableCell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<usize> for TableCell {
    fn from(number: usize) -> Self {
        Self(comfy_table::Cell::new(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_of_bounded_width_and_colours_are_for_terminals() {
        let mut table = Table::new(["name", "count"]);
        let row = |name: &str| [TableCell::from(name).tinted(Some(CellColor::Red)), TableCell::from(12).right()];
        table.row(row("x\r\ny\u{1b}[31m"));
        table.row(row(&"é".repeat(10_000)));
        let text = table.text(false);
        assert!(text.contains("│ x\\r\\ny\\u{1b}[31m "), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 500), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
