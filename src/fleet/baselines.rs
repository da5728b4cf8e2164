//! Baselines that are used in place of those in the fleet file.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::window::dated;
use super::{Fleet, Model, resolve};
use crate::address::Place;

/// A baseline that was set for a model in place of the one in the fleet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBaseline {
    /// The baseline file, or the snapshot; empty for the one in the fleet file.
    pub place: String,
    /// What the fleet file named as `baseline` then, as [`Place::identity`] has it. If it names another one now, the fleet file counts.
    pub declared: String,
}

impl Model {
    /// Whether a baseline that was set last counts: the fleet file has not named another one since.
    pub fn counts(&self, set: &SetBaseline) -> bool {
        // Older versions kept the text itself.
        let declared =
            [self.declared_baseline.identity().as_str(), self.declared_baseline.expose()].contains(&&*set.declared);
        !self.previous && declared
    }

    /// Whether a baseline that was set last is the one that the model is compared with, in place of the fleet file's.
    pub fn is_compared_with(&self, set: &SetBaseline) -> bool {
        !set.place.is_empty() && self.counts(set)
    }
}

impl Fleet {
    /// The fleet with the baselines that were set, by the names of their models, in place of those in its file.
    pub fn with_baselines(mut self, set: &BTreeMap<String, SetBaseline>) -> Self {
        for model in &mut self.models {
            if let Some(set) = set.get(&model.name).filter(|set| model.is_compared_with(set)) {
                model.baseline = set.place.as_str().into();
            }
        }
        self
    }

    /// The baseline that the fleet file itself names for a model, whatever was set, as a sweep at a point in time reads it.
    pub fn own_baseline(&self, model: &Model, as_of: Timestamp) -> Place {
        let path = resolve(&self.folder, model.declared_baseline.expose());
        // The formats were checked when the file was read.
        dated(path.expose(), as_of, &model.zone).map_or(path, Place::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Options;

    #[test]
    fn a_baseline_that_was_set_counts_as_long_as_the_fleet_file_names_the_same_one() {
        let fleet = |baseline: &str| {
            let text = format!(
                "[[model]]\nname = \"m\"\nbaseline = \"{baseline}\"\ncurrent = \"b\"\ntime = \"t\"\nwindows = [\"7d\"]\n"
            );
            Fleet::parse(&text, "fleets/f.toml".as_ref(), &Options::new()).unwrap()
        };
        let set = |place: &str, declared: &str| {
            let set = SetBaseline { place: place.into(), declared: declared.into() };
            BTreeMap::from([("m".to_owned(), set)])
        };
        let used = |fleet: Fleet, set| fleet.with_baselines(&set).models.remove(0).baseline.expose().to_owned();
        assert_eq!(used(fleet("a"), set("/new.baseline", "a")), "/new.baseline");
        assert_eq!(used(fleet("a2"), set("/new.baseline", "a")), "fleets/a2");
        assert_eq!(used(fleet("a"), set("", "a")), "fleets/a");
        assert_eq!(used(fleet("previous"), set("/new.baseline", "previous")), "fleets/b");
        let link = "https://h/a?sig=SECRET";
        let kept = fleet(link).models.remove(0).declared_baseline.identity();
        assert!(!kept.contains("SECRET"), "{kept}");
        for declared in [&kept, link] {
            assert_eq!(used(fleet(link), set("/new.baseline", declared)), "/new.baseline");
            assert_eq!(used(fleet("https://h/a?sig=OTHER"), set("/new.baseline", declared)), "https://h/a?sig=OTHER");
        }
        let replaced = fleet("a").with_baselines(&set("/new.baseline", "a"));
        assert_eq!(replaced.own_baseline(&replaced.models[0], Timestamp::UNIX_EPOCH).expose(), "fleets/a");
        assert_eq!(replaced.models[0].windows[0].current.expose(), "fleets/b");
    }
}
