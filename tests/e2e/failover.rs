//! What real traffic shows, and what follows: ejections, suspicion, budgets, hedges, the way back.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use meridian_tests::{
    Answer, Client, Node, RawConnection, Sent, Setup, SmallTable, World, eventually, geo, get, post, put,
};
use serde_json::Value;

/// A request of one of many clients.
fn of_client(number: u8) -> Sent {
    get("/").on_behalf_of(geo::address_v6("US", number.into()))
}

const TWO: &[(&str, &str)] = &[("first", "US"), ("second", "US")];

#[tokio::test]
async fn one_that_answers_with_errors_is_ejected_and_its_region_the_last_resort() {
    let (world, node) = start("[[routes]]\nname = \"all\"\nretry = { attempts = 1 }\n").await;
    let client = Client::http1(node.http());
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    // With nothing to compare them with, twice as many failures as in a row, each another client's.
    let asked = AtomicU8::new(0);
    eventually("traffic goes elsewhere", async || {
        let answer = client.send(&of_client(asked.fetch_add(1, Ordering::Relaxed))).await;
        served_by(&answer, "second")
    })
    .await;
    assert!(asked.load(Ordering::Relaxed) > 10, "{asked:?}");
    let first = region(&node, "first").await;
    assert_eq!((&first["health"], &first["clients_percent"]), (&"suspected".into(), &0.into()), "{first}");
    assert_eq!(first["endpoints"][0]["state"], "ejected", "{first}");
    let ejections = node.metrics().await.sum("meridian_ejections_total", &[("region", "first")]);
    assert_eq!(ejections, Some(1.0));
    // With nothing else left it is used all the same.
    world.kill("second").await;
    let two = Client::http1(node.http());
    eventually("the last resort", async || {
        let answer = two.send(&get("/")).await;
        if answer.region().as_deref() == Some("first") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

/// What a region's endpoints have done is no evidence against others that take their place.
#[tokio::test]
async fn endpoints_that_are_all_new_have_no_past() {
    let routes =
        "[[routes]]\nname = \"all\"\n[failover]\nfailback_delay = \"1h\"\noutlier = { base_ejection = \"1h\" }\n";
    let (world, node) = start(routes).await;
    let client = Client::http1(node.http());
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    for number in 0..6 {
        client.send(&of_client(number)).await.assert_served_by("second");
    }
    assert_eq!(region(&node, "first").await["health"], "suspected");
    // Another version with the same endpoints changes nothing of that.
    let replaced = async |text: String| {
        let skipped = node.log().count();
        node.replace("routes.toml", text);
        node.logged_after(skipped, "routing table applied").await;
    };
    replaced(world.table().replacen("version = \"1\"", "version = \"2\"", 1)).await;
    assert_eq!(region(&node, "first").await["health"], "suspected");
    client.send(&get("/")).await.assert_served_by("second");
    let other = World::of_regions(TWO, routes).await;
    let address = |world: &World| world.origin("first").address().to_string();
    replaced(world.table().replace(&address(&world), &address(&other))).await;
    assert_eq!(region(&node, "first").await["health"], "up");
    client.send(&get("/")).await.assert_served_by("first");
}

/// An endpoint is compared with the others of its region, which are asked the same.
#[tokio::test]
async fn an_endpoint_that_fails_more_than_its_siblings_is_ejected() {
    let origins = [start_origin().await, start_origin().await, start_origin().await];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let table = SmallTable::new("[[routes]]\nname = \"all\"\n").region("here", "US", &addresses).text();
    let node = Setup::new("here", &table).start().await;
    origins[1].behave(|received| match received.path.as_str() {
        "/health" => Behaviour::Normal,
        _ => Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR),
    });
    let (client, asked) = (Client::http1(node.http()), AtomicU8::new(0));
    eventually("an ejection", async || {
        client.send(&of_client(asked.fetch_add(1, Ordering::Relaxed))).await;
        let here = region(&node, "here").await;
        if here["endpoints"][1]["state"] == "ejected" { Ok(()) } else { Err(here.to_string()) }
    })
    .await;
    let here = region(&node, "here").await;
    assert_eq!((&here["health"], &here["endpoints"][0]["up"]), (&"up".into(), &true.into()), "{here}");
    let causes = [("region", "here"), ("cause", "error_rate")];
    assert_eq!(node.metrics().await.sum("meridian_ejections_total", &causes), Some(1.0));
}

/// An application's errors are as much about what it is asked: they move nobody.
#[tokio::test]
async fn plain_errors_move_no_region() {
    let (world, node) = start("[[routes]]\nname = \"all\"\n").await;
    world.origin("first").behave(|received| match received.path.as_str() {
        "/health" => Behaviour::Normal,
        _ => Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR),
    });
    let client = Client::http1(node.http());
    for number in 0..60 {
        let answer = client.send(&of_client(number)).await;
        assert_eq!((answer.status.as_u16(), answer.region().as_deref()), (500, Some("first")));
    }
    let first = region(&node, "first").await;
    assert_eq!((&first["health"], &first["endpoints"][0]["state"]), (&"up".into(), &"up".into()), "{first}");
}

/// Whatever one client asks for, and however often: the others stay where they are. So it is with a tenth of all requests,
/// each of another client.
#[tokio::test]
async fn what_clients_provoke_moves_nobody_else() {
    let provoking = [
        ("refused", Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE)),
        ("closed", Behaviour::CloseBeforeHead),
        ("late", Behaviour::Slow(Duration::from_millis(400))),
    ];
    for (what, behaviour) in provoking {
        let routes = "[[routes]]\nname = \"all\"\ntimeout = \"2s\"\nretry = { per_try_timeout = \"200ms\" }\n\
            [failover]\nlatency_p99 = \"150ms\"\n";
        let (world, node) = start(routes).await;
        for name in ["first", "second"] {
            let behaviour = behaviour.clone();
            world.origin(name).behave(move |received| match received.path.as_str() {
                "/provoke" => behaviour.clone(),
                _ => Behaviour::Normal,
            });
        }
        let client = Client::http1(node.http());
        // One client, on a quiet node.
        for _ in 0..12 {
            client.send(&get("/provoke").on_behalf_of(geo::address_v6("US", 200))).await;
        }
        client.send(&of_client(1)).await.assert_served_by("first");
        // A tenth of the requests, of many clients.
        for number in 0..150 {
            let sent = of_client(number);
            if number % 10 == 0 {
                let address = geo::address_v6("US", number.into());
                client.send(&get("/provoke").on_behalf_of(address)).await;
            } else {
                client.send(&sent).await.assert_served_by("first");
            }
        }
        for name in ["first", "second"] {
            let shown = region(&node, name).await;
            assert_eq!(
                (&shown["health"], &shown["endpoints"][0]["up"]),
                (&"up".into(), &true.into()),
                "{what}: {shown}"
            );
        }
    }
}

#[tokio::test]
async fn so_does_a_slow_p99() {
    let routes = "[[routes]]\nname = \"all\"\n[failover]\nlatency_p99 = \"100ms\"\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::Slow(Duration::from_millis(150)));
    let (client, asked) = (Client::http1(node.http()), AtomicU8::new(0));
    eventually("traffic goes elsewhere", async || {
        served_by(&client.send(&of_client(asked.fetch_add(1, Ordering::Relaxed))).await, "second")
    })
    .await;
    let causes = [("region", "first"), ("cause", "latency_p99")];
    assert_eq!(node.metrics().await.sum("meridian_ejections_total", &causes), Some(1.0));
}

#[tokio::test]
async fn no_endpoint_twice_while_another_is_left_and_then_again() {
    let origins = [start_origin().await, start_origin().await, start_origin().await];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let routes = "[[routes]]\nname = \"all\"\nretry = { attempts = 6 }\n";
    let table = SmallTable::new(routes).region("here", "US", &addresses).text();
    let node = Setup::new("here", &table).start().await;
    for origin in &origins {
        let count = AtomicUsize::new(0);
        origin.behave(move |received| match received.path.as_str() {
            "/health" => Behaviour::Normal,
            _ if count.fetch_add(1, Ordering::Relaxed) == 0 => Behaviour::CloseBeforeHead,
            _ => Behaviour::Normal,
        });
    }
    let answer = Client::http1(node.http()).send(&get("/")).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (200, 4), "each once, and one of them again");
    let mut received: Vec<u64> = origins.iter().map(clients).collect();
    received.sort_unstable();
    assert_eq!(received, [1, 1, 2]);
}

/// What answers badly may answer well again; what nobody can connect to will not.
#[tokio::test]
async fn the_ejected_is_tried_before_the_unreachable() {
    let origins = [start_origin().await, start_origin().await];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let routes = "[[routes]]\nname = \"all\"\n";
    let table = SmallTable::new(routes).region("here", "US", &addresses).text();
    // The probes find nothing out in the time of the test.
    let table = table.replace("unhealthy_interval = \"100ms\"", "unhealthy_interval = \"1h\"");
    let node = Setup::new("here", &table).start().await;
    let client = Client::http1(node.http());
    origins[0].behave(|received| match received.path.as_str() {
        "/health" => Behaviour::Normal,
        _ => Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE),
    });
    let asked = AtomicU8::new(0);
    eventually("an ejection", async || {
        client.send(&of_client(asked.fetch_add(1, Ordering::Relaxed))).await;
        let here = region(&node, "here").await;
        if here["endpoints"][0]["state"] == "ejected" { Ok(()) } else { Err(here.to_string()) }
    })
    .await;
    origins[0].set_behaviour(Behaviour::Normal);
    origins[1].kill().await;
    for _ in 0..10 {
        client.send(&get("/")).await.assert_served_by("here");
        client.send(&post("/", "order")).await.assert_served_by("here");
    }
}

#[tokio::test]
async fn what_is_known_of_an_endpoint_outlives_its_version() {
    let (world, node) = start("[[routes]]\nname = \"all\"\nretry = { attempts = 1 }\n").await;
    let client = Client::http1(node.http());
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let asked = AtomicU8::new(0);
    eventually("an ejection", async || {
        client.send(&of_client(asked.fetch_add(1, Ordering::Relaxed))).await;
        let first = region(&node, "first").await;
        if first["endpoints"][0]["state"] == "ejected" { Ok(()) } else { Err(first.to_string()) }
    })
    .await;
    let address = format!("\"{}\"", world.origin("first").address());
    let versioned = format!("{{ address = {address}, version = \"v2\" }}");
    let skipped = node.log().all().len();
    node.replace("routes.toml", world.table().replace(&address, &versioned));
    node.logged_after(skipped, "routing table applied").await;
    let first = region(&node, "first").await;
    assert_eq!((&first["endpoints"][0]["state"], &first["endpoints"][0]["version"]), (&"ejected".into(), &"v2".into()));
}

#[tokio::test]
async fn a_retry_budget_bounds_what_retries_add() {
    let routes = "[[routes]]\nname = \"all\"\n\
        [failover]\nretry_budget = { ratio = 0.0, per_second = 0.5 }\n\
        outlier = { consecutive_errors = 1000, interval = \"10s\" }\nerror_rate = 1.0\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let client = Client::http1(node.http());
    let mut served = Vec::new();
    for _ in 0..12 {
        served.push(client.send(&get("/")).await.region().unwrap_or_default());
    }
    // Five within ten seconds; what is over is the origin's own answer.
    assert_eq!(served[..5], ["second", "second", "second", "second", "second"]);
    assert!(served[6..].iter().all(|region| region == "first"), "{served:?}");
    let refused = node.metrics().await.sum("meridian_retries_total", &[("outcome", "over_budget")]);
    assert!(refused.is_some_and(|refused| refused >= 6.0), "{refused:?}");
    // What was never sent costs nothing. Whether a connection is sound that has answered within some milliseconds is not
    // looked at: the first request of each worker may find one broken.
    world.kill("first").await;
    for _ in 0..8 {
        client.send(&get("/")).await;
    }
    for _ in 0..10 {
        client.send(&post("/", "order")).await.assert_served_by("second");
    }
}

#[tokio::test]
async fn a_late_answer_is_asked_for_elsewhere_and_the_first_good_one_taken() {
    let hedge =
        "[[routes]]\nname = \"all\"\ntimeout = \"2s\"\nretry = { hedge = true }\n[failover]\nerror_rate = 1.0\n";
    let (world, node) = start(hedge).await;
    let client = Client::http1(node.http());
    let mut connection = client.connect().await.expect("a connection");
    for _ in 0..99 {
        connection.send(&get("/")).await.assert_served_by("first");
    }
    assert_eq!(world.received("second").len(), 0, "nobody is late before enough is known");
    connection.send(&get("/")).await;
    world.behave("first", &Behaviour::Stall);
    // The P95 is known from the next tick on; who is before it waits for the route's time.
    let answer = eventually("a hedge", async || {
        let begun = Instant::now();
        let answer = client.send(&get("/")).await;
        if answer.attempts() == 2 && begun.elapsed() < Duration::from_secs(2) {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    answer.assert_served_by("second");
    assert!(node.metrics().await.sum("meridian_hedges_total", &[("outcome", "won")]).is_some_and(|won| won >= 1.0));
    // The slower one was cancelled: nothing is left in flight there.
    eventually("nothing in flight", async || {
        let first = region(&node, "first").await;
        if first["requests_in_flight"] == 0 { Ok(()) } else { Err(first.to_string()) }
    })
    .await;
    // An order is not doubled.
    let orders = |world: &World| world.received("second").iter().filter(|seen| seen.method == "POST").count();
    let order = tokio::spawn({
        let client = client.clone();
        async move { client.send(&post("/", "order")).await }
    });
    eventually("the order is there", async || {
        let there = world.received("first").iter().any(|seen| seen.method == "POST");
        if there { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    client.send(&get("/")).await.assert_served_by("second");
    assert_eq!(orders(&world), 0);
    world.behave("first", &Behaviour::Normal);
    order.await.expect("an answer").assert_served_by("first");
}

#[tokio::test]
async fn a_hedged_body_arrives_whole_at_both() {
    let hedge = "[[routes]]\nname = \"all\"\ntimeout = \"3s\"\nretry = { hedge = true }\n";
    let (world, node) = start(hedge).await;
    let client = Client::http1(node.http());
    let mut connection = client.connect().await.expect("a connection");
    for _ in 0..100 {
        connection.send(&get("/")).await;
    }
    world.behave("first", &Behaviour::Slow(Duration::from_secs(2)));
    eventually("a hedge", async || {
        let answer = client.send(&put("/", "0123456789")).await;
        if answer.attempts() == 2 && answer.region().as_deref() == Some("second") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    for region in ["first", "second"] {
        let received = world.received(region).into_iter().filter(|received| received.method == "PUT");
        let bodies: Vec<_> = received.map(|received| (received.whole, received.body)).collect();
        assert!(bodies.iter().all(|(whole, body)| *whole && body == "0123456789"), "{region}: {bodies:?}");
    }
}

/// A client on a slow line is no evidence against an origin.
#[tokio::test]
async fn a_slow_upload_is_not_a_slow_origin() {
    let routes = "[[routes]]\nname = \"all\"\n[failover]\nlatency_p99 = \"100ms\"\n";
    let (_world, node) = start(routes).await;
    let uploads = (0..8).map(|_| {
        let address = node.http();
        tokio::spawn(async move {
            let mut raw = RawConnection::open(address).await;
            raw.write("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\nab").await;
            // The subject of the test is a pause.
            tokio::time::sleep(Duration::from_millis(300)).await;
            raw.write("cd").await;
            String::from_utf8(raw.read_to_end().await.0).expect("text")
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        let answer = upload.await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // Longer than a tick of the watch.
    eventually("ticks", async || {
        let first = region(&node, "first").await;
        if first["endpoints"][0]["attempts"] == 8 { Ok(()) } else { Err(first.to_string()) }
    })
    .await;
    for _ in 0..20 {
        Client::http1(node.http()).send(&get("/")).await.assert_served_by("first");
    }
    assert_eq!(region(&node, "first").await["health"], "up");
}

#[tokio::test]
async fn who_waits_for_one_that_is_gone_goes_elsewhere() {
    let world = World::probed_often(TWO, "[[routes]]\nname = \"all\"\n").await;
    let table = world.table().replace("timeout = \"5s\"", "timeout = \"200ms\"");
    let node = Setup::new("first", &table).start().await;
    node.all_up().await;
    // It takes connections and requests, and nothing comes back: neither to clients nor to probes.
    world.origin("first").set_behaviour(Behaviour::Stall);
    let begun = Instant::now();
    let answer = Client::http1(node.http()).send(&get("/")).await;
    answer.assert_served_by("second");
    assert!(begun.elapsed() < Duration::from_secs(15), "well before the route's 30 s: {:?}", begun.elapsed());
    world.origin("first").set_behaviour(Behaviour::Normal);
}

#[tokio::test]
async fn a_region_comes_back_step_by_step_and_explains_it() {
    let rest = "[[routes]]\nname = \"all\"\n\
        [failover]\nfailback_delay = \"500ms\"\nramp = [10, 50, 100]\nramp_step = \"1500ms\"\n";
    let world = World::probed_often(TWO, rest).await;
    let node = Setup::new("first", world.table()).start().await;
    node.all_up().await;
    world.kill("first").await;
    eventually("it is down", async || health_is(&node, "first", "down").await).await;
    world.revive("first").await;
    let mut seen: Vec<(String, u64)> = Vec::new();
    eventually("it is back", async || {
        let first = region(&node, "first").await;
        let now = (first["health"].as_str().unwrap_or("").to_owned(), first["clients_percent"].as_u64().unwrap_or(999));
        if now.1 == 10 {
            let explained = node.ask(&get("/explain?host=x&path=/&country=US")).await.json();
            let weight = explained["regions"][0]["weight"]["ramp"].as_u64();
            assert!(matches!(weight, Some(10 | 50)), "{explained}");
        }
        if seen.last() != Some(&now) {
            seen.push(now.clone());
        }
        if now.0 == "up" { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let steps: Vec<(&str, u64)> = seen.iter().map(|(health, percent)| (health.as_str(), *percent)).collect();
    let expected = [("down", 0), ("waiting", 0), ("ramping", 10), ("ramping", 50), ("up", 100)];
    assert!(expected.ends_with(&steps) || steps == expected, "{steps:?}");
}

#[tokio::test]
async fn who_is_pinned_to_a_draining_region_stays_until_the_drain_is_over() {
    let routes = "[[routes]]\nname = \"all\"\naffinity = { kind = \"cookie\", ttl = \"1h\" }\n\
        [affinity]\nsecret = \"0123456789abcdef0123456789abcdef\"\n[failover]\ndrain_timeout = \"2s\"\n";
    let (world, node) = start(routes).await;
    let client = Client::http1(node.http());
    let answer = client.send(&get("/")).await;
    answer.assert_served_by("first");
    let cookie = answer.header("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    node.replace("routes.toml", world.table().replacen("priority = 0", "priority = 0\nstate = \"draining\"", 1));
    eventually("newcomers go elsewhere", async || served_by(&client.send(&get("/")).await, "second")).await;
    client.send(&get("/").header("cookie", &cookie)).await.assert_served_by("first");
    eventually("the drain is over", async || {
        served_by(&client.send(&get("/").header("cookie", &cookie)).await, "second")
    })
    .await;
    assert_eq!(region(&node, "first").await["health"], "drained");
}

async fn start(rest: &str) -> (World, Node) {
    let world = World::of_regions(TWO, rest).await;
    let node = Setup::new("first", world.table()).start().await;
    node.all_up().await;
    (world, node)
}

async fn start_origin() -> Origin {
    Origin::start(OriginConfig::named("here")).await.expect("a free port")
}

/// Requests of clients that an origin has received.
fn clients(origin: &Origin) -> u64 {
    origin.received().iter().filter(|received| received.path != "/health").count() as u64
}

async fn region(node: &Node, name: &str) -> Value {
    let status = node.status().await;
    let regions = status["regions"].as_array().expect("regions");
    regions.iter().find(|region| region["name"] == name).expect("the region").clone()
}

async fn health_is(node: &Node, name: &str, health: &str) -> Result<(), String> {
    let region = region(node, name).await;
    if region["health"] == health { Ok(()) } else { Err(region.to_string()) }
}

fn served_by(answer: &Answer, region: &str) -> Result<(), String> {
    if answer.region().as_deref() == Some(region) { Ok(()) } else { Err(format!("{answer:?}")) }
}
