//! What shaders and this program read of each other, word by word; `shaders/shared/job.wgsl` is the other half.

use bytemuck::{Pod, Zeroable};

/// Keys of one column over one division into cells. Offsets are in words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Job {
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
    /// Collecting only: first word of the set of wanted cells in `tables`, one bit a cell.
    pub wanted: u32,
    /// Collecting only: keys there is room for.
    pub room: u32,
    /// Fill up to 16 bytes.
    pub padding: [u32; 3],
}

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

/// Lanes of a workgroup.
pub const LANES: u32 = 256;

/// Keys of a full tile: enough that clearing and flushing a private histogram costs little beside counting them,
/// few enough that a million keys keep every processor of a device busy.
pub const TILE: u32 = 1 << 14;

/// Words of a private histogram: what the smallest limit in use (32 KiB of workgroup memory) holds.
pub const PRIVATE_WORDS: u32 = 1 << 13;
