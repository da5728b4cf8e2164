//! Reading a baseline file. It is checked as a whole when it is opened; a feature's distribution is unpacked when a
//! comparison needs it, so that a sweep only holds those of the current features.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::pod_collect_to_vec;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BaselineHeader, FORMAT, Frozen, FrozenFeature};
use crate::count::cells::CellMapParts;
use crate::count::{Categories, CellCounts, CellMap, CellSet, Domain, Ecdf, KeyRuns, Tally};
use crate::snapshot::ColumnType;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result, Status};
use driftsweep_common::storage::{self, StoredFile};
use driftsweep_common::versioned::FormatError;

/// The error for a file that is not a baseline, with the remedy.
const NOT_ONE: &str = "not a baseline file; build one with `driftsweep baseline build`";

pub(super) const MAGIC: &str = "driftsweep-baseline";

/// The description of a feature, without its lists of integers.
#[derive(Serialize, Deserialize)]
pub(super) struct FeatureHeader {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub segment: String,
    pub name: String,
    pub dtype: ColumnType,
    pub tally: Tally,
    pub data: DataHeader,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DataHeader {
    Numeric { domain: Domain, origin: u64, coarse_shift: u32, with_offsets: bool },
    Categorical { pooled: u64, threshold: Option<u64> },
    Refused { status: Status, detail: String },
}

/// What a baseline file says of itself.
#[derive(Deserialize)]
struct Described {
    header: BaselineHeader,
    features: Vec<FeatureHeader>,
}

/// SHA-256 over the metadata (but the hash itself) and every tensor, in the order of their names.
pub(super) fn content_hash<'a>(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for key in ["format", "version", "header", "features"] {
        part(metadata.get(key).map_or(&[][..], |text| text.as_bytes()));
    }
    for (name, bytes) in tensors {
        part(name.as_bytes());
        part(bytes);
    }
    hex(&hash.finalize())
}

/// A baseline file, opened and checked.
///
/// ```
/// use driftsweep::{BaselineBuilder, BaselineFile, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let snapshot = Snapshot::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("weather.baseline");
/// BaselineBuilder::new(&snapshot).build(&CpuCounter)?.write(&path)?;
/// let file = BaselineFile::open(&path)?;
/// assert_eq!(file.header.rows, snapshot.rows());
/// # Ok(())
/// # }
/// ```
pub struct BaselineFile {
    /// Where it came from and how it was counted.
    pub header: BaselineHeader,
    path: PathBuf,
    features: Vec<FeatureHeader>,
    content_hash: String,
    bytes: Vec<u8>,
    tensors: Metadata,
    /// Where the tensors start.
    start: usize,
}

/// One feature of a baseline file.
#[derive(Clone, Copy)]
pub struct StoredFeature<'a> {
    file: &'a BaselineFile,
    at: usize,
}

impl BaselineFile {
    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Baseline`] with the reason: not a baseline, another version, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        if !storage::is_remote(path) {
            Self::has_head(path)?;
        }
        Self::from_bytes(path, storage::read(path)?)
    }

    /// Refuses a file that does not start like a baseline file, before it is read as a whole: it may be large.
    fn has_head(path: &Path) -> Result<()> {
        let file = StoredFile::open(path)?;
        // The length of the header, and its first byte.
        let mut head = [0; 9];
        let known = file.length().min(head.len() as u64) as usize;
        let unreadable = |reason| Error::Unreadable { path: path.into(), reason };
        file.read_exact_at(&mut head[..known], 0).map_err(unreadable)?;
        match known < head.len() || head[8] == b'{' {
            true => Ok(()),
            false => Err(Error::Baseline { path: path.into(), reason: NOT_ONE.into() }),
        }
    }

    /// The same from bytes that were not written yet; `path` is what messages name.
    ///
    /// # Errors
    /// [`Error::Baseline`] with the reason.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::check(path, bytes).map_err(|reason| Error::Baseline { path: path.into(), reason })
    }

    fn check(path: &Path, bytes: Vec<u8>) -> std::result::Result<Self, String> {
        let (length, tensors) = SafeTensors::read_metadata(&bytes).map_err(|e| match e {
            safetensors::SafeTensorError::MetadataIncompleteBuffer => "cut short; build it again".to_owned(),
            _ => NOT_ONE.to_owned(),
        })?;
        let metadata = tensors.metadata().clone().ok_or(NOT_ONE)?;
        if metadata.get("format").map(String::as_str) != Some(MAGIC) {
            return Err(NOT_ONE.into());
        }
        let version = metadata.get("version").and_then(|version| version.parse().ok()).unwrap_or(0);
        FORMAT.check(version).map_err(|e| match e {
            FormatError::Newer { .. } => format!("{e}, or build it again"),
            other => damage_message(&other),
        })?;
        let start = 8 + length;
        let mut names = tensors.offset_keys();
        names.sort_unstable();
        let lists = names.iter().map(|name| Some((name.as_str(), bytes.get(range_of(&tensors, start, name)?)?)));
        let lists: Vec<(&str, &[u8])> =
            lists.collect::<Option<_>>().ok_or_else(|| damage_message(&"lists beyond its end"))?;
        let content_hash = content_hash(&metadata, lists.into_iter());
        if metadata.get("content_hash") != Some(&content_hash) {
            return Err(damage_message(&"its content does not match its hash"));
        }
        let text = |key: &str| metadata.get(key).ok_or_else(|| damage_message(&format!("no {key}")));
        let json = |key: &str| serde_json::from_str::<Value>(text(key)?).map_err(|e| damage_message(&e));
        let mut described = json!({ "header": json("header")?, "features": json("features")? });
        FORMAT.upgrade(version, &mut described).map_err(|e| damage_message(&e))?;
        let Described { header, features } = Described::deserialize(described).map_err(|e| damage_message(&e))?;
        crate::model::check_bins(header.bins).map_err(|reason| damage_message(&reason))?;
        for feature in &features {
            let t = feature.tally;
            if t.null.checked_add(t.nan).is_none_or(|missing| missing > t.rows) {
                return Err(damage_message(&"more missing values than rows"));
            }
        }
        Ok(Self { header, path: path.into(), features, content_hash, bytes, tensors, start })
    }

    /// SHA-256 of everything in it.
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// The file as it is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its features of the whole, in the order of the training snapshot.
    pub fn features(&self) -> impl Iterator<Item = StoredFeature<'_>> {
        self.features_of("")
    }

    /// Its features of a segment.
    pub fn features_of(&self, segment: &str) -> impl Iterator<Item = StoredFeature<'_>> {
        let of_segment = move |at: &usize| self.features[*at].segment == segment;
        (0..self.features.len()).filter(of_segment).map(|at| StoredFeature { file: self, at })
    }
}

impl<'a> StoredFeature<'a> {
    fn header(&self) -> &'a FeatureHeader {
        &self.file.features[self.at]
    }

    /// Column name.
    pub fn name(&self) -> &'a str {
        &self.header().name
    }

    /// Column type in the training snapshot.
    pub fn dtype(&self) -> &'a ColumnType {
        &self.header().dtype
    }

    /// Rows, missing values, infinities, moments.
    pub fn tally(&self) -> Tally {
        self.header().tally
    }

    /// Why it could not be counted, if so.
    pub fn refused(&self) -> Option<(Status, &'a str)> {
        match &self.header().data {
            DataHeader::Refused { status, detail } => Some((*status, detail)),
            _ => None,
        }
    }

    /// Whether both are the same feature of the same file.
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.file, other.file) && self.at == other.at
    }

    /// The whole feature, decoded.
    ///
    /// # Errors
    /// [`Error::Baseline`] where its distribution is invalid.
    pub fn decode(&self) -> Result<FrozenFeature> {
        Ok(FrozenFeature {
            segment: self.header().segment.clone(),
            name: self.name().into(),
            dtype: self.dtype().clone(),
            tally: self.tally(),
            data: self.data()?,
        })
    }

    /// Unpacks its distribution.
    ///
    /// # Errors
    /// [`Error::Baseline`] where it is invalid.
    pub fn data(&self) -> Result<Frozen> {
        let BaselineFile { bytes, tensors, start, path, .. } = self.file;
        let list = |name: &str| {
            let name = format!("{}/{name}", self.at);
            let list = range_of(tensors, *start, &name).and_then(|range| bytes.get(range));
            let list = list.zip(tensors.info(&name)).and_then(|(bytes, info)| widen(info.dtype, bytes));
            list.ok_or_else(|| format!("{name} is not a list of integers"))
        };
        decode_data(&self.header().data, self.tally().values(), &list)
            .map_err(|reason| Error::Baseline { path: path.as_path().into(), reason: damage_message(&reason) })
    }
}

fn damage_message(what: &dyn std::fmt::Display) -> String {
    format!("damaged ({what}); build it again")
}

fn range_of(tensors: &Metadata, start: usize, name: &str) -> Option<Range<usize>> {
    let (from, to) = tensors.info(name)?.data_offsets;
    Some(start.checked_add(from)?..start.checked_add(to)?)
}

fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<u64>> {
    Some(match dtype {
        Dtype::U8 => bytes.iter().map(|&x| x.into()).collect(),
        Dtype::U16 => pod_collect_to_vec::<u8, u16>(bytes).into_iter().map(|x| u16::from_le(x).into()).collect(),
        Dtype::U32 => pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(|x| u32::from_le(x).into()).collect(),
        Dtype::U64 => pod_collect_to_vec::<u8, u64>(bytes).into_iter().map(u64::from_le).collect(),
        _ => return None,
    })
}

fn decode_data(
    header: &DataHeader,
    values: u64,
    list: &dyn Fn(&str) -> std::result::Result<Vec<u64>, String>,
) -> std::result::Result<Frozen, String> {
    match header {
        &DataHeader::Numeric { domain, origin, coarse_shift, with_offsets } => {
            let parts = CellMapParts { origin, coarse_shift, shifts: list("shifts")? };
            let map = Arc::new(CellMap::from_parts(&parts).ok_or("impossible cells")?);
            let counts =
                CellCounts { counts: list("counts")?, offsets: with_offsets.then(|| list("offsets")).transpose()? };
            let fits = |len: usize| len == map.len();
            if !fits(counts.counts.len()) || !counts.offsets.as_ref().is_none_or(|offsets| fits(offsets.len())) {
                return Err("counts and cells differ in number".into());
            }
            if !sums_to(&counts.counts, values) {
                return Err("counts and rows differ".into());
            }
            let mut resolved = CellSet::new(map.len());
            for cell in list("resolved")? {
                let cell = usize::try_from(cell).ok().filter(|&cell| cell < map.len()).ok_or("no such cell")?;
                resolved.insert(cell);
            }
            let runs = KeyRuns::from_parts(list("keys")?, list("key_counts")?).ok_or("keys out of order")?;
            let mut found = vec![0u64; map.len()];
            for (&key, &count) in runs.keys().iter().zip(runs.counts()) {
                let cell = map.cell(key) as usize;
                found[cell] = found[cell].checked_add(count).ok_or("impossible counts")?;
            }
            let cells: Arc<[_]> = map.iter().collect();
            let complete = |j: usize| found[j] == counts.counts[j] || cells[j].is_single();
            if !resolved.iter().all(complete) {
                return Err("keys of a cell are missing".into());
            }
            let mut ecdf = Ecdf::new(domain, map, cells, counts);
            ecdf.resolve(&resolved, runs);
            let (known, (least, largest)) = (ecdf.known_keys(), domain.range());
            if known.first().is_some_and(|&key| key < least) || known.last().is_some_and(|&key| key > largest) {
                return Err("values that its type cannot have".into());
            }
            Ok(Frozen::Numeric(ecdf))
        }
        &DataHeader::Categorical { pooled, threshold } => {
            let names: Vec<u8> = list("names")?.into_iter().map(|x| x as u8).collect();
            let names = String::from_utf8(names).map_err(|e| e.to_string())?;
            let (ends, counts) = (list("name_ends")?, list("counts")?);
            let mut start = 0;
            let counts = ends
                .into_iter()
                .zip(counts)
                .map(|(end, count)| {
                    let name = names.get(start..end as usize).ok_or("category names are cut short")?;
                    start = end as usize;
                    Ok((name.into(), count))
                })
                .collect::<std::result::Result<Vec<(Box<str>, u64)>, String>>()?;
            let all: Vec<u64> = counts.iter().map(|(_, count)| *count).chain([pooled]).collect();
            if !sums_to(&all, values) {
                return Err("counts and rows differ".into());
            }
            Ok(Frozen::Categorical(Categories { counts, pooled, threshold }))
        }
        DataHeader::Refused { status, detail } => Ok(Frozen::Refused(*status, detail.clone())),
    }
}

fn sums_to(counts: &[u64], total: u64) -> bool {
    counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count)) == Some(total)
}
