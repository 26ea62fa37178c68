//! us-east-1 loses all endpoints under load: clients in the United States are served by us-west-2 with no failed
//! idempotent request; clients in the European Union stay in eu-west-1, then eu-central-1, never elsewhere.

use std::time::{Duration, Instant};

use loadtest::{Observation, Outcome, Protocol, RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served, region, status};
use meridian_tests::{Authority, Client, Node, Setup, World, geo, get, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_fail_over_under_load_on_http1() {
    regions_fail_over_under_load(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_fail_over_under_load_on_http2() {
    regions_fail_over_under_load(Protocol::Http2).await;
}

async fn regions_fail_over_under_load(protocol: Protocol) {
    let world = World::of_example("erlmcp-aws").await;
    let (authority, node) = start(&world).await;
    let target = Target { address: node.https(), protocol, tls: Some(authority.load(HOST)) };
    let load = Load::start(target, 200.0, request);

    load.more(100, "both markets at home", |seen| {
        region(seen) == Some(if is_european(seen) { "eu-west-1" } else { "us-east-1" })
    })
    .await;

    world.kill("us-east-1").await;
    load.more(100, "Americans in the west", |seen| region(seen) == Some("us-west-2")).await;

    world.kill("eu-west-1").await;
    load.more(50, "Europeans in Frankfurt", |seen| region(seen) == Some("eu-central-1")).await;

    let blackout = Instant::now();
    world.kill("eu-central-1").await;
    load.more(50, "Europeans refused", |seen| is_european(seen) && status(seen) == Some(503)).await;

    let dawn = Instant::now();
    for region in ["us-east-1", "eu-west-1", "eu-central-1"] {
        world.revive(region).await;
    }
    load.more(50, "Americans at home again", |seen| region(seen) == Some("us-east-1")).await;
    load.more(50, "Europeans at home again", |seen| region(seen) == Some("eu-west-1")).await;
    let recovered = Instant::now();
    load.more(50, "Europeans at home again", |seen| region(seen) == Some("eu-west-1")).await;

    let seen = load.stop().await;
    let (europeans, americans): (Vec<_>, Vec<_>) = seen.into_iter().partition(is_european);
    assert_all_served(&americans);
    for american in &americans {
        assert!(["us-east-1", "us-west-2"].contains(&region(american).expect("a region")), "{american:?}");
    }
    for european in &europeans {
        let Outcome::Answered { status, region, headers, .. } = &european.outcome else { panic!("{european:?}") };
        match status {
            200 => assert!(["eu-west-1", "eu-central-1"].contains(&region.as_deref().unwrap_or("")), "{european:?}"),
            503 => {
                assert!(european.intended + IN_FLIGHT > blackout && european.intended < recovered, "{european:?}");
                assert_eq!(region, &None);
                assert!(headers.contains_key("retry-after"), "{european:?}");
                assert_eq!(headers["content-type"], "application/problem+json");
            }
            // Its origin died over it, and there was no other left.
            502 => assert!(european.intended + IN_FLIGHT > blackout && european.intended < dawn, "{european:?}"),
            _ => panic!("{european:?}"),
        }
    }

    // The oracle: whose data has arrived where.
    for (stray, received) in world.received_outside(&["eu-west-1", "eu-central-1"]) {
        assert_eq!(received.header("x-person"), Some("american"), "in {stray}: {received:?}");
        assert!(["us-east-1", "us-west-2"].contains(&stray.as_str()), "in {stray}: {received:?}");
    }
    for region in ["us-west-2", "eu-west-1", "eu-central-1"] {
        assert!(!world.received(region).is_empty(), "{region} has served");
    }
    assert_eq!(node.metrics().await.sum("data_residency_violations_total", &[]), Some(0.0));
}

#[tokio::test]
async fn a_european_is_refused_rather_than_sent_abroad() {
    let world = World::of_example("erlmcp-aws").await;
    let (authority, node) = start(&world).await;
    let client = Client::http1(node.https()).over_tls(&authority, HOST);
    client.send(&get("/mcp").from("DE")).await.assert_served_by("eu-west-1");
    world.kill("eu-west-1").await;
    client.send(&get("/mcp").from("DE")).await.assert_served_by("eu-central-1");
    world.kill("eu-central-1").await;
    for sent in [get("/mcp"), get("/anything"), post("/mcp", "my name")] {
        let answer = client.send(&sent.from("FR")).await;
        answer.assert_refused(503, "residency_unavailable");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    // What has no person in it goes on, and so does everybody else.
    let telemetry = client.send(&get("/v1/analytics").from("FR")).await;
    assert!(telemetry.status.is_success(), "{telemetry:?}");
    client.send(&get("/mcp").from("US")).await.assert_served_by("us-east-1");
    for (stray, received) in world.received_outside(&["eu-west-1", "eu-central-1"]) {
        let lawful = received.path == "/v1/analytics" || received.header("x-client-country") == Some("US");
        assert!(lawful, "in {stray}: {received:?}");
    }
}

/// The runbook's emergency mode: what is not essential is switched off, and nothing else.
#[tokio::test]
async fn in_an_emergency_what_is_sheddable_is_switched_off() {
    let world = World::of_example("erlmcp-aws").await;
    let (authority, node) = start(&world).await;
    let skipped = node.log().count();
    let version = world.table().replacen("version = \"", "version = \"incident-", 1);
    node.replace("routes.toml", version + "\n[emergency]\nshed = \"sheddable\"\n");
    node.logged_after(skipped, "routing table applied").await;
    let client = Client::http2(node.https()).over_tls(&authority, HOST);
    for _ in 0..5 {
        client.send(&post("/v1/analytics", "x").from("US")).await.assert_refused(503, "emergency_shed");
        client.send(&get("/mcp").from("US")).await.assert_served_by("us-east-1");
        client.send(&post("/mcp", "x").from("DE")).await.assert_served_by("eu-west-1");
    }
    let received: Vec<_> = world.regions().flat_map(|region| world.received(region)).collect();
    assert!(received.len() == 10 && received.iter().all(|one| one.path == "/mcp"), "{received:?}");
}

#[tokio::test]
async fn an_unknown_client_is_under_every_law() {
    let world = World::of_example("erlmcp-aws").await;
    let (authority, node) = start(&world).await;
    let client = Client::http2(node.https()).over_tls(&authority, HOST);
    for address in [geo::UNLISTED, geo::ANONYMOUS] {
        client.send(&get("/mcp").on_behalf_of(address)).await.assert_served_by("eu-west-1");
    }
    // An unreadable list of proxies says nothing of the client either.
    client.send(&get("/mcp").header("x-forwarded-for", "unknown")).await.assert_served_by("eu-west-1");
    world.assert_nothing_outside(&["eu-west-1"]);
}

#[tokio::test]
async fn a_client_that_connects_itself_is_found_by_its_own_address() {
    let world = World::of_example("erlmcp-aws").await;
    let (authority, node) = start(&world).await;
    for (country, region) in [("US", "us-east-1"), ("DE", "eu-west-1"), ("NO", "eu-west-1")] {
        let client = Client::http1(node.https()).over_tls(&authority, HOST).from(geo::loopback(country));
        // What it says of itself does not count.
        client.send(&get("/mcp").from("US")).await.assert_served_by(region);
    }
}

async fn start(world: &World) -> (Authority, Node) {
    let authority = Authority::default();
    let node = Setup::new("us-east-1", world.table()).tls(&[&authority.certify(&[HOST])]).start().await;
    node.all_up().await;
    (authority, node)
}

/// Every other client is European.
fn request(number: u64) -> RequestSpec {
    let host = u8::try_from(number / 2 % 14 + 1).expect("a host of a /28");
    let (person, country) = if number.is_multiple_of(2) { ("american", "US") } else { ("european", "DE") };
    let headers = [("x-forwarded-for", geo::address(country, host).to_string()), ("x-person", person.to_owned())];
    RequestSpec {
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        tag: usize::from(person == "european"),
        ..RequestSpec::get(HOST, format!("/mcp/{number}"))
    }
}

fn is_european(observation: &Observation) -> bool {
    observation.tag == 1
}

const HOST: &str = "api.example.com";

/// How long before an origin's death a request may have set out and still be on the way.
const IN_FLIGHT: Duration = Duration::from_secs(2);
