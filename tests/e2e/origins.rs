//! Where a client may be: several sources, each of which can only make the law stricter; and consent, from
//! those alone who may give it.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use meridian_tests::{Client, Setup, World, eventually, geo, get};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

#[tokio::test]
async fn sources_that_disagree_are_all_believed() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE"), ("br", "BR")], LAW).await;
    let node = Setup::new("us", world.table()).geoip("country_header = \"CF-IPCountry\"").start().await;
    let client = Client::http1(node.http());
    let personal = |country: &str| get("/personal").from(country);
    client.send(&personal("US").header("cf-ipcountry", "US")).await.assert_served_by("us");
    client.send(&personal("US")).await.assert_served_by("us");
    client.send(&personal("US").header("cf-ipcountry", "XX")).await.assert_served_by("us");
    client.send(&personal("US").header("cf-ipcountry", "DE")).await.assert_served_by("de");
    client.send(&personal("DE").header("cf-ipcountry", "us")).await.assert_served_by("de");
    // What both laws allow is nothing; and so it is for somebody who may be anywhere.
    for sent in [
        personal("DE").header("cf-ipcountry", "BR"),
        personal("US").header("cf-ipcountry", "T1"),
        personal("US").header("cf-ipcountry", "Atlantis"),
        personal("US").header("cf-ipcountry", "US").header("cf-ipcountry", "US"),
        get("/personal").on_behalf_of(geo::UNLISTED),
        get("/personal").on_behalf_of(geo::ANONYMOUS).header("cf-ipcountry", "DE"),
    ] {
        client.send(&sent).await.assert_refused(451, "residency_prohibited");
    }
    // Where the databases know nothing, one source is enough.
    client
        .send(&get("/personal").on_behalf_of(geo::UNLISTED).header("cf-ipcountry", "BR"))
        .await
        .assert_served_by("br");

    // Nobody else may say it, under any spelling, and it goes no further.
    let direct = client.clone().from(geo::loopback("DE"));
    for name in ["cf-ipcountry", "cf_ipcountry"] {
        direct.send(&get("/personal").header(name, "US")).await.assert_served_by("de");
        let received = world.received("de").pop().expect("a request");
        assert!(!received.headers.contains_key(name), "{received:?}");
    }
    assert!(world.received("us").iter().all(|received| received.header("x-client-country") == Some("US")));

    let question = get(&format!("/explain?ip={}&path=/personal&header=cf-ipcountry:DE", geo::address("US", 1)));
    let explained = node.ask(&question).await.json();
    assert_eq!(explained["origin"]["countries"], serde_json::json!(["DE", "US"]));
    let sources = explained["origin"]["sources"].to_string();
    assert!(sources.contains("cf-ipcountry: DE") && sources.contains("GeoLite2-City): US"), "{sources}");
}

#[tokio::test]
async fn a_hosting_providers_addresses_say_nothing() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE")], LAW).await;
    let asn = geo::asn_of("US");
    let setup = Setup::new("us", world.table()).file("asn.mmdb", geo::asn_database()).database_file("asn.mmdb");
    let node = setup.clone().start().await;
    Client::http1(node.http()).send(&get("/personal").from("US")).await.assert_served_by("us");
    let node = setup.geoip(&format!("anonymous_asns = [{asn}]")).start().await;
    let client = Client::http1(node.http());
    client.send(&get("/personal").from("US")).await.assert_refused(451, "residency_prohibited");
    client.send(&get("/personal").from("DE")).await.assert_served_by("de");
    let explained = node.ask(&get(&format!("/explain?ip={}&path=/personal", geo::address("US", 1)))).await.json();
    let sources = explained["origin"]["sources"].to_string();
    assert!(sources.contains(&format!("AS{asn}, anonymous network")), "{sources}");
}

#[tokio::test]
async fn a_tenants_jurisdiction_holds_wherever_its_users_are() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE"), ("br", "BR")], LAW).await;
    let node = Setup::new("us", world.table()).start().await;
    let client = Client::http1(node.http());
    client.send(&get("/personal").from("US")).await.assert_served_by("us");
    client.send(&get("/personal").from("US").host("acme.example.com")).await.assert_served_by("de");
    let tenant = |says: &str| get("/personal").from("US").header("x-tenant-jurisdiction", says);
    client.send(&tenant("eu")).await.assert_served_by("de");
    client.send(&tenant("br")).await.assert_served_by("br");
    client.send(&tenant(" br , br")).await.assert_served_by("br");
    client.send(&tenant("eu, br")).await.assert_refused(451, "residency_prohibited");
    client.send(&tenant("br").host("acme.example.com")).await.assert_refused(451, "residency_prohibited");
    // What cannot be kept is not guessed at.
    client.send(&tenant("eü")).await.assert_refused(400, "bad_request");
    client.send(&tenant("moon")).await.assert_refused(400, "bad_request");
    // It is the proxy's to say: a client would only make its own law stricter, but it is not asked.
    let direct = client.clone().from(geo::loopback("US"));
    direct.send(&get("/personal").header("x-tenant-jurisdiction", "br")).await.assert_served_by("us");
    let received = world.received("us").pop().expect("a request");
    assert!(!received.headers.contains_key("x-tenant-jurisdiction"), "{received:?}");
    let line = eventually("the tenant's line", async || {
        let lines = node.access_log().all();
        let line =
            lines.iter().find(|line| line.contains("\"declared\":[\"br\"]") && line.contains("\"region\":\"br\""));
        line.cloned().ok_or_else(|| lines.join("\n"))
    });
    assert!(line.await.contains("\"from\":\"us\""));
}

#[tokio::test]
async fn a_verified_claim_is_consent_and_no_other() {
    let world = World::of_regions(&[("us", "US"), ("de", "DE")], LAW).await;
    let (ours, theirs) = (key(), key());
    let setup = Setup::new("us", world.table()).file("issuer.pem", ours.public_key_pem()).section(
        "tokens",
        "keys = [{ file = \"issuer.pem\", algorithm = \"ES256\" }]\nissuer = \"https://id\"\naudience = \"api\"",
    );
    let node = setup.start().await;
    // A client that nobody vouches for: its token speaks for itself.
    let client = Client::http1(node.http()).from(geo::loopback("US"));
    let good = serde_json::json!({ "iss": "https://id", "aud": "api", "exp": FAR, "data_consent": "granted" });
    let with = |change: serde_json::Value| {
        let mut claims = good.clone();
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        claims
    };
    world.kill("us").await;
    let consents = async |authorization: &str| {
        let answer = client.send(&get("/consented").header("authorization", authorization)).await;
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
        answer.status == 200
    };
    assert!(consents(&format!("Bearer {}", token(&good, &ours))).await);
    assert!(consents(&format!("bearer  {}", token(&with(serde_json::json!({ "data_consent": true })), &ours))).await);
    for (what, refused) in [
        ("another key", token(&good, &theirs)),
        ("another issuer", token(&with(serde_json::json!({ "iss": "https://evil" })), &ours)),
        ("another audience", token(&with(serde_json::json!({ "aud": "other" })), &ours)),
        ("stale", token(&with(serde_json::json!({ "exp": 1_000_000 })), &ours)),
        ("not yet", token(&with(serde_json::json!({ "nbf": FAR })), &ours)),
        ("no", token(&with(serde_json::json!({ "data_consent": "denied" })), &ours)),
        ("nothing", token(&with(serde_json::json!({ "data_consent": null })), &ours)),
        ("garbage", "a.b.c".to_owned()),
        ("empty", String::new()),
        ("long", "x".repeat(20_000)),
    ] {
        assert!(!consents(&format!("Bearer {refused}")).await, "{what}");
    }
    // No signature at all, or one made with the public key as if it were a secret.
    let [_, claims, _] = &token(&good, &ours).split('.').map(str::to_owned).collect::<Vec<_>>()[..] else { panic!() };
    assert!(!consents(&format!("Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")).await);
    let secret = EncodingKey::from_secret(ours.public_key_pem().as_bytes());
    let confused = encode(&Header::new(Algorithm::HS256), &good, &secret).expect("a token");
    assert!(!consents(&format!("Bearer {confused}")).await);
    assert!(!consents(&format!("Basic {}", token(&good, &ours))).await);
    let two = get("/consented").header("authorization", &format!("Bearer {}", token(&good, &ours)));
    client.send(&two.header("authorization", "Bearer x")).await.assert_refused(503, "residency_unavailable");

    // The keys are watched, as certificates are.
    node.replace("issuer.pem", theirs.public_key_pem());
    eventually("the other key counts", async || {
        let authorization = format!("Bearer {}", token(&good, &theirs));
        if consents(&authorization).await { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert!(!consents(&format!("Bearer {}", token(&good, &ours))).await);
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn token(claims: &serde_json::Value, key: &KeyPair) -> String {
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
    encode(&Header::new(Algorithm::ES256), claims, &key).expect("a token")
}

/// In the year 2100.
const FAR: u64 = 4_102_444_800;

const LAW: &str = r#"
[jurisdictions.eu]
countries = ["@EU"]

[jurisdictions.br]
countries = ["BR"]

[jurisdictions.us]
countries = ["US"]

[data_classes.personal]

[data_classes.consented]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { countries = ["@EU"] }
transfer = "prohibited"

[[residency]]
jurisdiction = "br"
data_classes = ["personal"]
allow = { countries = ["BR"] }
transfer = "prohibited"

[[residency]]
jurisdiction = "us"
data_classes = ["consented"]
allow = { countries = ["US"] }
transfer = "with_consent"

[[routes]]
name = "personal"
path = "/personal"
data_class = "personal"
jurisdiction_header = "X-Tenant-Jurisdiction"

[[routes]]
name = "acme"
host = "acme.example.com"
data_class = "personal"
jurisdictions = ["eu"]
jurisdiction_header = "X-Tenant-Jurisdiction"

[[routes]]
name = "consented"
path = "/consented"
data_class = "consented"
consent_claim = "data_consent"
"#;
