//! `[concurrency]`, and what a region says of its own.

use policy::concurrency::{Bounds, ConcurrencyPlan, Mode, QueuePlan};

use super::{base_with, good, read};

/// What the first region has of a table with these lines for it, and these for all.
fn concurrency(region: &str, table: &str) -> ConcurrencyPlan {
    let with_region = base_with("#region", &format!("concurrency = {{ {region} }}"));
    let text = if region.is_empty() { base_with("#region", "") } else { with_region };
    good(&format!("{text}\n[concurrency]\n{table}\n")).upstreams[0].concurrency
}

#[test]
fn a_region_goes_by_the_tables_limit_or_its_own() {
    let mode = |region: &str, table: &str| concurrency(region, table).mode;
    let adaptive = |initial, min, max| Mode::Adaptive(Bounds { initial, min, max });
    let all = "mode = 'adaptive'\nmin = 2\nlimit = 8\nmax = 40";
    assert_eq!(mode("", ""), Mode::Off);
    assert_eq!(mode("", "mode = 'fixed'\nlimit = 7"), Mode::Fixed(7));
    assert_eq!(mode("", "mode = 'adaptive'"), adaptive(16, 4, 1_000_000));
    assert_eq!(mode("", "mode = 'adaptive'\nmax = 3"), adaptive(3, 3, 3));
    assert_eq!(mode("", "mode = 'adaptive'\nmin = 100"), adaptive(100, 100, 1_000_000));
    assert_eq!(mode("", all), adaptive(8, 2, 40));
    assert_eq!(mode("max = 90", all), adaptive(8, 2, 90));
    assert_eq!(mode("mode = 'off'", all), Mode::Off);
    assert_eq!(mode("mode = 'fixed', limit = 3", all), Mode::Fixed(3));
    assert_eq!(mode("mode = 'adaptive'", "mode = 'fixed'\nlimit = 7"), adaptive(16, 4, 1_000_000));
    let queue = |region: &str, table: &str| {
        let QueuePlan { length, age } = concurrency(region, table).queue;
        (length, age.as_millis())
    };
    assert_eq!(queue("", ""), (128, 1000));
    assert_eq!(queue("mode = 'adaptive', queue = 0", "queue = 9\nqueue_age = '50ms'"), (0, 50));
}

#[test]
fn limits_that_do_not_fit_are_problems() {
    for (region, table, place, problem) in [
        ("", "mode = 'on'", "concurrency.mode", "known: off, fixed, adaptive"),
        ("", "mode = 'fixed'", "concurrency.limit", "say how many requests"),
        ("", "limit = 5", "concurrency.limit", "mode is \"off\""),
        ("", "mode = 'fixed'\nlimit = 5\nmin = 2", "concurrency.min", "mode is \"fixed\""),
        ("", "mode = 'adaptive'\nmin = 5\nmax = 2", "concurrency", "min is 5 and max is 2"),
        ("", "mode = 'adaptive'\nmax = 9\nlimit = 10", "concurrency", "write one from 4 to 9"),
        ("", "mode = 'adaptive'\nlimit = 0", "concurrency.limit", "1 to 1000000"),
        ("", "queue = 1025", "concurrency.queue", "0 to 1024"),
        ("", "mode = 'adaptive'\nqueue_age = '2m'", "concurrency.queue_age", "longer than a minute"),
        ("", "criticality_header = 'x y'", "concurrency.criticality_header", "is not a header name"),
        ("queue = 3", "", "concurrency.queue", "mode is \"off\""),
        ("mode = 'fixed'", "mode = 'adaptive'\nlimit = 5", "concurrency.limit", "say how many requests"),
        ("criticality_header = 'x'", "", "concurrency.criticality_header", "unknown key"),
    ] {
        let region = if region.is_empty() { String::new() } else { format!("concurrency = {{ {region} }}") };
        let text = format!("{}\n[concurrency]\n{table}\n", base_with("#region", &region));
        let problems = read(&text).map_or_else(|problems| problems.0, |table| table.warnings);
        let [found] = problems.as_slice() else { panic!("{region} {table}: {problems:#?}") };
        assert!(found.path.ends_with(place) && found.message.contains(problem), "{region} {table}: {found:?}");
    }
}
