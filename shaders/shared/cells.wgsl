// Finding the cell of a key: `CellMap::cell_and_offset` of src/count/cells.rs, in 32-bit arithmetic.

struct Place {
    cell: u32,
    /// How far into its cell the key lies.
    offset: Wide,
}

fn place_wide(job: Job, key: Wide) -> Place {
    let from_origin = subtract_saturating(key, Wide(job.origin_low, job.origin_high));
    let coarse = shift_right(from_origin, job.coarse_shift);
    let range = select(min(coarse.x, job.ranges - 1u), job.ranges - 1u, coarse.y != 0u);
    let entry = tables[job.table + range];
    let shift = entry & 63u;
    let inside = low_bits(from_origin, job.coarse_shift);
    return Place((entry >> 6u) + shift_right(inside, shift).x, low_bits(inside, shift));
}

/// The same for keys of one word, whose divisions never shift by 32 or more.
fn place_narrow(job: Job, key: u32) -> Place {
    let from_origin = key - min(key, job.origin_low);
    let range = min(from_origin >> job.coarse_shift, job.ranges - 1u);
    let entry = tables[job.table + range];
    let shift = entry & 63u;
    let inside = from_origin & ((1u << job.coarse_shift) - 1u);
    return Place((entry >> 6u) + (inside >> shift), Wide(inside & ((1u << shift) - 1u), 0u));
}

fn place(job: Job, at: u32) -> Place {
    if wide {
        return place_wide(job, Wide(keys[at], keys[at + 1u]));
    }
    return place_narrow(job, keys[at]);
}
