//! Tables for people.

use std::cmp::Reverse;
use std::ops::Range;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Width};

use super::shown;

/// Most characters of a cell.
const MAX_CELL_CHARS: usize = 400;

/// Most characters of a cell with longer text.
const MAX_LONG_CELL_CHARS: usize = 4000;

/// Fewest characters that a column of text is shortened to.
const MIN_TEXT_WIDTH: usize = 8;

/// A less important column is left out before a column of text gets fewer characters than these.
const COMFORTABLE_WIDTH: usize = 20;

/// Characters beside the text of a cell: the space on both sides, and the line at its left.
const FRAME: usize = 3;

/// Where a table is shown: its width is fitted, and colours are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Characters in a line, if they are known.
    pub width: Option<u16>,
    /// Whether colours are wanted.
    pub colors: bool,
}

impl Terminal {
    /// The terminal of standard output, whose width it asks for.
    pub fn of_stdout(colors: bool) -> Self {
        Self { width: comfy_table::Table::new().width(), colors }
    }
}

/// A table with a heading.
#[derive(Clone)]
pub struct Table {
    heading: Vec<TableCell>,
    rows: Vec<Vec<TableCell>>,
    /// Columns of numbers, which are never shortened.
    right: Vec<usize>,
    /// Columns that a narrow terminal does not show, the first first.
    less_important: Vec<&'static str>,
}

impl Table {
    /// A table without rows.
    pub fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Self {
        let heading = heading.into_iter().map(TableCell::from).collect();
        Self { heading, rows: Vec::new(), right: Vec::new(), less_important: Vec::new() }
    }

    /// Adds a row.
    pub fn row<C: Into<TableCell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Aligns columns of numbers.
    pub fn align_right(&mut self, columns: Range<usize>) {
        self.right.extend(columns);
    }

    /// Names columns that a terminal leaves out where it is too narrow for all, the first first.
    pub fn less_important(&mut self, columns: &[&'static str]) {
        self.less_important = columns.to_vec();
    }

    /// Without a column in which every cell is empty.
    #[must_use]
    pub fn without_empty(mut self, name: &str) -> Self {
        let at = self.heading.iter().position(|cell| cell.text == name);
        if let Some(at) =
            at.filter(|&at| self.rows.iter().all(|row| row.get(at).is_some_and(|cell| cell.text.is_empty())))
        {
            self.heading.remove(at);
            self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
            self.right = self
                .right
                .into_iter()
                .filter(|&column| column != at)
                .map(|column| column - usize::from(column > at))
                .collect();
        }
        self
    }

    /// The lines of the table. On a terminal a row is one line, as wide as the terminal at most, where that is possible:
    /// columns of text are shortened, and less important ones left out. Elsewhere everything is shown.
    pub(super) fn text(&self, terminal: Option<Terminal>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_truncation_indicator("…").force_no_tty();
        table.set_content_arrangement(ContentArrangement::Disabled);
        let colors = terminal.is_some_and(|terminal| terminal.colors);
        if colors {
            table.enforce_styling();
        }
        let row = |cells: &[TableCell]| {
            let cell = |(at, cell): (usize, &TableCell)| cell.drawn(self.right.contains(&at), colors);
            let mut row = Row::from(cells.iter().enumerate().map(cell).collect::<Vec<_>>());
            row.max_height(1);
            row
        };
        table.set_header(row(&self.heading));
        table.add_rows(self.rows.iter().map(|cells| row(cells)));
        if let Some(width) = terminal.and_then(|terminal| terminal.width) {
            let natural: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
            table.set_constraints(self.fitted(&natural, width.into()).into_iter().map(|width| match width {
                Some(width) => ColumnConstraint::Absolute(Width::Fixed(u16::try_from(width + 2).unwrap_or(u16::MAX))),
                None => ColumnConstraint::Hidden,
            }));
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.to_string()
    }

    /// The widths of the columns, each of `natural` width at most, in a table that is `most` characters wide; `None` for
    /// columns that are left out.
    fn fitted(&self, natural: &[usize], most: usize) -> Vec<Option<usize>> {
        let is_text: Vec<bool> = (0..natural.len()).map(|at| !self.is_of_numbers(at)).collect();
        let mut widths: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
        let total = |widths: &[Option<usize>]| widths.iter().flatten().map(|width| width + FRAME).sum::<usize>() + 1;
        let smallest = |at: usize| if is_text[at] { natural[at].min(MIN_TEXT_WIDTH) } else { natural[at] };
        for name in &self.less_important {
            let comfortable = |at: usize| if is_text[at] { natural[at].min(COMFORTABLE_WIDTH) } else { natural[at] };
            let least: Vec<Option<usize>> =
                widths.iter().enumerate().map(|(at, width)| width.map(|_| comfortable(at))).collect();
            if total(&least) <= most {
                break;
            }
            if let Some(at) = self.heading.iter().position(|cell| cell.text == *name) {
                widths[at] = None;
            }
        }
        // The widest column of text is shortened, one character at a time.
        while total(&widths) > most {
            let longest = (0..widths.len()).filter(|&at| widths[at].is_some_and(|width| width > smallest(at)));
            let Some(at) = longest.max_by_key(|&at| (widths[at], Reverse(at))) else { break };
            widths[at] = widths[at].map(|width| width - 1);
        }
        widths
    }

    fn is_of_numbers(&self, column: usize) -> bool {
        self.right.contains(&column) || self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.right))
    }
}

/// A cell of a table; its text is escaped, shown without secrets in addresses, and shortened where it is very long.
#[derive(Clone)]
pub struct TableCell {
    text: String,
    right: bool,
    color: Option<CellColor>,
}

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
        Self::of(shown(text, MAX_LONG_CELL_CHARS))
    }

    fn of(text: String) -> Self {
        Self { text, right: false, color: None }
    }

    /// Aligned right, as numbers are; it is never shortened.
    #[must_use]
    pub fn right(self) -> Self {
        Self { right: true, ..self }
    }

    /// In a colour where the table is shown on a terminal.
    #[must_use]
    pub fn tinted(self, color: Option<CellColor>) -> Self {
        Self { color, ..self }
    }

    fn drawn(&self, right: bool, colors: bool) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(&self.text);
        let cell = if self.right || right { cell.set_alignment(CellAlignment::Right) } else { cell };
        match self.color.filter(|_| colors) {
            None => cell,
            Some(CellColor::Yellow) => cell.fg(Color::Yellow),
            Some(CellColor::Red) => cell.fg(Color::Red),
        }
    }
}

impl From<&str> for TableCell {
    fn from(text: &str) -> Self {
        Self::of(shown(text, MAX_CELL_CHARS))
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
        Self::of(number.to_string())
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
        let text = table.text(None);
        assert!(text.contains("│ x\\r\\ny\\u{1b}[31m "), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 500), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    #[test]
    fn a_row_is_one_line_of_the_width_of_the_terminal_and_numbers_are_whole() {
        let mut table = Table::new(["feature", "kind", "PSI", "missing", "verdict"]);
        table.less_important(&["kind", "missing"]);
        let reason = "PSI 0.4170 is above 0.15, and drifted by 2.8 times its threshold";
        table.row([
            TableCell::from("a_column_with_a_long_name_of_forty_characters"),
            "numeric".into(),
            TableCell::from("12345.6789").right(),
            TableCell::from("0.0 → 12.5 %").right(),
            TableCell::from(reason).tinted(Some(CellColor::Yellow)),
        ]);
        let text = |width: u16, colors: bool| table.text(Some(Terminal { width: Some(width), colors }));
        for (width, names) in
            [(200, "kind PSI missing"), (100, "kind PSI missing"), (80, "PSI missing"), (60, "PSI"), (45, "PSI")]
        {
            let text = text(width, false);
            assert_eq!(text.lines().count(), 5, "{width}: {text}");
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{width}: {text}");
            let head = text.lines().nth(1).unwrap();
            for name in ["kind", "PSI", "missing"] {
                assert_eq!(head.contains(name), names.contains(name), "{width}: {text}");
            }
            assert!(text.contains("12345.6789") && text.contains("verdict"), "{width}: {text}");
            assert_eq!(text.contains('…'), width < 200, "{width}: {text}");
        }
        assert!(text(200, false).contains(reason) && table.text(None).contains(reason));
        assert!(text(80, true).contains("\u{1b}[") && !text(80, false).contains('\u{1b}'));
    }
}
