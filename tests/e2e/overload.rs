//! A region at its limit: who waits for a place, who comes first, and a limit that finds itself.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use loadtest::origin::{Behaviour, Received};
use loadtest::{RequestSpec, Target};
use meridian_tests::load::{Load, status};
use meridian_tests::{Answer, Client, Node, Sent, Setup, SmallTable, World, bespoke, eventually, full, geo, get};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

#[tokio::test]
async fn at_its_limit_the_important_waits_first_and_the_unimportant_gives_way() {
    let (world, node) = limited("mode = \"fixed\"\nlimit = 1\nqueue = 3\nqueue_age = \"60s\"").await;
    let held = send(&node, get("/stalled"));
    places(&node, 1, 0).await;
    let sheddable = send(&node, get("/sheddable"));
    places(&node, 1, 1).await;
    let default = send(&node, get("/default"));
    places(&node, 1, 2).await;
    let over_http2 = Client::http2(node.http());
    let gone = tokio::spawn(async move { over_http2.send(&get("/gone")).await });
    places(&node, 1, 3).await;
    eventually("metrics tell", async || {
        let metrics = node.metrics().await;
        let depth = metrics.sum("queue_depth", &[("region", "here"), ("stage", "place")]);
        let limit = metrics.sum("meridian_concurrency_limit", &[("region", "here")]);
        if (depth, limit) == (Some(3.0), Some(1.0)) { Ok(()) } else { Err(format!("{depth:?} {limit:?}")) }
    })
    .await;
    // There is no room for a fourth: the least important goes.
    let critical = send(&node, get("/critical"));
    sheddable.await.expect("an answer").assert_overloaded();
    places(&node, 1, 3).await;
    // A client that goes away leaves its place in the queue to others.
    gone.abort();
    places(&node, 1, 2).await;
    let another = send(&node, get("/default/another"));
    places(&node, 1, 3).await;
    let shed = |reason: &'static str| {
        let node = &node;
        async move { node.metrics().await.sum("meridian_shed_total", &[("reason", reason)]) }
    };
    assert_eq!((shed("queue_full").await, shed("queue_timeout").await), (Some(1.0), None));

    world.behave("here", &Behaviour::Normal);
    for request in [held, critical, default, another] {
        request.await.expect("an answer").assert_served_by("here");
    }
    let paths: Vec<String> = world.received("here").into_iter().map(|received| received.path).collect();
    let place = |path: &str| paths.iter().position(|found| found == path);
    assert!(place("/critical") < place("/default"), "{paths:?}");
    assert_eq!((place("/sheddable"), place("/gone"), paths.len()), (None, None, 4), "{paths:?}");
    places(&node, 0, 0).await;
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_queue_lets_it() {
    let (world, node) = limited("mode = \"fixed\"\nlimit = 1\nqueue_age = \"200ms\"").await;
    let held = send(&node, get("/stalled"));
    places(&node, 1, 0).await;
    for path in ["/default", "/critical"] {
        Client::http1(node.http()).send(&get(path)).await.assert_overloaded();
    }
    let shed = node.metrics().await.sum("meridian_shed_total", &[("reason", "queue_timeout")]);
    assert_eq!(shed, Some(2.0));
    assert_eq!(world.received("here").len(), 1, "no origin has heard of them");
    world.behave("here", &Behaviour::Normal);
    held.await.expect("an answer").assert_served_by("here");
}

/// One client with many requests has what others leave: theirs come first, and push out some of its own.
#[tokio::test]
async fn one_client_with_many_requests_does_not_keep_others_waiting() {
    let (world, node) = limited("mode = \"fixed\"\nlimit = 1\nqueue = 6\nqueue_age = \"60s\"").await;
    let of = |client: u16, path: &str| get(path).on_behalf_of(geo::address_v6("US", client));
    let held = send(&node, of(1, "/stalled"));
    places(&node, 1, 0).await;
    let mut hot = Vec::new();
    for number in 1..=6 {
        hot.push(send(&node, of(1, &format!("/default/hot/{number}"))));
        places(&node, 1, number).await;
    }
    let other = send(&node, of(2, "/default/other"));
    let another = send(&node, of(3, "/default/another"));
    let mut refused = 0;
    for request in &mut hot[..2] {
        request.await.expect("an answer").assert_overloaded();
        refused += 1;
    }
    world.behave("here", &Behaviour::Normal);
    for request in [held, other, another] {
        request.await.expect("an answer").assert_served_by("here");
    }
    for request in hot.into_iter().skip(refused) {
        request.await.expect("an answer").assert_served_by("here");
    }
    let paths: Vec<String> = world.received("here").into_iter().map(|received| received.path).collect();
    assert_eq!(paths.len(), 7, "{paths:?}");
    let last = paths.iter().rposition(|path| !path.contains("hot"));
    assert!(last.is_some_and(|last| last <= 2), "the others come before its own: {paths:?}");
}

/// One class floods, and is more important at that: another's request has the next place all the same, and pushes out one
/// of the flood. What a class does not ask for is lent.
#[tokio::test]
async fn a_class_has_its_share_whatever_another_does() {
    let routes = r#"
[concurrency]
mode = "fixed"
limit = 2
queue = 4
queue_age = "60s"
[traffic_classes.bulk]
guaranteed = 0.5
[traffic_classes.interactive]
guaranteed = 0.5
[[routes]]
name = "bulk"
path = "/bulk"
criticality = "critical"
traffic_class = "bulk"
[[routes]]
name = "interactive"
traffic_class = "interactive"
"#;
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).start().await;
    world.origin("here").behave(|received| match received.path.as_str() {
        path if path.starts_with("/bulk") => Behaviour::Stall,
        _ => Behaviour::Slow(Duration::ZERO),
    });
    let mut flood = Vec::new();
    for number in 1..=2 {
        flood.push(send(&node, get(&format!("/bulk/{number}"))));
        places(&node, number, 0).await;
    }
    for waiting in 1..=4 {
        flood.push(send(&node, get("/bulk/more")));
        places(&node, 2, waiting).await;
    }
    let classes = node.status().await["regions"][0]["concurrency"]["traffic_classes"].clone();
    let expected = serde_json::json!([
        { "name": "bulk", "guaranteed": 1, "taken": 2 },
        { "name": "interactive", "guaranteed": 1, "taken": 0 },
    ]);
    assert_eq!(classes, expected, "what one does not ask for the other has");
    eventually("metrics tell", async || {
        let taken = node.metrics().await.sum("meridian_class_places", &[("region", "here"), ("class", "bulk")]);
        if taken == Some(2.0) { Ok(()) } else { Err(format!("{taken:?}")) }
    })
    .await;
    let told = node.ask(&get("/explain?country=US&path=/search")).await.json();
    assert_eq!(told["route_terms"]["traffic_class"], "interactive");

    let interactive = send(&node, get("/search"));
    flood.remove(2).await.expect("an answer").assert_overloaded();
    places(&node, 2, 4).await;
    world.origin("here").behave(|received| match received.path.as_str() {
        "/bulk/2" => Behaviour::Stall,
        _ => Behaviour::Slow(Duration::ZERO),
    });
    interactive.await.expect("an answer").assert_served_by("here");
    for _ in 0..3 {
        flood.pop().expect("one").await.expect("an answer").assert_served_by("here");
    }
    world.behave("here", &Behaviour::Normal);
    for request in flood {
        request.await.expect("an answer").assert_served_by("here");
    }
    let paths: Vec<String> = world.received("here").into_iter().map(|received| received.path).collect();
    let more = "/bulk/more";
    assert_eq!(paths, ["/bulk/1", "/bulk/2", "/search", more, more, more]);
    places(&node, 0, 0).await;
}

/// Who waits under a limit goes on when a table comes that has none.
#[tokio::test]
async fn a_table_without_limit_lets_those_go_on_that_wait() {
    let adaptive = "mode = \"adaptive\"\nlimit = 1\nmin = 1\nmax = 1\nqueue_age = \"60s\"";
    let (world, node) = limited(adaptive).await;
    let mut waiting = vec![send(&node, get("/stalled"))];
    places(&node, 1, 0).await;
    for number in 1..=3 {
        waiting.push(send(&node, get("/stalled")));
        places(&node, 1, number).await;
    }
    assert_eq!(world.received("here").len(), 1);
    node.replace("routes.toml", node_table(&world, "mode = \"off\""));
    eventually("all of them are at the origin", async || match world.received("here").len() {
        4 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    assert!(node.status().await["regions"][0]["concurrency"].is_null());
    world.behave("here", &Behaviour::Normal);
    for request in waiting {
        request.await.expect("an answer").assert_served_by("here");
    }
    eventually("the limit's series is gone", async || {
        match node.metrics().await.sum("meridian_concurrency_limit", &[]) {
            None => Ok(()),
            some => Err(format!("{some:?}")),
        }
    })
    .await;
}

/// A region that is full does not keep waiting who may go to another.
#[tokio::test]
async fn who_may_go_elsewhere_does_not_wait() {
    let rest = format!("[concurrency]\nmode = \"fixed\"\nlimit = 1\nqueue_age = \"60s\"\n{ROUTES}");
    let world = World::of_regions(&[("here", "US"), ("there", "US")], &rest).await;
    let node = Setup::new("here", world.table()).start().await;
    stall(&world);
    let held = send(&node, get("/stalled"));
    places(&node, 1, 0).await;
    Client::http1(node.http()).send(&get("/default")).await.assert_served_by("there");
    world.behave("here", &Behaviour::Normal);
    held.await.expect("an answer").assert_served_by("here");
}

/// Who has waited in vain in one region goes to another that has become free meanwhile.
#[tokio::test]
async fn who_has_waited_in_vain_looks_elsewhere_once_more() {
    let rest = format!("[concurrency]\nmode = \"fixed\"\nlimit = 1\nqueue_age = \"500ms\"\n{ROUTES}");
    let world = World::of_regions(&[("here", "US"), ("there", "US")], &rest).await;
    let node = Setup::new("here", world.table()).start().await;
    world.behave("here", &Behaviour::Stall);
    world.behave("there", &Behaviour::Stall);
    let held = send(&node, get("/stalled"));
    places(&node, 1, 0).await;
    let elsewhere = send(&node, get("/stalled"));
    eventually("it is there", async || match world.received("there").len() {
        1 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    let waiting = send(&node, get("/default"));
    places(&node, 1, 1).await;
    world.behave("there", &Behaviour::Normal);
    elsewhere.await.expect("an answer").assert_served_by("there");
    waiting.await.expect("an answer").assert_served_by("there");
    world.behave("here", &Behaviour::Normal);
    held.await.expect("an answer").assert_served_by("here");
}

/// What a trusted proxy says lowers how critical a request is, and never raises it.
#[tokio::test]
async fn a_trusted_proxys_word_can_only_lower_how_critical_a_request_is() {
    let rest = format!("[concurrency]\ncriticality_header = \"X-Criticality\"\n{ROUTES}");
    let world = World::of_regions(&[("here", "US")], &rest).await;
    let node = Setup::new("here", world.table()).section("limits", "requests_in_flight = 10").start().await;
    stall(&world);
    let held: Vec<_> = (0..8).map(|_| send(&node, get("/stalled"))).collect();
    eventually("they are in flight", async || {
        let now = node.status().await["requests_in_flight"].clone();
        if now == 8 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let client = Client::http1(node.http());
    let ask = |path: &str, said: &str| get(path).header("x-criticality", said);
    client.send(&ask("/critical", "sheddable")).await.assert_overloaded();
    client.send(&ask("/sheddable", "critical")).await.assert_overloaded();
    client.send(&ask("/critical", "important")).await.assert_served_by("here");
    client.send(&ask("/critical", "Default")).await.assert_served_by("here");
    let shed = node.metrics().await.sum("meridian_shed_total", &[("criticality", "sheddable")]);
    assert_eq!(shed, Some(2.0));
    world.behave("here", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("here");
    }
}

/// What a stranger says of how critical a request is reaches no origin, however it is spelled.
#[tokio::test]
async fn a_strangers_word_of_how_critical_a_request_is_stays_here() {
    let rest = format!("[concurrency]\ncriticality_header = \"X-Criticality\"\n{ROUTES}");
    let world = World::of_regions(&[("here", "US")], &rest).await;
    let node = Setup::new("here", world.table()).start().await;
    let (stranger, proxy) = (Client::http1(node.http()).from(geo::loopback("US")), Client::http1(node.http()));
    for client in [&stranger, &proxy] {
        let spelled = |name: &str| get("/default").header(name, "sheddable");
        for name in ["x-criticality", "X-CRITICALITY", "x_criticality", "x.criticality"] {
            client.send(&spelled(name)).await.assert_served_by("here");
        }
    }
    let reached = |received: &Received| received.headers.keys().any(|name| name.as_str().ends_with("criticality"));
    let reached: Vec<bool> = world.received("here").iter().map(reached).collect();
    assert_eq!(reached[..4], [false; 4], "of a stranger");
    assert_eq!(reached[4..6], [true; 2], "of a trusted proxy");
}

/// The place of an answer that is not passed on is free for the attempt after it.
#[tokio::test]
async fn a_retry_does_not_wait_for_the_place_of_its_own_failure() {
    let (world, node) = limited("mode = \"fixed\"\nlimit = 1\nqueue_age = \"60s\"").await;
    world.behave("here", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let answer = Client::http1(node.http()).send(&get("/default")).await;
    assert_eq!(answer.status, 503);
    let received = world.received("here").len();
    assert!(received > 1, "{received}");
    places(&node, 0, 0).await;
}

/// Once half of the retry budget is spent, what is left is for what is not sheddable.
#[tokio::test]
async fn the_unimportant_leaves_half_of_the_retry_budget_to_others() {
    let failover = "[failover]\nretry_budget = { ratio = 0.0, per_second = 0.2 }\n[failover.outlier]\n\
        consecutive_errors = 1000\n";
    let world = World::of_regions(&[("here", "US"), ("there", "US")], &format!("{failover}{ROUTES}")).await;
    let node = Setup::new("here", world.table()).start().await;
    world.behave("here", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let client = Client::http1(node.http());
    let mut served = Vec::new();
    // Over ten seconds there are two retries.
    for path in ["/sheddable", "/sheddable", "/default", "/default"] {
        served.push(client.send(&get(path)).await.status == 200);
    }
    assert_eq!(served, [true, false, true, false]);
}

/// An origin that serves four at a time gets several times what it can do, whether or not it answers: the limit comes
/// down to about what it can do, it goes on answering, and the critical requests, which fit, are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_finds_itself_keeps_a_slow_origin_at_work() {
    let workers = Arc::new(Semaphore::new(4));
    let origin = bespoke::http(move |_| {
        let workers = workers.clone();
        async move {
            let _worker = workers.acquire().await.expect("it is never closed");
            tokio::time::sleep(Duration::from_millis(40)).await;
            Ok(Response::new(full("done")))
        }
    })
    .await;
    let concurrency = "[concurrency]\nmode = \"adaptive\"\nlimit = 30\nmin = 2\nqueue = 20\n";
    let table = SmallTable::new(&format!("{concurrency}{ROUTES}")).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).start().await;
    let limit = async || node.metrics().await.sum("meridian_concurrency_limit", &[("region", "here")]);
    let load = |count, rate| Load::start_for(count, Target::http2(node.http()), rate, request);
    // How long its answers take in quiet. It can do 100 a second; then it gets 300, of which 30 are critical.
    load(40, 20.0).end().await;
    assert!(limit().await.is_some_and(|limit| limit >= 30.0), "{:?}", limit().await);
    let answers = load(1500, 300.0).end().await;
    let reached = limit().await;
    let served = |tag: usize| {
        let of: Vec<_> = answers.iter().filter(|observed| observed.tag == tag).collect();
        (of.iter().filter(|observed| status(observed) == Some(200)).count(), of.len())
    };
    let all @ [critical, default, sheddable] = [served(CRITICAL), served(DEFAULT), served(SHEDDABLE)];
    assert!(reached.is_some_and(|limit| limit <= 20.0), "{reached:?} {all:?}");
    assert!(critical.0 * 100 >= critical.1 * 90, "{all:?}");
    assert!(critical.0 + default.0 + sheddable.0 >= 150, "it can do 500: {all:?}");
    assert!(sheddable.0 * default.1 < default.0 * sheddable.1, "the unimportant first: {all:?}");
    assert!(answers.iter().all(|observed| matches!(status(observed), Some(200 | 503))), "{all:?}");
    // Once it is over, there is room for all.
    places(&node, 0, 0).await;
    assert_eq!(Client::http1(node.http()).send(&get("/sheddable")).await.status, 200);
}

/// What an origin says that has too much to do lowers the limit, however quickly it says so; another error says nothing.
#[tokio::test]
async fn quick_refusals_lower_a_limit_that_finds_itself() {
    for (status, falls) in [(StatusCode::TOO_MANY_REQUESTS, true), (StatusCode::NOT_FOUND, false)] {
        let (world, node) = limited("mode = \"adaptive\"\nlimit = 40\nmin = 2").await;
        world.behave("here", &Behaviour::Status(status));
        Load::start_for(300, Target::http2(node.http()), 150.0, request).end().await;
        let limit = node.metrics().await.sum("meridian_concurrency_limit", &[("region", "here")]);
        assert_eq!(limit.is_some_and(|limit| limit <= 20.0), falls, "{status}: {limit:?}");
    }
}

/// One in ten is critical, and half of the others sheddable.
fn request(number: u64) -> RequestSpec {
    let (path, tag) = match number % 10 {
        0 => ("/critical", CRITICAL),
        1..=4 => ("/default", DEFAULT),
        _ => ("/sheddable", SHEDDABLE),
    };
    let client = geo::address_v6("US", (number % 1000) as u16);
    let headers = vec![("x-forwarded-for".to_owned(), client.to_string())];
    RequestSpec { headers, tag, ..RequestSpec::get("api.example.com", path) }
}

const CRITICAL: usize = 1;
const DEFAULT: usize = 2;
const SHEDDABLE: usize = 3;

/// A region with these limits, whose `/stalled` is not answered.
async fn limited(concurrency: &str) -> (World, Node) {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", &node_table(&world, concurrency)).start().await;
    stall(&world);
    (world, node)
}

fn node_table(world: &World, concurrency: &str) -> String {
    format!("{}\n[concurrency]\n{concurrency}\n", world.table())
}

fn stall(world: &World) {
    world.origin("here").behave(|received| {
        if received.path == "/stalled" { Behaviour::Stall } else { Behaviour::Slow(Duration::ZERO) }
    });
}

/// Sends a request on a connection of its own, which ends with the task.
fn send(node: &Node, request: Sent) -> JoinHandle<Answer> {
    let client = Client::http1(node.http());
    tokio::spawn(async move { client.send(&request).await })
}

/// Waits until so many places are taken, and so many requests wait.
async fn places(node: &Node, taken: u64, waiting: u64) {
    eventually(&format!("{taken} places taken and {waiting} waiting"), async || {
        let now = node.status().await["regions"][0]["concurrency"].clone();
        if now["taken"] == taken && now["waiting"] == waiting { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

const ROUTES: &str = r#"
[[routes]]
name = "critical"
path = "/critical"
criticality = "critical"

[[routes]]
name = "stalled"
path = "/stalled"
criticality = "critical"

[[routes]]
name = "sheddable"
path = "/sheddable"
criticality = "sheddable"

[[routes]]
name = "default"
"#;
