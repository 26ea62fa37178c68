//! A decision allocates nothing.

use allocation_counter::measure;
use policy::{CurrentTable, Facts, Method, Origin, Payload, RegionView, Table, Verdict};

mod sample;

#[test]
fn a_decision_of_64_regions_allocates_nothing() {
    let table = Table::new(sample::large(64, 100)).expect("a table");
    let view = vec![RegionView::default(); 64];
    let view = view.as_slice();
    let origins = [
        Origin::Unknown,
        Origin::Country("DE".parse().expect("a country")),
        Origin::Country("US".parse().expect("a country")),
        Origin::Countries(sample::countries(&["DE", "BR"])),
    ];
    for (origin, path) in origins.iter().flat_map(|origin| [(origin, "/v3/x"), (origin, "/x")]) {
        let facts = Facts {
            host: "api.example.com",
            path,
            method: Method::Get,
            payload: Payload::Nothing,
            origin: *origin,
            declared: &[],
            consent: true,
            client_at: None,
            client_key: 3,
            from: table.region_named("region-0000").expect("a region"),
            pinned: None,
            only: None,
            criticality: None,
        };
        let mut verdict = None;
        let deciding = measure(|| verdict = Some(policy::decide(&table, &facts, view)));
        assert_eq!(deciding.count_total, 0, "{origin:?} {path}");
        if let Some(Verdict::Forward(permits)) = verdict {
            let current = CurrentTable { table: &table, view };
            let mut permit = None;
            let permitting = measure(|| permit = permits.next(&table, &facts, &Default::default(), &current));
            assert!(permit.is_some() && permitting.count_total == 0);
        }
    }
    let boxing = measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(boxing.count_total, 1, "the counter counts");
}
