//! Values of a column as the fleet file names them.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "give a string, a whole number, true or false")]
pub(crate) enum Literal {
    Text(String),
    Integer(i64),
    Flag(bool),
}

impl Literal {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}
