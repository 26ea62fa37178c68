//! What must not be believed, on the bus: the table in force stays, every refusal is told and counted, and the next
//! good table is in force at once.

use std::time::{Duration, Instant};

use meridian_tests::{BusServer, Client, Setup, World, get};
use serde_json::Value;

use super::{Following, becomes, counted, has, refuses, reports, said, setup, table};

/// The table without these regions.
fn without(table: &str, regions: &[&str]) -> String {
    regions.iter().fold(table.to_owned(), |table, region| {
        let header = format!("[regions.{region}]\n");
        assert!(table.contains(&header), "{table}");
        table.replace(&header, &format!("{header}state = \"disabled\"\n"))
    })
}

/// Puts something that must be refused, and asserts that it is, everywhere.
async fn put_bad(following: &Following, value: &[u8], fields: &[(&'static str, &str)], why: &str) {
    let before = counted(&following.node, "rejected").await;
    let in_force = following.node.status().await["table"]["revision"].clone();
    let revision = following.probe.put_raw("table", value, said(fields)).await;
    let problems = refuses(&following.node, revision).await;
    assert!(problems.contains(why), "{why}: {problems}");
    assert_eq!(counted(&following.node, "rejected").await, before + 1, "{why}");
    let report = reports(&following.probe, "a", "a report of the refusal", |report| {
        report["state"] == "rejected" && report["refused"]["revision"] == revision
    });
    let report = report.await;
    assert!(report["problems"].to_string().contains(why) && report["revision"] == in_force, "{why}: {report}");
    let ready = following.node.ask(&get("/ready")).await;
    assert!(ready.status == 200 && ready.text().contains("was refused"), "{ready:?}");
    assert_eq!(following.node.status().await["table"]["revision"], in_force);
    following.assert_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_table_changes_nothing() {
    let bus = BusServer::with().max_payload(64 << 20).start().await;
    let following = Following::on(bus, "").await;
    let load = following.load();
    let good = table(&following.world, "good");
    let half = &good[..good.len() / 2];
    let nested = "x = ".to_owned() + &"[".repeat(1_000_000);
    let keys = vec!["a"; 80].join(".") + " = 1\n";
    let nowhere = without(&good, &["eu", "us"]);
    let elsewhere = good.replace("[regions.eu]", "[regions.elsewhere]");
    let wrong = [("Meridian-Sha256", "0123")];
    for (value, fields, why) in [
        (half.as_bytes(), &[][..], "\"line\":"),
        (b"", &[], "a table has at least one"),
        (&[0xff, 0xfe, 0x80], &[], "not UTF-8"),
        (nested.as_bytes(), &[], "recursion"),
        (keys.as_bytes(), &[], "a"),
        (&vec![b'#'; (8 << 20) + 1], &[], "at most"),
        (&vec![b'x'; 31 << 20], &[], "at most"),
        (nowhere.as_bytes(), &[], ""),
        (elsewhere.as_bytes(), &[], "there is no region"),
        (good.as_bytes(), &wrong, "the hash differs"),
    ] {
        put_bad(&following, value, fields, why).await;
    }
    let status = following.publish("good").await;
    let status = (status, following.node.status().await);
    assert_eq!((&status.1["bus"]["refused"], &status.1["bus"]["problems"]), (&Value::Null, &Value::Array(Vec::new())));
    reports(&following.probe, "a", "a report that all is well", |report| {
        report["state"] == "applied" && report["revision"] == status.0 && report["problems"] == Value::Array(Vec::new())
    })
    .await;
    assert_eq!(following.node.ask(&get("/ready")).await.text(), "ready\n");
    meridian_tests::load::assert_all_served(&load.stop().await);
}

/// The same text twice is one table, and costs nobody a second look.
#[tokio::test]
async fn the_same_table_again_is_the_same_table() {
    let following = Following::start().await;
    for _ in 0..3 {
        following.publish("first").await;
    }
    assert_eq!(counted(&following.node, "rejected").await, 0);
}

#[tokio::test]
async fn a_flood_of_poison_is_counted_but_not_told_in_full() {
    let following = Following::start().await;
    let skipped = following.node.log().count();
    let began = Instant::now();
    for number in 0..20 {
        let poison = format!("version = \"{number}\"\n{}", "unknown = 1\n".repeat(50));
        let revision = following.probe.put("table", poison).await;
        refuses(&following.node, revision).await;
    }
    let flood = began.elapsed();
    let log = following.node.log().all();
    let told = log[skipped..].iter().filter(|line| line.contains("routing table rejected")).count() as u64;
    assert!((1..=2 + flood.as_secs() / 10).contains(&told), "{told} in {flood:?}");
    assert!(log.len() - skipped < 100, "{}", log[skipped..].join("\n"));
    assert_eq!(counted(&following.node, "rejected").await, 20);
    let began = Instant::now();
    following.publish("good").await;
    eprintln!("20 poisons in {flood:.1?}; the good table after {:.1?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let revision = following.probe.put("table", "poison").await;
    refuses(&following.node, revision).await;
    let (rejected, skipped) = (counted(&following.node, "rejected").await, following.node.log().count());
    for number in 1..=3 {
        let revision = following.probe.put("table", "poison").await;
        refuses(&following.node, revision).await;
        // What is heard of in two ways is looked up twice.
        assert!(counted(&following.node, "quarantined").await >= number);
    }
    assert_eq!(counted(&following.node, "rejected").await, rejected);
    assert_eq!(following.node.log().count(), skipped, "nothing more is said of it");
    assert!(following.node.status().await["bus"]["quarantined"].as_u64() > Some(0));
    following.assert_serves().await;
    following.publish("better").await;
}

#[tokio::test]
async fn a_table_that_shrinks_too_much_needs_its_publishers_word() {
    let rest = "[jurisdictions.de]\ncountries = [\"DE\"]\n[data_classes.personal]\n\
                [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
                [[residency]]\njurisdiction = \"de\"\ndata_classes = [\"personal\"]\n\
                allow = { countries = [\"DE\"] }\ntransfer = \"prohibited\"\n\
                [[routes]]\nname = \"data\"\ndata_class = \"personal\"\n";
    let german = ["eu", "de2", "de3"].map(|name| (name, "DE"));
    let american = ["us", "us2", "us3", "us4"].map(|name| (name, "US"));
    let world = World::of_regions(&[&german[..], &american[..]].concat(), rest).await;
    let bus = BusServer::start().await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", world.table()).await;
    let node = setup(&bus, "a").start().await;
    has(&node, revision).await;
    let less_fleet = without(world.table(), &["us", "us2", "us3", "us4"]);
    let less_german = without(world.table(), &["de2", "de3"]);
    for (text, wrong, right) in [(less_fleet, "de", "fleet"), (less_german, "fleet", "de")] {
        for fields in [&[][..], &[("Meridian-Allow", wrong)]] {
            let revision = probe.put_raw("table", &text, said(fields)).await;
            let problems = refuses(&node, revision).await;
            assert!(problems.contains(&format!("--allow-shrink {right}")), "{problems}");
        }
        let revision = probe.put_raw("table", &text, said(&[("Meridian-Allow", right)])).await;
        has(&node, revision).await;
        Client::http1(node.http()).send(&get("/data").from("DE")).await.assert_served_by("eu");
        let revision = probe.put("table", world.table()).await;
        has(&node, revision).await;
    }
}

/// A node that was away goes the way that the others went, past whatever was refused on it.
#[tokio::test]
async fn a_node_that_was_away_steps_over_what_it_must_refuse() {
    let names = ["eu", "r2", "r3", "r4", "r5"].map(|name| (name, "DE"));
    let world = World::of_regions(&names, "[[routes]]\nname = \"all\"\n").await;
    let mut bus = BusServer::start().await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", world.table()).await;
    let mut node = Setup::clone(&setup(&bus, "a")).start().await;
    has(&node, revision).await;
    let poison = probe.put("table", "poison").await;
    refuses(&node, poison).await;
    node.signal("STOP");
    probe.put("table", "poison").await;
    probe.put("table", without(world.table(), &["r5", "r4"])).await;
    probe.delete("table").await;
    probe.put("table", "other poison").await;
    let last = probe.put("table", without(world.table(), &["r5", "r4", "r3"])).await;
    node.signal("CONT");
    // Five to three, and three to two: each within what may go at once.
    has(&node, last).await;
    let next = probe.put("table", without(world.table(), &["r5"])).await;
    has(&node, next).await;
    // The same from its snapshot.
    node.signal("STOP");
    bus.kill();
    bus.revive().await;
    let probe = bus.probe().await;
    probe.put("table", without(world.table(), &["r5", "r4"])).await;
    probe.put("table", "poison").await;
    let last = probe.put("table", without(world.table(), &["r5", "r4", "r3"])).await;
    node.restart("KILL").await;
    node.serves().await;
    has(&node, last).await;
    becomes(&node, "all well", |status| status["bus"]["refused"] == Value::Null).await;
}
