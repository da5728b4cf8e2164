//! The outputs of the program other than messages: standard output and report files. Only [`Document`]s and lines of
//! JSON are written here, in which text from outside is escaped.

use std::io::{BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::path::Path;

use driftsweep_common::error::Error;
use driftsweep_report::output::{Document, Terminal, json_line};
use serde::Serialize;

/// The variable that turns colours off where it is set (https://no-color.org).
const NO_COLOR: &str = "NO_COLOR";

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Writes to standard output; a closed pipe is not an error.
pub fn write(document: impl Into<Document>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let bytes = document.into();
    let terminal = stdout.is_terminal().then(|| Terminal::of_stdout(super::variable(NO_COLOR).is_none()));
    let bytes = bytes.bytes(terminal);
    match stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.map_err(failed)?),
    }
}

/// Writes JSON to standard output.
pub fn write_json(value: &impl Serialize) -> anyhow::Result<()> {
    write(Document::json(value)?)
}

/// Writes a file, whole or not at all.
pub fn write_file(path: &Path, document: &Document) -> anyhow::Result<()> {
    Ok(driftsweep_common::storage::write(path, &document.bytes(None))?)
}

/// JSON on standard output, a line a value.
pub struct JsonLines(BufWriter<StdoutLock<'static>>);

impl JsonLines {
    /// None yet.
    pub fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Writes a value.
    pub fn write(&mut self, value: &impl Serialize) -> Result<(), Error> {
        self.0.write_all(&json_line(value)?).map_err(failed)
    }

    /// Flushes the output after all values were `written`, or one failed.
    pub fn finish(mut self, written: Result<(), Error>) -> anyhow::Result<()> {
        match written.and_then(|()| self.0.flush().map_err(failed)) {
            Err(Error::Write { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Write { path: "standard output".into(), source }
}
