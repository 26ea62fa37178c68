//! How long a decision takes.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Facts, Method, Origin, RegionView, Table};

#[path = "../tests/sample/mod.rs"]
mod sample;

fn facts<'a>(table: &Table, host: &'a str, path: &'a str, country: &str) -> Facts<'a> {
    Facts {
        host,
        path,
        method: Method::Get,
        origin: country.parse().map_or(Origin::Unknown, Origin::Country),
        declared: &[],
        consent: false,
        client_key: 7,
        from: table.region_named("region-0000").expect("a region"),
        pinned: None,
        only: None,
    }
}

fn decide(bench: &mut Criterion) {
    for regions in [6, 16, 64] {
        let table = Table::new(sample::large(regions, 0)).expect("a table");
        let view = vec![RegionView::default(); regions];
        for (what, path, country) in [("law", "/v3/x", "DE"), ("free", "/x", "DE"), ("opened", "/v3/x", "US")] {
            let mut facts = facts(&table, "api.example.com", path, country);
            bench.bench_function(&format!("decide/{regions} regions/{what}"), |bench| {
                bench.iter(|| {
                    facts.client_key = facts.client_key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    policy::decide(black_box(&table), black_box(&facts), view.as_slice())
                });
            });
        }
    }
}

fn route(bench: &mut Criterion) {
    let table = Table::new(sample::large(16, 5000)).expect("a table");
    bench.bench_function("find_route/5000 routes", |bench| {
        bench.iter(|| {
            table.find_route(black_box("host-123.example.com"), black_box("/service-4/v1/users/7"), Method::Get)
        });
    });
}

fn compile(bench: &mut Criterion) {
    let spec = sample::large(64, 5000);
    bench.bench_function("compile/64 regions 5000 routes", |bench| {
        bench.iter(|| Table::new(black_box(spec.clone())));
    });
}

criterion_group!(benches, decide, route, compile);
criterion_main!(benches);
