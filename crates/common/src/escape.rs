//! How text from outside is displayed: names of columns, models and files, and values in them, may contain any
//! character.
//!
//! This is the only place that defines it. Lines, tables, messages and CSV (`driftsweep_report::output`) go through it.

use std::borrow::Cow;

/// Whether a character is invisible, or changes how others are displayed: control characters (C0, DEL, C1), line and
/// paragraph separators, characters that change the direction of writing, and those without width.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether a character is displayed as an escape: it is invisible, or an unusual space, so that two names that differ
/// in it do not look the same.
pub fn is_escaped(c: char) -> bool {
    is_invisible(c) || (c.is_whitespace() && c != ' ')
}

/// A text with each character that `wanted` names as an escape such as `\n` or `\u{1b}`. Nothing else is changed, quotes and
/// backslashes neither, so that a text that was escaped before stays as it is.
fn escape_where(text: &str, wanted: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(wanted) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if wanted(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// A text for display: always one line, without control sequences for the terminal.
pub fn for_display(text: &str) -> Cow<'_, str> {
    escape_where(text, is_escaped)
}

/// A text without hidden characters, which are escaped; unusual spaces stay as they are, for programs that search for
/// names.
pub fn escape_invisible(text: &str) -> Cow<'_, str> {
    escape_where(text, is_invisible)
}

/// A text for display, limited to a number of characters: a longer one keeps its beginning and its end.
pub fn truncated(text: &str, most: usize) -> Cow<'_, str> {
    let shown = for_display(text);
    // Bytes are at least as many as characters.
    if shown.len() <= most {
        return shown;
    }
    let length = shown.chars().count();
    if length <= most {
        return shown;
    }
    let head: String = shown.chars().take(most - most / 3).collect();
    let tail: String = shown.chars().skip(length - most / 3).collect();
    Cow::Owned(format!("{head}… ({} characters left out) …{tail}", length - most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped_and_all_else_is_left_alone() {
        for (text, wanted) in [
            ("it's \"x\"\u{1b}[31m\n", "it's \"x\"\\u{1b}[31m\\n"),
            ("a\tb\rc\0d", "a\\tb\\rc\\u{0}d"),
            ("\u{7f}\u{85}\u{9b}2J", "\\u{7f}\\u{85}\\u{9b}2J"),
            ("\u{202e}gpj.\u{200b}\u{2028}\u{feff}\u{ad}", "\\u{202e}gpj.\\u{200b}\\u{2028}\\u{feff}\\u{ad}"),
            ("a\u{a0}b\u{3000}c", "a\\u{a0}b\\u{3000}c"),
            ("größe e\u{301} 🙂 हिन्दी 数", "größe e\u{301} 🙂 हिन्दी 数"),
            ("back\\slash <script> =1", "back\\slash <script> =1"),
            ("", ""),
        ] {
            assert_eq!(for_display(text), wanted);
            // Once more changes nothing.
            assert_eq!(for_display(&for_display(text)), wanted);
        }
        assert_eq!(escape_invisible("a\u{a0}b\n\u{200b}"), "a\u{a0}b\\n\\u{200b}");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let long = format!("begin{}end", "x".repeat(10_000));
        let text = truncated(&long, 90);
        assert!(text.starts_with("beginxxx") && text.ends_with("xxxend"), "{text}");
        assert!(text.contains("… (9918 characters left out) …") && text.chars().count() < 150, "{text}");
        assert_eq!(truncated("größe", 5), "größe");
    }
}
