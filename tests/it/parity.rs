//! Every backend gives the integers of the definition: one body over all of them, every type, every size at a cliff.
//!
//! The GPU's runs on whatever adapter there is, software ones included.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use driftsweep::count::ecdf::{Ecdf, EcdfPair};
use driftsweep::count::gpu::{self, DEFAULT_MEMORY, DeviceChoice, GpuCounter, TILE};
use driftsweep::count::key::{key_f32, key_f64, key_i32, key_i64};
use driftsweep::count::pair::{BaselineKeys, RequiredFigures, count_pair};
use driftsweep::count::{
    BACKENDS, BackendSpec, CellCounts, CellMap, CellSet, Columns, Counter, CpuCounter, Domain, KeyRuns, KeyVec, cpu,
    with_threads,
};
use driftsweep::{BaselineSource, Comparer, Snapshot};
use polars::prelude::{DataFrame, NamedFrom, Series};
use rayon::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{dataset, run, write_parquet};
use crate::support::needs::{GPU_MEMORY, gpu};

/// All backends, each opened once; without the GPU's only where its tests are left out.
pub fn backends() -> &'static [Box<dyn Counter>] {
    static OPEN: OnceLock<Vec<Box<dyn Counter>>> = OnceLock::new();
    let open = |spec: &&BackendSpec| (spec.open)(&DeviceChoice::default(), GPU_MEMORY).unwrap();
    OPEN.get_or_init(|| {
        let left_out = |spec: &&BackendSpec| gpu().is_none() && spec.name == gpu::BACKEND.name;
        BACKENDS.iter().filter(|spec| !left_out(spec)).map(open).collect()
    })
}

/// A fixed generator, so that every failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0;
        (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ (x >> 29)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal.
    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.unit()).sum::<f64>() - 3.0
    }
}

const DOMAINS: [Domain; 5] = [Domain::F32, Domain::F64, Domain::I32, Domain::I64, Domain::U64];

/// Keys of a domain: ordinary values, ties, and everything at an edge.
fn keys(domain: Domain, n: usize, random: &mut Random) -> Vec<u64> {
    let edges = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.5,
        -f64::MIN_POSITIVE,
        -5e-324,
        0.0,
        5e-324,
        f64::MIN_POSITIVE,
        1.0,
        1.0 + f64::EPSILON,
        9007199254740991.0,
        9007199254740993.0,
        f64::MAX,
        f64::INFINITY,
    ];
    let integers = [i64::MIN, i64::MIN + 1, -1, 0, 1, (1 << 53) - 1, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
    let mut key = || {
        let (x, kind) = (random.normal(), random.below(10));
        match (domain, kind) {
            (Domain::F32, 0) => key_f32(edges[random.below(14) as usize] as f32).into(),
            (Domain::F32, 1) => key_f32(f32::from_bits(random.below(1 << 20) as u32)).into(),
            (Domain::F32, 2) => key_f32((x * 4.0).round() as f32).into(),
            (Domain::F32, _) => key_f32(x as f32 * 100.0).into(),
            (Domain::F64, 0) => key_f64(edges[random.below(14) as usize]),
            (Domain::F64, 1) => key_f64(f64::from_bits(random.below(1 << 50))),
            (Domain::F64, 2) => key_f64((x * 4.0).round()),
            (Domain::F64, _) => key_f64(x * 1e3),
            (Domain::I32, 0) => key_i32([i32::MIN, -1, 0, 1, i32::MAX][random.below(5) as usize]).into(),
            (Domain::I32, _) => key_i32((x * 5e3) as i32).into(),
            (Domain::I64, 0) => key_i64(integers[random.below(9) as usize]),
            (Domain::I64, _) => key_i64((x * 1e9) as i64),
            (Domain::U64, 0) => [0, 1, u64::MAX - 1, u64::MAX][random.below(4) as usize],
            (Domain::U64, _) => (x.abs() * 1e15) as u64,
        }
    };
    (0..n).map(|_| key()).collect()
}

fn packed(domain: Domain, keys: &[u64]) -> KeyVec {
    if domain.is_narrow() {
        KeyVec::U32(keys.iter().map(|&key| key as u32).collect())
    } else {
        KeyVec::U64(keys.to_vec())
    }
}

fn count(columns: &mut dyn Columns, map: &CellMap, with_offsets: bool) -> CellCounts {
    columns.count(map, with_offsets, None).unwrap().remove(0).counts
}

/// Counts and collects key by key, as the definition of the cells says.
fn by_definition(map: &CellMap, chunks: &[KeyVec], with_offsets: bool, wanted: &CellSet) -> (CellCounts, KeyRuns) {
    let mut counts = CellCounts::new(map.len(), with_offsets);
    let mut collected = BTreeMap::<u64, u64>::new();
    for key in chunks.iter().flat_map(|keys| (0..keys.len()).map(|i| keys.get(i))) {
        let (cell, offset) = map.cell_and_offset(key);
        counts.counts[cell as usize] += 1;
        if let Some(offsets) = &mut counts.offsets {
            offsets[cell as usize] = offsets[cell as usize].wrapping_add(offset);
        }
        if wanted.contains(cell) {
            *collected.entry(key).or_default() += 1;
        }
    }
    let (keys, counted) = collected.into_iter().unzip();
    (counts, KeyRuns::from_parts(keys, counted).unwrap())
}

/// Counts and collects on a backend, and compares every integer with those of the definition.
fn check(counter: &dyn Counter, domain: Domain, map: &CellMap, chunks: Vec<KeyVec>, what: &str) {
    let what = format!("{}: {what}", counter.name());
    let mut wanted = CellSet::new(map.len());
    (0..map.len()).filter(|cell| cell % 7 == 3).for_each(|cell| wanted.insert(cell));
    for with_offsets in [false, true] {
        let (counts, runs) = by_definition(map, &chunks, with_offsets, &wanted);
        let mut columns = counter.columns(domain, vec![&chunks]);
        assert!(count(&mut *columns, map, with_offsets) == counts, "{what}, offsets {with_offsets}");
        let expected = runs.counts().iter().sum();
        assert!(columns.collect(0, map, &wanted, expected).unwrap() == runs, "{what}, offsets {with_offsets}");
    }
    assert_eq!(counter.usage().and_then(|usage| usage.failure), None, "{what}");
}

#[test]
fn a_report_names_the_backend_that_was_chosen() {
    for (counter, spec) in backends().iter().zip(BACKENDS) {
        assert_eq!(counter.name(), spec.name);
    }
}

#[test]
fn every_type_and_size_is_counted_and_collected_alike() {
    let mut random = Random(1);
    let tile = TILE.0 as usize;
    for domain in DOMAINS {
        for n in [0, 1, 2, 31, 255, 256, 257, 1000, tile - 1, tile, tile + 1, 3 * tile + 77, 40_001] {
            let all = keys(domain, n, &mut random);
            // Divisions that fit a private histogram, and one that does not.
            for target in [1, 2, 300, 2000, 40_000] {
                let mut sample: Vec<u64> = all.iter().step_by(1 + n / 500).copied().collect();
                let map = CellMap::from_sample(&mut sample, domain, target);
                let chunks: Vec<KeyVec> = all.chunks(1 + n / 3).map(|part| packed(domain, part)).collect();
                let what = format!("{domain:?}, {n} keys, {} cells", map.len());
                backends().iter().for_each(|counter| check(&**counter, domain, &map, chunks.clone(), &what));
            }
        }
    }
}

#[test]
fn tiles_of_every_size_hold_the_same_keys() {
    if gpu().is_none() {
        return;
    }
    let mut random = Random(6);
    for tile in [1, 255, 256, 257, TILE.1 - 1, TILE.1] {
        let device =
            GpuCounter::open(&DeviceChoice { tile: Some(tile), ..DeviceChoice::default() }, GPU_MEMORY).unwrap();
        for (domain, n) in [(Domain::F32, 70_001), (Domain::I64, 66_000)] {
            let n = n.min(200 * tile as usize);
            let all = keys(domain, n, &mut random);
            let map = CellMap::from_sample(&mut all[..n.min(500)].to_vec(), domain, 400);
            check(&device, domain, &map, vec![packed(domain, &all)], &format!("tiles of {tile}"));
        }
    }
}

#[test]
fn category_codes_are_counted_alike() {
    let mut random = Random(8);
    for (n, distinct) in [(0, 3), (1, 1), (5000, 2), (70_000, 300), (30_000, 9000), (20_000, 1_000_000)] {
        let codes: Vec<u32> = (0..n).map(|_| random.below(distinct) as u32).collect();
        let mut by_definition = vec![0; distinct as usize];
        codes.iter().for_each(|&code| by_definition[code as usize] += 1);
        for counter in backends() {
            let (name, found) = (counter.name(), counter.count_codes(codes.clone(), distinct as usize));
            assert!(found == by_definition, "{name}: {n} codes of {distinct}");
            assert_eq!(counter.usage().and_then(|usage| usage.failure), None, "{name}");
        }
    }
}

#[test]
fn keys_at_the_edges_of_cells_fall_on_the_same_side() {
    let mut random = Random(2);
    for domain in DOMAINS {
        let mut sample = keys(domain, 400, &mut random);
        let map = CellMap::from_sample(&mut sample, domain, 3000);
        let (low, high) = domain.range();
        let around = |cell: driftsweep::count::cells::KeyCell| {
            [cell.lower.saturating_sub(1), cell.lower, cell.lower.saturating_add(1)].map(|key| key.clamp(low, high))
        };
        let edges: Vec<u64> = map.iter().flat_map(around).chain([low, high]).collect();
        for counter in backends() {
            check(&**counter, domain, &map, vec![packed(domain, &edges)], &format!("{domain:?}"));
        }
    }
}

#[test]
fn a_dispatch_may_have_more_groups_than_one_dimension_holds() {
    // Every chunk is a tile of its own.
    let chunks: Vec<KeyVec> = (0..70_000u32).map(|i| KeyVec::U32(vec![i % 977])).collect();
    let map = CellMap::from_sample(&mut (0..977).collect::<Vec<_>>(), Domain::I32, 977);
    let (expected, _) = by_definition(&map, &chunks, false, &CellSet::new(map.len()));
    assert_eq!(expected.counts.iter().sum::<u64>(), 70_000);
    for counter in backends() {
        let found = count(&mut *counter.columns(Domain::I32, vec![&chunks]), &map, false);
        assert!(found == expected, "{}", counter.name());
    }
}

#[test]
fn sums_of_offsets_carry_into_the_high_word() {
    // One wide cell, so that a few keys overflow 32 bits and many overflow 64.
    let sample = &mut [0u64, u64::MAX / 2];
    let map = CellMap::from_sample(sample, Domain::U64, 1);
    let chunks = vec![KeyVec::U64((0..5000u64).map(|i| u64::MAX / 4 - i * 0x1_0000_0001).collect())];
    for counter in backends() {
        check(&**counter, Domain::U64, &map, chunks.clone(), "offsets near 2^62");
    }
}

#[test]
fn what_does_not_fit_the_device_is_counted_by_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let small = GpuCounter::open(&DeviceChoice::default(), 1 << 16).unwrap();
    let mut random = Random(3);
    let all = keys(Domain::F64, 30_000, &mut random);
    let map = CellMap::from_sample(&mut all[..300].to_vec(), Domain::F64, 500);
    let chunks = all.chunks(3000).map(|part| packed(Domain::F64, part)).collect();
    check(&small, Domain::F64, &map, chunks, "a small device");
    let usage = small.usage().unwrap();
    assert!(usage.keys_left_to_cpu > 0 && usage.keys_counted > 0, "{usage:?}");
}

#[test]
fn a_lost_device_leaves_the_work_to_the_cpu_with_the_same_result() {
    if gpu().is_none() {
        return;
    }
    let device = GpuCounter::open(&DeviceChoice::default(), GPU_MEMORY).unwrap();
    let mut random = Random(4);
    let all = keys(Domain::F32, 20_000, &mut random);
    let map = CellMap::from_sample(&mut all[..300].to_vec(), Domain::F32, 500);
    let chunks = vec![packed(Domain::F32, &all)];
    let expected = count(&mut *CpuCounter.columns(Domain::F32, vec![&chunks]), &map, true);
    let mut column = device.columns(Domain::F32, vec![&chunks]);
    assert_eq!(count(&mut *column, &map, true), expected);
    device.lose();
    assert_eq!(count(&mut *column, &map, true), expected);
    assert_eq!(count(&mut *device.columns(Domain::F32, vec![&chunks]), &map, true), expected);
    assert!(device.usage().unwrap().failure.is_some());
}

#[test]
fn a_device_lost_in_the_middle_of_a_comparison_changes_nothing() {
    if gpu().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let a = random_snapshot(folder.path(), "a.parquet", 200, 500, 11);
    let b = random_snapshot(folder.path(), "b.parquet", 200, 400, 12);
    let (baseline, current) = (BaselineSource::open(&a).unwrap(), Snapshot::open(&b).unwrap());
    let compare = |counter: &dyn Counter, done: &(dyn Fn() + Sync)| {
        Comparer::new(&baseline, &current).progress(done).run(counter).unwrap()
    };
    let expected = compare(&CpuCounter, &|| ());
    for lost_after in [0, 1, 60] {
        let device = GpuCounter::open(&DeviceChoice::default(), GPU_MEMORY).unwrap();
        let finished = AtomicUsize::new(0);
        let found = compare(&device, &|| {
            if finished.fetch_add(1, Ordering::Relaxed) == lost_after {
                device.lose();
            }
        });
        assert_eq!(found.counts_hash, expected.counts_hash, "lost after {lost_after}");
        assert!(device.usage().unwrap().failure.is_some());
    }
}

#[test]
fn many_threads_sending_many_small_parts_lose_none_of_them() {
    if gpu().is_none() {
        return;
    }
    let mut random = Random(21);
    let column = |random: &mut Random| -> Vec<KeyVec> {
        keys(Domain::I64, 9000, random).chunks(30).map(|part| packed(Domain::I64, part)).collect()
    };
    let columns: Vec<Vec<KeyVec>> = (0..96).map(|_| column(&mut random)).collect();
    let map = CellMap::from_sample(&mut keys(Domain::I64, 500, &mut random), Domain::I64, 400);
    let count = |counter: &dyn Counter| -> Vec<CellCounts> {
        let count = |column: &Vec<KeyVec>| count(&mut *counter.columns(Domain::I64, vec![column]), &map, false);
        with_threads(counter, || columns.par_iter().map(count).collect())
    };
    let expected = count(&CpuCounter);
    for _ in 0..3 {
        // The first submissions of a device are where memory is touched for the first time.
        let device = GpuCounter::open(&DeviceChoice::default(), DEFAULT_MEMORY).unwrap();
        assert!(count(&device) == expected);
        assert_eq!(device.usage().unwrap().failure, None);
    }
}

#[test]
fn columns_are_compared_where_they_lie_and_in_one_request_each() {
    if gpu().is_none() {
        return;
    }
    let device = GpuCounter::open(&DeviceChoice::default(), GPU_MEMORY).unwrap();
    let mut random = Random(5);
    let ranks = |n: u64| (0..=10).map(|i| n.saturating_sub(1) * i / 10).collect();
    for domain in DOMAINS {
        for (n, m) in [(1, 1), (2, 300), (300, 257), (5000, 4000), (40_000, 30_001)] {
            let (a, b) = (keys(domain, n, &mut random), keys(domain, m, &mut random));
            let (a, b) = (vec![packed(domain, &a)], vec![packed(domain, &b)]);
            for transport in [false, true] {
                let wanted =
                    RequiredFigures { baseline_ranks: &ranks, current_ranks: &ranks, distance: true, transport };
                let compare = |counter: &dyn Counter| {
                    let side = BaselineKeys::Source(&a, n as u64);
                    let (a, b) = count_pair(counter, domain, side, &b, m as u64, wanted).unwrap();
                    let keys = |ecdf: &Ecdf| -> Vec<Option<u64>> {
                        ranks(ecdf.n()).into_iter().map(|rank| ecdf.key_at(rank)).collect()
                    };
                    let keys = [keys(&a), keys(&b)];
                    let pair = EcdfPair::new(&a, &b).unwrap();
                    (keys, pair.distance(), transport.then(|| pair.wasserstein()))
                };
                let before = device.usage().unwrap().requests;
                assert_eq!(compare(&CpuCounter), compare(&device), "{domain:?} {n} {m}");
                let after = device.usage().unwrap();
                assert_eq!(after.failure, None);
                if m <= 300 && !transport && domain.is_narrow() {
                    // Nothing that decides was left behind, so nothing was asked for again.
                    assert_eq!(after.requests - before, 1, "{domain:?} {n} {m}");
                }
            }
        }
    }
}

#[test]
fn a_column_that_several_windows_share_is_sent_once() {
    if gpu().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let column = |from: i32| Series::new("x".into(), (from..from + 3000).collect::<Vec<_>>());
    for (name, from) in [("a", 0), ("b", 100), ("c", 200)] {
        let mut frame = DataFrame::new_infer_height(vec![column(from).into()]).unwrap();
        write_parquet(&mut frame, &folder.path().join(format!("{name}.parquet")), 1000);
    }
    let fleet = folder.path().join("fleet.toml");
    let windows = "{ one = \"b.parquet\", two = \"c.parquet\" }";
    fs::write(&fleet, format!("[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = {windows}\n")).unwrap();
    let report = json(&["sweep", fleet.to_str().unwrap(), "--backend", "gpu", "--format", "json"]);
    assert_eq!(report["engine"]["device"]["keys_counted"], 3 * 3000, "{}", report["engine"]);
}

/// A column of some type and its values, nulls among them.
fn random_column(name: &str, rows: usize, random: &mut Random) -> Series {
    let kind = random.below(14);
    let share = if random.below(3) == 0 { random.unit() } else { 0.0 };
    let spread = 10f64.powi(random.below(12) as i32 - 4);
    let mut value = |draw: &mut dyn FnMut(&mut Random) -> f64| {
        let valid = random.unit() >= share;
        valid.then(|| draw(random))
    };
    let nan = f64::from_bits(0x7ff8_0000_0000_0000 | 12345);
    let mut column = |draw: &mut dyn FnMut(&mut Random) -> f64| (0..rows).map(|_| value(draw)).collect::<Vec<_>>();
    macro_rules! integers {
        ($ty:ty, $draw:expr) => {
            Series::new(name.into(), column(&mut $draw).into_iter().map(|x| x.map(|x| x as $ty)).collect::<Vec<_>>())
        };
    }
    match kind {
        0 => Series::new(name.into(), column(&mut |r| r.normal() * spread)),
        1 => integers!(f32, |r: &mut Random| r.normal() * spread),
        2 => Series::new(name.into(), column(&mut |r| (r.normal() * 3.0).round())),
        3 => Series::new(name.into(), column(&mut |r| if r.below(3) == 0 { 0.0 } else { r.unit().ln() })),
        4 => Series::new(name.into(), column(&mut |r| if r.below(9) == 0 { nan } else { r.unit() })),
        5 => Series::new(name.into(), column(&mut |r| [f64::INFINITY, f64::NEG_INFINITY, 1.0][r.below(3) as usize])),
        6 => Series::new(name.into(), column(&mut |r| f64::from_bits(r.below(1 << 52)))),
        7 => Series::new(name.into(), column(&mut |_| -0.0)),
        8 => integers!(i32, |r: &mut Random| r.normal() * spread),
        9 => integers!(i64, |r: &mut Random| r.normal() * 1e15),
        10 => integers!(u64, |r: &mut Random| r.unit() * 1.8e19),
        11 => integers!(i64, |r: &mut Random| 9007199254740992.0 + (r.below(9) as f64)),
        12 => integers!(u32, |r: &mut Random| r.below(5) as f64),
        _ => {
            let names = column(&mut |r| (r.unit() * spread).floor());
            let names: Vec<_> = names.into_iter().map(|x| x.map(|x| format!("c{x}"))).collect();
            Series::new(name.into(), names)
        }
    }
}

fn random_snapshot(folder: &Path, name: &str, columns: usize, rows: usize, seed: u64) -> String {
    let mut random = Random(seed);
    // The kinds must agree between two snapshots, so they come from a generator of their own.
    let mut kinds = Random(7);
    let columns = (0..columns).map(|i| {
        let state = kinds.next();
        let mut own = Random(state);
        let mut column = random_column(&format!("x{i}"), rows, &mut own);
        if random.below(4) > 0 {
            // The same kind, other values.
            own.next();
            let shifted = random_column(&format!("x{i}"), 2 * rows, &mut Random(state));
            column = shifted.slice((random.below(rows as u64)) as i64, rows);
        }
        column.into()
    });
    let mut frame = DataFrame::new_infer_height(columns.collect()).unwrap();
    let path = folder.join(name);
    write_parquet(&mut frame, &path, 1 + rows / 3);
    path.display().to_string()
}

#[test]
fn ten_thousand_random_columns_have_one_hash_on_a_device_with_default_limits() {
    if gpu().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let device =
        GpuCounter::open(&DeviceChoice { default_limits: true, ..DeviceChoice::default() }, GPU_MEMORY).unwrap();
    for (seed, columns, rows) in [(1, 9000, 40), (3, 990, 700), (5, 10, 20_000)] {
        let a = random_snapshot(folder.path(), "a.parquet", columns, rows, seed);
        let b = random_snapshot(folder.path(), "b.parquet", columns, rows / 2 + 1, seed + 1);
        let (baseline, current) = (BaselineSource::open(&a).unwrap(), Snapshot::open(&b).unwrap());
        let compare = |counter: &dyn Counter| Comparer::new(&baseline, &current).run(counter).unwrap();
        let (on_cpu, on_gpu) = (compare(&CpuCounter), compare(&device));
        for (x, y) in on_cpu.features.iter().zip(&on_gpu.features) {
            assert_eq!((&x.counts_hash, &x.metrics), (&y.counts_hash, &y.metrics), "{} of {columns}", x.name);
        }
        assert_eq!(on_cpu.counts_hash, on_gpu.counts_hash);
        assert_eq!(on_cpu.features.len(), columns);
    }
    let usage = device.usage().unwrap();
    assert_eq!(usage.failure, None);
    assert!(usage.batches < usage.requests, "columns should share dispatches: {usage:?}");
}

fn json(args: &[&str]) -> Value {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether all was counted on the device, if there is one, and nothing left to the CPU.
fn on_the_device(report: &Value) {
    let Some(device) = report["engine"].get("device") else {
        return assert_eq!(report["engine"]["backend"], cpu::BACKEND.name);
    };
    assert!(device.get("failure").is_none(), "{device}");
    assert!(device["keys_counted"].as_u64().unwrap() > 0 && device["keys_left_to_cpu"] == 0, "{device}");
}

#[test]
fn every_data_set_has_one_hash_on_all_backends_live_and_frozen() {
    if gpu().is_none() {
        return;
    }
    let data = dataset("").display().to_string();
    let demo = |backend: &str| json(&["demo", "--data", &data, "--backend", backend, "--format", "json"]);
    let names = BACKENDS.map(|spec| spec.name);
    let on_cpu = demo(names[0]);
    for name in names {
        let found = demo(name);
        assert_eq!(found["engine"]["backend"], name);
        on_the_device(&found);
        assert_eq!(found["counts_hash"], on_cpu["counts_hash"], "{name}");
        assert_eq!(found["models"], on_cpu["models"], "{name}");
    }

    let folder = TempDir::new().unwrap();
    let months = ["01", "02"].map(|m| dataset(&format!("nycflights13/flights-2013-{m}.parquet")).display().to_string());
    let frozen = names.map(|backend| {
        let path = folder.path().join(format!("{backend}.baseline")).display().to_string();
        assert!(run(["baseline", "build", &months[0], "-o", &path, "--backend", backend]).status.success());
        path
    });
    let hash = |baseline: &str, backend: &str| {
        let report = json(&["compare", baseline, &months[1], "--backend", backend, "--format", "json"]);
        on_the_device(&report);
        report["counts_hash"].clone()
    };
    let first = hash(&frozen[0], names[0]);
    for (baseline, backend) in frozen.iter().flat_map(|baseline| names.map(|name| (baseline, name))) {
        assert_eq!(hash(baseline, backend), first, "{baseline} on {backend}");
    }
}

#[test]
fn an_adapter_that_is_not_there_is_refused_with_those_that_are() {
    if gpu().is_none() {
        return;
    }
    let flights = dataset("nycflights13/flights-2013-01.parquet").display().to_string();
    let output = run(["compare", &flights, &flights, "--backend", "gpu", "--adapter", "no such thing"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{message}");
    assert!(message.contains("'no such thing'") && message.contains("there are: 0 ("), "{message}");
}
