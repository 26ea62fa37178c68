//! What nodes report of the regions' load to each other, and what comes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use loadtest::origin::Behaviour;
use meridian_tests::{
    Answer, Authority, BusPublisher, BusServer, Client, Metrics, Node, Setup, World, eventually, eventually_within,
    get, patiently, run,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Both regions are lawful for `/`, and near. `a` is ahead of `b` by ten points of the score, for its cost: some 17 %
/// of load put it more than five behind, so that no client shares it. `/held` may be served in `a` only.
const REST: &str = r#"
[jurisdictions.de]
countries = ["DE"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { regions = ["a"] }
transfer = "prohibited"

[scoring.by_load]
load = 0.9
cost = 0.1

[[routes]]
name = "held"
path = "/held"
data_class = "bound"

[[routes]]
name = "all"
scoring = "by_load"
data_class = "public"

[latency_ms.a]
b = 10
"#;

/// Two regions, a bus with the table that says so, and nodes of the test's making.
struct Stage {
    world: World,
    bus: BusServer,
}

impl Stage {
    async fn new() -> Stage {
        let world = World::of_regions(&[("a", "DE"), ("b", "FR")], REST).await;
        let bus = BusServer::start().await;
        let table = world.table().replace("priority = 1", "priority = 0\ncost_per_gb = 0.1");
        // What is held for long counts as slow, which is not the question here.
        let table = table.replace("[failover]", "[failover]\nlatency_p99 = \"1h\"");
        BusPublisher::connect(&bus).await.publish(&table).await;
        world.origin("a").behave(|received| match received.path.as_str() {
            "/held" => Behaviour::Stall,
            _ => Behaviour::Normal,
        });
        Stage { world, bus }
    }

    /// A node that may have so many requests under way in each region.
    async fn node(&self, name: &str, region: &str, cap: usize) -> Node {
        let routing = format!("bus = {{ servers = [\"{}\"] }}", self.bus.url());
        let limits = format!("requests_in_flight_per_region = {cap}");
        Setup::new(region, "").name(name).bus(&routing).section("limits", &limits).start().await
    }

    /// Has so many requests under way by this node in `a`, until [`Stage::release`].
    async fn hold(&self, node: &Node, count: usize) -> Vec<JoinHandle<Answer>> {
        let client = Client::http1(node.http());
        let send = |client: Client| async move { client.send(&get("/held").from("DE")).await };
        let held = (0..count).map(|_| tokio::spawn(send(client.clone()))).collect();
        self.world.origin("a").arrived(count as u64).await;
        held
    }

    /// Answers what is held.
    async fn release(&self, held: Vec<JoinHandle<Answer>>) {
        self.world.behave("a", &Behaviour::Normal);
        for request in held {
            request.await.expect("an answer").assert_served_by("a");
        }
    }
}

/// What a node knows of a region.
async fn region(node: &Node, name: &str) -> Value {
    let status = node.status().await;
    let regions = status["regions"].as_array().expect("regions");
    regions.iter().find(|region| region["name"] == name).expect("the region").clone()
}

/// Waits until so many nodes report of a region, as this node knows it.
async fn report_of(node: &Node, name: &str, nodes: u64) -> Value {
    eventually("the reports", async || {
        let region = region(node, name).await;
        if region["reporting_nodes"] == nodes { Ok(region) } else { Err(region.to_string()) }
    })
    .await
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

async fn serves(node: &Node) -> Option<String> {
    Client::http1(node.http()).send(&get("/").from("DE")).await.region()
}

#[tokio::test]
async fn what_one_node_has_in_flight_moves_the_clients_of_another() {
    let stage = Stage::new().await;
    let first = stage.node("a-1", "a", 16).await;
    let second = stage.node("a-2", "a", 4).await;
    let other = stage.node("b-1", "b", 1000).await;
    let idle = report_of(&other, "a", 2).await;
    assert_eq!((number(&idle["reported_utilisation"]), number(&idle["utilisation"])), (0.0, 0.0), "{idle}");
    assert_eq!(serves(&other).await.as_deref(), Some("a"));

    // 15 of the 20 that both nodes of `a` would have under way there: 75 %, in the end. Reports are averaged.
    let held = stage.hold(&first, 15).await;
    let loaded = eventually("the load of a", async || {
        let region = region(&other, "a").await;
        if number(&region["reported_utilisation"]) > 0.18 { Ok(region) } else { Err(region.to_string()) }
    })
    .await;
    assert!(number(&loaded["reported_utilisation"]) <= 0.76, "of both nodes' cap, not of one's: {loaded}");
    assert!(number(&loaded["reported_age_seconds"]) < 5.0, "{loaded}");
    // The client that this node has sent there itself makes it the third, for a while.
    assert!((2..=3).contains(&loaded["reporting_nodes"].as_u64().expect("a number")), "{loaded}");
    assert_eq!(loaded["requests_in_flight"], 0, "it has none there itself: {loaded}");
    assert_eq!(serves(&other).await.as_deref(), Some("b"));
    // Nodes of one region hear each other too.
    assert!(number(&region(&second, "a").await["reported_utilisation"]) > 0.0);

    let explained = other.ask(&get("/explain?host=api.example.com&path=/&country=DE")).await.json();
    let region = |name: &str| {
        let regions = explained["regions"].as_array().expect("regions");
        regions.iter().find(|region| region["name"] == name).expect("the region").clone()
    };
    let (a, b) = (region("a"), region("b"));
    let (reported, age) = (number(&a["reported"]["utilisation"]), number(&a["reported"]["age_seconds"]));
    assert!((0.18..=0.76).contains(&reported) && age < 5.0, "{a}");
    assert!((number(&a["utilisation"]) - reported).abs() < 0.01, "fresh, and nothing of its own: {a}");
    assert!((number(&a["terms"]["load"]) - 100.0 * (1.0 - number(&a["utilisation"]))).abs() < 0.1, "{a}");
    assert_eq!((a["place"].as_u64(), b["place"].as_u64()), (Some(2), Some(1)), "{a} {b}");
    let admin = format!("http://{}", other.admin());
    let asked = ["explain", "--admin", &admin, "--host", "api.example.com", "--path", "/", "--country", "DE"];
    let page = run(&asked).stdout;
    assert!(page.contains(" nodes reported 0.") || page.contains(" nodes reported 1."), "value and age: {page}");
    stage.release(held).await;
}

#[tokio::test]
async fn what_is_no_report_of_the_fleet_changes_nothing() {
    let stage = Stage::new().await;
    let _first = stage.node("a-1", "a", 10).await;
    let other = stage.node("b-1", "b", 10).await;
    let probe = stage.bus.probe().await;
    // All that is reported by itself is believed by now.
    report_of(&other, "a", 1).await;
    report_of(&other, "b", 1).await;
    let count = |metrics: &Metrics, outcome: &str| {
        metrics.sum("meridian_load_reports_total", &[("outcome", outcome)]).unwrap_or(0.0)
    };
    let before = other.metrics().await;
    let good = full("a-1", "a", "a", 5_000);
    let bad = [
        ("unknown_node", full("stranger", "a", "a", 5_000)),
        ("unknown_node", full("a-1", "b", "a", 5_000)),
        ("malformed", "{".to_owned()),
        ("malformed", good.replace("\"cap\":1", "\"cap\":0")),
        ("malformed", good.replace("1e6", "-1")),
        ("malformed", good.replace("9999", "99999999999")),
        ("malformed", good.replace("\"at\"", "\"that\"")),
        ("malformed", "[".repeat(1000)),
        ("too_large", format!("{good}{}", " ".repeat(256 * 1024))),
        ("unknown_region", full("a-1", "a", "nowhere", 5_000)),
        ("clock_skew", full("a-1", "a", "a", 40_000)),
        ("stale", full("a-1", "a", "a", -40_000)),
    ];
    for (_, payload) in &bad {
        probe.publish("meridian.load.a", payload).await;
    }
    // One that counts, after them and of another region: when it is seen, so would they be.
    probe.publish("meridian.load.a", full("a-1", "a", "b", 5_000)).await;
    eventually("the one that counts", async || {
        let b = region(&other, "b").await;
        if number(&b["reported_utilisation"]) > 1.0 { Ok(()) } else { Err(b.to_string()) }
    })
    .await;
    let a = region(&other, "a").await;
    assert_eq!((number(&a["reported_utilisation"]), &a["reporting_nodes"]), (0.0, &Value::from(1)), "{a}");
    let after = other.metrics().await;
    for outcome in ["unknown_node", "malformed", "too_large", "unknown_region", "clock_skew", "full"] {
        let sent = bad.iter().filter(|(expected, _)| *expected == outcome).count();
        assert_eq!(count(&after, outcome) - count(&before, outcome), sent as f64, "{outcome}");
    }
    // The node in whose name it was said is named.
    let is_named = |line: &str| line.contains("load reports do not count") && line.contains("\"node\":\"a-1\"");
    other.log().find("it is named", is_named).await;
    // And the same of `a` from whom it may come is believed: what came before was refused, not lost.
    probe.publish("meridian.load.a", full("a-1", "a", "a", 10_000)).await;
    eventually("a report of a", async || {
        let a = region(&other, "a").await;
        if number(&a["reported_utilisation"]) > 1.0 { Ok(()) } else { Err(a.to_string()) }
    })
    .await;
}

/// A message in a node's name: that this region is full, sent so many milliseconds from now.
fn full(node: &str, region: &str, about: &str, from_now_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let report = format!(r#"{{"node":"{node}","region":"{region}","requests_in_flight":9999,"cap":1,"rps":1e6}}"#);
    format!(r#"{{"at":{},"reports":{{"{about}":{report}}}}}"#, now + from_now_ms)
}

/// Whoever may publish on the bus can put any node's name into a report.
#[tokio::test]
async fn where_nodes_have_certificates_none_speaks_for_another() {
    let stage = Stage::new().await;
    let authority = Authority::default();
    let routing = format!("bus = {{ servers = [\"{}\"] }}", stage.bus.url());
    let node = async |name: &str, region: &str, certified: &str| {
        let own = authority.certify(&[certified]);
        Setup::new(region, "").name(name).bus(&routing).peer(&authority, &own).start().await
    };
    let other = node("b-1", "b", "b-1.nodes.example.com").await;
    let _first = node("a-1", "a", "a-1.nodes.example.com").await;
    let count = async |outcome: &str| {
        other.metrics().await.sum("meridian_load_reports_total", &[("outcome", outcome)]).unwrap_or(0.0)
    };
    report_of(&other, "a", 1).await;
    stage.bus.probe().await.publish("meridian.load.a", full("a-1", "a", "a", 5_000)).await;
    eventually("it is refused", async || match count("unsigned").await {
        1.0 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    assert_eq!(number(&region(&other, "a").await["reported_utilisation"]), 0.0);

    // A node whose certificate is another's says so, and is not heard.
    let misnamed = node("a-2", "a", "a-1.nodes.example.com").await;
    misnamed.log().find("it says so", |line| line.contains("does not name this node, \\\"a-2\\\"")).await;
    eventually("it is not heard", async || match count("misnamed").await {
        0.0 => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(report_of(&other, "a", 1).await["reporting_nodes"], 1);
    assert_eq!((count("signature_wrong").await, count("no_node").await), (0.0, 0.0));
}

/// A message that somebody else has seen is of use to nobody: changed, on another subject, or once more.
#[tokio::test]
async fn a_signed_report_is_good_once_as_it_is_and_where_it_is() {
    let stage = Stage::new().await;
    let authority = Authority::default();
    let routing = format!("bus = {{ servers = [\"{}\"] }}", stage.bus.url());
    let probe = stage.bus.probe().await;
    let mut seen = probe.client().subscribe("meridian.load.a").await.expect("a subscription");
    let node = async |name: &str, region: &str| {
        let own = authority.certify(&[&format!("{name}.nodes.example.com")]);
        Setup::new(region, "").name(name).bus(&routing).peer(&authority, &own).secret(SECRET).start().await
    };
    let other = node("b-1", "b").await;
    let _first = node("a-1", "a").await;
    report_of(&other, "a", 1).await;
    let with_chain = async |seen: &mut async_nats::Subscriber| loop {
        let message = patiently("a report", seen.next()).await.expect("a report");
        let headers = message.headers.clone().expect("headers");
        if headers.get("Meridian-Certificates").is_some() {
            return (headers, message.payload);
        }
    };
    let count = async |outcome: &str| {
        other.metrics().await.sum("meridian_load_reports_total", &[("outcome", outcome)]).unwrap_or(0.0)
    };
    let counted = async |outcome: &'static str, before: f64| {
        eventually(outcome, async || match count(outcome).await {
            found if found > before => Ok(()),
            found => Err(format!("{found}")),
        })
        .await;
    };
    let say = async |subject: &'static str, headers: &async_nats::HeaderMap, payload: &str| {
        let payload = payload.to_owned().into();
        probe.client().publish_with_headers(subject, headers.clone(), payload).await.expect("a connection");
    };
    let (headers, payload) = with_chain(&mut seen).await;
    let text = std::str::from_utf8(&payload).expect("JSON").to_owned();
    let now: u64 = text["{\"at\":".len()..].split(',').next().and_then(|at| at.parse().ok()).expect("a time");

    let stale = count("stale").await;
    say("meridian.load.a", &headers, &text).await;
    counted("stale", stale).await;
    let later = text.replacen(&now.to_string(), &(now + 20_000).to_string(), 1);
    say("meridian.load.a", &headers, &later).await;
    counted("signature_wrong", 0.0).await;
    let unknown = count("unknown_node").await;
    say("meridian.load.b", &headers, &later).await;
    counted("unknown_node", unknown).await;
    // Whoever has the fleet's secret, and no certificate of the node's, says nothing in its name.
    let mut by_secret = async_nats::HeaderMap::new();
    by_secret.insert("Meridian-Signature", "1;m=00");
    let unsigned = count("unsigned").await;
    say("meridian.load.a", &by_secret, &later).await;
    counted("unsigned", unsigned).await;
    // The node itself is heard all the while.
    let taken = count("taken").await;
    counted("taken", taken).await;
}

const SECRET: &str = "the secret of all nodes of this fleet";

/// Node by node from the secret to certificates: at every step each hears the other, and refuses nothing.
#[tokio::test]
async fn no_report_is_lost_while_a_fleet_changes_to_certificates() {
    let stage = Stage::new().await;
    let authority = Authority::default();
    let routing = format!("bus = {{ servers = [\"{}\"] }}", stage.bus.url());
    let node = async |name: &str, region: &str| {
        let own = authority.certify(&[&format!("{name}.nodes.example.com")]);
        Setup::new(region, "")
            .name(name)
            .bus(&routing)
            .secret(SECRET)
            .file("peers-ca.pem", authority.pem())
            .file("node.pem", own.certificate_pem.as_str())
            .file("node-key.pem", own.key_pem.as_str())
            .start()
            .await
    };
    let nodes = [node("b-1", "b").await, node("a-1", "a").await];
    // Nobody sends anything, so that on each region its own node alone reports.
    let heard = async || {
        let begun = Instant::now();
        for (node, name) in nodes.iter().zip(["a", "b"]) {
            let of_since = eventually("a report of the other, of since then", async || {
                let since = begun.elapsed().as_secs_f64();
                let region = region(node, name).await;
                match region["reported_age_seconds"].as_f64() {
                    Some(age) if age + 0.1 < since => Ok(region),
                    _ => Err(region.to_string()),
                }
            })
            .await;
            assert_eq!(of_since["reporting_nodes"], 1, "{of_since}");
            let metrics = node.metrics().await;
            for outcome in
                ["unsigned", "unknown_certificate", "no_node", "misnamed", "signature_wrong", "stale", "clock_skew"]
            {
                let refused = metrics.sum("meridian_load_reports_total", &[("outcome", outcome)]).unwrap_or(0.0);
                assert_eq!(refused, 0.0, "{name}: {outcome}");
            }
        }
    };
    heard().await;
    let by_secret = "secret_file = \"peers.key\"\n";
    let by_certificate = "certificate_authorities = [\"peers-ca.pem\"]\nnames = [\"*.nodes.example.com\"]\n\
                          certificate = { certificate = \"node.pem\", key = \"node-key.pem\" }\n";
    for peers in [
        format!("{by_secret}{by_certificate}rollover = true\n"),
        format!("{by_secret}{by_certificate}"),
        by_certificate.to_owned(),
    ] {
        for node in &nodes {
            let text = std::fs::read_to_string(node.path("node.toml")).expect("a file");
            let (before, rest) = text.split_once("[peers]\n").expect("the section");
            let (_, after) = rest.split_once("\n[admin]").expect("the section after it");
            let skipped = node.log().count();
            node.replace("node.toml", format!("{before}[peers]\n{peers}\n[admin]{after}"));
            node.logged_after(skipped, "node file applied").await;
            heard().await;
        }
    }
}

#[tokio::test]
async fn where_nodes_share_a_secret_only_they_report() {
    let stage = Stage::new().await;
    let routing = format!("bus = {{ servers = [\"{}\"] }}", stage.bus.url());
    let node = async |name: &str, region: &str, secret: &str| {
        Setup::new(region, "").name(name).bus(&routing).secret(secret).start().await
    };
    let other = node("b-1", "b", SECRET).await;
    let _first = node("a-1", "a", SECRET).await;
    report_of(&other, "a", 1).await;
    let _foreign = node("a-2", "a", "a secret of nodes of another fleet").await;
    eventually("it is refused", async || {
        match other.metrics().await.sum("meridian_load_reports_total", &[("outcome", "signature_wrong")]) {
            Some(1.0..) => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    assert_eq!(region(&other, "a").await["reporting_nodes"], 1);
}

#[tokio::test]
async fn without_the_bus_reports_fade_to_what_the_node_knows_itself() {
    let mut stage = Stage::new().await;
    let first = stage.node("a-1", "a", 16).await;
    let held = stage.hold(&first, 12).await;
    // Started now, it takes the first report that it hears in full.
    let other = stage.node("b-1", "b", 1000).await;
    let reported = number(&report_of(&other, "a", 1).await["reported_utilisation"]);
    assert!(reported > 0.25, "{reported}");
    stage.bus.kill();
    let killed = Instant::now();
    let last = number(&region(&other, "a").await["reported_utilisation"]);
    stage.release(held).await;
    let mut seen = Vec::new();
    eventually_within(Duration::from_secs(30), "the node's own view", async || {
        let region = region(&other, "a").await;
        let utilisation = number(&region["utilisation"]);
        match region["reported_age_seconds"].as_f64() {
            None if utilisation == 0.0 => Ok(()),
            age => {
                seen.push((age.unwrap_or(20.0), utilisation));
                Err(region.to_string())
            }
        }
    })
    .await;
    assert!(killed.elapsed().as_secs_f64() < 23.0, "not within 20 s of the last report: {:?}", killed.elapsed());
    let ages = |from: f64, to: f64| seen.iter().filter(move |(age, _)| (from..to).contains(age));
    assert!(ages(2.0, 9.8).count() > 0 && ages(11.0, 19.0).count() > 0, "{seen:?}");
    for (age, utilisation) in &seen {
        let expected = last * ((20.0 - age) / 10.0).clamp(0.0, 1.0);
        // The two are read one after the other.
        assert!((utilisation - expected).abs() < 0.05, "{utilisation} after {age} s, not {expected}");
    }

    stage.bus.revive().await;
    report_of(&other, "a", 1).await;
}

/// The server refuses each report, and the client's library logs each refusal.
#[tokio::test]
async fn a_node_that_may_not_report_its_load_says_so_once() {
    let deny = "publish: { deny: \"meridian.load.>\" }";
    let bus = BusServer::with().user("edge", "secret").permissions(deny).start().await;
    let world = World::of_regions(&[("a", "DE"), ("b", "FR")], REST).await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    probe.put("table", world.table()).await;
    let servers = format!("servers = [\"{}\"]", bus.url());
    let routing = format!("bus = {{ {servers}, user = \"edge\", password_file = \"password\" }}");
    let node = Setup::new("a", "").name("a-1").bus(&routing).file("password", "secret").start().await;
    let told = eventually("the reason", async || {
        let status = node.status().await;
        let notes = status["bus"]["notes"].to_string();
        if notes.contains("does not hear its own load reports") { Ok(status) } else { Err(notes) }
    })
    .await;
    assert_eq!(told["regions"][0]["reported_utilisation"], Value::Null, "{told}");
    assert_eq!(node.ask(&get("/ready")).await.status, 200);
}
