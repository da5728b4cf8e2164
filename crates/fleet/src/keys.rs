//! The keys of a fleet file, with their values and positions: for messages about them.

use toml_edit::{Document, Item, TableLike, Value};

/// A value of a fleet file. Values of a list have the key of the list.
pub struct Entry<'a> {
    /// Its key, with those of the tables around it: `model.retrain.command`.
    pub key: &'a str,
    /// The value; nothing for a table.
    pub value: Option<&'a Value>,
    /// Its position, in bytes from the beginning.
    pub span: Option<std::ops::Range<usize>>,
}

/// Calls a function for every entry, tables before their content; never for text that is not TOML.
pub fn each(text: &str, mut visit: impl FnMut(Entry<'_>)) {
    if let Ok(document) = Document::parse(text) {
        in_table("", document.as_table(), &mut visit);
    }
}

/// The innermost key at a position of a text.
pub fn at(text: &str, at: usize) -> Option<String> {
    let mut found = None;
    each(text, |entry| {
        if entry.span.is_some_and(|span| span.contains(&at)) {
            found = Some(entry.key.to_owned());
        }
    });
    found
}

fn in_table(outer: &str, table: &dyn TableLike, visit: &mut dyn FnMut(Entry<'_>)) {
    for (name, item) in table.iter() {
        let name = driftsweep_common::escape::for_display(name);
        let key = if outer.is_empty() { name.into_owned() } else { format!("{outer}.{name}") };
        match item {
            Item::None => {}
            Item::Value(value) => in_value(&key, value, visit),
            Item::Table(table) => {
                visit(Entry { key: &key, value: None, span: table.span() });
                in_table(&key, table, visit);
            }
            Item::ArrayOfTables(tables) => {
                for table in tables.iter() {
                    visit(Entry { key: &key, value: None, span: table.span() });
                    in_table(&key, table, visit);
                }
            }
        }
    }
}

fn in_value(key: &str, value: &Value, visit: &mut dyn FnMut(Entry<'_>)) {
    visit(Entry { key, value: Some(value), span: value.span() });
    match value {
        Value::Array(values) => values.iter().for_each(|value| in_value(key, value, visit)),
        Value::InlineTable(table) => in_table(key, table, visit),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_innermost_key_around_it() {
        let text = "a = 1\n[[m]]\nb = { c = [2, 3], \"d.e\" = 4 }\n[m.x]\ny.z = 5\n[[m]]\nb = 6\n";
        for (mark, key) in
            [("1", "a"), ("2", "m.b.c"), ("3", "m.b.c"), ("4", "m.b.d.e"), ("5", "m.x.y.z"), ("6", "m.b")]
        {
            assert_eq!(at(text, text.find(mark).unwrap()).as_deref(), Some(key), "{mark}");
        }
        assert_eq!(at("a = [", 4), None);
    }
}
