//! What an operator switches off in an incident: nothing but what it names is refused, and no origin hears of that.

use std::time::{Duration, SystemTime};

use http::Method;
use loadtest::origin::Behaviour;
use loadtest::{RequestSpec, Target};
use meridian_tests::load::{Load, status};
use meridian_tests::{
    Authority, BusPublisher, BusServer, Client, Node, Sent, Setup, World, eventually, geo, get, head, post, put,
    request, run,
};
use serde_json::{Value, json};

/// Two markets, and a route of each kind. What is of a tenant's jurisdiction is a trusted proxy's to say.
const ROUTES: &str = r#"
[residency_defaults]
unlisted_jurisdiction = "allow"

[jurisdictions.eu]
countries = ["@EU"]

[jurisdictions.us]
countries = ["US"]

[concurrency]
criticality_header = "x-criticality"

[[routes]]
name = "reports"
path = "/reports"

[[routes]]
name = "search"
path = "/search"
access = "read"

[[routes]]
name = "extras"
path = "/extras"
criticality = "sheddable"

[[routes]]
name = "legacy"
path = "/legacy"
pass_request_headers = ["x-http-method-override"]

[[routes]]
name = "orders"
jurisdiction_header = "x-tenant"
"#;

const ALL: &str = r#"
[emergency]
shed = "sheddable"
read_only = ["eu"]
routes_off = ["reports"]
"#;

#[tokio::test]
async fn nothing_but_what_is_named_is_refused() {
    let world = World::of_regions(&[("here", "US"), ("there", "DE")], ROUTES).await;
    let node = Setup::new("here", &(world.table().to_owned() + ALL)).start().await;
    let client = Client::http1(node.http());
    let unknown = |sent: Sent| sent.on_behalf_of(geo::UNLISTED);
    for (sent, reason) in [
        (get("/reports/7").from("US"), "emergency_route_off"),
        (post("/reports", "x").from("DE"), "emergency_route_off"),
        (head("/reports").from("US"), "emergency_route_off"),
        (request("OPTIONS", "/reports").from("US"), "emergency_route_off"),
        (post("/orders", "x").from("DE"), "emergency_read_only"),
        (put("/orders/7", "x").from("FR"), "emergency_read_only"),
        (get("/orders/7").from("DE").body("q"), "emergency_read_only"),
        (request("DELETE", "/orders/7").from("DE"), "emergency_read_only"),
        // Whoever may be a European is one; and so is a European tenant's client, wherever they are.
        (unknown(post("/orders", "x")), "emergency_read_only"),
        (post("/orders", "x").on_behalf_of(geo::ANONYMOUS), "emergency_read_only"),
        (post("/orders", "x").from("US").header("x-tenant", "eu"), "emergency_read_only"),
        // Its origin takes it for a write.
        (get("/legacy").from("DE").header("x-http-method-override", "DELETE"), "emergency_read_only"),
        (get("/extras").from("US"), "emergency_shed"),
        (post("/extras", "x").from("DE"), "emergency_read_only"),
        (get("/orders").from("JP").header("x-criticality", "sheddable"), "emergency_shed"),
    ] {
        let answer = client.send(&sent).await;
        if sent.is("HEAD", "/reports") {
            assert_eq!(answer.status, 503);
        } else {
            answer.assert_refused(503, reason);
        }
        let after = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
        assert!(after.is_some_and(|after| (1..=31).contains(&after)), "{answer:?}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    world.assert_nothing_outside(&[]);
    for sent in [
        get("/orders/7").from("DE"),
        head("/orders/7").from("DE"),
        request("OPTIONS", "/orders/7").from("DE"),
        post("/search", "q").from("DE"),
        unknown(get("/orders/7")),
        get("/legacy").from("DE"),
        // Which stays here.
        get("/orders/7").from("DE").header("x-http-method-override", "DELETE"),
        post("/orders", "x").from("US"),
        post("/orders", "x").from("JP"),
        post("/orders", "x").from("US").header("x-tenant", "us"),
        get("/orders").from("US").header("x-criticality", "default"),
    ] {
        client.send(&sent).await.assert_served_by("here");
    }
    assert_eq!(world.received("here").len(), 11);

    let metrics = node.metrics().await;
    for (reason, count) in [("emergency_route_off", 4.0), ("emergency_read_only", 9.0), ("emergency_shed", 2.0)] {
        let found = metrics.sum("http_errors_total", &[("region", ""), ("reason", reason)]);
        assert_eq!(found, Some(count), "{reason}");
    }
    assert_eq!(metrics.sum("meridian_shed_total", &[("reason", "emergency")]), Some(2.0));
    for measure in ["shed", "read_only", "routes_off"] {
        assert_eq!(metrics.sum("meridian_emergency", &[("measure", measure)]), Some(1.0), "{measure}");
    }
    let status = node.status().await;
    let expected = json!({ "shed": "sheddable", "read_only": ["eu"], "routes_off": ["reports"], "until": null });
    assert_eq!(status["emergency"], expected);
    node.log().find("a loud line", |line| line.contains("AN EMERGENCY IS IN FORCE")).await;
    // A log of the time says why, also of what a proxy had lowered.
    let line = node.access_log().find("its line", |line| line.contains("\"criticality\":\"sheddable\"")).await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&line["reason"], &line["region"], &line["route"]),
        (&json!("emergency_shed"), &Value::Null, &json!("orders"))
    );
    let told = node.ask(&get("/explain?country=DE&path=/orders&method=POST")).await.json();
    assert_eq!(
        (&told["status"], &told["reason"], &told["order"]),
        (&json!(503), &json!("emergency_read_only"), &json!([]))
    );
    assert!(told["regions"][0]["why"].to_string().contains("lets this client read only"), "{told}");
}

/// A person gets a page, the operator's if there is one; a program why; a call of gRPC a status. A balancer's question
/// is answered as ever.
#[tokio::test]
async fn a_refusal_has_the_form_that_its_client_reads() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let page = "<!doctype html><title>Back at six</title>";
    let with = |page: &str| format!("{}{ALL}{page}", world.table());
    let node = Setup::new("here", &with(&format!("page_text = \"{page}\"\n"))).start().await;
    let client = Client::http1(node.http());
    let asks_for_a_page = |sent: Sent| sent.from("DE").header("accept", "text/html,*/*;q=0.8");
    for sent in [post("/orders", "x"), get("/reports"), get("/extras")] {
        let answer = client.send(&asks_for_a_page(sent)).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (503, page), "{answer:?}");
        assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
    }
    let call =
        post("/orders", &[0, 0, 0, 0, 0][..]).header("content-type", "application/grpc").header("te", "trailers");
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&call.clone().from("DE")).await;
        let found = (answer.status.as_u16(), answer.header("grpc-status"));
        assert_eq!(found, (200, Some("14".to_owned())), "{answer:?}");
        let words = answer.header("grpc-message").expect("why");
        assert!(words.starts_with("emergency_read_only: "), "{words}");
    }
    let skipped = node.log().count();
    node.replace("routes.toml", with(""));
    node.logged_after(skipped, "routing table applied").await;
    for (sent, title) in [
        (post("/orders", "x"), "Read-only for now"),
        (get("/reports"), "Switched off for now"),
        (get("/extras"), "Not available right now"),
    ] {
        let answer = client.send(&asks_for_a_page(sent)).await;
        assert!(answer.text().contains(&format!("<h1>{title}</h1>")), "{answer:?}");
    }
    world.assert_nothing_outside(&[]);
}

/// In and out of an emergency while requests come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_but_what_is_named_is_ever_refused() {
    let world = World::of_regions(&[("here", "US"), ("there", "DE")], ROUTES).await;
    let node = Setup::new("here", world.table()).start().await;
    let load = Load::start(Target::http1(node.http()), 250.0, |number| {
        let (method, path, country, tag) = match number % 5 {
            0 => (Method::GET, "/orders", "DE", READ),
            1 => (Method::POST, "/orders", "US", ELSEWHERE),
            2 => (Method::POST, "/orders", "FR", WRITE),
            3 => (Method::GET, "/reports", "US", OFF),
            _ => (Method::GET, "/extras", "US", SHEDDABLE),
        };
        let headers = vec![("x-forwarded-for".to_owned(), geo::address(country, 1).to_string())];
        RequestSpec { method, headers, tag, ..RequestSpec::get("api.example.com", path) }
    });
    load.more(20, "answers before", |_| true).await;
    for round in 0..5 {
        for (emergency, expected) in [(ALL, 503), ("", 200)] {
            let skipped = node.log().count();
            let version = format!("version = \"{round}-{expected}\"");
            node.replace("routes.toml", world.table().replacen("version = \"1\"", &version, 1) + emergency);
            node.logged_after(skipped, "routing table applied").await;
            let is_after = |one: &loadtest::Observation| {
                [WRITE, OFF, SHEDDABLE].contains(&one.tag) && status(one) == Some(expected)
            };
            load.more(9, "answers of the table in force", is_after).await;
        }
    }
    let seen = load.stop().await;
    let mut refused = [0; 5];
    for one in &seen {
        match (one.tag, status(one)) {
            (_, Some(200)) => {}
            (WRITE | OFF | SHEDDABLE, Some(503)) => refused[one.tag] += 1,
            _ => panic!("{one:?}"),
        }
    }
    assert!([WRITE, OFF, SHEDDABLE].into_iter().all(|tag| refused[tag] > 0), "{refused:?}");
    let errors = |reason: &'static str| {
        let node = &node;
        async move { node.metrics().await.sum("http_errors_total", &[("reason", reason)]).unwrap_or(0.0) as usize }
    };
    assert_eq!(errors("emergency_read_only").await, refused[WRITE]);
    assert_eq!(errors("emergency_route_off").await, refused[OFF]);
    assert_eq!(errors("emergency_shed").await, refused[SHEDDABLE]);
    let count = |tag: usize| seen.iter().filter(|one| one.tag == tag && status(one) == Some(200)).count();
    let received = world.received("here");
    let at = |path: &str| received.iter().filter(|received| received.path == path).count();
    assert_eq!(at("/reports"), count(OFF), "no origin has heard of what was refused");
    assert_eq!(at("/extras"), count(SHEDDABLE));
    assert_eq!(node.status().await["emergency"], Value::Null);
    node.log().find("its end", |line| line.contains("the emergency is over")).await;
}

const READ: usize = 0;
const ELSEWHERE: usize = 1;
const WRITE: usize = 2;
const OFF: usize = 3;
const SHEDDABLE: usize = 4;

/// The table with the emergency has come to the other region's node first: its refusal is the client's answer, whatever
/// could be tried elsewhere, and says why on both nodes.
#[tokio::test]
async fn a_gateways_emergency_is_not_gone_round() {
    let world = World::probed_often(&[("there", "DE"), ("here", "US")], ROUTES).await;
    let nodes = Authority::default();
    let own = nodes.certify(&["localhost", "there.nodes.example.com"]);
    let page = "<p>read only, says the other node";
    let there = world.table().to_owned() + ALL + &format!("page_text = \"{page}\"\n");
    let there = Setup::new("there", &there).tls(&[&own]).peer(&nodes, &own).start().await;
    let gateway = format!("[regions.there]\ngateway = \"localhost:{}\"\n", there.https().port());
    let table = world.table().replacen("[regions.there]\n", &gateway, 1);
    let own = nodes.certify(&["localhost", "here.nodes.example.com"]);
    let here = Setup::new("here", &table).peer(&nodes, &own).start().await;
    region_is_up(&here, "there").await;
    let client = Client::http1(here.http());
    // It is regions' order that sends them there first, and all of these may be repeated elsewhere.
    client.send(&get("/orders").from("DE")).await.assert_served_by("there");
    for (sent, reason) in [
        (put("/orders/7", "x").from("DE"), "emergency_read_only"),
        (post("/orders", "x").from("DE"), "emergency_read_only"),
        (get("/reports").from("US"), "emergency_route_off"),
        (get("/extras").from("US"), "emergency_shed"),
        (get("/orders/8").from("US").header("x-criticality", "sheddable"), "emergency_shed"),
    ] {
        let skipped = here.access_log().count();
        let answer = client.send(&sent).await;
        answer.assert_refused(503, reason);
        assert_eq!(answer.attempts(), 1, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        let line = here.access_log().find_after(skipped, "its line", |line| line.contains("\"status\":503")).await;
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&line["reason"], &line["region"]), (&json!(reason), &Value::Null), "{line}");
    }
    let answer = client.send(&put("/orders/7", "x").from("DE").header("accept", "text/html")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (503, page));
    let paths: Vec<String> =
        ["here", "there"].iter().flat_map(|name| world.received(name)).map(|one| one.path).collect();
    assert_eq!(paths, ["/orders"], "no origin has heard of the others");
    let metrics = here.metrics().await;
    assert_eq!(metrics.sum("http_errors_total", &[("reason", "emergency_read_only")]), Some(3.0));
    assert_eq!(metrics.sum("meridian_ejections_total", &[]), None, "no fault of the gateway's");
    region_is_up(&here, "there").await;
}

/// Two nodes of one fleet on different tables of the bus, by certificate and by signature: of the gateway's emergency and
/// the sender's table without one, the newer counts.
#[tokio::test]
async fn of_two_tables_the_newer_says_whether_there_is_an_emergency() {
    const SECRET: &str = "of two nodes on different tables, the correct horse";
    const MANY: u32 = 40;
    for is_signed in [false, true] {
        let world = World::probed_often(&[("there", "DE"), ("here", "US")], ROUTES).await;
        let nodes = Authority::default();
        let by = |setup: Setup, name: &str| {
            let own = nodes.certify(&["localhost", &format!("{name}.nodes.example.com")]);
            if is_signed { setup.plain().secret(SECRET) } else { setup.tls(&[&own]).plain().peer(&nodes, &own) }
        };
        // A bus for each, as if the one had not heard of the other's tables yet.
        let (old, new) = (BusServer::start().await, BusServer::start().await);
        let (mut old_bus, mut new_bus) = (BusPublisher::connect(&old).await, BusPublisher::connect(&new).await);
        let on = |bus: &BusServer| format!("bus = {{ servers = [\"{}\"] }}", bus.url());
        let emergency = world.table().to_owned() + ALL;
        old_bus.publish(&emergency).await;
        let there = by(Setup::new("there", "").name("there").bus(&on(&old)), "there").start().await;
        let gateway = match is_signed {
            true => format!("http://{}", there.http()),
            false => format!("localhost:{}", there.https().port()),
        };
        let gateway = format!("[regions.there]\ngateway = \"{gateway}\"\n");
        let table = world.table().replacen("[regions.there]\n", &gateway, 1);
        for version in 0..10 {
            new_bus.publish(&format!("{table}\n# {version}\n")).await;
        }
        let here = by(Setup::new("here", "").name("here").bus(&on(&new)), "here").start().await;
        region_is_up(&here, "there").await;
        let client = Client::http1(here.http());
        client.send(&get("/orders").from("DE")).await.assert_served_by("there");

        // The gateway still has an emergency that has been taken back: as if its region could not serve.
        let answer = client.send(&put("/orders/7", "x").from("DE")).await;
        answer.assert_served_by("here");
        assert_eq!(answer.attempts(), 2, "{answer:?}");
        assert_eq!(world.received("there").len(), 1, "the read");
        // Whatever the method, and however many: that costs nothing, and speaks against nobody.
        for order in 0..MANY {
            let answer = client.send(&post(&format!("/orders/{order}"), "x").from("DE")).await;
            answer.assert_served_by("here");
            client.send(&put(&format!("/orders/{order}"), "x").from("DE")).await.assert_served_by("here");
        }
        client.send(&get("/orders").from("DE")).await.assert_served_by("there");
        let metrics = here.metrics().await;
        assert_eq!(metrics.sum("meridian_ejections_total", &[]), None, "no fault of the gateway's");
        assert_eq!(metrics.sum("meridian_retries_total", &[("outcome", "over_budget")]).unwrap_or(0.0), 0.0);
        let refused = metrics.sum("meridian_peer_refusals_total", &[("side", "gateway"), ("cause", "older_table")]);
        assert_eq!(refused, Some(f64::from(2 * MANY + 1)));

        // The emergency is declared anew, in a table that is newer than the sender's.
        let revision = here.status().await["table"]["revision"].as_u64().expect("a revision");
        let mut published = 0;
        while published <= revision {
            published = old_bus.publish(&format!("{emergency}# {published}\n")).await.revision;
        }
        eventually("the gateway has it", async || {
            let status = there.status().await;
            if status["table"]["revision"] == published { Ok(()) } else { Err(status["table"].to_string()) }
        })
        .await;
        let answer = client.send(&put("/orders/8", "x").from("DE")).await;
        answer.assert_refused(503, "emergency_read_only");
        let served_here = 2 * MANY as usize + 1;
        assert_eq!((answer.attempts(), world.received("here").len()), (1, served_here), "{answer:?}");
    }
}

/// The emergency comes to the other region's node while it serves a write: that ends as the emergency refuses it, page and
/// all, and the sending node asks nobody else and blames nobody, though it could send it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateways_emergency_ends_is_refused_by_it() {
    let world = World::probed_often(&[("there", "DE"), ("here", "US")], ROUTES).await;
    let nodes = Authority::default();
    let own = nodes.certify(&["localhost", "there.nodes.example.com"]);
    let there = Setup::new("there", world.table()).tls(&[&own]).peer(&nodes, &own).start().await;
    let gateway = format!("[regions.there]\ngateway = \"localhost:{}\"\n", there.https().port());
    let table = world.table().replacen("[regions.there]\n", &gateway, 1);
    let own = nodes.certify(&["localhost", "here.nodes.example.com"]);
    let here = Setup::new("here", &table).peer(&nodes, &own).start().await;
    region_is_up(&here, "there").await;
    world.behave("there", &Behaviour::Stall);
    let asks = |sent: Sent| {
        let client = Client::http1(here.http());
        tokio::spawn(async move { client.send(&sent.from("DE")).await })
    };
    let (program, person) = (put("/orders/7", "x"), put("/orders/7", "x").header("accept", "text/html"));
    let (program, person) = (asks(program), asks(person));
    eventually("both are under way", async || {
        let count = world.received("there").len();
        if count == 2 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    let page = "<p>read only, says the other node";
    there.replace("routes.toml", world.table().to_owned() + ALL + &format!("page_text = \"{page}\"\n"));
    let answer = program.await.expect("an answer");
    answer.assert_refused(503, "emergency_read_only");
    assert_eq!(answer.attempts(), 1, "{answer:?}");
    let answer = person.await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.text()), (503, page));
    assert!(world.received("here").is_empty(), "nobody else is asked");
    let metrics = here.metrics().await;
    assert_eq!(metrics.sum("http_errors_total", &[("reason", "emergency_read_only")]), Some(2.0));
    assert_eq!(metrics.sum("meridian_retries_total", &[]), None);
    assert_eq!(metrics.sum("meridian_ejections_total", &[]), None);
    let revoked = there.metrics().await.sum("meridian_revoked_total", &[("cause", "emergency")]);
    assert_eq!(revoked, Some(2.0));
}

/// What waits for a place when the emergency comes is refused as what comes later, in the same form, and counted.
#[tokio::test]
async fn who_waits_is_refused_in_the_same_way() {
    let routes =
        ROUTES.replacen("[concurrency]\n", "[concurrency]\nmode = \"fixed\"\nlimit = 1\nqueue_age = \"60s\"\n", 1);
    let world = World::of_regions(&[("here", "US")], &routes).await;
    let node = Setup::new("here", world.table()).start().await;
    world.behave("here", &Behaviour::Stall);
    let asks = |sent: Sent| {
        let client = Client::http1(node.http());
        tokio::spawn(async move { client.send(&sent.from("DE")).await })
    };
    let waiting = async |expected: u64| {
        eventually(&format!("{expected} wait"), async || {
            let now = node.status().await["regions"][0]["concurrency"].clone();
            if now["taken"] == 1 && now["waiting"] == expected { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    };
    let held = asks(get("/orders"));
    waiting(0).await;
    let person = asks(put("/orders/7", "x").header("accept", "text/html"));
    let sheddable = asks(get("/extras"));
    waiting(2).await;
    let page = "<p>read only";
    let skipped = node.log().count();
    node.replace("routes.toml", world.table().to_owned() + ALL + &format!("page_text = \"{page}\"\n"));
    node.logged_after(skipped, "routing table applied").await;
    world.behave("here", &Behaviour::Normal);
    held.await.expect("an answer").assert_served_by("here");
    let answer = person.await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.text()), (503, page));
    sheddable.await.expect("an answer").assert_refused(503, "emergency_shed");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_shed_total", &[("reason", "emergency")]), Some(1.0));
    assert_eq!(world.received("here").len(), 1);
}

async fn region_is_up(node: &Node, name: &str) {
    eventually(&format!("{name} is up"), async || {
        let status = node.status().await;
        let regions = status["regions"].as_array().expect("a list");
        let region = regions.iter().find(|region| region["name"] == name).expect("the region");
        if region["health"] == "up" { Ok(()) } else { Err(region.to_string()) }
    })
    .await;
}

/// An end that has passed: the table is good, and says that it is time to take it out.
#[tokio::test]
async fn an_emergency_that_is_over_refuses_nothing() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let over = format!("{}{ALL}until = \"2026-01-01T18:00:00Z\"\n", world.table());
    let node = Setup::new("here", &over).start().await;
    let client = Client::http1(node.http());
    for sent in [post("/orders", "x").from("DE"), get("/reports").from("US"), get("/extras").from("US")] {
        client.send(&sent).await.assert_served_by("here");
    }
    assert_eq!(node.status().await["emergency"], Value::Null);
    let file = node.path("routes.toml").display().to_string();
    let checked = run(&["check", &file]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("emergency.until") && checked.stderr.contains("is over"), "{checked:?}");
}

/// Who publishes an emergency sees whom it refuses, and is told nothing of it as a fault.
#[tokio::test]
async fn check_shows_who_is_refused_and_finds_no_fault() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let everything = "\n[emergency]\nread_only = \"all\"\nroutes_off = [\"reports\", \"search\", \"extras\", \"legacy\", \"orders\"]\n";
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    };
    let old = write("old.toml", world.table());
    for (emergency, told) in [
        (ALL, ["reports", "writes of clients who may be in", "sheddable: all of the routes extras"]),
        (everything, ["reports, search, extras, legacy, orders", "everybody's writes are refused", "routes_off"]),
    ] {
        let new = write("new.toml", &(world.table().to_owned() + emergency));
        let calls = run(&["check", &new]).stdout.contains("every gRPC call and WebSocket");
        assert_eq!(calls, emergency == ALL, "what is not off already");
        let ended = run(&["check", &new, "--against", &old, "--fail-on", "widening"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "", "no finding");
        assert!(told.iter().all(|told| ended.stdout.contains(told)), "{told:?}: {}", ended.stdout);
    }
    let bad = write(
        "bad.toml",
        &(world.table().to_owned() + "\n[emergency]\nread_only = [\"ue\"]\nroutes_off = [\"report\"]\n"),
    );
    let ended = run(&["check", &bad]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for told in
        ["emergency.read_only[0]", "did you mean \"eu\"?", "emergency.routes_off[0]", "did you mean \"reports\"?"]
    {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
}

/// Each node ends it at its time by itself.
#[tokio::test]
async fn an_emergency_ends_at_its_time() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let then = SystemTime::now() + Duration::from_secs(6);
    let since = then.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    let until = policy::Moment::from_unix_seconds(i64::try_from(since.as_secs()).expect("a time")).to_string();
    let node = Setup::new("here", &format!("{}{ALL}until = \"{until}\"\n", world.table())).start().await;
    let client = Client::http1(node.http());
    client.send(&get("/reports").from("US")).await.assert_refused(503, "emergency_route_off");
    assert_eq!(node.status().await["law"]["next_boundary"], until.as_str());
    node.log().find("its end", |line| line.contains("the emergency is over")).await;
    for sent in [get("/reports").from("US"), put("/orders/7", "x").from("DE"), get("/extras").from("US")] {
        client.send(&sent).await.assert_served_by("here");
    }
    assert_eq!(node.metrics().await.sum("meridian_emergency", &[]).unwrap_or(0.0), 0.0);
}
