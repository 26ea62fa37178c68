//! What counts as an attempt.

use arc_swap::ArcSwap;
use http::Request;
use policy::{Facts, Method, Origin, Payload};

use super::*;
use crate::clock::LawClock;
use crate::headers::RequestHead;
use crate::peers::CurrentPeers;
use crate::prepare::Components;
use crate::request_body::RequestBody;
use crate::routing::{CurrentRouting, Edition, LatestRouting, PersistedState, Routing};
use crate::telemetry::metrics::Metrics;
use crate::upstream::plan::Upstream;
use crate::upstream::pool::Pool;

fn table(allowed: &str) -> String {
    format!(
        "[regions.eu]\ncountry = 'DE'\nendpoints = ['127.0.0.1:1', '127.0.0.1:2']\n[regions.gb]\ncountry = 'GB'\n\
         endpoints = ['127.0.0.1:3']\n[jurisdictions.de]\ncountries = ['DE']\n[[residency]]\njurisdiction = 'de'\n\
         data_classes = ['personal']\nallow = {{ countries = {allowed} }}\n[residency_defaults]\n\
         unlisted_jurisdiction = 'allow'\n[[routes]]\nname = 'r'\ndata_class = 'personal'\n"
    )
}

fn failed(target: AttemptTarget, fault: Fault) -> AttemptResult {
    let (unsent, is_nodes_own, call_status, is_fresh) = (None, false, None, true);
    AttemptResult {
        target,
        unsent,
        is_nodes_own,
        refused: None,
        is_overruled: false,
        call_status,
        is_fresh,
        result: Err(fault),
    }
}

/// What a test asks of the world that a request is forwarded in.
struct Bench<'a> {
    plan: &'a ForwardPlan<'a>,
    current: &'a CurrentRouting,
    metrics: &'a Metrics,
    routing: &'a dyn Fn(String, u64, &PersistedState) -> Routing,
}

/// Has a test forward a request for a path under a table.
async fn forwarding(table: String, path: &str, test: impl AsyncFnOnce(Bench<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let text =
        "[node]\nname = 'me'\nregion = 'eu'\n[[listeners]]\naddress = '127.0.0.1:0'\n[routing]\nfile = 'r.toml'\n";
    let config = config::NodeConfig::from_text(&directory.path().join("node.toml"), text).unwrap();
    let (components, persisted) = (Components::load(&config).unwrap(), PersistedState::default());
    let law = Arc::new(LawClock::start());
    let routing = |text: String, generation, persisted: &PersistedState| {
        let path = directory.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        let document = config::RoutingTable::load(&path, law.now()).unwrap();
        Routing::new(document, "eu", 100, Edition { generation, published: None }, persisted).unwrap()
    };
    let first = routing(table, 1, &persisted);
    let current = CurrentRouting::new(first, persisted, law.clone());
    let latest = LatestRouting::new(&current, 0);
    let pinned = latest.of(&current);
    let facts = Facts {
        host: "any",
        path,
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::Country("DE".parse().unwrap()),
        declared: &[],
        consent: false,
        client_at: None,
        client_key: 0,
        from: pinned.here,
        pinned: None,
        only: None,
        criticality: None,
    };
    let Verdict::Forward(permits) = policy::decide::decide(pinned.table(), &facts, &*pinned) else { panic!() };
    let (pool, peers, metrics) = (Pool::default(), CurrentPeers::default(), Metrics::new());
    let connector = ArcSwap::from_pointee(components.identity.connector);
    let plan = ForwardPlan {
        upstream: Upstream {
            pool: &pool,
            connector: &connector,
            routing: &current,
            latest: &latest,
            peers: &peers,
            metrics: &metrics,
            config: &config,
        },
        pinned: &pinned,
        facts: &facts,
        permits: &permits,
        head: &|_, _| RequestHead::Own(Box::new(Request::new(()))),
        body: &RequestBody::Empty,
        interim: None,
        repeatable: true,
        upgrade: false,
        deadline: clock::now() + Duration::from_secs(60),
        is_call: false,
        call_pause: None,
        criticality: policy::pressure::Criticality::Default,
        call_deadline: None,
    };
    test(Bench { plan: &plan, current: &current, metrics: &metrics, routing: &routing }).await;
}

fn name(target: &AttemptTarget) -> &str {
    target.region_name()
}

/// A table that comes during the pause takes away the region that was about to be tried again.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_made_is_not_counted() {
    forwarding(table("['DE', 'GB']"), "/", async |bench: Bench<'_>| not_counted(bench).await).await;
}

async fn not_counted(Bench { plan, current, metrics, routing }: Bench<'_>) {
    let mut state = RetryState::new(plan);
    let mut first = state.next().unwrap();
    assert!(state.pause(&mut first).await);
    state.begin(&first.target, false);
    assert_eq!((name(&first.target), state.attempts()), ("eu", 1));
    let result = failed(first.target, Fault::Broken);
    assert!(state.settle(result).is_none());

    let mut second = state.next().unwrap();
    assert_eq!(name(&second.target), "eu", "its other endpoint");
    let later = Arc::new(routing(table("['GB']"), 2, &current.persisted));
    current.replace(later);
    assert!(!state.pause(&mut second).await);
    let counted = |state: &RetryState<'_>| {
        let failovers = metrics.failovers.with_label_values(&["eu", "gb"]).get();
        (state.attempts(), metrics.retries.with_label_values(&["eu", "sent"]).get(), failovers)
    };
    assert_eq!(counted(&state), (1, 0, 0));

    let mut third = state.next().unwrap();
    assert_eq!(name(&third.target), "gb");
    assert!(state.pause(&mut third).await);
    state.begin(&third.target, false);
    assert_eq!(counted(&state), (2, 1, 1));

    // One endpoint that is not there says nothing of its region; that there was no place for another says why.
    let mut without_place = RetryState::new(plan);
    let first = without_place.next().unwrap();
    without_place.begin(&first.target, false);
    assert!(without_place.settle(failed(first.target, Fault::Unreachable)).is_none());
    assert!(matches!(without_place.failure(), ForwardError::Failed { .. }));
    without_place.shed = Some(Shed::QueueTimeout);
    assert!(matches!(without_place.failure(), ForwardError::Overloaded { why: Shed::QueueTimeout, .. }));

    // What follows an attempt that does not count is of the table in force all the same.
    let mut passing = RetryState::new(plan);
    let first = passing.next().unwrap();
    assert_eq!(name(&first.target), "eu", "the decision's own table");
    passing.begin(&first.target, false);
    let result = failed(first.target, Fault::NoTunnels);
    assert!(passing.settle(result).is_none());
    assert_eq!(passing.attempts(), 0);
    assert_eq!(name(&passing.next().unwrap().target), "gb");
}

/// What one region's node has no room for goes on where there is some, whatever the budget; and no further than that.
#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_goes_where_there_is_some() {
    let spent = "[failover]\nretry_budget = { ratio = 0.0, per_second = 0.0 }\n";
    let table = table("['DE', 'GB']").replace("[[routes]]", &format!("{spent}[[routes]]"));
    forwarding(table, "/", async |bench: Bench<'_>| {
        let routing = bench.current.load_full();
        let cell = |name| routing.region(routing.table().region_named(name).unwrap());
        let next_after_full = || {
            let mut state = RetryState::new(bench.plan);
            let first = state.next().unwrap();
            assert_eq!(name(&first.target), "eu");
            state.begin(&first.target, false);
            let result = failed(first.target, Fault::Full);
            state.report(&result);
            assert!(state.settle(result).is_none());
            state.done_with.insert(routing.table().region_named("eu").unwrap());
            let next = state.next().map(|next| name(&next.target).to_owned());
            assert!(next.is_some() || matches!(state.failure(), ForwardError::Overloaded { attempts: 1, .. }));
            next
        };
        for _ in 0..20 {
            assert_eq!(next_after_full().as_deref(), Some("gb"), "it has room");
        }
        assert!(cell("eu").state.is_refusing());
        let counts = cell("eu").endpoints.iter().map(|endpoint| endpoint.counts());
        let counts = counts.reduce(|one, other| one.plus(&other)).unwrap();
        assert_eq!((counts.full, counts.attempts.requests), (20, 0));
        assert_eq!(cell("eu").state.observe(&counts, &routing.table().spec().failover), None);
        assert!(cell("eu").fleet_load() >= 1.0 && cell("eu").utilisation() >= 1.0, "it counts as loaded");
        cell("gb").state.set_pressure(0.9);
        assert_eq!(next_after_full(), None, "it is loaded");
        cell("gb").state.set_pressure(0.0);
        (0..3).for_each(|_| cell("gb").state.on_full());
        assert_eq!(next_after_full(), None, "it has just said that it has none");
        cell("gb").state.on_success();
        assert_eq!(next_after_full().as_deref(), Some("gb"));
    })
    .await;
}

/// In a region that is full of others, a class below its guarantee waits for its place for a while before it goes where
/// there is one at once; the others go at once.
#[tokio::test(start_paused = true)]
async fn who_is_owed_a_place_waits_for_it_before_it_goes_elsewhere() {
    let classes = "\ntraffic_class = 'own'\n[[routes]]\nname = 'bulk'\npath = '/bulk'\ndata_class = 'personal'\n\
        traffic_class = 'bulk'\n[traffic_classes.own]\nguaranteed = 0.5\n[traffic_classes.bulk]\nguaranteed = 0.5\n\
        [concurrency]\nmode = 'fixed'\nlimit = 2\n";
    let table = || table("['DE', 'GB']") + classes;
    let in_eu = |bench: &Bench<'_>| {
        let routing = bench.current.load_full();
        let cell = routing.region(routing.table().region_named("eu").unwrap());
        let bulk = routing.table().spec().traffic_classes.iter().position(|class| class.name == "bulk").unwrap();
        let limiter = cell.state.limits.of(false).clone();
        [0, 1].map(|_| limiter.enter(cell.traffic_slot(bulk), Criticality::Default).unwrap())
    };
    forwarding(table(), "/", async |bench: Bench<'_>| {
        let [place, _other] = in_eu(&bench);
        let mut state = RetryState::new(bench.plan);
        assert!(state.next().is_none(), "there is a place elsewhere");
        let mut waits = Box::pin(state.wait_for_place());
        assert!(futures_pending(&mut waits).await);
        drop(place);
        assert!(waits.await);
        assert_eq!(name(&state.next().unwrap().target), "eu");
    })
    .await;
    forwarding(table(), "/", async |bench: Bench<'_>| {
        let _places = in_eu(&bench);
        let mut state = RetryState::new(bench.plan);
        assert!(state.next().is_none());
        let since = tokio::time::Instant::now();
        assert!(state.wait_for_place().await);
        assert_eq!(since.elapsed().as_millis() / 10, 25, "a quarter of the queue's age");
        assert_eq!(name(&state.next().unwrap().target), "gb");
    })
    .await;
    forwarding(table(), "/bulk", async |bench: Bench<'_>| {
        let _places = in_eu(&bench);
        assert_eq!(name(&RetryState::new(bench.plan).next().unwrap().target), "gb", "it has its share");
    })
    .await;
}

/// Polls a future once; true while it is not ready.
async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending()))
        .await
}
