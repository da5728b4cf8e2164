//! Baselines that replace those in the fleet file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::checks::resolve;
use crate::fleet::Fleet;
use crate::model::Model;
use driftsweep::baseline::Baseline;
use driftsweep::model::dated;
use driftsweep_common::address::Location;

/// A baseline that was set for a model in place of the one in the fleet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBaseline {
    /// The baseline file, or the snapshot; empty for the one in the fleet file.
    pub place: String,
    /// What the fleet file named as `baseline` then, as [`Location::identity`] has it. If it names another one now, the
    /// fleet file takes precedence.
    pub declared: String,
}

/// The folder in the state where baselines are kept that were set.
const BASELINES_FOLDER: &str = "baselines";

/// The number of hexadecimal digits of the SHA-256 of its content in the name of such a file.
pub const HASH_DIGITS: usize = 32;

/// The part of a place that is the same in every state folder: `baselines/MODEL/HASH.baseline`. The file is named by its
/// content, so two files of the same name are the same baseline.
fn state_independent(place: &str) -> Option<PathBuf> {
    let path = Path::new(place);
    let folder = path.parent()?;
    let is_kept = path.extension()? == "baseline" && folder.parent()?.file_name()? == BASELINES_FOLDER;
    is_kept.then(|| {
        Path::new(BASELINES_FOLDER)
            .join(folder.file_name().unwrap_or_default())
            .join(path.file_name().unwrap_or_default())
    })
}

impl SetBaseline {
    /// Its path with this state folder: inside of the folder, which may have been moved since; else its path when it
    /// was set.
    pub fn place_in(&self, state: &Path) -> String {
        let moved = state_independent(&self.place).map(|kept| state.join(kept)).filter(|path| path.is_file());
        let absolute = moved.map(|path| std::path::absolute(&path).unwrap_or(path));
        absolute.map_or_else(|| self.place.clone(), |path| path.to_string_lossy().into_owned())
    }

    /// How the SHA-256 of its content begins, if it is a file that is kept in a state folder and named by its content.
    fn content_hash(&self) -> Option<String> {
        let kept = state_independent(&self.place)?;
        let name = kept.file_stem()?.to_str()?;
        let is_hash = name.len() == HASH_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| name.to_owned())
    }

    /// Whether a path is its path, now or before the state folder was moved.
    fn is_at(&self, place: &str) -> bool {
        self.place == place || state_independent(&self.place).is_some_and(|kept| state_independent(place) == Some(kept))
    }
}

impl Model {
    /// Whether the baseline that was set last is in effect: the fleet file has not been changed to another one since.
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
    /// The fleet with the baselines that were set, by the names of their models, in place of those in its file. `state` is the
    /// folder of its state, where they are looked for first.
    pub fn with_baselines(mut self, set: &BTreeMap<String, SetBaseline>, state: &Path) -> Self {
        for model in &mut self.models {
            if let Some(set) = set.get(&model.name).filter(|set| model.is_compared_with(set)) {
                let is_file = |place: &Location| Baseline::is_baseline_file(Path::new(place.expose()));
                let place = Location::from(set.place_in(state));
                // It was written once, where it stands in place of another kind of baseline.
                model.compared.baseline_is_nightly &= is_file(&place) == is_file(&model.declared_baseline);
                model.compared.baseline = place;
                model.compared.baseline_hash = set.content_hash();
            }
        }
        self
    }

    /// The baseline in effect for a model, if it is not the one that a sweep at a point in time compared it with.
    pub fn replaced_baseline(&self, model: &Model, set: Option<&SetBaseline>, as_of: Timestamp) -> Option<Location> {
        if model.previous {
            return None;
        }
        match set.filter(|set| model.is_compared_with(set)) {
            Some(set) => (!set.is_at(model.baseline.expose())).then(|| set.place.as_str().into()),
            None => Some(self.own_baseline(model, as_of)).filter(|own| *own != model.baseline),
        }
    }

    /// The baseline that the fleet file itself names for a model, whatever was set, as a sweep at a point in time reads it.
    pub fn own_baseline(&self, model: &Model, as_of: Timestamp) -> Location {
        let path = resolve(&self.folder, model.declared_baseline.expose());
        // The formats were checked when the file was read.
        dated(path.expose(), as_of, &model.zone).map_or(path, Location::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::model::Options;

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
        let nowhere = Path::new("no-state");
        let used =
            |fleet: Fleet, set| fleet.with_baselines(&set, nowhere).models.remove(0).baseline.expose().to_owned();
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
        let replaced = fleet("a").with_baselines(&set("/new.baseline", "a"), nowhere);
        assert_eq!(replaced.own_baseline(&replaced.models[0], Timestamp::UNIX_EPOCH).expose(), "fleets/a");
        assert_eq!(replaced.models[0].windows[0].current.expose(), "fleets/b");
    }

    #[test]
    fn a_baseline_in_a_state_folder_that_was_moved_is_found_where_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let file = |state: &Path| state.join("baselines/m/0123.baseline");
        let set = SetBaseline { place: file(&old).to_string_lossy().into_owned(), declared: "a".into() };
        let place = |state: &Path| PathBuf::from(set.place_in(state));
        std::fs::create_dir_all(file(&old).parent().unwrap()).unwrap();
        std::fs::write(file(&old), "x").unwrap();
        assert_eq!(place(&old), file(&old));
        assert_eq!(place(&new), file(&old), "another state folder of the same store");
        std::fs::rename(&old, &new).unwrap();
        assert_eq!(place(&new), file(&new));
        assert!(set.is_at(file(&new).to_str().unwrap()) && set.is_at(file(&old).to_str().unwrap()));
        assert!(!set.is_at(new.join("baselines/m/4567.baseline").to_str().unwrap()));
        // What is not kept in a state folder is where it is named.
        let elsewhere = SetBaseline { place: "s3://models/m.baseline".into(), declared: "a".into() };
        assert_eq!(elsewhere.place_in(&new), "s3://models/m.baseline");
    }

    #[test]
    fn a_baseline_that_was_set_in_place_of_the_one_compared_with_is_noticed() {
        let text = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n";
        let fleet = Fleet::parse(text, "fleets/f.toml".as_ref(), &Options::new()).unwrap();
        let set = |place: &str| SetBaseline { place: place.into(), declared: "a".into() };
        let own = &fleet.models[0];
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(fleet.replaced_baseline(own, None, now), None);
        assert_eq!(fleet.replaced_baseline(own, Some(&set("")), now), None);
        assert_eq!(fleet.replaced_baseline(own, Some(&set("/new.baseline")), now), Some("/new.baseline".into()));
        let sets = BTreeMap::from([("m".to_owned(), set("/new.baseline"))]);
        let renewed = fleet.clone().with_baselines(&sets, Path::new("no-state"));
        let model = &renewed.models[0];
        assert_eq!(renewed.replaced_baseline(model, Some(&set("/new.baseline")), now), None);
        assert_eq!(renewed.replaced_baseline(model, Some(&set("")), now), Some("fleets/a".into()));
        assert_eq!(
            renewed.replaced_baseline(model, Some(&set("/newer.baseline")), now),
            Some("/newer.baseline".into())
        );
    }
}
