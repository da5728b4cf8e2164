//! The memory layout that shaders and this program share, word by word; `shaders/shared/job.wgsl` is the other half.

use bytemuck::{Pod, Zeroable};

/// Keys of one column over one division into cells. Offsets are in words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CountJob {
    /// First word of the division's table in `tables`.
    pub table: u32,
    /// Coarse ranges of the division.
    pub ranges: u32,
    /// Every coarse range spans `2^coarse_shift` keys.
    pub coarse_shift: u32,
    /// Cells of the division.
    pub cells: u32,
    /// Lower end of the first coarse range, low word.
    pub origin_low: u32,
    /// The same, high word.
    pub origin_high: u32,
    /// First word of the results in `results`.
    pub results: u32,
    /// Collecting only: first word of the set of wanted cells, one bit a cell.
    pub wanted: u32,
    /// Collecting only: whether that set is in `results`, where a comparison left it, and not in `tables`.
    pub decided: u32,
    /// Collecting only: keys there is room for.
    pub room: u32,
    /// Fill up to 16 bytes.
    pub padding: [u32; 2],
}

/// Counts of two columns over the same cells, to be compared.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CountComparison {
    /// First word of the counts of the first column in `results`.
    pub counts_a: u32,
    /// Of the second.
    pub counts_b: u32,
    /// Cells of the division.
    pub cells: u32,
    /// Keys of the first column, less than 2^31.
    pub n: u32,
    /// Of the second.
    pub m: u32,
    /// First word of the wanted ranks of the first column in `tables`, ascending.
    pub ranks_a: u32,
    /// How many there are.
    pub ranks_a_count: u32,
    /// The same for the second column.
    pub ranks_b: u32,
    /// The same for the second column.
    pub ranks_b_count: u32,
    /// First word of the set of cells that can hold different keys, in `tables`.
    pub inside: u32,
    /// Whether the Kolmogorov-Smirnov distance is wanted.
    pub distance: u32,
    /// Whether the Wasserstein distance is wanted.
    pub transport: u32,
    /// First word of the outcome in `results`.
    pub outcome: u32,
    /// Fill up to 16 bytes.
    pub padding: [u32; 3],
}

/// Words of an outcome before its set of cells: the largest distance in two words, and where it is.
pub(crate) const OUTCOME_WORDS: u64 = 3;

/// The part of a job that one workgroup does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tile {
    /// Position among the jobs.
    pub job: u32,
    /// First word of its keys in `keys`.
    pub first: u32,
    /// Number of keys; none in a tile that only fills up the grid.
    pub count: u32,
    /// Fill up to 16 bytes.
    pub padding: u32,
}

/// Keys of a full tile, at least and at most. Large tiles clear and add up their private histograms less often; small
/// ones keep every processor of a device busy where there is little to count.
pub const TILE: (u32, u32) = (1 << 12, 1 << 16);

/// Tiles that a batch is divided into where that gives tiles between those two.
pub(crate) const TILES: u64 = 1 << 12;

/// Words for private histograms: what the smallest limit in use (32 KiB of workgroup memory) holds.
pub(crate) const PRIVATE_WORDS: u32 = 1 << 13;
