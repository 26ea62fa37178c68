//! The serving region is lost under load: no idempotent request fails, whatever it is lost by.

use std::time::{Duration, Instant};

use loadtest::{Observation, Protocol, RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served, attempts, figures, region};
use meridian_tests::{Authority, Fleet, Setup, geo};

use super::{assert_lawful, fleet, left};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_region_costs_no_idempotent_request() {
    lose("kill -9", "", async |fleet| fleet.kill("first")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_region_costs_no_idempotent_request() {
    // Silence has to end some time.
    lose("SIGSTOP", "retry = { per_try_timeout = \"500ms\" }", async |fleet| fleet.origin("first").stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_resets_before_the_head_costs_no_idempotent_request() {
    lose("reset before the head", "", async |fleet| fleet.behave("first", "reset").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_was_never_there_costs_no_idempotent_request() {
    let mut fleet = fleet(1, "", "").await;
    fleet.kill("first");
    let (node, loads) = Loads::start(&fleet, "connection refused").await;
    let took = left(&node, "first").await;
    assert!(took < SOON, "{took:?}");
    let seen = loads.end().await;
    assert!(seen.iter().all(|seen| region(seen) == Some("second")));
    assert_within_the_request(&seen, 0);
    assert!(fleet.received("first").await.is_empty());
    assert_lawful(&mut fleet, &node).await;
}

async fn lose(fault: &'static str, route: &str, strike: impl AsyncFnOnce(&mut Fleet)) {
    let mut fleet = fleet(1, route, "").await;
    let (node, loads) = Loads::start(&fleet, fault).await;
    loads.more(400, "requests served at home", |seen| region(seen) == Some("first")).await;

    let struck = Instant::now();
    strike(&mut fleet).await;
    left(&node, "first").await;
    let took = struck.elapsed();
    let ejected = Instant::now();
    eprintln!("{fault}: ejected after {took:.0?}");
    assert!(took < SOON, "from {fault} to the ejection: {took:?}");

    let seen = loads.end().await;
    // A death is told by probes, too, on a machine where they come first.
    let told_by_traffic = fault != "kill -9";
    assert_within_the_request(&seen, if told_by_traffic { 5 } else { 1 });
    for seen in seen.iter().filter(|seen| seen.intended > ejected) {
        assert_eq!(region(seen), Some("second"), "the other is the last resort: {seen:?}");
    }
    let metrics = node.metrics().await;
    let of_first = [("region", "first")];
    let charged = ["meridian_ejections_total", "meridian_suspicions_total"].map(|name| metrics.sum(name, &of_first));
    assert!(!told_by_traffic || charged.into_iter().flatten().sum::<f64>() >= 1.0, "{charged:?}");
    assert_eq!(metrics.sum("meridian_region_health", &of_first), Some(0.0));
    let failovers = metrics.sum("meridian_failovers_total", &[("from_region", "first"), ("to_region", "second")]);
    assert!(failovers >= Some(1.0), "{failovers:?}");
    // A stopped one would tell what it had received when it goes on.
    if fault == "SIGSTOP" {
        fleet.origin("first").go_on();
    }
    assert_lawful(&mut fleet, &node).await;
}

/// Asserts that those which met the fault, so many at least, were served elsewhere, within the same request.
fn assert_within_the_request(seen: &[Observation], least: usize) {
    assert_all_served(seen);
    let moved = seen.iter().filter(|seen| attempts(seen) == Some(2) && region(seen) == Some("second")).count();
    assert!(moved >= least, "{moved} were moved");
    assert!(seen.iter().all(|seen| attempts(seen).is_some_and(|attempts| attempts <= 2)), "one failure each at most");
}

/// The same load over both protocols.
struct Loads {
    fault: &'static str,
    loads: [Load; 2],
}

impl Loads {
    async fn start(fleet: &Fleet, fault: &'static str) -> (meridian_tests::Node, Loads) {
        let authority = Authority::default();
        let setup = Setup::new("first", fleet.table()).tls(&[&authority.certify(&[HOST])]);
        let node = setup.without_access_log().start().await;
        let loads = [Protocol::Http1, Protocol::Http2].map(|protocol| {
            let target = Target { address: node.https(), protocol, tls: Some(authority.load(HOST)) };
            Load::start_for(PER_PROTOCOL, target, RATE, request)
        });
        (node, Loads { fault, loads })
    }

    async fn more(&self, count: usize, what: &str, wanted: impl Fn(&Observation) -> bool) {
        for load in &self.loads {
            load.more(count, what, &wanted).await;
        }
    }

    /// Every request that was due, once all have ended.
    async fn end(self) -> Vec<Observation> {
        let mut all = Vec::new();
        for (load, protocol) in self.loads.into_iter().zip(["HTTP/1.1", "HTTP/2"]) {
            let seen = load.end().await;
            assert_eq!(seen.len(), PER_PROTOCOL as usize);
            eprintln!("{}, {protocol}: {}", self.fault, figures(&seen));
            all.extend(seen);
        }
        all
    }
}

/// Everything that is idempotent: by its method, or by a key.
fn request(number: u64) -> RequestSpec {
    let method = ["GET", "PUT", "POST", "DELETE", "GET", "HEAD", "OPTIONS", "GET"][number as usize % 8];
    let mut headers = vec![("x-forwarded-for".to_owned(), geo::address("US", (number % 14) as u8 + 1).to_string())];
    if method == "POST" {
        headers.push(("idempotency-key".to_owned(), number.to_string()));
    }
    let body = if ["PUT", "POST"].contains(&method) { "0123456789".repeat(20).into() } else { bytes::Bytes::new() };
    RequestSpec {
        method: method.parse().expect("a method"),
        headers,
        body,
        ..RequestSpec::get(HOST, format!("/{number}"))
    }
}

const HOST: &str = "api.example.com";

/// Requests a second over each protocol, which a busy machine keeps with a debug build, and how many there are: 20,000
/// over the four cases.
const RATE: f64 = 250.0;
const PER_PROTOCOL: u32 = 2_500;

/// From a fault to the ejection, at most.
const SOON: Duration = Duration::from_secs(1);
