//! As whom a node connects, and how little it has to be allowed.

use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use meridian_tests::{
    Authority, BusOperator, BusProbe, BusServer, Ended, Running, Setup, eventually, get, nkey_seed, patiently,
};
use serde_json::json;

use super::{becomes, has, report, reports, routed, table, world};

/// All that a node publishes and subscribes to.
const PUBLISH: [&str; 6] = [
    "$JS.API.STREAM.INFO.KV_meridian",
    "$JS.API.CONSUMER.CREATE.KV_meridian",
    "$JS.API.DIRECT.GET.KV_meridian",
    "$JS.API.DIRECT.GET.KV_meridian.>",
    "$JS.FC.KV_meridian.>",
    "meridian.load.>",
];
const REPORT: &str = "$KV.meridian.nodes.a";
const SUBSCRIBE: [&str; 2] = ["_INBOX.>", "meridian.load.>"];

/// A node on this bus, as this somebody, gets its tables, reports, and leaves.
async fn follows(bus: &BusServer, setup: Setup) {
    let world = world().await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", table(&world, "1")).await;
    let mut node = setup.start().await;
    has(&node, revision).await;
    let revision = probe.put("table", table(&world, "2")).await;
    has(&node, revision).await;
    reports(&probe, "a", "its report", |report| report["revision"] == revision).await;
    let log = node.log().all().join("\n");
    assert!(!log.to_lowercase().contains("permission"), "{log}");
    node.signal("TERM");
    node.exited().await;
    assert_eq!(report(&probe, "a").await, None);
}

/// The permissions in the server's words.
fn permissions(publish: &[&str]) -> String {
    format!("publish: {{ allow: {publish:?} }}\nsubscribe: {{ allow: {SUBSCRIBE:?} }}")
}

#[tokio::test]
async fn by_user_and_password() {
    let bus = BusServer::with().user("edge", "right").start().await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"");
    let mut node = setup.clone().file("password", "wrong\n").start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_lowercase();
        if text.contains("authorization violation") { Ok(()) } else { Err(text) }
    })
    .await;
    // The file is read at each attempt.
    node.replace("password", "right\n");
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let world = world().await;
    let revision = probe.put("table", table(&world, "1")).await;
    node.serves().await;
    has(&node, revision).await;
}

#[tokio::test]
async fn by_a_password_in_the_address_which_is_not_shown() {
    let bus = BusServer::with().user("edge", "s3cr3t").start().await;
    let lines = format!("bus = {{ servers = [\"nats://edge:s3cr3t@{}\"] }}", bus.address());
    let node = Setup::new("eu", "").name("a").bus(&lines).start_waiting().await;
    becomes(&node, "a connection", |status| status["bus"]["servers"].as_str().is_some()).await;
    for path in ["/status", "/ready", "/metrics"] {
        let text = node.ask(&get(path)).await.text().to_owned();
        assert!(!text.contains("s3cr3t"), "{text}");
    }
    drop(node);
    follows(&bus, Setup::new("eu", "").name("a").bus(&lines)).await;
}

#[tokio::test]
async fn by_token() {
    let bus = BusServer::with().token("secret").start().await;
    follows(&bus, routed(&bus, "a", ", token_file = \"token\"").file("token", "secret\n")).await;
}

#[tokio::test]
async fn by_nkey_with_the_least_that_a_node_needs() {
    let seed = nkey_seed();
    let publish = [&PUBLISH[..], &[REPORT]].concat();
    let bus = BusServer::with().nkey(&seed).permissions(&permissions(&publish)).start().await;
    let probe = bus.probe().await;
    follows(&bus, routed(&bus, "a", ", nkey_file = \"seed\"").file("seed", seed.clone())).await;
    // It is not enough to publish, or to take others' reports away.
    let before = probe.get("table").await.expect("a table").sequence;
    let edge = BusProbe::connect(&bus.url(), ConnectOptions::with_nkey(seed)).await.expect("a connection");
    for subject in
        ["$KV.meridian.table", "$KV.meridian.rollout", "$KV.meridian.nodes.b", "$JS.API.STREAM.PURGE.KV_meridian"]
    {
        edge.client().publish(subject, "x".into()).await.expect("a connection");
    }
    let info = edge.client().request("$JS.API.STREAM.INFO.KV_meridian", "".into());
    patiently("an answer, in order", info).await.expect("what it may ask");
    assert_eq!(probe.get("table").await.expect("a table").sequence, before);
    assert!(probe.get("rollout").await.is_none() && probe.get("nodes.b").await.is_none());
}

#[tokio::test]
async fn by_credentials_with_the_least_that_a_node_needs() {
    let operator = BusOperator::default();
    let bus = BusServer::with().operator(&operator).start().await;
    let publish = [&PUBLISH[..], &[REPORT]].concat();
    let creds = operator.credentials_for(&json!({ "pub": { "allow": publish }, "sub": { "allow": SUBSCRIBE } }));
    follows(&bus, routed(&bus, "a", ", credentials = \"node.creds\"").file("node.creds", creds)).await;
}

#[tokio::test]
async fn a_node_that_may_not_report_follows_its_tables_at_once() {
    let bus = BusServer::with().user("edge", "right").permissions(&permissions(&PUBLISH)).start().await;
    let (probe, world) = (bus.probe().await, world().await);
    probe.create_bucket().await;
    let revision = probe.put("table", table(&world, "1")).await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"").file("password", "right");
    let mut node = setup.start().await;
    has(&node, revision).await;
    let mut took = Vec::new();
    for version in ["2", "3", "4"] {
        let began = Instant::now();
        let revision = probe.put("table", table(&world, version)).await;
        has(&node, revision).await;
        took.push(began.elapsed());
    }
    // One may be passed over by nats-server 2.9, and is found when the bus is asked: every three seconds.
    assert!(took.iter().min() < Some(&Duration::from_secs(2)), "{took:?}");
    becomes(&node, "a word on it", |status| status["bus"]["notes"].to_string().contains("Permissions Violation")).await;
    assert_eq!(report(&probe, "a").await, None);
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

#[tokio::test]
async fn over_tls_by_an_authority_of_its_own() {
    let authority = Authority::default();
    let certificate = authority.certify(&["127.0.0.1"]);
    let bus = BusServer::with().tls(&authority, &certificate).start().await;
    let setup = routed(&bus, "a", ", certificate_authorities = [\"ca.pem\"]");
    let stranger = setup.clone().file("ca.pem", Authority::default().pem()).start_waiting().await;
    eventually("a reason", async || {
        let text = stranger.ask(&get("/ready")).await.text().to_owned();
        if text.contains("certificate") { Ok(()) } else { Err(text) }
    })
    .await;
    follows(&bus, setup.file("ca.pem", authority.pem())).await;
}

#[tokio::test]
async fn over_tls_by_a_certificate_of_its_own() {
    let authority = Authority::default();
    let bus = BusServer::with().mutual_tls(&authority, &authority.certify(&["127.0.0.1"])).start().await;
    let lines = ", certificate_authorities = [\"ca.pem\"]";
    let nobody = routed(&bus, "a", lines).file("ca.pem", authority.pem()).start_waiting().await;
    eventually("a reason", async || {
        let text = nobody.ask(&get("/ready")).await.text().to_owned();
        if text.contains("asks for a client certificate") { Ok(()) } else { Err(text) }
    })
    .await;
    drop(nobody);
    let lines = format!("{lines}, client_certificate = {{ certificate = \"a.pem\", key = \"a-key.pem\" }}");
    let own = authority.certify(&["a"]);
    let setup = routed(&bus, "a", &lines).file("ca.pem", authority.pem());
    follows(&bus, setup.file("a.pem", own.certificate_pem).file("a-key.pem", own.key_pem)).await;
}

/// What a command on this bus says, with these files and flags: a flag that is a file's name gets its path.
async fn fleet(bus: &BusServer, files: &[(&str, &str)], flags: &[&str]) -> Ended {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    for (name, text) in files {
        std::fs::write(path(name), text).expect("a file");
    }
    let is_file = |flag: &str| files.iter().any(|(name, _)| *name == flag);
    let flags = flags.iter().map(|flag| if is_file(flag) { path(flag) } else { (*flag).to_owned() });
    let words: Vec<String> = ["fleet".to_owned(), "--bus".to_owned(), bus.url()].into_iter().chain(flags).collect();
    Running::start(&words.iter().map(String::as_str).collect::<Vec<_>>()).ended().await
}

#[tokio::test]
async fn commands_enter_by_the_same_ways() {
    let (seed, operator, authority) = (nkey_seed(), BusOperator::default(), Authority::default());
    let (credentials, own) = (operator.credentials(), authority.certify(&["operator"]));
    let (user, token, nkey, creds, mutual) = tokio::join!(
        BusServer::with().user("ops", "right").start(),
        BusServer::with().token("secret").start(),
        BusServer::with().nkey(&seed).start(),
        BusServer::with().operator(&operator).start(),
        BusServer::with().mutual_tls(&authority, &authority.certify(&["127.0.0.1"])).start(),
    );
    let ca = authority.pem();
    let certificate = [("ca.pem", ca.as_str()), ("own.pem", &own.certificate_pem), ("own-key.pem", &own.key_pem)];
    let stranger = Authority::default().pem();
    for (bus, files, flags, without) in [
        (&user, &[("password", "right\n")][..], &["--user", "ops", "--password-file", "password"][..], "authorization"),
        (&token, &[("token", "secret\n")], &["--token-file", "token"], "authorization"),
        (&nkey, &[("seed", &seed)], &["--nkey-file", "seed"], "authorization"),
        (&creds, &[("ops.creds", &credentials)], &["--creds", "ops.creds"], "authorization"),
        (
            &mutual,
            &certificate,
            &["--ca", "ca.pem", "--client-certificate", "own.pem", "--client-key", "own-key.pem"],
            "certificate",
        ),
    ] {
        bus.probe().await.create_bucket().await;
        let ended = fleet(bus, files, flags).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "no node reports; there is no table on the bus\n"));
        let ended = fleet(bus, &[], &[]).await;
        assert_eq!(ended.code, Some(1), "{flags:?}: {ended:?}");
        assert!(ended.stderr.to_lowercase().contains(without), "{flags:?}: {ended:?}");
    }
    for (files, flags, why) in [
        (&[("password", "wrong")][..], &["--user", "ops", "--password-file", "password"][..], "authorization"),
        (&[("password", "right")], &["--user", "ops", "--password-file", "elsewhere"], "elsewhere"),
        (&[("password", "right")], &["--user", "ops"], "--password-file"),
    ] {
        let ended = fleet(&user, files, flags).await;
        assert!(ended.code != Some(0) && ended.stderr.to_lowercase().contains(why), "{flags:?}: {ended:?}");
    }
    for (authority, why) in [(&stranger, "invalid peer certificate"), (&ca, "asks for a client certificate")] {
        let ended = fleet(&mutual, &[("ca.pem", authority)], &["--ca", "ca.pem"]).await;
        assert!(ended.code == Some(1) && ended.stderr.contains(why), "{ended:?}");
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let bus = BusServer::with().user("edge", "right").permissions(&permissions(&PUBLISH[..1])).start().await;
    bus.probe().await.create_bucket().await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"").file("password", "right");
    let node = setup.start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains("$JS.API.CONSUMER.CREATE.KV_meridian") { Ok(()) } else { Err(text) }
    })
    .await;
}
