//! Is the schedule kept, and everything on it accounted for?

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use loadtest::{Observation, Outcome, Plan, RequestSpec, Target, run, run_until};

#[tokio::test]
async fn the_rate_is_kept() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan = Plan::new(Target::http1(origin.address()), 300.0, Duration::from_millis(1_200));
    let report = run(&plan, |_| RequestSpec::get("x", "/"), |_| {}).await.unwrap();
    assert_eq!((report.due, report.answered, report.failed), (360, 360, 0), "{report}");
    assert_eq!(origin.requests(), 360);
    assert!((285.0..=315.0).contains(&report.rate), "{report}");
    let seconds = report.duration.as_secs_f64();
    assert!((1.19..1.30).contains(&seconds), "{report}");
}

#[tokio::test]
async fn each_request_is_asked_for_and_observed_once() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan =
        Plan { connections: 3, ..Plan::new(Target::http1(origin.address()), 1_000.0, Duration::from_millis(200)) };
    let asked = RefCell::new(Vec::new());
    let mut observed = Vec::new();
    let next = |sequence| {
        asked.borrow_mut().push(sequence);
        RequestSpec { tag: sequence as usize * 7, ..RequestSpec::get("x", "/") }
    };
    let observe = |observation: &Observation| {
        assert_eq!(observation.tag as u64, observation.sequence * 7);
        assert!(observation.wait <= observation.latency);
        observed.push(observation.sequence);
    };
    run(&plan, next, observe).await.unwrap();
    observed.sort_unstable();
    assert_eq!(asked.into_inner(), (0..200).collect::<Vec<_>>(), "in order");
    assert_eq!(observed, (0..200).collect::<Vec<_>>());
    assert!(origin.connections() <= 3);
}

#[tokio::test]
async fn an_endless_run_ends_when_told() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan = Plan::new(Target::http1(origin.address()), 500.0, Duration::MAX);
    let report = run_until(&plan, origin.arrived(50), |_| RequestSpec::get("x", "/"), |_| {}).await.unwrap();
    assert!((50..500).contains(&report.due), "{report}");
    assert_eq!(report.answered, report.due);
    assert!((400.0..600.0).contains(&report.rate), "{report}");
}

#[tokio::test]
async fn answers_are_counted_by_status_and_region() {
    let origin = Origin::start(OriginConfig::named("a")).await.unwrap();
    origin.behave(|received| match received.path.as_str() {
        "/missing" => Behaviour::Status(StatusCode::NOT_FOUND),
        "/broken" => Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE),
        "/far" => Behaviour::Answer(
            Response::builder()
                .header("x-meridian-region", "eu-west-1")
                .header("x-meridian-attempts", "3")
                .body(Bytes::from_static(b"0123456789"))
                .unwrap(),
        ),
        _ => Behaviour::Normal,
    });
    let paths = ["/", "/missing", "/broken", "/far"];
    let plan = Plan::new(Target::http1(origin.address()), 500.0, Duration::from_millis(200));
    let names_kept = Cell::new(true);
    let observe = |observation: &Observation| {
        let Outcome::Answered { headers, .. } = &observation.outcome else { return };
        names_kept.set(names_kept.get() && headers["x-origin"] == "a");
    };
    let next = |sequence: u64| RequestSpec::get("x", paths[sequence as usize % paths.len()]);
    let report = run(&plan, next, observe).await.unwrap();
    assert_eq!(report.statuses, [(200, 50), (404, 25), (503, 25)].into());
    assert_eq!(report.server_errors(), 25);
    assert_eq!(report.regions, [("eu-west-1".to_owned(), 25)].into());
    assert_eq!(report.further_attempts, 50);
    assert_eq!(report.bytes, 25 * 10 + 25 * 2);
    assert!(names_kept.get());
}

#[tokio::test]
async fn a_plan_out_of_range_is_refused() {
    let target = || Target::http1(([127, 0, 0, 1], 1).into());
    let plan = |rate| Plan::new(target(), rate, Duration::from_secs(1));
    for bad in [
        plan(0.0),
        plan(-1.0),
        plan(f64::NAN),
        plan(f64::INFINITY),
        Plan { connections: 0, ..plan(1.0) },
        Plan { streams: 0, ..plan(1.0) },
        Plan { timeout: Duration::ZERO, ..plan(1.0) },
        Plan { timeout: Duration::MAX, ..plan(1.0) },
    ] {
        let refused = run(&bad, |_| unreachable!("nothing is sent"), |_| {}).await;
        assert!(refused.is_err(), "{bad:?}");
    }
}
