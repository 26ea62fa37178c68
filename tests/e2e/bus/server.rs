//! What the tests of the config bus rely on in nats-server and in their harness.

use std::time::{Duration, SystemTime};

use async_nats::{ConnectErrorKind, ConnectOptions};
use meridian_tests::{Authority, BusOperator, BusProbe, BusServer, Setup, World, nkey_seed, patiently};
use tokio::time::timeout;

#[tokio::test]
async fn a_put_survives_a_kill_and_a_wipe_starts_the_sequence_over() {
    let mut server = BusServer::start().await;
    let url = server.url();
    let probe = server.probe().await;
    probe.create_bucket().await;
    assert_eq!(probe.put("table", "one").await, 1);
    assert_eq!(probe.put("table", "two").await, 2);
    server.kill();
    assert!(BusProbe::connect(&url, ConnectOptions::new()).await.is_err(), "it is dead");
    server.revive().await;
    assert_eq!(server.url(), url);
    let probe = server.probe().await;
    let last = probe.get("table").await.expect("a value");
    assert_eq!((last.sequence, &last.payload[..]), (2, &b"two"[..]));
    assert_eq!(probe.delete("table").await, 3);
    server.wipe();
    server.revive().await;
    let probe = server.probe().await;
    probe.create_bucket().await;
    assert!(probe.get("table").await.is_none());
    assert_eq!(probe.put("table", "three").await, 1);
    probe.delete_bucket().await;
    assert!(probe.jetstream().get_stream("KV_meridian").await.is_err(), "the bucket is gone");
}

#[tokio::test]
async fn a_stopped_server_is_silent_until_it_goes_on() {
    let server = BusServer::start().await;
    let probe = server.probe().await;
    probe.create_bucket().await;
    server.stop();
    let mut put = Box::pin(probe.put("table", "late"));
    assert!(timeout(Duration::from_millis(100), &mut put).await.is_err(), "it answers");
    server.go_on();
    assert_eq!(patiently("the answer", put).await, 1);
}

#[tokio::test]
async fn only_who_is_known_comes_in() {
    let connected = async |server: &BusServer, options: ConnectOptions| {
        BusProbe::connect(&server.url(), options).await.map(|_| ()).map_err(|error| error.kind())
    };
    let by_password = |password: &str| ConnectOptions::with_user_and_password("edge".to_owned(), password.to_owned());
    let refused = Err(ConnectErrorKind::AuthorizationViolation);

    let seed = nkey_seed();
    let server = BusServer::with().user("edge", "right").nkey(&seed).start().await;
    assert_eq!(connected(&server, by_password("right")).await, Ok(()));
    assert_eq!(connected(&server, ConnectOptions::with_nkey(seed)).await, Ok(()));
    for stranger in [by_password("wrong"), ConnectOptions::with_nkey(nkey_seed()), ConnectOptions::new()] {
        assert_eq!(connected(&server, stranger).await, refused);
    }

    let server = BusServer::with().token("right").start().await;
    server.probe().await.create_bucket().await;
    assert_eq!(connected(&server, ConnectOptions::with_token("wrong".to_owned())).await, refused);

    let operator = BusOperator::default();
    let mut server = BusServer::with().operator(&operator).start().await;
    server.probe().await.create_bucket().await;
    assert_eq!(server.probe().await.put("table", "one").await, 1);
    server.kill();
    server.revive().await;
    assert_eq!(server.probe().await.put("table", "two").await, 2, "its account has its store again");
    let expired = operator.credentials_until(SystemTime::now() - Duration::from_secs(60));
    for stranger in [expired, BusOperator::default().credentials()] {
        assert_eq!(
            connected(&server, ConnectOptions::with_credentials(&stranger).expect("credentials")).await,
            refused
        );
    }
}

#[tokio::test]
async fn who_may_only_listen_cannot_speak() {
    let server = BusServer::with().user("edge", "secret").permissions("publish: { deny: \"news.>\" }").start().await;
    let options = ConnectOptions::with_user_and_password("edge".to_owned(), "secret".to_owned());
    let edge = BusProbe::connect(&server.url(), options).await.expect("a connection");
    let mut heard = server.probe().await.subscribe("news.>").await;
    edge.publish("news.edge", "denied").await;
    server.probe().await.publish("news.probe", "allowed").await;
    assert_eq!(&heard.next().await.payload[..], b"allowed");

    let operator = BusOperator::default();
    let server = BusServer::with().operator(&operator).start().await;
    let creds = operator.credentials_for(&serde_json::json!({ "pub": { "deny": ["news.>"] } }));
    let options = ConnectOptions::with_credentials(&creds).expect("credentials");
    let edge = BusProbe::connect(&server.url(), options).await.expect("a connection");
    let mut heard = server.probe().await.subscribe("news.>").await;
    edge.publish("news.edge", "denied").await;
    server.probe().await.publish("news.probe", "allowed").await;
    assert_eq!(&heard.next().await.payload[..], b"allowed");
}

#[tokio::test]
async fn large_values_travel_over_tls() {
    let authority = Authority::default();
    let certificate = authority.certify(&["127.0.0.1"]);
    let server = BusServer::with().tls(&authority, &certificate).max_payload(64 << 20).start().await;
    let probe = server.probe().await;
    probe.create_bucket().await;
    let large = vec![b'x'; 8 << 20];
    assert_eq!(probe.put("table", &large).await, 1);
    assert_eq!(probe.get("table").await.expect("a value").payload.len(), large.len());
}

#[tokio::test]
async fn a_node_starts_again_in_its_directory() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"data\"\ndata_class = \"public\"\n").await;
    let mut node = Setup::new("here", world.table()).name("a").start_waiting().await;
    for signal in ["KILL", "TERM"] {
        node.serves().await;
        let (before, text) = (node.pid(), node.status().await["node"].to_string());
        assert!(text.contains("\"a\""), "{text}");
        node.restart(signal).await;
        assert_ne!(node.pid(), before);
    }
}
