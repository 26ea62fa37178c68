//! Signed tables: a node with `trusted_keys` believes nobody else.

use meridian_tests::{BusServer, eventually, get};

use super::signer::{Publisher, connect, now_ms, repeat};
use super::{has, refuses, routed, table, world};

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_in_force() {
    let (server, world) = (BusServer::start().await, world().await);
    let (bus, probe) = (connect(&server).await, server.probe().await);
    probe.create_bucket().await;
    let (publisher, stranger, next) = (Publisher::new(), Publisher::new(), Publisher::new());
    let now = now_ms();
    let unsigned = probe.put("table", table(&world, "unsigned")).await;
    let setup =
        routed(&server, "a", ", trusted_keys = [\"trusted.pem\"]").file("trusted.pem", publisher.public_pem.clone());
    let mut node = setup.start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains(&format!("revision {unsigned} was refused")) && text.contains("not signed") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let first = publisher.publish(&bus, table(&world, "first"), now + 1).await;
    node.serves().await;
    has(&node, first).await;

    let bad = probe.put("table", table(&world, "unsigned again")).await;
    assert!(refuses(&node, bad).await.contains("not signed"));
    let bad = stranger.publish(&bus, table(&world, "strange"), now + 2).await;
    assert!(refuses(&node, bad).await.contains("does not trust"));
    let bad = repeat(&probe, first, Some(table(&world, "tampered"))).await;
    assert!(refuses(&node, bad).await.contains("does not hold"));

    let second = publisher.publish(&bus, table(&world, "second"), now + 3).await;
    has(&node, second).await;
    let bad = repeat(&probe, first, None).await;
    assert!(refuses(&node, bad).await.contains("a replay of an old table"));
    // To repeat what is in force changes nothing.
    let same = repeat(&probe, second, None).await;
    assert_eq!(has(&node, same).await["table"]["version"], "second");

    // The key changes under a running node.
    node.replace("trusted.pem", "no key");
    let third = publisher.publish(&bus, table(&world, "third"), now + 4).await;
    assert!(refuses(&node, third).await.contains("no table is believed while a key is bad"));
    node.replace("trusted.pem", &next.public_pem);
    let bad = publisher.publish(&bus, table(&world, "by the old key"), now + 5).await;
    assert!(refuses(&node, bad).await.contains("does not trust"));
    let fourth = next.publish(&bus, table(&world, "fourth"), now + 6).await;
    has(&node, fourth).await;

    // The snapshot is verified like anything else.
    server_is_away(&mut node, server, next.public_pem.as_str(), publisher.public_pem.as_str()).await;
}

async fn server_is_away(node: &mut meridian_tests::Node, mut server: BusServer, trusted: &str, other: &str) {
    server.kill();
    node.replace("trusted.pem", other);
    node.restart("TERM").await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains("does not trust") { Ok(()) } else { Err(text) }
    })
    .await;
    node.replace("trusted.pem", trusted);
    node.restart("TERM").await;
    node.serves().await;
    assert_eq!(node.status().await["bus"]["table"]["from_snapshot"], true);
}
