//! Is every failure counted, and as what it is?

use std::cell::Cell;
use std::time::Duration;

use loadtest::origin::{Behaviour, Origin, OriginConfig};
use loadtest::{FailureKind, Observation, Outcome, Plan, Report, RequestSpec, Target, run, run_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[tokio::test]
async fn a_killed_origin_shows_until_it_is_revived() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan = Plan { connections: 4, ..Plan::new(Target::http1(origin.address()), 500.0, Duration::MAX) };
    // (answered, failed)
    let (counts, watched) = watch::channel((0, 0));
    let observe = |observation: &Observation| {
        let answered = u64::from(matches!(observation.outcome, Outcome::Answered { .. }));
        counts.send_modify(|counts| *counts = (counts.0 + answered, counts.1 + 1 - answered));
    };
    let story = async {
        let mut watched = watched;
        origin.arrived(50).await;
        origin.kill().await;
        watched.wait_for(|(_, failed)| *failed >= 20).await.unwrap();
        let (answered, _) = *watched.borrow();
        origin.revive().await.unwrap();
        watched.wait_for(|counts| counts.0 >= answered + 50).await.unwrap();
    };
    let report = run_until(&plan, story, |_| RequestSpec::get("x", "/"), observe).await.unwrap();
    assert_eq!(report.answered + report.failed, report.due, "{report}");
    assert_eq!((report.answered, report.failed), *counts.borrow());
    let refused = report.failed_by(FailureKind::Connect);
    let cut = report.failed_by(FailureKind::Reset) + report.failed_by(FailureKind::BodyCut);
    assert_eq!(refused + cut, report.failed, "{report}");
    assert!(refused >= 16, "one request on each connection was cut at most\n{report}");
}

#[tokio::test]
async fn failures_are_told_apart() {
    for (behaviour, kind) in [
        (Behaviour::CloseBeforeHead, FailureKind::Reset),
        (Behaviour::CutBody, FailureKind::BodyCut),
        (Behaviour::Stall, FailureKind::Timeout),
    ] {
        for target in [Target::http1, Target::http2] {
            let protocol = target(([127, 0, 0, 1], 0).into()).protocol;
            let origin = Origin::start(OriginConfig { protocol, ..OriginConfig::default() }).await.unwrap();
            origin.set_behaviour(behaviour.clone());
            let report = ten_requests(target(origin.address())).await;
            assert_eq!(report.failed_by(kind), 10, "{behaviour:?}\n{report}");
            assert_eq!(report.answered, 0, "{behaviour:?}");
            origin.arrived(10).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::http1(listener.local_addr().unwrap());
    let nonsense = async {
        for _ in 0..10 {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            client.read_exact(&mut request).await.unwrap();
            client.write_all(b"\x15\x03\x01 is no status line\r\n\r\n").await.unwrap();
        }
    };
    let (report, ()) = tokio::join!(ten_requests(target), nonsense);
    assert_eq!(report.failed_by(FailureKind::Protocol), 10, "{report}");
}

#[tokio::test]
async fn what_is_not_http_is_not_sent() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan = plan(Target::http1(origin.address()));
    let report = run(&plan, |_| RequestSpec::get("two words", "/ and a space"), |_| {}).await.unwrap();
    assert_eq!(report.failed_by(FailureKind::InvalidRequest), 10, "{report}");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn requests_that_find_no_connection_in_time_are_counted() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    origin.set_behaviour(Behaviour::Stall);
    let plan = Plan {
        connections: 1,
        timeout: Duration::from_millis(50),
        ..Plan::new(Target::http1(origin.address()), 5_000.0, Duration::from_millis(100))
    };
    let waited_in_vain = Cell::new(true);
    let observe = |observation: &Observation| {
        waited_in_vain.set(waited_in_vain.get() && observation.latency >= plan.timeout);
    };
    let report = run(&plan, |_| RequestSpec::get("x", "/"), observe).await.unwrap();
    assert_eq!((report.due, report.failed), (500, 500), "{report}");
    assert!(report.failed_by(FailureKind::Timeout) >= 1, "{report}");
    // Each timeout frees the connection a millisecond or so later, when five more requests have expired.
    assert!(report.failed_by(FailureKind::NotStarted) >= 100, "{report}");
    assert_eq!(report.sent, 500 - report.failed_by(FailureKind::NotStarted));
    assert!(report.rate < 4_500.0, "the rate achieved says that it was not kept\n{report}");
    assert!(waited_in_vain.get());
}

async fn ten_requests(target: Target) -> Report {
    run(&plan(target), |_| RequestSpec::get("x", "/"), |_| {}).await.unwrap()
}

fn plan(target: Target) -> Plan {
    let timeout = Duration::from_millis(150);
    Plan { timeout, ..Plan::new(target, 200.0, Duration::from_millis(50)) }
}
