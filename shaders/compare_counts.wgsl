// Compares the counts of two columns: the largest distance of their distribution functions at the ends of cells, and
// the cells whose inside can decide a figure, so that their keys can be collected without asking the host.
//
// With n and m keys, of which a and b lie below some point, the distance there is |a m - b n| / (n m): integers of
// 64 bits decide everything. What can happen inside a cell is bounded by the keys it holds, as in src/count/ecdf.rs.
//
// One workgroup a comparison; every lane takes a run of cells. Outcome: the numerator of the largest distance (low word,
// high word), the first cell that ends there, then the set of cells that decide, one bit a cell.

var<workgroup> below_a: array<u32, LANES>;
var<workgroup> below_b: array<u32, LANES>;
var<workgroup> largest: array<Wide, LANES>;
var<workgroup> largest_cell: array<u32, LANES>;

/// a m - b n, signed.
fn gap(c: Comparison, a: u32, b: u32) -> Wide {
    return subtract(multiply(a, c.m), multiply(b, c.n));
}

fn magnitude(x: Wide) -> Wide {
    return select(x, negate(x), less(x, Wide(0u, 0u)));
}

/// How many of the ranks are smaller than this one.
fn ranks_below(first: u32, count: u32, rank: u32) -> u32 {
    var low = 0u;
    var high = count;
    while low < high {
        let middle = (low + high) / 2u;
        if tables[first + middle] < rank {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

/// Whether a cell that holds the keys start .. end of a column decides one of its ranks: one is among them, or the
/// cell, empty of this column, lies between two neighbouring ranks, where a breakpoint may fall.
fn holds_rank(first: u32, count: u32, start: u32, end: u32) -> bool {
    let at = ranks_below(first, count, start);
    if at == count {
        return false;
    }
    let next = tables[first + at];
    return next < end || (next == end && at > 0u && tables[first + at - 1u] + 1u == end);
}

@compute @workgroup_size(256)
fn compare_counts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tiles[tile_index(group, groups)];
    if tile.count == 0u {
        return;
    }
    let c = comparisons[tile.job];
    let each = (c.cells + LANES - 1u) / LANES;
    let start = min(lane * each, c.cells);
    let end = min(start + each, c.cells);

    // Keys below the first cell of each lane.
    var a = 0u;
    var b = 0u;
    for (var cell = start; cell < end; cell++) {
        a += atomicLoad(&results[c.counts_a + cell]);
        b += atomicLoad(&results[c.counts_b + cell]);
    }
    below_a[lane] = a;
    below_b[lane] = b;
    workgroupBarrier();
    if lane == 0u {
        a = 0u;
        b = 0u;
        for (var i = 0u; i < LANES; i++) {
            let own_a = below_a[i];
            let own_b = below_b[i];
            below_a[i] = a;
            below_b[i] = b;
            a += own_a;
            b += own_b;
        }
    }
    workgroupBarrier();

    a = below_a[lane];
    b = below_b[lane];
    var most = Wide(0u, 0u);
    var most_cell = 0u;
    for (var cell = start; cell < end; cell++) {
        a += atomicLoad(&results[c.counts_a + cell]);
        b += atomicLoad(&results[c.counts_b + cell]);
        let here = magnitude(gap(c, a, b));
        if below(most, here) {
            most = here;
            most_cell = cell;
        }
    }
    largest[lane] = most;
    largest_cell[lane] = most_cell;
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < LANES; i++) {
            if below(most, largest[i]) {
                most = largest[i];
                most_cell = largest_cell[i];
            }
        }
        largest[0] = most;
        atomicStore(&results[c.outcome], most.x);
        atomicStore(&results[c.outcome + 1u], most.y);
        atomicStore(&results[c.outcome + 2u], most_cell);
    }
    workgroupBarrier();

    most = largest[0];
    a = below_a[lane];
    b = below_b[lane];
    for (var cell = start; cell < end; cell++) {
        let own_a = atomicLoad(&results[c.counts_a + cell]);
        let own_b = atomicLoad(&results[c.counts_b + cell]);
        let inside = ((tables[c.inside + (cell >> 5u)] >> (cell & 31u)) & 1u) != 0u;
        if inside && (own_a | own_b) != 0u {
            let left = gap(c, a, b);
            let right = gap(c, a + own_a, b + own_b);
            let up = multiply(own_a, c.m);
            let down = multiply(own_b, c.n);
            // All keys of one column may come first.
            let over_left = add(left, up);
            let over_right = add(right, down);
            let under_left = subtract(left, down);
            let under_right = subtract(right, up);
            let highest = select(over_right, over_left, less(over_left, over_right));
            let lowest = select(under_left, under_right, less(under_left, under_right));
            let beats = own_a != 0u && own_b != 0u && (less(most, highest) || less(most, negate(lowest)));
            let crosses = less(Wide(0u, 0u), highest) && less(lowest, Wide(0u, 0u));
            if (c.distance != 0u && beats)
                || (c.transport != 0u && crosses)
                || holds_rank(c.ranks_a, c.ranks_a_count, a, a + own_a)
                || holds_rank(c.ranks_b, c.ranks_b_count, b, b + own_b) {
                atomicOr(&results[c.outcome + 3u + (cell >> 5u)], 1u << (cell & 31u));
            }
        }
        a += own_a;
        b += own_b;
    }
}
