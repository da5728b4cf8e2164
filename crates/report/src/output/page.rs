//! Text for people.

use std::fmt::{self, Display};

use super::{MAX_LINE_CHARS, Table, Terminal, shown};
use driftsweep_common::escape;

/// Text for display, built line by line. Each line is escaped as a whole when it is added, so that it cannot contain a
/// line break.
#[derive(Default)]
pub struct Page {
    parts: Vec<Part>,
    /// Lines are not cut short.
    whole: bool,
}

enum Part {
    Line(String),
    Table(Box<Table>),
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty page for a file, such as a fleet file: its lines are escaped, and not shortened.
    pub fn file() -> Self {
        Self { parts: Vec::new(), whole: true }
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl Display) {
        let text = text.to_string();
        let line = if self.whole { escape::for_display(&text).into_owned() } else { shown(&text, MAX_LINE_CHARS) };
        self.parts.push(Part::Line(line));
    }

    /// Adds an empty line.
    pub fn blank(&mut self) {
        self.parts.push(Part::Line(String::new()));
    }

    /// Adds an empty line, and the first line of what follows.
    pub fn section(&mut self, text: impl Display) {
        self.blank();
        self.line(text);
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.parts.push(Part::Table(Box::new(table)));
    }

    /// Adds all of another page.
    pub fn append(&mut self, mut other: Page) {
        self.parts.append(&mut other.parts);
    }

    /// The text, each line with its end; tables are fitted to a terminal.
    pub fn text(&self, terminal: Option<Terminal>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Line(line) => text.push_str(line),
                Part::Table(table) => text.push_str(&table.text(terminal)),
            }
            text.push('\n');
        }
        text
    }
}

impl From<Table> for Page {
    fn from(table: Table) -> Self {
        Self { parts: vec![Part::Table(Box::new(table))], whole: false }
    }
}

/// The text as it is written to a file.
impl Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_a_line_or_makes_a_long_one() {
        let mut page = Page::new();
        page.line(format_args!("model {}", "a\nTOTAL 0 drifted\u{1b}[2J"));
        page.section("next");
        page.line("x".repeat(100_000));
        let mut table = Table::new(["model"]);
        table.row(["a\nb\u{9b}"]);
        page.table(table);
        let text = page.to_string();
        assert!(text.starts_with("model a\\nTOTAL 0 drifted\\u{1b}[2J\n\nnext\nxxx"), "{text:.200}");
        assert!(text.contains("│ a\\nb\\u{9b} │"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < MAX_LINE_CHARS + 50), "{text}");
        assert!(!text.contains(|c| c != '\n' && driftsweep_common::escape::is_invisible(c)));
    }

    #[test]
    fn a_page_that_is_a_file_has_whole_lines() {
        let mut page = Page::file();
        page.line(format_args!("# {}\n", "x".repeat(10_000)));
        assert_eq!(page.to_string().len(), 2 + 10_000 + 3);
    }
}
