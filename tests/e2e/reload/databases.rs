//! Geo databases.

use meridian_tests::{Client, Setup, World, eventually, geo, get};

#[tokio::test]
async fn a_new_database_is_in_force_and_a_corrupt_one_is_not() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let client = Client::http1(node.http());
    let sent = get("/mcp").from("US");
    client.send(&sent).await.assert_served_by("us-east-1");

    let good = geo::database();
    let cut = &good[..good.len() / 2];
    let mut damaged = good.clone();
    // The tree's beginning: it leads out of the file.
    damaged[..60].fill(0xfe);
    for (what, bad) in [("cut", cut), ("damaged", &damaged), ("empty", &[]), ("no database", b"hello")] {
        node.replace("countries.mmdb", bad);
        eventually(what, async || {
            let status = node.status().await;
            let rejected = status["rejected"].as_array().expect("a list").clone();
            let shown = rejected.iter().any(|entry| {
                entry["source"].as_str().is_some_and(|path| path.ends_with("countries.mmdb"))
                    && entry["problems"].as_array().is_some_and(|problems| !problems.is_empty())
            });
            if shown { Ok(()) } else { Err(format!("{rejected:?}")) }
        })
        .await;
        assert_eq!(node.status().await["geoip"][0]["build_epoch"], 1_767_225_600_u64, "{what}");
        client.send(&sent).await.assert_served_by("us-east-1");
        client.send(&get("/mcp").from("DE")).await.assert_served_by("eu-west-1");
        node.replace("countries.mmdb", &good);
        eventually("nothing is rejected any more", async || {
            let rejected = node.status().await["rejected"].clone();
            if rejected == serde_json::json!([]) { Ok(()) } else { Err(rejected.to_string()) }
        })
        .await;
    }

    // A connection that is open when a client's network moves is judged anew.
    let mut direct = Client::http1(node.http()).from(geo::loopback("US")).connect().await.expect("a connection");
    direct.send(&get("/mcp")).await.assert_served_by("us-east-1");
    let network = format!("{}/32", geo::loopback("US"));
    node.replace("countries.mmdb", geo::database_with(&[(&network, "FR"), ("192.0.2.0/28", "DE")], 1_767_225_601));
    eventually("the new database", async || {
        let status = node.status().await;
        let epoch = status["geoip"][0]["build_epoch"].clone();
        if epoch == 1_767_225_601_u64 { Ok(()) } else { Err(epoch.to_string()) }
    })
    .await;
    client.send(&sent).await.assert_served_by("eu-west-1");
    direct.send(&get("/mcp")).await.assert_served_by("eu-west-1");
}
