//! What leaves the program for people and programs. Text from outside gets into a [`Page`], a [`Table`] or a [`Csv`] only
//! through their methods, which escape it, and the command line writes nothing but a [`Document`] made of these: a column's
//! name can neither end a line nor steer a terminal.

mod csv;
mod json;
mod page;
mod table;

use std::borrow::Cow;

use serde::Serialize;

pub use self::csv::Csv;
pub use json::json_line;
pub use page::Page;
pub use table::{CellColor, Table, TableCell};

use crate::address::without_secrets;
use crate::error::{Error, Result};
use crate::escape;

/// Characters of a line at most; a page that is a file has whole lines.
pub const MAX_LINE_CHARS: usize = 4000;

/// What a command writes.
pub struct Document(Content);

enum Content {
    Page(Page),
    Exact(String),
    Bytes(Vec<u8>),
}

impl Document {
    /// A value as JSON, with nothing hidden in it: such characters are written as escapes, which every reader of JSON takes
    /// for the same text. Floats have the shortest form that reads back to the same double.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a value cannot be encoded.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        Ok(Self(Content::Bytes(json::pretty(value)?)))
    }

    /// A text that must stay as it is to the byte, because it is signed. Only a terminal gets it escaped.
    pub fn exact(text: String) -> Self {
        Self(Content::Exact(text))
    }

    /// A Parquet file, which no terminal shows.
    pub fn parquet(bytes: Vec<u8>) -> Self {
        Self(Content::Bytes(bytes))
    }

    /// The bytes to write; with colours and the width of the terminal only if they go to one.
    pub fn bytes(&self, terminal: bool) -> Cow<'_, [u8]> {
        match &self.0 {
            Content::Page(page) => Cow::Owned(page.text(terminal).into_bytes()),
            Content::Exact(text) if terminal => {
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

/// A text as people are shown it: escaped, without what is secret in addresses, and of at most so many characters.
fn shown(text: &str, most: usize) -> String {
    escape::truncated(&without_secrets(text), most).into_owned()
}

fn unencodable(e: &dyn std::fmt::Display) -> Error {
    Error::BadValue { what: "output".into(), reason: format!("cannot be encoded: {e}") }
}
