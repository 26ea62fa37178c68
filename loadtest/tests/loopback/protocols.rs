//! Does it speak HTTP/1.1 and HTTP/2, plain and over TLS, and reuse connections as it should?

use std::time::Duration;

use http::Version;
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use loadtest::{FailureKind, Plan, Protocol, Report, RequestSpec, Reuse, Target, Tls, run};

use super::certificates::Certificates;

#[tokio::test]
async fn every_protocol_is_spoken() {
    let certificates = Certificates::of("api.example.com");
    for (protocol, version) in [(Protocol::Http1, Version::HTTP_11), (Protocol::Http2, Version::HTTP_2)] {
        for secure in [false, true] {
            let tls = secure.then(|| certificates.server());
            let origin = Origin::start(OriginConfig { protocol, tls, ..OriginConfig::default() }).await.unwrap();
            let tls = secure.then(|| certificates.client("api.example.com"));
            let report = send(Target { address: origin.address(), protocol, tls }).await;
            assert_eq!((report.answered, report.failed), (REQUESTS, 0), "{protocol:?} {secure}\n{report}");
            assert!(origin.connections() <= 4);
            assert_eq!((report.connections, report.reconnects), (origin.connections(), 0), "{report}");
            for received in origin.received() {
                assert_eq!(received.version, version);
                assert_eq!(received.host.as_deref(), Some("api.example.com"));
            }
        }
    }
}

#[tokio::test]
async fn one_http2_connection_carries_several_requests() {
    let origin = Origin::start(OriginConfig { protocol: Protocol::Http2, ..OriginConfig::default() }).await.unwrap();
    origin.set_behaviour(Behaviour::Slow(Duration::from_millis(100)));
    let plan = Plan { connections: 1, streams: 50, ..plan(Target::http2(origin.address())) };
    let report = run(&plan, |_| request(), |_| {}).await.unwrap();
    assert_eq!(report.answered, REQUESTS, "{report}");
    assert_eq!(origin.connections(), 1);
    // One at a time they would have taken four seconds.
    assert!(report.duration < Duration::from_secs(2), "{report}");
}

#[tokio::test]
async fn a_new_connection_for_each_request_on_demand() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let origin = Origin::start(OriginConfig { protocol, ..OriginConfig::default() }).await.unwrap();
        let target = Target { address: origin.address(), protocol, tls: None };
        let plan = Plan { reuse: Reuse::NewConnection, ..plan(target) };
        let report = run(&plan, |_| request(), |_| {}).await.unwrap();
        assert_eq!((report.answered, report.connections, report.reconnects), (REQUESTS, REQUESTS, 0), "{report}");
        assert_eq!(origin.connections(), REQUESTS);
    }
}

#[tokio::test]
async fn a_certificate_is_checked_unless_told_otherwise() {
    let ours = Certificates::of("api.example.com");
    let strangers = Certificates::of("api.example.com");
    let config = OriginConfig { tls: Some(ours.server()), ..OriginConfig::default() };
    let origin = Origin::start(config).await.unwrap();
    for (tls, trusted) in [
        (ours.client("api.example.com"), true),
        (ours.client("other.example.com"), false),
        (strangers.client("api.example.com"), false),
        (Tls::danger_accept_any_certificate("other.example.com").unwrap(), true),
    ] {
        let report = send(Target::http1(origin.address()).over(tls.clone())).await;
        let (answered, refused) = if trusted { (REQUESTS, 0) } else { (0, REQUESTS) };
        assert_eq!((report.answered, report.failed_by(FailureKind::Tls)), (answered, refused), "{tls:?}\n{report}");
    }
}

#[tokio::test]
async fn http2_is_not_taken_for_granted_over_tls() {
    let certificates = Certificates::of("api.example.com");
    let config = OriginConfig { tls: Some(certificates.server()), ..OriginConfig::default() };
    let origin = Origin::start(config).await.unwrap();
    let report = send(Target::http2(origin.address()).over(certificates.client("api.example.com"))).await;
    assert_eq!(report.failed_by(FailureKind::Tls), REQUESTS, "{report}");
}

#[tokio::test]
async fn x25519_alone_is_offered_on_demand() {
    let certificates = Certificates::of("api.example.com");
    let config = OriginConfig { tls: Some(certificates.post_quantum_server()), ..OriginConfig::default() };
    let origin = Origin::start(config).await.unwrap();
    let tls = certificates.client("api.example.com");
    let report = send(Target::http1(origin.address()).over(tls.clone())).await;
    assert_eq!(report.answered, REQUESTS, "{report}");
    let report = send(Target::http1(origin.address()).over(tls.x25519_only().unwrap())).await;
    assert_eq!(report.failed_by(FailureKind::Tls), REQUESTS, "{report}");
}

const REQUESTS: u64 = 40;

async fn send(target: Target) -> Report {
    run(&plan(target), |_| request(), |_| {}).await.unwrap()
}

fn plan(target: Target) -> Plan {
    Plan { connections: 4, ..Plan::new(target, 400.0, Duration::from_millis(100)) }
}

fn request() -> RequestSpec {
    RequestSpec::get("api.example.com", "/v3/x")
}
