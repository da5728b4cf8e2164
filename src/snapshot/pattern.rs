//! The names below a folder that belong to a snapshot: those that match a pattern, or all data files.

use driftsweep_common::address;

const EXTENSIONS: [&str; 7] = ["parquet", "pq", "csv", "tsv", "arrow", "ipc", "feather"];

/// Endings of files that are still being written, are copies, or hold the checksum of another file.
const UNFINISHED: [&str; 9] = ["tmp", "temp", "crc", "inprogress", "partial", "_copying_", "swp", "bak", "crdownload"];

/// Whether a file holds data by its extension.
pub fn is_data(name: &str) -> bool {
    address::extension(name).is_some_and(|extension| EXTENSIONS.contains(&&*extension))
}

/// Whether a name is not that of data: files of Spark, Hive, Flink and editors, and files that are still being written.
/// A folder such as `_year=2026` is a partition.
pub fn is_hidden(name: &str) -> bool {
    let lower = name.to_lowercase();
    let ends_unfinished = lower.rsplit_once('.').is_some_and(|(_, end)| UNFINISHED.contains(&end));
    name.starts_with('.')
        || (!name.contains('=')
            && (name.starts_with('_') || name.ends_with('~') || lower.contains(".inprogress") || ends_unfinished))
}

/// A pattern below a folder, part by part; without parts, everything that holds data.
#[derive(Debug, Default)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug)]
enum Part {
    /// `**`: any folders, or none.
    Folders,
    /// One name.
    Name {
        glob: glob::Pattern,
        /// Whether it is a hidden name itself (`_*`, `*.tmp`), and so selects hidden files.
        hidden: bool,
    },
}

/// Positions in a pattern that a folder may have reached, each the number of parts before it; empty if nothing below
/// the folder can match.
pub(crate) type PatternPositions = Vec<usize>;

impl Pattern {
    /// Splits a pattern into the folder before its first wildcard and the rest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn split(text: &str) -> Result<(&str, Self), String> {
        let wildcard = text.find(['*', '?', '[']).unwrap_or(text.len());
        let (folder, rest) = text.split_at(text[..wildcard].rfind('/').map_or(0, |slash| slash + 1));
        let part = |text: &str| match text {
            "**" => Ok(Part::Folders),
            _ => Ok(Part::Name { glob: glob::Pattern::new(text)?, hidden: is_hidden(text) }),
        };
        let parts = rest.split('/').filter(|text| !text.is_empty()).map(part);
        let parts = parts.collect::<Result<_, glob::PatternError>>().map_err(|e| e.to_string())?;
        Ok((folder, Self(parts)))
    }

    /// The positions of the folder before the first wildcard.
    pub fn start(&self) -> PatternPositions {
        self.after(vec![0])
    }

    /// `**` may match no folder.
    fn after(&self, mut places: PatternPositions) -> PatternPositions {
        let mut i = 0;
        while let Some(&place) = places.get(i) {
            if matches!(self.0.get(place), Some(Part::Folders)) && !places.contains(&(place + 1)) {
                places.push(place + 1);
            }
            i += 1;
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The positions of a folder of this name, in a folder at these positions.
    pub fn folder(&self, places: &[usize], name: &str) -> PatternPositions {
        let place = |&place: &usize| match self.0.get(place) {
            None | Some(Part::Folders) => (!is_hidden(name)).then_some(place),
            Some(Part::Name { glob, hidden }) => {
                ((*hidden || !is_hidden(name)) && glob.matches(name)).then_some(place + 1)
            }
        };
        self.after(places.iter().filter_map(place).collect())
    }

    /// Whether a file of this name, in a folder at these positions, belongs to the snapshot. A file that is named
    /// explicitly may have any extension.
    pub fn file(&self, places: &[usize], name: &str) -> bool {
        places.iter().any(|&place| match self.0.get(place) {
            None => is_data(name) && !is_hidden(name),
            Some(Part::Folders) => false,
            Some(Part::Name { glob, hidden }) => {
                place + 1 == self.0.len() && (*hidden || !is_hidden(name)) && glob.matches(name)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let (_, pattern) = Pattern::split(pattern).unwrap();
        let mut parts: Vec<&str> = path.split('/').collect();
        let file = parts.pop().unwrap();
        let places = parts.iter().fold(pattern.start(), |places, part| pattern.folder(&places, part));
        pattern.file(&places, file)
    }

    #[test]
    fn patterns_match_as_in_a_shell_and_take_folders_whole() {
        for (pattern, yes, no) in [
            (
                "",
                &["a.parquet", "x/y/a.CSV", "_year=1/a.parquet", "x.parquet/part-0.parquet"][..],
                &["a.txt", "part-0"][..],
            ),
            ("*.parquet", &["a.parquet", "x.parquet/part-0.parquet"], &["a.csv", "x/a.parquet", "a.PARQUET"]),
            ("*/part-*", &["d/part-0", "d/part-x/a.csv"], &["part-0", "d/e/part-0", "d/part-x/a.txt"]),
            ("**/*.parquet", &["a.parquet", "x/y/a.parquet"], &["x/y/a.csv"]),
            ("**", &["a.parquet", "x/y/a.csv"], &["x/README"]),
            ("x*/**/b/*.csv", &["x/b/a.csv", "x1/y/z/b/a.csv"], &["x/a.csv", "y/b/a.csv"]),
            ("**/**/a.csv", &["a.csv", "x/y/a.csv"], &["x/b.csv"]),
            ("day=[0-2]?/*", &["day=12/a"], &["day=32/a"]),
        ] {
            yes.iter().for_each(|path| assert!(matches(pattern, path), "{pattern} {path}"));
            no.iter().for_each(|path| assert!(!matches(pattern, path), "{pattern} {path}"));
        }
        assert!(Pattern::split("a/***").is_err());
        assert_eq!(Pattern::split("s3://b/x/y-*/z").unwrap().0, "s3://b/x/");
    }

    #[test]
    fn what_lies_beside_the_data_is_hidden_unless_it_is_asked_for() {
        let hidden = [
            "_SUCCESS",
            "_temporary",
            ".x.parquet",
            "._x.parquet",
            ".part-0.parquet.crc",
            "x.parquet.crc",
            "x.parquet.tmp",
            "x.tmp.parquet.TMP",
            "part-0-0.inprogress.ab12",
            "x.parquet~",
            "x.parquet._COPYING_",
            "_x.parquet",
        ];
        for name in hidden {
            assert!(is_hidden(name), "{name}");
            for pattern in ["", "*", "**", "**/*"] {
                assert!(!matches(pattern, name) && !matches(pattern, &format!("{name}/a.parquet")), "{pattern} {name}");
            }
        }
        for name in ["x.parquet", "x.tmp.parquet", "day=_x", "_year=2026", "city=a.tmp", "inprogress.csv"] {
            assert!(!is_hidden(name), "{name}");
        }
        assert!(matches("_*.parquet", "_x.parquet") && matches("*.tmp", "x.tmp") && matches(".*/*", ".x/a.parquet"));
    }
}
