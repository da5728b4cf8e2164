//! Counting and metrics on one thread: how many values a second.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use driftsweep::count::ecdf::EcdfPair;
use driftsweep::count::gpu::DeviceChoice;
use driftsweep::count::key::{key_f32, key_f64};
use driftsweep::count::pair::{BaselineKeys, RequiredFigures, count_pair};
use driftsweep::count::{CategoryCounts, CellCounts, CellMap, Counter, CpuCounter, Domain, GpuCounter, KeyVec, cpu};
use driftsweep::metric::{divergence, ks, noise, psi};

const N: usize = 1 << 20;

/// Roughly normal values from a fixed linear congruential generator.
fn values(seed: u64, shift: f64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..N).map(|_| (0..6).map(|_| uniform()).sum::<f64>() - 3.0 + shift).collect()
}

fn wide(values: &[f64]) -> KeyVec {
    KeyVec::U64(values.iter().map(|&x| key_f64(x)).collect())
}

fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("count");
    group.throughput(Throughput::Elements(N as u64));
    let x = values(1, 0.0);
    let narrow = KeyVec::U32(x.iter().map(|&x| key_f32(x as f32)).collect());
    for (name, keys, domain) in [("f64", wide(&x), Domain::F64), ("f32", narrow, Domain::F32)] {
        for target in [256, 4096, 32768] {
            let mut sample: Vec<u64> = (0..N).step_by(512).map(|i| keys.get(i)).collect();
            let map = CellMap::from_sample(&mut sample, domain, target);
            let mut counts = CellCounts::new(map.len(), false);
            group.bench_function(BenchmarkId::new(name, target), |b| {
                b.iter(|| cpu::count(&map, black_box(&keys), &mut counts));
            });
        }
    }
    // The simple ways to the same answers.
    group.bench_function("sum, the floor", |b| b.iter(|| black_box(&x).iter().sum::<f64>()));
    group.sample_size(10);
    group.bench_function("standard sort", |b| {
        b.iter(|| {
            let mut sorted = x.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted
        });
    });
    group.finish();
}

fn comparing(c: &mut Criterion) {
    let mut group = c.benchmark_group("exact comparison of two columns");
    group.sample_size(20);
    group.throughput(Throughput::Elements(2 * N as u64));
    let ranks = |n: u64| (0..=10).map(|i| (n - 1) * i / 10).collect();
    for (name, shift) in [("no drift", 0.0), ("drift", 0.2)] {
        let (a, b) = (vec![wide(&values(1, 0.0))], vec![wide(&values(2, shift))]);
        for transport in [false, true] {
            let wanted = RequiredFigures { baseline_ranks: &ranks, current_ranks: &ranks, distance: true, transport };
            let what = if transport { "percentiles, KS, Wasserstein" } else { "percentiles, KS" };
            group.bench_function(BenchmarkId::new(what, name), |bencher| {
                bencher.iter(|| {
                    let side = BaselineKeys::Source(&a, N as u64);
                    let (a, b) = count_pair(&CpuCounter, Domain::F64, side, &b, N as u64, wanted).unwrap();
                    EcdfPair::new(&a, &b).map(|pair| pair.distance())
                });
            });
        }
    }
    group.finish();
}

/// The same on the device, if there is one: from host memory, and with the keys on the device.
fn on_gpu(c: &mut Criterion) {
    let Ok(gpu) = GpuCounter::open(&DeviceChoice::default(), 256 << 20) else { return };
    // A software device is a thousand times slower.
    let n = if gpu.adapter().is_software() { 1 << 17 } else { N };
    let mut group = c.benchmark_group(format!("gpu: {}", gpu.adapter().name));
    group.sample_size(10);
    group.throughput(Throughput::Elements(n as u64));
    let x = &values(1, 0.0)[..n];
    let narrow = KeyVec::U32(x.iter().map(|&x| key_f32(x as f32)).collect());
    for (name, keys, domain) in [("f64", wide(x), Domain::F64), ("f32", narrow, Domain::F32)] {
        let mut sample: Vec<u64> = (0..n).step_by(512).map(|i| keys.get(i)).collect();
        let map = CellMap::from_sample(&mut sample, domain, 255);
        let source = vec![keys];
        group.bench_function(BenchmarkId::new("count, cpu", name), |b| {
            b.iter(|| CpuCounter.columns(domain, vec![&source]).count(&map, false, None).unwrap());
        });
        group.bench_function(BenchmarkId::new("count, from host memory", name), |b| {
            b.iter(|| gpu.columns(domain, vec![&source]).count(&map, false, None).unwrap());
        });
        let mut resident = gpu.columns(domain, vec![&source]);
        group.bench_function(BenchmarkId::new("count, resident", name), |b| {
            b.iter(|| resident.count(&map, false, None).unwrap());
        });
    }
    group.finish();
}

fn categories(c: &mut Criterion) {
    let mut group = c.benchmark_group("categories");
    group.throughput(Throughput::Elements(100_000));
    for distinct in [10, 1000, 100_000] {
        let names: Vec<String> = (0..100_000).map(|i| format!("category-{}", i * 7919 % distinct)).collect();
        group.bench_function(BenchmarkId::from_parameter(distinct), |b| {
            b.iter(|| {
                let mut counts = CategoryCounts::new(1 << 20);
                names.iter().for_each(|name| counts.add(name, 1));
                counts.finish()
            });
        });
    }
    group.finish();
}

fn metrics(c: &mut Criterion) {
    let mut group = c.benchmark_group("metrics");
    let (a, b): (Vec<u64>, Vec<u64>) = (1..=10u64).map(|i| (1000 + 13 * i, 1100 - 7 * i)).unzip();
    group.bench_function("psi, 10 bins", |bencher| bencher.iter(|| divergence::psi(black_box(&a), &b, 1e-10)));
    group
        .bench_function("js, 10 bins", |bencher| bencher.iter(|| divergence::jensen_shannon(black_box(&a), &b, 1e-10)));
    group.bench_function("noise floor, 10 bins", |bencher| {
        bencher.iter(|| noise::floor(psi::NOISE, 0.01, black_box(&a), &b, 1e-10));
    });
    group.bench_function("ks p, exact, 10,000 a side", |bencher| {
        bencher.iter(|| ks::exact(black_box(2_000_000), 10_000, 10_000))
    });
    group.bench_function("ks p, exact, 9,973 and 10,000", |bencher| {
        bencher.iter(|| ks::exact(black_box(1_994_600), 9_973, 10_000))
    });
    group.bench_function("ks p, million a side", |bencher| {
        bencher.iter(|| ks::asymptotic(black_box(0.002), 1_000_000, 1_000_000))
    });
    group.finish();
}

criterion_group!(benches, counting, comparing, on_gpu, categories, metrics);
criterion_main!(benches);
