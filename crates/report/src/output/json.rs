//! JSON without invisible characters.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::unencodable;
use driftsweep_common::error::Result;
use driftsweep_common::escape::is_invisible;

/// Escapes invisible characters of strings. The rest is formatted by another formatter.
struct EscapeInvisible<F>(F);

macro_rules! as_inner {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        $(fn $name<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $arg: $kind)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for EscapeInvisible<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_invisible(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    as_inner! {
        write_char_escape(char_escape: CharEscape);
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

fn encoded(value: &impl Serialize, formatter: impl Formatter) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, EscapeInvisible(formatter));
    value.serialize(&mut serializer).map_err(|e| unencodable(&e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A value over several lines.
pub(super) fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    encoded(value, PrettyFormatter::new())
}

/// A value on one line, with its end.
///
/// # Errors
/// [`driftsweep_common::error::Error::BadValue`] where a value cannot be encoded.
pub fn json_line(value: &impl Serialize) -> Result<Vec<u8>> {
    encoded(value, CompactFormatter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn json_hides_nothing_and_reads_back_as_it_was() {
        let names =
            ["\u{1b}[31m\n", "\u{7f}\u{85}\u{9b}", "\u{202e}x\u{200b}", "\u{2028}", "\u{e0041}", "größe \"é\" 🙂\\"];
        let value = json!({ "names": names, names[2]: { "x": [1.5, null, true, {}], "y": [] } });
        for bytes in [pretty(&value).unwrap(), json_line(&value).unwrap()] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains(|c| c != '\n' && is_invisible(c)), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert_eq!(
            json_line(&json!({ "a": [1, "\u{202e}\u{e0041}"] })).unwrap(),
            b"{\"a\":[1,\"\\u202e\\udb40\\udc41\"]}\n"
        );
        // Where nothing is hidden it is what it always was.
        let plain = json!({ "a": [1, 2.5, "é\n"], "b": {}, "c": [] });
        let usual = serde_json::to_string_pretty(&plain).unwrap() + "\n";
        assert_eq!(String::from_utf8(pretty(&plain).unwrap()).unwrap(), usual);
    }
}
