//! The JSON Schema of the fleet file. It is made of the types that read it, and kept in a file of the repository, which
//! editors understand (`#:schema` in the first line of a fleet file).

/// The schema.
pub const FLEET_SCHEMA: &str = include_str!("../fleet.schema.json");

#[cfg(feature = "schema")]
mod generated {
    use std::borrow::Cow;

    use driftsweep::metric::convention::Convention;
    use schemars::generate::SchemaSettings;
    use schemars::transform::RecursiveTransform;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use crate::table::{ConventionSetting, ConventionTable, FleetTable};

    /// The schema as it follows from the types.
    ///
    /// # Panics
    /// Never: a schema is always JSON.
    pub fn generated_schema() -> String {
        // Descriptions come from the docs of types; an example in Rust says nothing to the author of a fleet file.
        let without_examples = RecursiveTransform(|schema: &mut Schema| {
            if let Some(description) = schema.get("description").and_then(|text| text.as_str())
                && let Some((before, _)) = description.split_once("```")
            {
                let description = before.trim_end().into();
                schema.insert("description".into(), description);
            }
        });
        let settings = SchemaSettings::draft07().with_transform(without_examples);
        let mut schema = settings.into_generator().into_root_schema_for::<FleetTable>();
        schema.insert("title".into(), "Fleet file of driftsweep".into());
        let mut text = format!("{:#}", schema.as_value());
        text.push('\n');
        text
    }

    impl JsonSchema for ConventionSetting {
        fn schema_name() -> Cow<'static, str> {
            "ConventionSetting".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let (name, table) = (generator.subschema_for::<Convention>(), generator.subschema_for::<ConventionTable>());
            json_schema!({ "anyOf": [name, { "const": "none" }, table] })
        }
    }
}

#[cfg(feature = "schema")]
pub use generated::generated_schema;
