//! `meridian heartbeat`: what keeps nodes with `trusted_keys` going; and `publish --valid-for`.

use std::time::{Duration, Instant};

use meridian_tests::{Client, Node, Setup, eventually, get};

use super::becomes;
use super::edge::{Edge, assert_says};
use super::signer::{Publisher, now_ms};

/// A node of region `a` that trusts a publisher, whose tables may be used for three seconds without a word.
async fn trusting(edge: &Edge, publisher: &Publisher) -> Node {
    let url = edge.bus.url();
    let lines = format!("bus = {{ servers = [\"{url}\"], trusted_keys = [\"k.pem\"] }}\nmax_age = \"3s\"");
    let setup = Setup::new("a", "").name("a-1").bus(&lines).file("k.pem", publisher.public_pem.clone());
    let mut node = setup.start_waiting().await;
    node.serves().await;
    node
}

async fn held(node: &Node) -> u16 {
    Client::http1(node.http()).send(&get("/held").from("DE")).await.status.as_u16()
}

/// Waits until restricted data is answered so.
async fn answers(node: &Node, status: u16) {
    eventually(&format!("{status}"), async || {
        if held(node).await == status { Ok(()) } else { Err(node.status().await["bus"].to_string()) }
    })
    .await;
}

/// Nodes wait for what it signs, whatever becomes of those who read what it says.
#[tokio::test]
async fn it_goes_on_when_nobody_hears_of_it() {
    let (edge, publisher) = (Edge::new().await, Publisher::new());
    let sign = ["--yes", "--no-wait", "--sign", publisher.key_file.as_str()];
    let ended = edge.publish(&edge.table("1"), &sign).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let node = trusting(&edge, &publisher).await;
    let _running = edge.start_unheard(&["heartbeat", "--sign", &publisher.key_file, "--every", "200ms"]);
    let mut last = 0;
    for _ in 0..5 {
        let signed = |status: &serde_json::Value| status["bus"]["heartbeat"]["signed_ms"].as_u64();
        let status = becomes(&node, "a heartbeat", |status| signed(status) > Some(last)).await;
        last = signed(&status).unwrap_or(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_runs_the_fleet_goes_on() {
    let (edge, publisher) = (Edge::new().await, Publisher::new());
    let sign = ["--yes", "--no-wait", "--sign", publisher.key_file.as_str()];
    let ended = edge.publish(&edge.table("1"), &sign).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(
        &ended.stderr,
        &["there is no heartbeat on the bus", "run `meridian heartbeat --sign KEY`", "--valid-for"],
    );
    let node = trusting(&edge, &publisher).await;

    let running = edge.start(&["heartbeat", "--sign", &publisher.key_file, "--every", "300ms"]);
    let signed = async || node.status().await["bus"]["heartbeat"]["signed_ms"].as_u64().unwrap_or(0);
    let (began, mut last) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(5) {
        becomes(&node, "a heartbeat", |status| status["bus"]["heartbeat"]["signed_ms"].as_u64() > Some(last)).await;
        last = signed().await;
        assert_eq!(held(&node).await, 200);
    }
    drop(running);
    answers(&node, 503).await;
    // Its report of that is on its way.
    eventually("a fleet that has expired", async || {
        let (code, fleet) = edge.json(&["fleet", "--fail-on", "expired"]).await;
        if (code, &fleet["heartbeat"]["of_live"]) == (Some(1), &true.into()) { Ok(()) } else { Err(fleet.to_string()) }
    })
    .await;

    let once = ["heartbeat", "--once", "--sign", publisher.key_file.as_str()];
    let ended = edge.run(&once).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["signed that revision 1 (version \"1\", issued 2"]);
    answers(&node, 200).await;
    assert_says(&edge.run(&["history"]).await.stdout, &["ISSUED", "signed; heartbeat 2"]);
    assert_says(&edge.run(&["fleet"]).await.stdout, &["; issued 2", ", heartbeat ", "s ago"]);

    // What somebody else puts there does not silence it, and whose key is another's signs nothing.
    let rubbish = edge.bus.probe().await.put("table", "rubbish").await;
    let ended = edge.run(&once).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let about = [format!("revision {rubbish} by "), "this is about revision 1".to_owned()];
    assert_says(&ended.stderr, &about.each_ref().map(String::as_str));
    answers(&node, 200).await;
    let stranger = Publisher::new();
    let ended = edge.run(&["heartbeat", "--once", "--sign", &stranger.key_file]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["no table on the bus is signed by a key that is known here"]);
}

#[tokio::test]
async fn it_signs_for_nothing_older_than_before() {
    let (edge, publisher) = (Edge::new().await, Publisher::new());
    let state = edge.write("state.json", "");
    std::fs::remove_file(&state).expect("a file");
    let sign = ["--yes", "--no-wait", "--sign", publisher.key_file.as_str()];
    let once = ["heartbeat", "--once", "--sign", publisher.key_file.as_str(), "--state", state.as_str()];
    for version in ["1", "2"] {
        let ended = edge.publish(&edge.table(version), &sign).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let ended = edge.run(&once).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // As a bus would that hides the second.
    let probe = edge.bus.probe().await;
    let first = probe.stream().await.direct_get(1).await.expect("a revision");
    probe.delete_bucket().await;
    probe.create_bucket().await;
    probe.put_raw("table", first.payload, first.headers).await;
    let ended = edge.run(&once).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["was signed for before: nothing was signed", "somebody holds it back"]);
    assert!(probe.get("heartbeat").await.is_none());
}

/// Whose clock was far ahead has stamped a table that no node takes: the next is not stamped after it.
#[tokio::test]
async fn a_stamp_from_the_future_is_not_carried_on() {
    let (edge, publisher) = (Edge::new().await, Publisher::new());
    let bus = super::signer::connect(&edge.bus).await;
    let future = now_ms() + 3_600_000;
    let revision = publisher.publish(&bus, edge.table("1"), future).await;
    let sign = ["--yes", "--no-wait", "--sign", publisher.key_file.as_str()];
    let ended = edge.publish(&edge.table("2"), &sign).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stderr, &[&format!("revision {revision} by test has the issue time"), "no node takes it"]);
    let node = trusting(&edge, &publisher).await;
    assert_eq!(held(&node).await, 200);
    // Nor is anything signed for it.
    let ended = edge.run(&["heartbeat", "--once", "--sign", &publisher.key_file]).await;
    assert_says(&ended.stdout, &["signed that revision 2 (version \"2\""]);
}

#[tokio::test]
async fn a_publication_has_an_end_if_its_publisher_says_so() {
    let (edge, publisher) = (Edge::new().await, Publisher::new());
    let sign = ["--yes", "--no-wait", "--sign", publisher.key_file.as_str()];
    let ended = edge.publish(&edge.table("1"), &[&sign[..], &["--valid-until", "2020-01-01"]].concat()).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_says(&ended.stderr, &["--valid-until 2020-01-01T00:00:00Z is over"]);
    let ended = edge.publish(&edge.table("1"), &[&sign[..], &["--valid-until", "2099-12-31"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["valid until 2099-12-31T00:00:00Z"]);
    assert!(!ended.stderr.contains("heartbeat"), "{ended:?}");
    let (_, history) = edge.json(&["history"]).await;
    assert_eq!(history[0]["valid_until"], "2099-12-31T00:00:00Z");
    // The same text for longer is another publication.
    let ended = edge.publish(&edge.table("1"), &[&sign[..], &["--valid-for", "1h"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (_, fleet) = edge.json(&["fleet"]).await;
    assert_eq!(fleet["live"]["revision"], 2, "{fleet}");
    assert_ne!(fleet["live"]["valid_until"], "2099-12-31T00:00:00Z", "{fleet}");
}
