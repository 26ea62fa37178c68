//! What a token costs: its signature is looked into once, and not before its request was admitted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use loadtest::origin::Behaviour;
use meridian_tests::{Client, Node, Setup, World, eventually, geo, get};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

#[tokio::test]
async fn a_signature_is_looked_into_once() {
    let (_world, node, key) = start("").await;
    let client = Client::http1(node.http()).from(geo::loopback("US"));
    let (granted, denied) = (token(&key, "granted", FAR), token(&key, "denied", FAR));
    for _ in 0..10 {
        for client in [client.clone(), client.clone().speaking(meridian_tests::Protocol::Http2)] {
            assert_eq!(client.send(&consented("/consented", &granted)).await.status, 200);
            // The same token is asked for another claim on another route.
            assert_eq!(client.send(&consented("/other", &granted)).await.status, 451);
            assert_eq!(client.send(&consented("/consented", &denied)).await.status, 451);
        }
    }
    assert_eq!(verifications(&node, "verified").await, 3.0);
    // What does not hold is not remembered: it might in a while.
    for _ in 0..2 {
        let theirs = token(&self::key(), "granted", FAR);
        assert_eq!(client.send(&consented("/consented", &theirs)).await.status, 451);
    }
    assert_eq!((verifications(&node, "verified").await, verifications(&node, "refused").await), (3.0, 2.0));

    // Other keys know nothing of what these have verified.
    node.replace("issuer.pem", self::key().public_key_pem());
    eventually("the other key", async || {
        let answer = client.send(&consented("/consented", &granted)).await;
        if answer.status == 451 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_remembered_until_it_ends() {
    let (_world, node, key) = start("").await;
    let client = Client::http1(node.http()).from(geo::loopback("US"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let token = token(&key, "granted", (now + Duration::from_secs(2)).as_secs());
    eventually("its end", async || {
        assert_eq!(client.send(&consented("/consented", &token)).await.status, 200, "it has some leeway");
        match verifications(&node, "verified").await {
            1.0 => Err("it is remembered".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() >= now.as_secs() + 2);
}

#[tokio::test]
async fn what_is_not_admitted_has_no_signature_looked_into() {
    for (limits, status, reason) in
        [("requests_in_flight = 1", 503, "overloaded"), ("requests_in_flight_per_client = 1", 429, "client_limit")]
    {
        let (world, node, key) = start(limits).await;
        world.behave("us", &Behaviour::Stall);
        let client = Client::http1(node.http()).from(geo::loopback("US"));
        let stalled = tokio::spawn({
            let client = client.clone();
            async move { client.send(&get("/stalled")).await }
        });
        eventually("it is in flight", async || {
            let count = node.status().await["requests_in_flight"].clone();
            if count == 1 { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
        for number in 0..5 {
            let token = token(&key, "granted", FAR + number);
            client.send(&consented("/consented", &token)).await.assert_refused(status, reason);
        }
        assert_eq!(verifications(&node, "verified").await, 0.0);
        world.behave("us", &Behaviour::Normal);
        stalled.await.expect("an answer").assert_served_by("us");
        assert_eq!(client.send(&consented("/consented", &token(&key, "granted", FAR))).await.status, 200);
        assert_eq!(verifications(&node, "verified").await, 1.0);
    }
}

/// A node in a region where Americans' data may be with their consent only.
async fn start(limits: &str) -> (World, Node, KeyPair) {
    let world = World::of_regions(&[("us", "DE")], LAW).await;
    let key = key();
    let setup = Setup::new("us", world.table()).file("issuer.pem", key.public_key_pem());
    let setup = setup.section("tokens", "keys = [{ file = \"issuer.pem\", algorithm = \"ES256\" }]");
    (world, setup.section("limits", limits).start().await, key)
}

fn consented(path: &str, token: &str) -> meridian_tests::Sent {
    get(path).header("authorization", &format!("Bearer {token}"))
}

async fn verifications(node: &Node, outcome: &str) -> f64 {
    node.metrics().await.sum("meridian_token_verifications_total", &[("outcome", outcome)]).unwrap_or(0.0)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn token(key: &KeyPair, consent: &str, exp: u64) -> String {
    let claims = serde_json::json!({ "exp": exp, "data_consent": consent });
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
    encode(&Header::new(Algorithm::ES256), &claims, &key).expect("a token")
}

/// In the year 2100.
const FAR: u64 = 4_102_444_800;

const LAW: &str = r#"
[jurisdictions.us]
countries = ["US"]

[data_classes.consented]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "us"
data_classes = ["consented"]
allow = { countries = ["US"] }
transfer = "with_consent"

[[routes]]
name = "consented"
path = "/consented"
data_class = "consented"
consent_claim = "data_consent"

[[routes]]
name = "other"
path = "/other"
data_class = "consented"
consent_claim = "other_consent"

[[routes]]
name = "all"
data_class = "public"
"#;
