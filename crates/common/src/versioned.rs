//! Versions of stored things. What is stored carries the version of its form, so that a later program can upgrade it and an
//! earlier one refuses it. Each kind has one [`Format`]; a new version is one more upgrade there, and one fixture in
//! tests/fixtures.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The field of a body with the version of its form.
const FIELD: &str = "version";

/// Changes a parsed body from one version to the next.
pub type Upgrade = fn(&mut Value);

/// The form of one kind of stored thing.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    name: &'static str,
    version: u32,
    upgrades: &'static [Upgrade],
}

/// Why a stored thing cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A later program wrote it.
    #[error(
        "it was written by a newer version of driftsweep: the format of {name} has version {found}, and driftsweep {} \
         knows versions up to {known}; install the newer one",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The kind.
        name: &'static str,
        /// Its version.
        found: u64,
        /// The latest version that this program knows.
        known: u32,
    },
    /// Its version is not a number from 1 on.
    #[error("its version is not a whole number from 1 on")]
    Version,
    /// It is not JSON, or not what its version says.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A body with its version.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl Format {
    /// The form of a kind, named in the plural. `upgrades` lead from version 1 to the current one, each from one version
    /// to the next.
    pub const fn new(name: &'static str, upgrades: &'static [Upgrade]) -> Self {
        Self { name, version: upgrades.len() as u32 + 1, upgrades }
    }

    /// The form of a kind whose earlier versions are never upgraded.
    pub const fn of_version(name: &'static str, version: u32) -> Self {
        Self { name, version, upgrades: &[] }
    }

    /// The current version.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Refuses a version that this program does not know.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Version`].
    pub fn check(&self, version: u64) -> Result<(), FormatError> {
        match version {
            0 => Err(FormatError::Version),
            found if found > u64::from(self.version) => {
                Err(FormatError::Newer { name: self.name, found, known: self.version })
            }
            _ => Ok(()),
        }
    }

    /// The version of a body. One without is of version 1: the first ones were written without.
    fn version_of(&self, body: &Value) -> Result<u64, FormatError> {
        let version = body.get(FIELD).map_or(Some(1), Value::as_u64).ok_or(FormatError::Version)?;
        self.check(version)?;
        Ok(version)
    }

    /// Upgrades a parsed body of a version to the current one.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn upgrade(&self, version: u64, body: &mut Value) -> Result<(), FormatError> {
        self.check(version)?;
        self.upgrades.iter().zip(1..).filter(|&(_, from)| from >= version).for_each(|(upgrade, _)| upgrade(body));
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, FormatError> {
        self.read_value(&serde_json::from_str(text)?)
    }

    /// Reads a parsed body.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn read_value<T: DeserializeOwned>(&self, body: &Value) -> Result<T, FormatError> {
        Ok(T::deserialize(&*self.upgraded(body)?)?)
    }

    /// A parsed body in the current version.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn upgraded<'a>(&self, body: &'a Value) -> Result<Cow<'a, Value>, FormatError> {
        let version = self.version_of(body)?;
        if version == u64::from(self.version) {
            return Ok(Cow::Borrowed(body));
        }
        let mut body = body.clone();
        self.upgrade(version, &mut body)?;
        Ok(Cow::Owned(body))
    }

    /// Writes a body, which is an object, with its version.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn write(&self, body: &impl Serialize) -> serde_json::Result<String> {
        serde_json::to_string(&Versioned { version: self.version, body })
    }

    /// Adds the version to a body, which is an object.
    pub fn mark(&self, body: &mut Value) {
        if let Some(fields) = body.as_object_mut() {
            fields.insert(FIELD.into(), self.version.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    /// A thing whose amount was called price first, and was in units before it was in cents.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        cents: u64,
    }

    const THING: Format = Format::new(
        "things",
        &[
            |body| body["amount"] = body["price"].take(),
            |body| body["cents"] = (body["amount"].as_u64().unwrap_or(0) * 100).into(),
        ],
    );

    #[test]
    fn a_body_of_each_version_is_read_and_written_as_the_current_one() {
        let thing = Thing { cents: 500 };
        for body in [
            json!({ "price": 5 }),
            json!({ "version": 1, "price": 5 }),
            json!({ "version": 2, "amount": 5 }),
            json!({ "version": 3, "cents": 500 }),
        ] {
            assert_eq!(THING.read::<Thing>(&body.to_string()).unwrap(), thing, "{body}");
        }
        assert_eq!(THING.write(&thing).unwrap(), r#"{"version":3,"cents":500}"#);
        let mut body = json!({ "cents": 500 });
        THING.mark(&mut body);
        assert_eq!(THING.read_value::<Thing>(&body).unwrap(), thing);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let reason = |body: &str| THING.read::<Thing>(body).unwrap_err().to_string();
        let newer = reason(r#"{"version":4,"cents":{}}"#);
        assert!(newer.contains("the format of things has version 4"), "{newer}");
        assert!(newer.contains("versions up to 3; install the newer one"), "{newer}");
        for version in ["0", "-1", "1.5", "\"2\"", "null"] {
            let found = reason(&format!(r#"{{"version":{version},"cents":1}}"#));
            assert!(found.contains("not a whole number from 1 on"), "{version}: {found}");
        }
        assert!(reason("{").contains("EOF"));
        assert!(reason(r#"{"version":3}"#).contains("missing field `cents`"));
    }
}
