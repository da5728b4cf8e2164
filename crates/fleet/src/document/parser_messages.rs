//! Messages of the parser about a fleet file, in plain words and without the values of the file: any of them may be a
//! misplaced secret.

use driftsweep_common::error::{closest, did_you_mean};

/// Rewords a message of the parser about the value of a key, if it is known. Only a misspelt name is repeated, where it
/// is clear which one was meant.
pub(super) fn reworded(message: &str, key: Option<&str>) -> String {
    let named = key.unwrap_or("a value");
    for (what, is_type) in [("invalid type: ", true), ("invalid value: ", false)] {
        if let Some((found, wanted)) = message.strip_prefix(what).and_then(|rest| rest.rsplit_once(", expected ")) {
            let wanted = in_words(wanted);
            return match is_type {
                true => format!("{named} must be {wanted}, not {}", kind(found)),
                false => format!("{named} must be {wanted}; its value is none"),
            };
        }
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (unknown, known) = names(rest);
        let meant = closest(&unknown, known.iter().map(String::as_str));
        let repeated = if meant.is_some() { format!(" '{unknown}'") } else { String::new() };
        return format!("{named}: unknown name{repeated}{}; known: {}", did_you_mean(meant), known.join(", "));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (unknown, known) = names(rest);
        let meant = closest(&unknown, known.iter().map(String::as_str));
        // Keys are words. What is none may be a value that was written in front of a `=`.
        let is_word = unknown.len() <= MOST_OF_KEY && unknown.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
        let repeated = if is_word || meant.is_some() { format!(" '{unknown}'") } else { String::new() };
        return format!("unknown field{repeated}{}; known: {}", did_you_mean(meant), known.join(", "));
    }
    if let Some(wanted) = message.strip_prefix("wanted ") {
        return format!("{named} must be {}", in_words(wanted));
    }
    match key {
        Some(key) => format!("{key}: {message}"),
        None => message.to_owned(),
    }
}

/// Characters of a key.
const MOST_OF_KEY: usize = 64;

/// The unknown name and the known ones: the parser lists them all in backticks, the unknown one first.
fn names(list: &str) -> (String, Vec<String>) {
    // An unknown name may hold backticks, too.
    let (unknown, known) = list.rsplit_once(", expected ").unwrap_or((list, ""));
    let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (unknown.trim_matches('`').to_owned(), known)
}

/// The kind of a value, of which the parser also tells what it is.
fn kind(found: &str) -> String {
    match found.split(['"', '`']).next().unwrap_or_default().trim() {
        "string" | "character" => "a string".into(),
        "integer" => "a whole number".into(),
        "floating point" => "a number with a decimal point".into(),
        "boolean" => "true or false".into(),
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        _ => "another kind of value".into(),
    }
}

/// What is wanted, where the parser names it as Rust does.
fn in_words(wanted: &str) -> String {
    let kind = wanted.strip_prefix("a ").unwrap_or(wanted);
    let words = match kind {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" | "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        "string" => "a string",
        "string or table" => "a string or a table",
        _ if kind.starts_with("struct ") => "a table",
        _ if kind.starts_with("enum ") || kind.contains("variant") => "one of its names, as a string",
        _ => wanted,
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_repeated_and_kinds_are_told_in_words() {
        for (message, wanted) in [
            ("invalid type: string \"S, expected E\", expected struct WebhookTable", "k must be a table, not a string"),
            ("invalid type: string \"S\", expected a sequence", "k must be a list, not a string"),
            ("invalid type: integer `5`, expected a string", "k must be a string, not a whole number"),
            ("invalid value: integer `-5`, expected u32", "k must be a whole number of 0 or more; its value is none"),
            ("unknown variant `S`, expected `chat` or `cloudevent`", "k: unknown name; known: chat, cloudevent"),
            (
                "unknown variant `chatt`, expected `chat` or `x`",
                "k: unknown name 'chatt'; did you mean 'chat'?; known: chat, x",
            ),
            ("unknown variant `S`, expected `chat`, expected `a` or `b`", "k: unknown name; known: a, b"),
            ("unknown field `https://S`, expected `a`", "unknown field; known: a"),
            ("unknown field `hots`, expected `host`", "unknown field 'hots'; did you mean 'host'?; known: host"),
            ("wanted string or table", "k must be a string or a table"),
            ("missing field `label`", "k: missing field `label`"),
        ] {
            assert_eq!(reworded(message, Some("k")), wanted);
        }
        assert_eq!(reworded("duplicate key", None), "duplicate key");
    }
}
