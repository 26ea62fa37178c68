//! Signed tables: nodes with `trusted_keys`, and `meridian publish --sign`.

use meridian_tests::Node;

use super::edge::{Edge, assert_says};

async fn trusting(edge: &Edge, name: &str, region: &str) -> Node {
    let setup = edge.setup(name, region, ", trusted_keys = [\"publisher.pub.pem\"]");
    setup.file("publisher.pub.pem", PUBLIC).start_waiting().await
}

#[tokio::test]
async fn nodes_that_trust_keys_take_signed_tables_only() {
    let edge = Edge::new().await;
    let key = edge.write("publisher.pem", PRIVATE);
    let other = edge.write("other.pem", OTHER);
    let (mut a, _b) = tokio::join!(trusting(&edge, "a-1", "a"), trusting(&edge, "b-1", "b"));
    let sign = ["--yes", "--sign", key.as_str()];
    let ended = edge.publish(&edge.table("1"), &[&sign[..], &["--no-wait"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    a.serves().await;
    edge.all_have(&["a-1", "b-1"], "1").await;
    let ended = edge.publish(&edge.table("2"), &sign).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let ended = edge.publish(&edge.table("3"), &["--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["is signed, and this would not be", "--sign KEY.pem", "--unsigned"]);
    assert_eq!(edge.live().await, edge.table("2"), "nothing was written");

    for (how, why) in [(&["--unsigned"][..], "it is not signed"), (&["--sign", &other], "does not trust")] {
        let ended = edge.publish(&edge.table("3"), &[&["--yes"], how].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_says(&ended.stderr, &["a-1 rejects it:", "b-1 rejects it:", why, "2 of 2 nodes reject it"]);
        assert_eq!(a.status().await["table"]["version"], "2");
    }

    // What comes back is signed anew.
    let ended = edge.run(&["rollback", "--yes", "--sign", &key]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.assert_good("a-1", "2").await;
    assert_says(&edge.run(&["history"]).await.stdout, &["signed; rollback to revision"]);

    // What somebody without a key has put there never comes back as the operator's.
    let evil = edge.bus.probe().await.put("table", edge.table("evil")).await.to_string();
    let ended = edge.publish(&edge.table("4"), &sign).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stderr, &["no node has revision", "this is compared with revision"]);
    let ended = edge.run(&["rollback", "--to", &evil, "--dry-run", "--sign", &key]).await;
    assert_says(&ended.stderr, &["has an epoch below that of tables before it"]);
    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["is signed, and this would not be"]);
    let ended = edge.run(&["rollback", "--yes", "--sign", &key]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.assert_good("a-1", "2").await;
    // An unsigned table by mistake does not make the one before unsigned too.
    let ended = edge.publish(&edge.table("5"), &["--yes", "--unsigned", "--no-wait"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["was signed, and would not be any more", "--sign KEY.pem"]);
}

#[tokio::test]
async fn a_canary_is_signed_for_its_nodes_and_then_for_all() {
    let edge = Edge::new().await;
    let key = edge.write("publisher.pem", PRIVATE);
    let _nodes = tokio::join!(trusting(&edge, "a-1", "a"), trusting(&edge, "b-1", "b"));
    let sign = ["--yes", "--sign", key.as_str()];
    let ended = edge.publish(&edge.table("1"), &[&sign[..], &["--no-wait"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "1").await;
    let ended = edge
        .publish(
            &edge.table("2"),
            &[&sign[..], &["--canary", "50%", "--observe", "1s", "--min-requests", "0"]].concat(),
        )
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "2").await;
}

#[tokio::test]
async fn a_key_that_is_none_is_told_before_the_bus_is_asked() {
    let edge = Edge::new().await;
    let public = edge.write("publisher.pub.pem", PUBLIC);
    for key in [&public, "/nowhere/key.pem"] {
        let ended = edge.publish(&edge.table("1"), &["--yes", "--sign", key]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_says(&ended.stderr, &[key, "openssl genpkey -algorithm ed25519"]);
    }
    assert!(edge.bus.probe().await.get("table").await.is_none());
}

// Made with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`, for tests only.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIBqqBVi5rtRhMb+jDOOa7AKvAAp+LXnqb0KTHIg2N7zH\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEALmFEq4p5YrUdr1HKmciOVw2zqEmR7OHXHu6/tHrmx1s=\n-----END PUBLIC KEY-----\n";
const OTHER: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIOgpV2j+4aNh34G7MKYsdF+hbBAgQeCZMSzeKMw+NtNc\n-----END PRIVATE KEY-----\n";
