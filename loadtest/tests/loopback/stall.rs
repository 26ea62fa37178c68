//! Does a stall show in the latencies as the clients of a fixed schedule would feel it?

use std::time::Duration;

use loadtest::origin::{Behaviour, Origin, OriginConfig};
use loadtest::{Plan, RequestSpec, Target, run};

#[tokio::test]
async fn a_stall_counts_for_all_who_would_have_waited() {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    let plan = Plan { connections: 4, ..Plan::new(Target::http1(origin.address()), 200.0, Duration::from_secs(1)) };
    let stall = Duration::from_millis(400);
    let mut delayed = 0;
    let (report, ()) = tokio::join!(
        run(
            &plan,
            |_| RequestSpec::get("x", "/"),
            |observation| delayed += u64::from(observation.latency >= Duration::from_millis(100)),
        ),
        async {
            origin.arrived(40).await;
            origin.set_behaviour(Behaviour::Stall);
            tokio::time::sleep(stall).await;
            origin.set_behaviour(Behaviour::Normal);
        }
    );
    let report = report.unwrap();
    assert_eq!((report.due, report.answered), (200, 200), "{report}");
    assert!(report.latency.p99 >= stall * 9 / 10, "{report}");
    // A closed loop would have seen four slow requests, one on each connection. On the schedule the stall fell upon
    // 80, of which those due in its first 300 ms waited for more than 100 ms.
    assert!((50..=100).contains(&delayed), "{delayed} delayed\n{report}");
    assert!(report.wait.p99 >= Duration::from_millis(300), "most of it was waiting for a connection\n{report}");
}
