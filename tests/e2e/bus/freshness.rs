//! Freshness where keys are trusted: only what is signed counts, and it counts once.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use config::bus::{Bus, Heartbeat};
use meridian_tests::{BusProbe, BusServer, Client, Node, Setup, World, eventually, get};
use serde_json::Value;

use super::signer::{Publisher, ago_ms, connect, now_ms, repeat};
use super::{becomes, counted, has, kept, refuses, routed, table, world};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A bus, and a publisher whose key the nodes trust.
struct Signed {
    server: BusServer,
    bus: Bus,
    probe: BusProbe,
    world: World,
    publisher: Publisher,
}

impl Signed {
    async fn new() -> Signed {
        let server = BusServer::start().await;
        let (bus, probe, world) = (connect(&server).await, server.probe().await, world().await);
        probe.create_bucket().await;
        Signed { server, bus, probe, world, publisher: Publisher::new() }
    }

    /// A node that trusts the publisher: more keys of the bus, and after a line's end those of the section.
    fn setup(&self, more: &str) -> Setup {
        let more = format!(", trusted_keys = [\"trusted.pem\"]{more}");
        routed(&self.server, "a", &more).file("trusted.pem", self.publisher.public_pem.clone())
    }

    async fn publish(&self, version: &str, issued_ms: u64) -> u64 {
        self.publisher.publish(&self.bus, table(&self.world, version), issued_ms).await
    }

    async fn beat(&self, revision: u64, signed_ms: u64) -> Heartbeat {
        let beat = self.publisher.heartbeat(&self.bus, revision, signed_ms).await;
        self.bus.put_heartbeat(&beat).await.expect("a revision");
        beat
    }

    /// Waits until the node has looked at what is there now.
    async fn looked(&self) {
        let mut asked = self.probe.subscribe("$JS.API.DIRECT.GET.KV_meridian.$KV.meridian.heartbeat").await;
        // The answer to the first may have been on its way already; that to the second is dealt with before the third.
        for _ in 0..3 {
            asked.next().await;
        }
    }
}

/// Waits until restricted routes are refused, and the others served; gives what the node says.
async fn expires(node: &Node, why: &str) {
    let client = Client::http1(node.http());
    let refused = eventually("an expired table", async || {
        let answer = client.send(&get("/data").from("DE")).await;
        if answer.status == 200 { Err(node.status().await["bus"].to_string()) } else { Ok(answer) }
    });
    refused.await.assert_refused(503, "table_expired");
    client.send(&get("/open").from("DE")).await.assert_served_by("eu");
    let ready = node.ask(&get("/ready")).await;
    let text = ready.text();
    assert!(ready.status == 200 && text.contains("the table has expired") && text.contains(why), "{why}: {ready:?}");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_table_expired", &[]), Some(1.0));
    assert!(metrics.sum("meridian_table_expiry_seconds", &[]) <= Some(0.0));
}

/// Waits until restricted routes are served.
async fn serves(node: &Node) {
    let client = Client::http1(node.http());
    eventually("a table that is fresh", async || {
        let answer = client.send(&get("/data").from("DE")).await;
        if answer.status == 200 { Ok(()) } else { Err(node.status().await["bus"].to_string()) }
    })
    .await;
    client.send(&get("/data").from("DE")).await.assert_served_by("eu");
}

async fn assert_expired(node: &Node) {
    Client::http1(node.http()).send(&get("/data").from("DE")).await.assert_refused(503, "table_expired");
}

/// Waits until `/ready` says this while there is no table.
async fn waits(node: &Node, why: &str) {
    eventually("a reason", async || {
        let answer = node.ask(&get("/ready")).await;
        let text = answer.text().to_owned();
        if answer.status == 503 && text.contains(why) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_bus_is_found_out_and_only_a_new_heartbeat_ends_it() {
    let signed = Signed::new().await;
    let first = signed.publish("first", now_ms()).await;
    let mut node = signed.setup("\nmax_age = \"3s\"").start_waiting().await;
    node.serves().await;
    has(&node, first).await;
    becomes(&node, "a word on it", |status| {
        status["bus"]["notes"].to_string().contains("there is no heartbeat on the bus")
    })
    .await;

    // Beat by beat it lives longer than it may alone.
    let (began, client) = (Instant::now(), Client::http1(node.http()));
    let mut last = signed.beat(first, now_ms()).await;
    while began.elapsed() < Duration::from_secs(5) {
        let signed_ms = last.signed_ms;
        becomes(&node, "the heartbeat", |status| status["bus"]["heartbeat"]["signed_ms"] == signed_ms).await;
        client.send(&get("/data").from("DE")).await.assert_served_by("eu");
        last = signed.beat(first, now_ms()).await;
    }
    assert!(counted(&node, "heartbeat").await >= 3);

    // From here on the bus confirms the table, and says nothing that is signed.
    expires(&node, "no key that this node trusts has signed anything about the table").await;
    assert_eq!(node.status().await["bus"]["connection"]["state"], "connected");
    let age = node.metrics().await.sum("meridian_bus_signed_age_seconds", &[]).expect("an age");
    assert!(age > 3.0, "{age}");
    // Neither the same table, nor the last heartbeat again, nor an older one makes it young.
    let again = repeat(&signed.probe, first, None).await;
    has(&node, again).await;
    assert_expired(&node).await;
    for beat in [last.clone(), signed.publisher.heartbeat(&signed.bus, first, last.signed_ms - 1000).await] {
        signed.bus.put_heartbeat(&beat).await.expect("a revision");
        signed.looked().await;
        assert_expired(&node).await;
    }
    // Nor does a stranger's, one whose time was changed, one from the future, or rubbish.
    let stranger = Publisher::new();
    let foreign = stranger.heartbeat(&signed.bus, again, now_ms()).await;
    let changed = Heartbeat { signed_ms: now_ms(), ..last.clone() };
    let future = signed.publisher.heartbeat(&signed.bus, again, now_ms() + 3_600_000).await;
    let told = |beat: &Heartbeat| serde_json::to_vec(beat).expect("JSON");
    for (value, why) in [
        (told(&foreign), "does not trust"),
        (told(&changed), "does not hold"),
        (told(&future), "lies in the future"),
        (b"rubbish".to_vec(), "does not parse"),
    ] {
        signed.probe.put_raw("heartbeat", value, HeaderMap::new()).await;
        becomes(&node, why, |status| status["bus"]["notes"].to_string().contains(why)).await;
        assert_expired(&node).await;
    }
    assert_eq!(counted(&node, "heartbeat_refused").await, 4);
    // A new one does, though it names the revision that the table had before.
    signed.beat(first, now_ms()).await;
    serves(&node).await;
}

#[tokio::test]
async fn a_publishers_end_is_the_end_and_holds_without_heartbeats_till_then() {
    let signed = Signed::new().await;
    let text = |version| table(&signed.world, version);
    // Old enough that a day without a word would have ended it.
    let (issued, until) = (ago_ms(2 * DAY), now_ms() + 4000);
    let first = signed.publisher.publish_until(&signed.bus, text("first"), issued, Some(until)).await;
    let mut node = signed.setup("").start_waiting().await;
    node.serves().await;
    has(&node, first).await;
    Client::http1(node.http()).send(&get("/data").from("DE")).await.assert_served_by("eu");
    let ready = node.ask(&get("/ready")).await.text().to_owned();
    assert!(ready.contains("its publisher lets the table be used until"), "{ready}");
    signed.beat(first, now_ms()).await;
    expires(&node, "its publisher lets the table be used until").await;
    assert!(now_ms() > until);
    let second = signed.publish("second", now_ms()).await;
    has(&node, second).await;
    serves(&node).await;
    // What was signed with it does not hold without it.
    let mut fields = HeaderMap::new();
    let found = signed.probe.stream().await.direct_get(first).await.expect("a revision");
    fields.insert("Meridian-Issued", found.headers.get("Meridian-Issued").expect("a time").as_str());
    fields.insert("Meridian-By", "test");
    fields.insert("Meridian-Signature", found.headers.get("Meridian-Signature").expect("one").as_str());
    let bad = signed.probe.put_raw("table", found.payload, fields).await;
    assert!(refuses(&node, bad).await.contains("does not hold"));
}

#[tokio::test]
async fn a_fresh_node_takes_no_table_that_may_be_ancient() {
    let signed = Signed::new().await;
    let issued = ago_ms(2 * DAY);
    let old = signed.publish("old", issued).await;
    let mut node = signed.setup("").start_waiting().await;
    waits(&node, "this node has no table yet").await;
    waits(&node, "meridian heartbeat --sign KEY").await;
    // A heartbeat about another table does not help.
    let other = Heartbeat { sha256: "0".repeat(64), ..signed.publisher.heartbeat(&signed.bus, old, now_ms()).await };
    let mut other = Heartbeat { signature: None, ..other };
    signed.publisher.key.sign_heartbeat(&mut other, "meridian");
    signed.bus.put_heartbeat(&other).await.expect("a revision");
    signed.looked().await;
    waits(&node, "this node has no table yet").await;
    signed.beat(old, now_ms()).await;
    node.serves().await;
    has(&node, old).await;
    serves(&node).await;

    // Who says how old a table may be gets that one: it is as old as it is.
    let rfc3339 =
        |ms: u64| humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string();
    signed.probe.delete("heartbeat").await;
    let mut known = signed.setup(&format!(", minimum_issued = \"{}\"", rfc3339(issued))).start_waiting().await;
    known.serves().await;
    has(&known, old).await;
    expires(&known, "has signed anything about the table").await;
    let young = signed.setup(&format!(", minimum_issued = \"{}\"", rfc3339(issued + 2000))).start_waiting().await;
    waits(&young, "before minimum_issued").await;
}

#[tokio::test]
async fn a_start_from_the_snapshot_is_as_old_as_what_is_signed_in_it() {
    let mut signed = Signed::new().await;
    let old = signed.publish("old", ago_ms(2 * DAY)).await;
    signed.beat(old, ago_ms(DAY / 2)).await;
    let mut node = signed.setup("").start_waiting().await;
    node.serves().await;
    kept(&node, "old").await;
    eventually("the heartbeat in the snapshot", async || {
        let text = std::fs::read_to_string(node.path("last-good.toml")).unwrap_or_default();
        if text.contains("signed_ms") { Ok(()) } else { Err(text) }
    })
    .await;
    let forged = Publisher::new().heartbeat(&signed.bus, old, now_ms()).await;
    signed.server.kill();
    node.restart("TERM").await;
    node.serves().await;
    serves(&node).await;
    let silent = |status: &Value| status["bus"]["signed_seconds"].as_u64() >= Some(DAY.as_secs() / 2);
    becomes(&node, "the heartbeat's age", silent).await;
    // Without that heartbeat it is two days old, whatever the file's time.
    let text = std::fs::read_to_string(node.path("last-good.toml")).expect("a snapshot");
    let (line, rest) = text.split_once('\n').expect("a first line");
    let json = line.strip_prefix("# meridian snapshot: ").expect("a marker");
    let mut json: Value = serde_json::from_str(json).expect("JSON");
    json["heartbeat"] = Value::Null;
    node.overwrite("last-good.toml", format!("# meridian snapshot: {json}\n{rest}"));
    File::options()
        .append(true)
        .open(node.path("last-good.toml"))
        .expect("a file")
        .set_modified(SystemTime::now())
        .expect("a time");
    node.restart("KILL").await;
    node.serves().await;
    expires(&node, "has signed anything about the table").await;
    // One that somebody made does not count.
    json["heartbeat"] = serde_json::to_value(forged).expect("JSON");
    node.overwrite("last-good.toml", format!("# meridian snapshot: {json}\n{rest}"));
    node.restart("KILL").await;
    node.serves().await;
    expires(&node, "has signed anything about the table").await;
}

#[tokio::test]
async fn a_refused_table_is_no_sign_of_life() {
    // Without keys: the bus has said that there is a newer law.
    let server = BusServer::start().await;
    let (probe, world) = (server.probe().await, world().await);
    probe.create_bucket().await;
    let first = probe.put("table", table(&world, "first")).await;
    let node = routed(&server, "a", "\nmax_age = \"2s\"").start().await;
    has(&node, first).await;
    let poison = probe.put("table", "poison").await;
    refuses(&node, poison).await;
    expires(&node, &format!("the bus has revision {poison}, which this node refuses")).await;
    let second = probe.put("table", table(&world, "second")).await;
    has(&node, second).await;
    serves(&node).await;

    // With keys: what one of them has signed counts, from its signed time, whatever heartbeats say of the one before.
    let signed = Signed::new().await;
    let first = signed.publish("first", now_ms() - 1).await;
    let mut node = signed.setup("\nmax_age = \"4s\"").start_waiting().await;
    node.serves().await;
    let rubbish = signed.probe.put("table", "poison").await;
    refuses(&node, rubbish).await;
    signed.beat(first, now_ms()).await;
    let poison = signed.publisher.publish(&signed.bus, "poison".to_owned(), now_ms()).await;
    refuses(&node, poison).await;
    let ready = node.ask(&get("/ready")).await.text().to_owned();
    let told = ready.lines().find(|line| line.contains(&format!("revision {poison} was signed")));
    assert!(told.is_some_and(|line| line.contains("restricted routes are refused in")), "{ready}");
    let began = Instant::now();
    loop {
        signed.beat(first, now_ms()).await;
        if Client::http1(node.http()).send(&get("/data").from("DE")).await.status != 200 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it never expires");
        signed.looked().await;
    }
    expires(&node, &format!("revision {poison} was signed")).await;
    let third = signed.publish("third", now_ms()).await;
    has(&node, third).await;
    serves(&node).await;
}

#[tokio::test]
async fn what_heartbeats_name_and_the_bus_does_not_show_is_withheld() {
    let signed = Signed::new().await;
    let first = signed.publish("first", now_ms() - 10).await;
    let mut node = signed.setup("\nmax_age = \"3s\"").start_waiting().await;
    node.serves().await;
    has(&node, first).await;
    // As if another had been published since, of which the bus shows the heartbeat only.
    let hidden = signed.publisher.heartbeat(&signed.bus, first, now_ms()).await;
    let mut hidden = Heartbeat { revision: 99, issued_ms: now_ms() - 5, signature: None, ..hidden };
    signed.publisher.key.sign_heartbeat(&mut hidden, "meridian");
    signed.bus.put_heartbeat(&hidden).await.expect("a revision");
    eventually("a word on it", async || {
        let ready = node.ask(&get("/ready")).await.text().to_owned();
        if ready.contains("revision 99 was signed") && ready.contains("does not show it") { Ok(()) } else { Err(ready) }
    })
    .await;
    // It is no word about the table that is in force.
    expires(&node, "does not show it").await;
}

#[tokio::test]
async fn a_table_from_the_future_is_looked_at_again_and_blocks_nobody() {
    let signed = Signed::new().await;
    let first = signed.publish("first", now_ms()).await;
    let mut node = signed.setup("").start_waiting().await;
    node.serves().await;
    has(&node, first).await;
    let future = signed.publish("future", now_ms() + 3_600_000).await;
    assert!(refuses(&node, future).await.contains("issue time is 59m"));
    let next = signed.publish("next", now_ms()).await;
    has(&node, next).await;
    // Nor does one without a key to sign with.
    let server = BusServer::start().await;
    let probe = server.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", table(&signed.world, "first")).await;
    let node = super::setup(&server, "a").start().await;
    has(&node, revision).await;
    let issued = (now_ms() + 3_600_000).to_string();
    let future = super::said(&[("Meridian-Issued", issued.as_str())]);
    let future = probe.put_raw("table", table(&signed.world, "future"), future).await;
    assert!(refuses(&node, future).await.contains("from now"));
    let next = probe.put("table", table(&signed.world, "next")).await;
    has(&node, next).await;
}
