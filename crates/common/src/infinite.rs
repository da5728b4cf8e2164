//! Doubles that may be infinite: in formats for people, such as JSON, which have no infinities, these are `"inf"` and `"-inf"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const INFINITY: &str = "inf";
const MINUS_INFINITY: &str = "-inf";

/// A double, or the text of an infinity.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Infinite(String),
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        match x {
            f64::INFINITY => Self::Infinite(INFINITY.into()),
            f64::NEG_INFINITY => Self::Infinite(MINUS_INFINITY.into()),
            finite => Self::Finite(finite),
        }
    }
}

impl Number {
    fn value<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Finite(x) => Ok(x),
            Self::Infinite(text) if text == INFINITY => Ok(f64::INFINITY),
            Self::Infinite(text) if text == MINUS_INFINITY => Ok(f64::NEG_INFINITY),
            Self::Infinite(text) => Err(E::custom(format!("'{text}' is not a number"))),
        }
    }
}

/// Writes one.
///
/// # Errors
/// Those of the format.
pub fn serialize<S: Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { Number::from(*x).serialize(to) } else { x.serialize(to) }
}

/// Reads one.
///
/// # Errors
/// Those of the format; a text that names no infinity.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    if from.is_human_readable() { Number::deserialize(from)?.value() } else { f64::deserialize(from) }
}

/// Writes a list of them.
///
/// # Errors
/// Those of the format.
pub fn serialize_list<S: Serializer>(all: &[f64], to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() { to.collect_seq(all.iter().map(|&x| Number::from(x))) } else { all.serialize(to) }
}

/// Reads a list of them.
///
/// # Errors
/// Those of [`deserialize`].
pub fn deserialize_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    if !from.is_human_readable() {
        return Vec::deserialize(from);
    }
    Vec::<Number>::deserialize(from)?.into_iter().map(Number::value).collect()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        one: f64,
        #[serde(serialize_with = "super::serialize_list", deserialize_with = "super::deserialize_list")]
        all: Vec<f64>,
    }

    #[test]
    fn infinities_come_back_from_json() {
        let both = Both { one: f64::NEG_INFINITY, all: vec![f64::NEG_INFINITY, -0.5, 3.0, f64::INFINITY] };
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(text, r#"{"one":"-inf","all":["-inf",-0.5,3.0,"inf"]}"#);
        assert_eq!(serde_json::from_str::<Both>(&text).unwrap(), both);
        assert_eq!(serde_json::from_str::<Both>(r#"{"one":2,"all":[]}"#).unwrap(), Both { one: 2.0, all: Vec::new() });
        assert!(serde_json::from_str::<Both>(r#"{"one":"much","all":[]}"#).unwrap_err().to_string().contains("much"));
    }
}
