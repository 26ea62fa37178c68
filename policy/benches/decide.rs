//! How long a decision takes.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Facts, Health, Method, Origin, RegionView, Table};

#[path = "../tests/sample/mod.rs"]
mod sample;

fn facts<'a>(table: &Table, host: &'a str, path: &'a str, country: &str) -> Facts<'a> {
    Facts {
        host,
        path,
        method: Method::Get,
        payload: policy::Payload::Nothing,
        origin: country.parse().map_or(Origin::Unknown, Origin::Country),
        declared: &[],
        consent: false,
        client_at: None,
        client_key: 7,
        from: table.region_named("region-0000").expect("a region"),
        pinned: None,
        only: None,
        criticality: None,
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

/// Everything that a decision can have to think of at once: a client that may be in two countries, a
/// tenant's jurisdiction, limits on latency and lag, loads that differ, overload, a ramp and weights.
fn decide_all(bench: &mut Criterion) {
    for regions in [16, 64] {
        let mut spec = sample::large(regions, 0);
        spec.regions.iter_mut().step_by(3).for_each(|region| region.weight = 50);
        let route = spec.routes.iter_mut().find(|route| route.name == "api").expect("the route");
        route.max_latency = Some(Duration::from_millis(250));
        route.max_replication_lag = Some(Duration::from_secs(60));
        let table = Table::new(spec).expect("a table");
        let loaded = |index: usize| RegionView {
            health: if index.is_multiple_of(5) { Health::Ramping(50) } else { Health::Up },
            utilisation: (index % 10) as f32 / 10.0,
            pressure: (index % 10) as f32 / 10.0,
            rtt_ms: index.is_multiple_of(2).then_some(index as f32 * 3.0),
            reach_ms: None,
            lag: Some(Duration::from_secs(index as u64)),
            promoted: false,
            writes: policy::Writes::AsDeclared,
        };
        let view: Vec<RegionView> = (0..regions).map(loaded).collect();
        let declared = [table.jurisdiction_named("us").expect("a jurisdiction")];
        let mut facts = Facts {
            origin: Origin::Countries(sample::countries(&["US", "JP"])),
            declared: &declared,
            consent: true,
            ..facts(&table, "api.example.com", "/v3/x", "US")
        };
        bench.bench_function(&format!("decide/{regions} regions/everything"), |bench| {
            bench.iter(|| {
                facts.client_key = facts.client_key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                policy::decide(black_box(&table), black_box(&facts), view.as_slice())
            });
        });
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

criterion_group!(benches, decide, decide_all, route, compile);
criterion_main!(benches);
