//! Versions of a model, as the registry has them. The words are those of MLflow: a version has a number, a source and a status,
//! and names that are moved from one version to another are aliases.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;

use driftsweep_extensions::executor::{Champion, TrainedModel};

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelVersion {
    /// The model.
    pub model: String,
    /// Its number, from 1, in the order of registration.
    pub version: u64,
    /// Its status.
    pub status: VersionStatus,
    /// When it got this status.
    pub since: Timestamp,
    /// Why it has this status.
    pub reason: String,
    /// The training that made it; absent where a person has registered it.
    pub job: Option<String>,
    /// Which start of that training, from 1.
    pub attempt: Option<u32>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// By whom.
    pub registered_by: String,
    /// What is known of it.
    #[serde(flatten)]
    pub trained: TrainedModel,
}

/// The status of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionStatus {
    /// It was trained, and may become the champion once its gates have accepted it.
    Candidate,
    /// It is in production. A model has at most one.
    Champion,
    /// It was in production, or a person has put it aside.
    Retired,
    /// Its gates did not accept it, or its training was cancelled.
    Rejected,
}

impl VersionStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Candidate, Self::Champion, Self::Retired, Self::Rejected];

    /// The name in the store and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Champion => "champion",
            Self::Retired => "retired",
            Self::Rejected => "rejected",
        }
    }

    /// Whether a version with this status may get another one. Only the gates reject.
    pub const fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Candidate, Self::Champion | Self::Retired | Self::Rejected)
                | (Self::Champion, Self::Retired)
                | (Self::Retired, Self::Champion)
        )
    }
}

impl fmt::Display for VersionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for VersionStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|status| status.name()).collect();
        let found = Self::ALL.into_iter().find(|status| status.name() == text);
        found.ok_or_else(|| format!("there is no status '{text}'; there are {}", names.join(", ")))
    }
}

impl ModelVersion {
    /// The same version with another status.
    ///
    /// # Errors
    /// Why it cannot have it.
    pub fn with_status(&self, status: VersionStatus, reason: &str, at: Timestamp) -> Result<Self, String> {
        match self.status.leads_to(status) {
            true if at < self.since => {
                Err(format!("it is {} since {}, which is later than {at}", self.status, self.since))
            }
            true => Ok(Self { status, since: at, reason: reason.into(), ..self.clone() }),
            false if self.status == status => Err(format!("it is {} already", self.status)),
            false => Err(format!("it is {} ({}), and cannot become {status}", self.status, self.reason)),
        }
    }

    /// How a training refers to it.
    pub fn as_champion(&self) -> Champion {
        let TrainedModel { source, digest, .. } = &self.trained;
        Champion { version: self.version, source: source.clone(), digest: digest.clone() }
    }
}

/// A version of a model, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionName {
    /// By its number.
    Number(u64),
    /// The one in production.
    Champion,
    /// The last one that was registered.
    Latest,
    /// By an alias.
    Alias(String),
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "champion" => Ok(Self::Champion),
            "latest" => Ok(Self::Latest),
            number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::Number).map_err(|_| format!("there is no version {number}"))
            }
            alias => check_alias(alias).map(|()| Self::Alias(alias.into())),
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Champion => f.write_str("champion"),
            Self::Latest => f.write_str("latest"),
            Self::Alias(alias) => write!(f, "'{alias}'"),
        }
    }
}

/// The longest alias.
const MAX_ALIAS_BYTES: usize = 100;

/// Whether a text may be an alias: not a number, and none of the names that driftsweep itself gives.
///
/// # Errors
/// What an alias may be.
pub fn check_alias(text: &str) -> Result<(), String> {
    let names = VersionStatus::ALL.iter().map(|status| status.name()).chain(["latest"]);
    let reserved = names.into_iter().any(|name| name.eq_ignore_ascii_case(text));
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    // MLflow reserves `v` with a number for versions.
    let is_number = text.strip_prefix(['v', 'V']).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    match !reserved && letters && begins && !is_number && text.len() <= MAX_ALIAS_BYTES {
        true => Ok(()),
        false => Err(format!(
            "an alias begins with a letter, has letters, digits, '-', '_' and '.' (at most {MAX_ALIAS_BYTES}), and is neither a \
             status, nor latest, nor a version such as v3"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_candidate_or_a_former_champion_becomes_the_champion_and_only_a_candidate_is_rejected() {
        let at = Timestamp::UNIX_EPOCH;
        let version = |status| ModelVersion {
            model: "m".into(),
            version: 1,
            status,
            since: at,
            reason: "trained".into(),
            job: None,
            attempt: None,
            registered_at: at,
            registered_by: "ana".into(),
            trained: TrainedModel { source: "models/1".into(), ..TrainedModel::default() },
        };
        let mut legal = Vec::new();
        for from in VersionStatus::ALL {
            assert_eq!(from.name().parse(), Ok(from));
            for to in VersionStatus::ALL {
                match version(from).with_status(to, "because", at) {
                    Ok(after) => {
                        assert_eq!((after.status, &*after.reason), (to, "because"));
                        legal.push((from.name(), to.name()));
                    }
                    Err(reason) => assert!(reason.contains(from.name()), "{reason}"),
                }
            }
        }
        let wanted = [
            ("candidate", "champion"),
            ("candidate", "retired"),
            ("candidate", "rejected"),
            ("champion", "retired"),
            ("retired", "champion"),
        ];
        assert_eq!(legal, wanted);
    }

    #[test]
    fn a_version_is_named_by_number_by_alias_or_as_the_champion() {
        for (text, wanted) in [
            ("7", VersionName::Number(7)),
            ("007", VersionName::Number(7)),
            ("champion", VersionName::Champion),
            ("latest", VersionName::Latest),
            ("blue-green_2.0", VersionName::Alias("blue-green_2.0".into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted));
        }
        let long = "a".repeat(MAX_ALIAS_BYTES + 1);
        for wrong in [
            "",
            " ",
            "a b",
            "3a",
            "v3",
            "V12",
            "v",
            "candidate",
            "retired",
            "rejected",
            "Champion",
            "LATEST",
            "é",
            "a/b",
            "a@b",
            "-a",
            &long,
        ] {
            assert!(wrong.parse::<VersionName>().is_err(), "{wrong}");
        }
        assert!("99999999999999999999999".parse::<VersionName>().is_err());
        assert!(check_alias("champion").is_err() && check_alias("latest").is_err());
    }
}
