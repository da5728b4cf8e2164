// Collects the keys that lie in wanted cells, in no particular order.
//
// Results of a job: the number of keys found, then the keys.

fn is_wanted(job: Job, cell: u32) -> bool {
    let at = job.wanted + (cell >> 5u);
    if job.decided != 0u {
        return ((atomicLoad(&results[at]) >> (cell & 31u)) & 1u) != 0u;
    }
    return ((tables[at] >> (cell & 31u)) & 1u) != 0u;
}

@compute @workgroup_size(256)
fn collect_keys(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tiles[tile_index(group, groups)];
    let job = jobs[tile.job];
    let stride = select(1u, 2u, wide);
    for (var i = lane; i < tile.count; i += LANES) {
        let at = tile.first + i * stride;
        let cell = place(job, at).cell;
        if is_wanted(job, cell) {
            let slot = atomicAdd(&results[job.results], 1u);
            if slot < job.room {
                let to = job.results + 1u + slot * stride;
                atomicStore(&results[to], keys[at]);
                if wide {
                    atomicStore(&results[to + 1u], keys[at + 1u]);
                }
            }
        }
    }
}
