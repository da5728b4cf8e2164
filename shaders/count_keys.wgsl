// Counts keys per cell, and on request sums their offsets within the cells.
//
// Every workgroup counts its tile into histograms of its own, in several copies where they are small, so that lanes
// with equal keys get in each other's way less, and adds them to the results once. Divisions too fine for workgroup
// memory are counted in the results directly.
//
// Results of a job: `cells` counts; with offsets then `cells` low words and `cells` high words of their sums. Last the
// sum of all words of the keys, so that the host sees that what it sent was counted.

override with_offsets: bool = false;

/// Words for private histograms.
override private_words: u32 = 4096u;

/// Most copies of a private histogram.
const COPIES: u32 = 8u;

var<workgroup> private_counts: array<atomic<u32>, private_words>;

/// Adds to a sum of two words. Exact modulo 2^64: whoever makes the low word overflow carries.
fn add_private(low: u32, high: u32, offset: Wide) {
    let before = atomicAdd(&private_counts[low], offset.x);
    let carry = offset.y + select(0u, 1u, before + offset.x < before);
    if carry != 0u {
        atomicAdd(&private_counts[high], carry);
    }
}

fn add_shared(job: Job, cell: u32, offset: Wide) {
    let before = atomicAdd(&results[job.results + job.cells + cell], offset.x);
    let carry = select(0u, 1u, before + offset.x < before);
    let high = offset.y + carry;
    if high != 0u {
        atomicAdd(&results[job.results + 2u * job.cells + cell], high);
    }
}

/// The sum of the words of a key.
fn words_at(at: u32) -> u32 {
    if wide {
        return keys[at] + keys[at + 1u];
    }
    return keys[at];
}

@compute @workgroup_size(256)
fn count_keys(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tiles[tile_index(group, groups)];
    if tile.count == 0u {
        return;
    }
    let job = jobs[tile.job];
    let stride = select(1u, 2u, wide);
    let checksum = job.results + job.cells * select(1u, 3u, with_offsets);
    var sum_of_words = 0u;

    if job.cells * select(1u, 3u, with_offsets) > private_words {
        for (var i = lane; i < tile.count; i += LANES) {
            let at = tile.first + i * stride;
            let found = place(job, at);
            sum_of_words += words_at(at);
            atomicAdd(&results[job.results + found.cell], 1u);
            if with_offsets {
                add_shared(job, found.cell, found.offset);
            }
        }
        atomicAdd(&results[checksum], sum_of_words);
        return;
    }

    let words = job.cells * select(1u, 3u, with_offsets);
    let copies = min(private_words / words, COPIES);
    for (var i = lane; i < words * copies; i += LANES) {
        atomicStore(&private_counts[i], 0u);
    }
    workgroupBarrier();
    let own = (lane % copies) * words;
    for (var i = lane; i < tile.count; i += LANES) {
        let at = tile.first + i * stride;
        let found = place(job, at);
        sum_of_words += words_at(at);
        atomicAdd(&private_counts[own + found.cell], 1u);
        if with_offsets {
            let low = own + job.cells + found.cell;
            add_private(low, low + job.cells, found.offset);
        }
    }
    atomicAdd(&results[checksum], sum_of_words);
    workgroupBarrier();
    for (var cell = lane; cell < job.cells; cell += LANES) {
        var count = 0u;
        var sum = Wide(0u, 0u);
        for (var copy = cell; copy < words * copies; copy += words) {
            count += atomicLoad(&private_counts[copy]);
            if with_offsets {
                let low = copy + job.cells;
                sum = add(sum, Wide(atomicLoad(&private_counts[low]), atomicLoad(&private_counts[low + job.cells])));
            }
        }
        if count != 0u {
            atomicAdd(&results[job.results + cell], count);
            if with_offsets {
                add_shared(job, cell, sum);
            }
        }
    }
}
