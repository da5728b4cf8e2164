// What a dispatch works on. The layouts are those of src/count/gpu/layout.rs; a test holds them together.

/// Keys of one column over one division into cells. Offsets are in words of the buffer they point into.
struct Job {
    /// First word of the division's table in `tables`.
    table: u32,
    /// Coarse ranges of the division.
    ranges: u32,
    /// Every coarse range spans 2^coarse_shift keys.
    coarse_shift: u32,
    /// Cells of the division.
    cells: u32,
    /// Lower end of the first coarse range.
    origin_low: u32,
    origin_high: u32,
    /// First word of the results in `results`.
    results: u32,
    /// Collecting only: first word of the set of wanted cells, one bit a cell.
    wanted: u32,
    /// Collecting only: whether that set is in `results`, where a comparison left it, and not in `tables`.
    decided: u32,
    /// Collecting only: keys there is room for.
    room: u32,
    padding_0: u32,
    padding_1: u32,
}

/// Counts of two columns over the same cells, to be compared.
struct Comparison {
    /// First words of their counts in `results`.
    counts_a: u32,
    counts_b: u32,
    cells: u32,
    /// Keys of each column, less than 2^31.
    n: u32,
    m: u32,
    /// First words of the wanted ranks of each column in `tables`, ascending, and how many there are.
    ranks_a: u32,
    ranks_a_count: u32,
    ranks_b: u32,
    ranks_b_count: u32,
    /// First word of the set of cells that can hold different keys, in `tables`.
    inside: u32,
    /// Whether the Kolmogorov-Smirnov distance is wanted, and the Wasserstein distance.
    distance: u32,
    transport: u32,
    /// First word of the outcome in `results`.
    outcome: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

/// The part of a job that one workgroup does; of a comparison, all of it.
struct Tile {
    job: u32,
    /// First word of its keys in `keys`.
    first: u32,
    /// Number of keys; none in a tile that only fills up the grid.
    count: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> jobs: array<Job>;
@group(0) @binding(3) var<storage, read> tiles: array<Tile>;
@group(0) @binding(4) var<storage, read_write> results: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read> comparisons: array<Comparison>;

/// Whether a key is two words, low word first.
override wide: bool = false;

const LANES: u32 = 256u;

/// The tile of a workgroup; grids have two dimensions because one holds only 65,535 groups.
fn tile_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
