//! A bus that is silent for longer than `max_age`: restricted routes are refused, the others go on.

use meridian_tests::load::assert_all_served;
use meridian_tests::{BusServer, Client, eventually, get};

use super::Following;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_age_a_table_serves_unrestricted_routes_only() {
    let mut following = Following::on(BusServer::start().await, "\nmax_age = \"2s\"").await;
    // While the bus is there, the table never expires, however short its age.
    let load = following.load();
    let mut heard = following.probe.subscribe("$KV.meridian.nodes.a").await;
    heard.next().await;
    heard.next().await;
    assert_all_served(&load.stop().await);

    following.bus.kill();
    let client = Client::http1(following.node.http());
    let refused = eventually("an expired table", async || {
        let answer = client.send(&get("/data").from("DE")).await;
        if answer.status == 200 { Err(format!("{answer:?}")) } else { Ok(answer) }
    });
    let refused = refused.await;
    refused.assert_refused(503, "table_expired");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    client.send(&get("/open").from("DE")).await.assert_served_by("eu");
    let ready = following.node.ask(&get("/ready")).await;
    assert!(ready.status == 200 && ready.text().contains("warning: the table has expired"), "{ready:?}");
    assert_eq!(following.node.metrics().await.sum("meridian_table_expired", &[]), Some(1.0));
    assert_eq!(following.node.status().await["bus"]["expired"], true);
    let explained = following.node.ask(&get("/explain?path=/data&country=DE")).await.json();
    assert!(explained.to_string().contains("table_expired"), "{explained}");
    let explained = following.node.ask(&get("/explain?path=/open&country=DE")).await.json();
    assert!(!explained.to_string().contains("\"table_expired\""), "{explained}");

    // A start from the snapshot is no younger than the snapshot.
    following.node.restart("KILL").await;
    following.node.serves().await;
    let client = Client::http1(following.node.http());
    eventually("an expired snapshot", async || {
        let answer = client.send(&get("/data").from("DE")).await;
        if answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;

    following.bus.revive().await;
    eventually("a table that is confirmed", async || {
        let answer = client.send(&get("/data").from("DE")).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(following.node.metrics().await.sum("meridian_table_expired", &[]), Some(0.0));
}
