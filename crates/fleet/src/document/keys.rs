//! The keys of a fleet file, with their values and positions: for messages about them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use driftsweep_common::escape::for_display;

/// Calls a function for every value with its key and those of the tables around it (`model.retrain.command`), tables before
/// their content. Values of a list have the key of the list.
pub(super) fn each(document: &DeTable<'_>, visit: &mut dyn FnMut(&str, &Spanned<DeValue<'_>>)) {
    in_table("", document, visit);
}

/// The innermost key at a position of a text; `None` if the text is not TOML.
pub(super) fn at(text: &str, at: usize) -> Option<String> {
    let mut found = None;
    each(DeTable::parse(text).ok()?.get_ref(), &mut |key, value| {
        if value.span().contains(&at) {
            found = Some(key.to_owned());
        }
    });
    found
}

fn in_table(outer: &str, table: &DeTable<'_>, visit: &mut dyn FnMut(&str, &Spanned<DeValue<'_>>)) {
    for (name, value) in table {
        let name = for_display(name.get_ref());
        let key = if outer.is_empty() { name.into_owned() } else { format!("{outer}.{name}") };
        in_value(&key, value, visit);
    }
}

fn in_value(key: &str, value: &Spanned<DeValue<'_>>, visit: &mut dyn FnMut(&str, &Spanned<DeValue<'_>>)) {
    visit(key, value);
    match value.get_ref() {
        DeValue::Array(values) => values.iter().for_each(|value| in_value(key, value, visit)),
        DeValue::Table(table) => in_table(key, table, visit),
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
