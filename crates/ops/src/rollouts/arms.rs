//! The names of the arms of a rollout.

use driftsweep_extensions::traffic::Arm;
use driftsweep_fleet::RolloutConfig;

/// An arm by its name and version.
pub struct NamedArm {
    /// Its name.
    pub name: String,
    version: Option<u64>,
}

impl NamedArm {
    /// With the source of its version.
    pub fn with_source(self, source: impl Fn(u64) -> Option<String>) -> Arm {
        Arm { source: self.version.and_then(source), name: self.name, version: self.version }
    }
}

/// The arms of a rollout: the candidate, and production.
///
/// # Errors
/// Why they have no names.
pub fn arms(config: &RolloutConfig, version: u64, former: Option<u64>) -> Result<[NamedArm; 2], String> {
    let named = |pattern: &str, version| {
        RolloutConfig::arm_name(pattern, version).map(|name| NamedArm { name, version }).ok_or_else(|| {
            "no version is in production, after which its arm would be named; register it and promote it (`driftsweep models \
             register`, `driftsweep models promote`), or give rollout.production a name without {version}"
                .to_owned()
        })
    };
    let arms = [named(&config.candidate, Some(version))?, named(&config.production, former)?];
    match arms[0].name == arms[1].name {
        false => Ok(arms),
        true => Err(format!("candidate and production are both called '{}'", arms[0].name)),
    }
}
