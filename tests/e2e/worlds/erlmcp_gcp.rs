//! A Brazilian client's tier_1_pii is served in southamerica-east1 only; when that is down, 503; the same client's
//! tier_3_operational goes to the next best region. A Chinese client gets 451 for tier_1_pii.

use meridian_tests::{Authority, Client, Node, Setup, World, geo, get, post, put};

#[tokio::test]
async fn brazilian_pii_stays_and_operational_data_moves() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, _node) = start(&world, "southamerica-east1").await;
    for sent in [get("/v3/identity/1"), post("/v3/identity", "SSN 078-05-1120"), get("/v3/telemetry")] {
        client.send(&sent.from("BR")).await.assert_served_by("southamerica-east1");
    }
    world.kill("southamerica-east1").await;
    let pii = [get("/v3/identity/1"), post("/v3/identity", "SSN 078-05-1120"), put("/v3/identity/1", "passport")];
    // First while the node still has to find out, then when it knows.
    for sent in pii.iter().cycle().take(30) {
        // Consent does not help: the class itself says "prohibited".
        let answer = client.send(&sent.clone().from("BR").header("x-data-consent", "granted")).await;
        answer.assert_refused(503, "residency_unavailable");
        assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    let telemetry = client.send(&get("/v3/telemetry").from("BR")).await;
    telemetry.assert_served_by("us-central1");
    for (region, received) in world.received_outside(&["southamerica-east1"]) {
        assert_eq!(received.path, "/v3/telemetry", "in {region}");
    }
    world.revive("southamerica-east1").await;
    meridian_tests::eventually("southamerica-east1 serves again", async || {
        let answer = client.send(&get("/v3/identity/1").from("BR")).await;
        if answer.status.is_success() { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert!(world.received_outside(&["southamerica-east1"]).iter().all(|(_, seen)| seen.path == "/v3/telemetry"));
}

#[tokio::test]
async fn chinese_and_russian_data_is_prohibited() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, _node) = start(&world, "asia-southeast1").await;
    for country in ["CN", "RU"] {
        for sent in [get("/v3/identity"), post("/v3/profiles", "a name")] {
            let answer = client.send(&sent.from(country).header("x-data-consent", "granted")).await;
            answer.assert_refused(451, "residency_prohibited");
            assert_eq!(answer.header("retry-after"), None, "waiting does not help");
        }
        assert!(world.received_outside(&[]).is_empty(), "nobody has received anything of {country}");
    }
    client.send(&get("/v3/telemetry").from("CN")).await.assert_served_by("asia-southeast1");
}

#[tokio::test]
async fn an_unknown_origin_is_treated_like_the_unions() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, _node) = start(&world, "us-central1").await;
    for address in [geo::UNLISTED, geo::ANONYMOUS] {
        client.send(&get("/v3/identity").on_behalf_of(address)).await.assert_served_by("europe-west1");
    }
    world.assert_nothing_outside(&["europe-west1"]);
    client.send(&get("/v3/telemetry").on_behalf_of(geo::UNLISTED)).await.assert_served_by("us-central1");
}

#[tokio::test]
async fn consent_counts_from_a_trusted_proxy_only() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, node) = start(&world, "southamerica-east1").await;
    let itself = Client::http1(node.http()).from(geo::loopback("BR"));
    let claim = get("/v3/profiles/7").header("x-data-consent", "granted");
    itself.send(&claim).await.assert_served_by("southamerica-east1");
    let received = world.received("southamerica-east1").pop().expect("a request");
    assert_eq!(received.header("x-data-consent"), None, "an origin might believe it");

    world.kill("southamerica-east1").await;
    let profile = get("/v3/profiles/7");
    // A client's own line beside the proxy's makes it doubtful.
    let doubtful = profile.clone().from("BR").header("x-data-consent", "denied").header("x-data-consent", "granted");
    client.send(&doubtful).await.assert_refused(503, "residency_unavailable");
    let without = client.send(&profile.clone().from("BR")).await;
    without.assert_refused(503, "residency_unavailable");
    itself.send(&claim).await.assert_refused(503, "residency_unavailable");
    world.assert_nothing_outside(&["southamerica-east1"]);

    let consented = client.send(&profile.from("BR").header("x-data-consent", "granted")).await;
    consented.assert_served_by("us-central1");
    let last = node.access_log().find("its line", |line| line.contains("\"consent\":true")).await;
    assert!(last.contains("\"safeguards\":true"), "{last}");
}

#[tokio::test]
async fn each_law_keeps_its_people() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, _node) = start(&world, "us-central1").await;
    for (country, path, allowed) in [
        ("DE", "/v3/identity", &["europe-west1"][..]),
        ("GB", "/v3/identity", &["europe-west2"]),
        ("IN", "/v3/identity", &["asia-south1"]),
        ("JP", "/v3/identity", &["asia-northeast1"]),
        ("AU", "/v3/identity", &["australia-southeast1"]),
        ("CH", "/v3/identity", &["europe-west6", "europe-west1"]),
        ("SG", "/v3/identity", &["asia-southeast1"]),
        ("US", "/v3/identity", &["us-central1"]),
    ] {
        let answer = client.send(&get(path).from(country)).await;
        let origin = answer.header("x-origin").unwrap_or_else(|| panic!("{country}: {answer:?}"));
        assert!(allowed.contains(&origin.as_str()), "{country} {path} in {origin}");
        assert_eq!(answer.region(), Some(origin));
    }
}

#[tokio::test]
async fn metrics_are_not_for_the_outside() {
    let world = World::of_example("erlmcp-gcp").await;
    let (client, _node) = start(&world, "us-central1").await;
    client.send(&get("/metrics").from("US")).await.assert_refused(404, "no_route");
    client.send(&get("/v3/telemetry").host("other.example.org").from("US")).await.assert_refused(404, "no_route");
    client.send(&get("/docs/x").host("www.example.com").from("US")).await.assert_served_by("us-central1");
    assert_eq!(world.received_outside(&["us-central1"]).len(), 0);
    assert_eq!(world.received("us-central1").len(), 1);
}

/// A node with both kinds of listeners, and a client over TLS behind the trusted proxy.
async fn start(world: &World, region: &str) -> (Client, Node) {
    let authority = Authority::default();
    let certificate = authority.certify(&["*.example.com", "other.example.org"]);
    let node = Setup::new(region, world.table()).plain().tls(&[&certificate]).start().await;
    (Client::http2(node.https()).over_tls(&authority, "api.example.com"), node)
}
