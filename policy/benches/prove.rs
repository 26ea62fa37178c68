//! How long the proof of a table takes, beside the reading of it.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::Table;
use policy::proof::prove;

#[path = "../tests/sample/mod.rs"]
mod sample;

fn largest(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("prove");
    group.sample_size(10);
    for (name, alone) in [("64 regions 5000 routes", false), ("64 regions 5000 routes 250 laws", true)] {
        let table = Table::new(sample::largest(alone)).expect("a table");
        group.bench_function(name, |bench| bench.iter(|| prove(black_box(&table))));
    }
    group.finish();
}

criterion_group!(benches, largest);
criterion_main!(benches);
