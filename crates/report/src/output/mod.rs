//! The output of the program. Text from outside gets into a [`Page`], a [`Table`] or a [`Csv`] only through their
//! methods, which escape it, and the command line writes nothing but a [`Document`] made of these: a column's name can
//! neither end a line nor control a terminal.

mod csv;
mod json;
mod page;
mod table;

use std::borrow::Cow;

use serde::Serialize;

pub use self::csv::Csv;
pub use json::json_line;
pub use page::Page;
pub use table::{CellColor, Table, TableCell, Terminal};

use driftsweep_common::address::without_secrets;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape;

/// Most characters of a line; lines of a page that is a file are not shortened.
pub const MAX_LINE_CHARS: usize = 4000;

/// The output of a command.
pub struct Document(Content);

enum Content {
    Page(Page),
    Exact(String),
    Bytes(Vec<u8>),
}

impl Document {
    /// A value as JSON without invisible characters: they are escaped, which every JSON parser reads as the same text.
    /// Floats have the shortest form that gives the same double.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a value cannot be encoded.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        Ok(Self(Content::Bytes(json::pretty(value)?)))
    }

    /// A text that must not change by a byte, because it is signed. It is escaped only for a terminal.
    pub fn exact(text: String) -> Self {
        Self(Content::Exact(text))
    }

    /// A Parquet file, which is not shown on a terminal.
    pub fn parquet(bytes: Vec<u8>) -> Self {
        Self(Content::Bytes(bytes))
    }

    /// A page of HTML, in which text from outside is escaped.
    pub fn html(page: String) -> Self {
        Self(Content::Bytes(page.into_bytes()))
    }

    /// The bytes to write; tables are fitted to a terminal.
    pub fn bytes(&self, terminal: Option<Terminal>) -> Cow<'_, [u8]> {
        match &self.0 {
            Content::Page(page) => Cow::Owned(page.text(terminal).into_bytes()),
            Content::Exact(text) if terminal.is_some() => {
                let mut page = Page::new();
                text.lines().for_each(|line| page.line(line));
                Cow::Owned(page.text(terminal).into_bytes())
            }
            Content::Exact(text) => Cow::Borrowed(text.as_bytes()),
            Content::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }
}

impl From<Page> for Document {
    fn from(page: Page) -> Self {
        Self(Content::Page(page))
    }
}

/// A text for display: escaped, without secrets in addresses, and limited to a number of characters.
fn shown(text: &str, most: usize) -> String {
    escape::truncated(&without_secrets(text), most).into_owned()
}

fn unencodable(e: &dyn std::fmt::Display) -> Error {
    Error::BadValue { what: "output".into(), reason: format!("cannot be encoded: {e}") }
}
