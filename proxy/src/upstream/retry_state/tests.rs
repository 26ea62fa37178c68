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
use crate::routing::{CurrentRouting, Edition, PersistedState};
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
    let (unsent, is_nodes_own, call_status, is_fresh) = (false, false, None, true);
    AttemptResult { target, unsent, is_nodes_own, refused: None, call_status, is_fresh, result: Err(fault) }
}

/// A table that comes during the pause takes away the region that was about to be tried again.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_made_is_not_counted() {
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
        Routing::new(document, "eu", 100, Edition { generation, revision: generation }, persisted).unwrap()
    };
    let first = routing(table("['DE', 'GB']"), 1, &persisted);
    let current = CurrentRouting::new(first, persisted, law.clone());
    let pinned = current.load_full();
    let facts = Facts {
        host: "any",
        path: "/",
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::Country("DE".parse().unwrap()),
        declared: &[],
        consent: false,
        client_key: 0,
        from: pinned.here,
        pinned: None,
        only: None,
        criticality: None,
    };
    let Verdict::Forward(permits) = policy::decide::decide(pinned.table(), &facts, &*pinned) else { panic!() };
    let (pool, peers, metrics) = (Pool::default(), CurrentPeers::default(), Metrics::new());
    let (connector, config) =
        (ArcSwap::from_pointee(components.identity.connector), ArcSwap::from_pointee(config.clone()));
    let plan = ForwardPlan {
        upstream: Upstream {
            pool: &pool,
            connector: &connector,
            routing: &current,
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
    let mut state = RetryState::new(&plan);
    let name = |target: &AttemptTarget| target.routing.table().region(target.region).name.clone();

    let mut first = state.next().unwrap();
    assert!(state.pause(&mut first).await);
    state.begin(&first.target, false);
    assert_eq!((name(&first.target).as_str(), state.attempts()), ("eu", 1));
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
    let mut without_place = RetryState::new(&plan);
    let first = without_place.next().unwrap();
    without_place.begin(&first.target, false);
    assert!(without_place.settle(failed(first.target, Fault::Unreachable)).is_none());
    assert!(matches!(without_place.failure(), ForwardError::Failed { .. }));
    without_place.shed = Some(Shed::QueueTimeout);
    assert!(matches!(without_place.failure(), ForwardError::Overloaded { why: Shed::QueueTimeout, .. }));

    // What follows an attempt that does not count is of the table in force all the same.
    let mut passing = RetryState::new(&plan);
    let first = passing.next().unwrap();
    assert_eq!(name(&first.target), "eu", "the decision's own table");
    passing.begin(&first.target, false);
    let result = failed(first.target, Fault::NoTunnels);
    assert!(passing.settle(result).is_none());
    assert_eq!(passing.attempts(), 0);
    assert_eq!(name(&passing.next().unwrap().target), "gb");
}
