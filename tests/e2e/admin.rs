//! What operators and their tools ask a node.

use loadtest::origin::Behaviour;
use meridian_tests::{Authority, Client, RawConnection, Setup, World, eventually, geo, get, post, request};
use serde_json::{Value, json};

/// The alert rules in use with the example tables find their series.
#[tokio::test]
async fn alert_rules_find_their_series() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let client = Client::http1(node.http());
    for _ in 0..5 {
        client.send(&get("/mcp").from("US")).await.assert_served_by("us-east-1");
    }
    client.send(&post("/mcp", "x").from("US")).await.assert_served_by("us-east-1");
    world.kill("eu-west-1").await;
    world.kill("eu-central-1").await;
    client.send(&get("/mcp").from("DE")).await.assert_refused(503, "residency_unavailable");
    let mut kept = client.connect().await.expect("a connection");
    kept.send(&get("/v1/tools").from("US")).await.assert_served_by("us-east-1");

    let metrics = node.metrics().await;
    // sum(rate(http_requests_total{status=~"5.."})) / sum(rate(http_requests_total))
    let requests = |labels: &[(&str, &str)]| metrics.sum("http_requests_total", labels);
    assert_eq!(requests(&[("status", "503")]), Some(1.0));
    assert_eq!(requests(&[("status", "200")]), Some(7.0));
    // sum(rate(http_requests_total{region="us-east-1"}))
    assert_eq!(requests(&[("region", "us-east-1")]), Some(7.0));
    let us_mcp = [("region", "us-east-1"), ("route", "mcp"), ("method", "POST"), ("status", "200")];
    assert_eq!(requests(&us_mcp), Some(1.0));
    // histogram_quantile(0.95, sum(rate(http_request_duration_seconds_bucket)) by (le))
    let buckets: Vec<(String, f64)> = metrics
        .named("http_request_duration_seconds_bucket")
        .filter(|series| series.label("region") == Some("us-east-1") && series.label("route") == Some("mcp"))
        .map(|series| (series.label("le").expect("a bound").to_owned(), series.value))
        .collect();
    assert_eq!(buckets.last(), Some(&("+Inf".to_owned(), 6.0)));
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
    for bound in ["0.2", "0.5", "5", "10"] {
        assert!(buckets.iter().any(|(le, _)| le == bound), "an SLO's bound {bound} among {buckets:?}");
    }
    // histogram_quantile(0.95, sum(rate(http_response_head_seconds_bucket)) by (le)): each request once, to the head
    let heads = [("region", "us-east-1"), ("route", "mcp")];
    let [count, head, whole] =
        ["http_response_head_seconds_count", "http_response_head_seconds_sum", "http_request_duration_seconds_sum"]
            .map(|name| metrics.sum(name, &heads).expect("a series"));
    assert!(count == 6.0 && 0.0 < head && head <= whole, "{count} {head} {whole}");
    // active_connections > 10000, queue_depth > 1000
    assert_eq!(metrics.sum("active_connections", &[]), Some(1.0));
    assert!(metrics.named("active_connections").all(|series| series.label("listener").is_some()));
    assert_eq!(metrics.sum("queue_depth", &[]), Some(0.0));

    assert_eq!(metrics.sum("data_residency_violations_total", &[]), Some(0.0));
    assert_eq!(metrics.sum("meridian_decisions_total", &[("jurisdiction", "us"), ("outcome", "forward")]), Some(7.0));
    let refused = [("jurisdiction", "eu"), ("outcome", "residency_unavailable")];
    assert_eq!(metrics.sum("meridian_decisions_total", &refused), Some(1.0));
    assert_eq!(metrics.sum("http_errors_total", &[("reason", "residency_unavailable")]), Some(1.0));
    assert_eq!(metrics.sum("meridian_attempts_total", &[("region", "us-east-1"), ("outcome", "answered")]), Some(7.0));
    assert!(metrics.sum("meridian_decision_seconds_count", &[]).is_some());
    assert_eq!(metrics.sum("meridian_geoip_build_epoch", &[]), Some(1_767_225_600.0));
    assert!(metrics.sum("meridian_table_age_seconds", &[]).is_some_and(|age| age >= 0.0));
    for name in world.regions() {
        assert!(metrics.sum("meridian_region_utilisation", &[("region", name)]).is_some(), "{name}");
    }
}

#[tokio::test]
async fn waiting_requests_are_counted() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    world.behave("here", &Behaviour::Stall);
    let client = Client::http2(node.http());
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(&get("/")).await })
        })
        .collect();
    eventually("three wait", async || {
        let depth = node.metrics().await.sum("queue_depth", &[]);
        if depth == Some(3.0) { Ok(()) } else { Err(format!("{depth:?}")) }
    })
    .await;
    let status = node.status().await;
    assert_eq!((&status["requests_in_flight"], &status["regions"][0]["requests_in_flight"]), (&json!(3), &json!(3)));
    world.behave("here", &Behaviour::Normal);
    for request in waiting {
        request.await.expect("an answer").assert_served_by("here");
    }
    assert_eq!(node.metrics().await.sum("queue_depth", &[]), Some(0.0));
}

/// The number of series is bounded by the table, whatever clients send.
#[tokio::test]
async fn clients_cannot_make_series() {
    let routes = "[[routes]]\nname = \"some\"\npath = \"/some\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http1(node.http());
    let send = async |number: usize| {
        client.send(&get(&format!("/some/{number}")).host(&format!("host-{number}.example.com"))).await;
        client.send(&get(&format!("/other/{number}"))).await;
        client.send(&request(&format!("BREW{number}"), "/some")).await;
    };
    // An answer is counted at its end, which its client may see first.
    let counted = async |wanted: f64| {
        eventually("all are counted", async || {
            let metrics = node.metrics().await;
            let requests = metrics.sum("http_requests_total", &[]);
            if requests == Some(wanted) { Ok(metrics) } else { Err(format!("{requests:?}")) }
        })
        .await
    };
    send(0).await;
    let before = counted(3.0).await.text().lines().count();
    for number in 1..50 {
        send(number).await;
    }
    let metrics = counted(150.0).await;
    assert_eq!(metrics.text().lines().count(), before, "{}", metrics.text());
    assert_eq!(metrics.sum("http_requests_total", &[("method", "OTHER")]), Some(50.0));
    assert_eq!(metrics.sum("http_requests_total", &[("route", "none"), ("status", "404")]), Some(50.0));
}

#[tokio::test]
async fn the_status_shows_the_node_its_table_its_regions_and_its_files() {
    let world = World::of_example("erlmcp-aws").await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let node = Setup::new("us-east-1", world.table()).tls(&[&certificate]).start().await;
    node.all_up().await;
    let status = node.status().await;
    assert_eq!((&status["node"], &status["region"]), (&json!("test"), &json!("us-east-1")));
    assert_eq!(status["state"], "serving");
    assert_eq!(status["listeners"], json!([node.https().to_string()]));
    assert_eq!(status["table"]["version"], "2026-11-21.1");
    assert_eq!(status["table"]["revision"], 1);
    assert_eq!(status["rejected"], json!([]));
    assert_eq!(status["geoip"][0]["build_epoch"], 1_767_225_600_u64);
    assert!(status["geoip"][0]["file"].as_str().is_some_and(|file| file.ends_with("countries.mmdb")));
    let shown = &status["certificates"][0];
    assert_eq!((&shown["names"], &shown["listener"]), (&json!("api.example.com"), &json!(node.https().to_string())));
    assert!(shown["expires_in_seconds"].as_i64().is_some_and(|left| left > 0), "{shown}");
    let regions = status["regions"].as_array().expect("a list");
    assert_eq!(regions.len(), world.regions().count());
    for region in regions {
        let name = region["name"].as_str().expect("a name");
        assert_eq!(region["health"], "up", "{name}");
        assert_eq!(region["utilisation"], 0.0, "{name}");
        let endpoints = region["endpoints"].as_array().expect("a list");
        let addresses: Vec<String> =
            world.region(name).iter().map(|origin| format!("http://{}", origin.address())).collect();
        assert!(endpoints.iter().all(|endpoint| addresses.iter().any(|address| endpoint["address"] == **address)));
        assert!(region.get("rtt_ms").is_some() && region.get("latency_ms").is_some(), "{region}");
    }

    world.kill("us-west-2").await;
    eventually("us-west-2 is down", async || {
        let status = node.status().await;
        let regions = status["regions"].as_array().expect("a list");
        let region = regions.iter().find(|region| region["name"] == "us-west-2").expect("the region");
        let health = node.metrics().await.sum("meridian_region_health", &[("region", "us-west-2")]);
        if region["health"] == "down" && health == Some(0.0) { Ok(()) } else { Err(format!("{region} {health:?}")) }
    })
    .await;
    assert_eq!(node.metrics().await.sum("meridian_region_health", &[("region", "us-east-1")]), Some(1.0));

    let table = node.ask(&get("/table")).await;
    assert_eq!(table.text(), world.table());
    let expiry = node.metrics().await.sum("meridian_certificate_expiry_seconds", &[("name", "api.example.com")]);
    assert!(expiry.is_some_and(|seconds| seconds > 0.0), "{expiry:?}");
}

#[tokio::test]
async fn explain_says_what_the_proxy_does() {
    let world = World::of_example("erlmcp-gcp").await;
    let node = Setup::new("europe-west1", world.table()).start().await;
    let client = Client::http1(node.http());
    for country in geo::COUNTRIES {
        let ip = geo::address(country, 2);
        for path in ["/v3/identity/1", "/v3/profiles/1", "/v3/telemetry", "/docs"] {
            let question = format!("/explain?ip={ip}&host=api.example.com&path={path}&method=GET");
            let answer = node.ask(&get(&question)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let explanation = answer.json();
            has_the_contracts_fields(&explanation);
            assert_eq!(explanation["origin"]["countries"], json!([country]));
            assert_eq!(explanation["origin"]["certain"], true);
            let served = client.send(&get(path).on_behalf_of(ip)).await;
            match explanation["verdict"].as_str() {
                Some("forward") => {
                    assert_eq!(explanation["order"][0], json!(served.region()), "{country} {path}");
                    assert_eq!(explanation["reason"], Value::Null);
                }
                Some("refuse") => {
                    let (status, reason) = served.refusal();
                    assert_eq!((&explanation["status"], &explanation["reason"]), (&json!(status), &json!(reason)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // What is asked wrongly is not answered by a guess.
    for (query, word) in
        [("ip=nowhere", "nowhere"), ("pi=192.0.2.1", "pi"), ("country=XX", "XX"), ("path=/a/../b", "dot")]
    {
        let answer = node.ask(&get(&format!("/explain?{query}"))).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(answer.text().contains(word), "{query}: {answer:?}");
    }
}

/// With its live view: what is down now is not in the order.
#[tokio::test]
async fn explain_knows_what_is_down() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    node.all_up().await;
    let question = get("/explain?country=DE&path=/mcp");
    let before = node.ask(&question).await.json();
    assert_eq!(before["order"], json!(["eu-west-1", "eu-central-1"]));
    world.kill("eu-west-1").await;
    eventually("the order changes", async || {
        let now = node.ask(&question).await.json();
        if now["order"] == json!(["eu-central-1"]) { Ok(()) } else { Err(now["order"].to_string()) }
    })
    .await;
    let now = node.ask(&question).await.json();
    assert_eq!(now["allowed"], before["allowed"], "the law has not changed");
    let regions = now["regions"].as_array().expect("a list");
    let down = regions.iter().find(|region| region["name"] == "eu-west-1").expect("the region");
    assert!(down["why"].to_string().contains("down"), "{down}");
    assert!(down["why"].to_string().contains("GDPR"), "{down}");
}

#[tokio::test]
async fn the_rest_is_as_expected() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    for (sent, status) in [
        (get("/live"), 200),
        (get("/ready"), 200),
        (request("HEAD", "/metrics"), 200),
        (get("/nothing"), 404),
        (post("/status", ""), 405),
        (post("/metrics", ""), 405),
    ] {
        assert_eq!(node.ask(&sent).await.status, status, "{sent:?}");
    }
    let metrics = node.ask(&get("/metrics")).await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    // Clients do not see any of it.
    let answer = Client::http1(node.http()).send(&get("/status")).await;
    assert_eq!(answer.text(), "ok", "the origin's own");
}

/// A page in an operator's browser reaches what the operator does, by a foreign name that was pointed here (DNS
/// rebinding) or from another site.
#[tokio::test]
async fn no_page_in_a_browser_is_answered() {
    let secret = "0123456789abcdef0123456789abcdef";
    let routes = format!("[affinity]\nsecret = \"{secret}\"\n[[routes]]\nname = \"all\"\n");
    let world = World::of_regions(&[("here", "US")], &routes).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http1(node.admin());
    let own = node.admin().to_string();
    let paths = ["/metrics", "/live", "/ready", "/status", "/table", "/explain?country=DE", "/nothing"];
    let sent: Vec<_> = paths.iter().map(|path| get(path)).chain([post("/drain", ""), post("/status", "")]).collect();
    for sent in sent {
        for host in ["evil.example.com", "localhost.evil.example", "127.0.0.1.evil.example:9900", "node-1.example.com"]
        {
            let answer = client.send(&sent.clone().host(host)).await;
            assert_eq!(answer.status, 403, "{host}: {sent:?}");
            assert!(answer.text().contains("admin.hosts"), "{answer:?}");
        }
        for (name, value) in
            [("origin", "https://evil.example.com"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            let answer = client.send(&sent.clone().host(&own).header(name, value)).await;
            assert_eq!(answer.status, 403, "{name}: {value}: {sent:?}");
        }
    }
    assert_eq!(node.status().await["state"], "serving", "nobody has drained it");
    for host in [own.as_str(), "localhost:9900", "[::1]:9900", "10.1.2.3"] {
        assert_eq!(client.send(&get("/live").host(host)).await.status, 200, "{host}");
    }
    // A name that the operators have given it, from the next request on.
    let text = std::fs::read_to_string(node.path("node.toml")).expect("a file");
    node.replace("node.toml", text.replace("[admin]\n", "[admin]\nhosts = [\"Node-1.example.com\"]\n"));
    eventually("the name counts", async || {
        let answer = client.send(&get("/live").host("node-1.example.com:9900")).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;

    let shown = node.ask(&get("/table")).await;
    assert!(!shown.text().contains(secret) && shown.text().contains("secret = \"redacted\""), "{}", shown.text());
}

/// However many connect and say nothing, the node itself is not the worse for it, and they go.
#[tokio::test]
async fn the_admin_listener_holds_a_bounded_number_of_connections() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(RawConnection::open(node.admin()).await);
    }
    let mut closed = 0;
    for mut connection in silent.split_off(128) {
        connection.read_to_end().await;
        closed += 1;
    }
    assert_eq!(closed, 72, "32 of them had places for probes for a moment, the others none");
    drop(silent);
    eventually("it answers again", async || {
        match Client::http1(node.admin()).try_send(&get("/live").host(&node.admin().to_string())).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_regions_are_all_down_is_not_ready() {
    let world = World::probed_often(&[("here", "US"), ("there", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    assert_eq!(node.ask(&get("/ready")).await.status, 200);
    world.kill("here").await;
    world.kill("there").await;
    let ready = async |wanted: u16| {
        eventually(&format!("/ready is {wanted}"), async || {
            let answer = node.ask(&get("/ready")).await;
            if answer.status == wanted { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    };
    let reasons = ready(503).await.json()["reasons"].clone();
    assert!(reasons.as_array().is_some_and(|reasons| !reasons.is_empty()), "{reasons}");
    world.revive("there").await;
    ready(200).await;
}

/// What `explain --format json` and `/explain` promise.
pub(crate) fn has_the_contracts_fields(explanation: &Value) {
    let has = |value: &Value, fields: &[&str]| {
        for field in fields {
            assert!(value.get(field).is_some(), "{field} in {value:#}");
        }
    };
    has(explanation, &["verdict", "status", "reason", "route", "data_class", "table_version", "origin"]);
    has(explanation, &["jurisdictions", "allowed", "eligible", "order", "regions"]);
    has(&explanation["origin"], &["countries", "certain", "sources"]);
    for region in explanation["regions"].as_array().expect("a list") {
        has(region, &["name", "allowed", "eligible", "level", "score", "terms", "why"]);
        has(&region["terms"], &["latency", "load", "compliance", "cost"]);
        for why in region["why"].as_array().expect("a list") {
            has(why, &["rule", "line", "effect"]);
        }
    }
}
