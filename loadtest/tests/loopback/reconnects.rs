//! Does a kept connection that the peer has closed cost no request?

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use loadtest::origin::{Origin, OriginConfig};
use loadtest::{Observation, Plan, Protocol, RequestSpec, Target, run};

/// The origin restarts while the connection stands idle, in the sight of the runtime.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let origin = Origin::start(OriginConfig { protocol, ..OriginConfig::default() }).await.unwrap();
        let target = Target { address: origin.address(), protocol, tls: None };
        // Two requests, half a second apart.
        let plan = Plan { connections: 1, ..Plan::new(target, 2.0, Duration::from_secs(1)) };
        let answered = tokio::sync::Notify::new();
        let (report, ()) = tokio::join!(run(&plan, |_| RequestSpec::get("x", "/"), |_| answered.notify_one()), async {
            answered.notified().await;
            origin.kill().await;
            origin.revive().await.unwrap();
        });
        let report = report.unwrap();
        assert_eq!((report.answered, report.failed), (2, 0), "{protocol:?}\n{report}");
        assert_eq!((report.connections, report.reconnects), (2, 1), "{protocol:?}\n{report}");
    }
}

/// The origin restarts while our runtime is blocked, so that the connection still looks open when it is used.
#[test]
fn a_closed_connection_is_noticed_at_the_last_moment() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = OriginConfig { protocol, ..OriginConfig::default() };
        let origin = Arc::new(elsewhere.block_on(Origin::start(config)).unwrap());
        let target = Target { address: origin.address(), protocol, tls: None };
        let plan = Plan { connections: 1, ..Plan::new(target, 20.0, Duration::from_millis(100)) };
        let observe = |observation: &Observation| {
            if observation.sequence > 0 {
                return;
            }
            let (restarted, done) = mpsc::channel();
            let origin = Arc::clone(&origin);
            elsewhere.spawn(async move {
                origin.kill().await;
                origin.revive().await.unwrap();
                restarted.send(()).unwrap();
            });
            done.recv().unwrap();
            // Until the second request is due: it then leaves before the runtime looks at its sockets again.
            let due = observation.intended + Duration::from_millis(60);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        };
        let report = here.block_on(run(&plan, |_| RequestSpec::get("x", "/"), observe)).unwrap();
        assert_eq!((report.answered, report.failed), (2, 0), "{protocol:?}\n{report}");
        assert_eq!((report.connections, report.reconnects), (2, 1), "{protocol:?}\n{report}");
    }
}
