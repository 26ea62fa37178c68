//! A fleet whose nodes change from a shared secret to certificates, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meridian_tests::{Authority, Client, Node, Setup, World, eventually, get, post};

use super::{SECRET, region_is};

/// Both regions' data stays there, so that each node has something that only the other's region may serve.
const LAW: &str = r#"
[residency_defaults]
unlisted_jurisdiction = "allow"
[jurisdictions.de]
countries = ["DE"]
[jurisdictions.us]
countries = ["US"]
[data_classes.bound]
[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { countries = ["DE"] }
transfer = "prohibited"
[[residency]]
jurisdiction = "us"
data_classes = ["bound"]
allow = { countries = ["US"] }
transfer = "prohibited"
[[routes]]
name = "bound"
data_class = "bound"
"#;

const BY_SECRET: &str = "secret_file = \"peers.key\"\n";

const BY_CERTIFICATE: &str = "certificate_authorities = [\"peers-ca.pem\"]\nnames = [\"*.nodes.example.com\"]\n\
                              certificate = { certificate = \"node.pem\", key = \"node-key.pem\" }\n";

/// A node of a region with all the files that any step names, which knows the secret only.
async fn node(world: &World, region: &str, nodes: &Authority) -> Node {
    let own = nodes.certify(&["localhost", &format!("{region}.nodes.example.com")]);
    Setup::new(region, world.table())
        .name(region)
        .plain()
        .tls(&[&own])
        .secret(SECRET)
        .file("peers-ca.pem", nodes.pem())
        .file("node.pem", own.certificate_pem.as_str())
        .file("node-key.pem", own.key_pem.as_str())
        // Who ends the TLS before a gateway, as long as requests are signed.
        .section("upstream", "certificate_authorities = [\"peers-ca.pem\"]")
        .start()
        .await
}

/// Gives a node another `[peers]`, and waits until it goes by that.
async fn change(node: &Node, peers: &str) {
    let text = std::fs::read_to_string(node.path("node.toml")).expect("a file");
    let (before, rest) = text.split_once("[peers]\n").expect("the section");
    let (_, after) = rest.split_once("\n[admin]").expect("the section after it");
    node.replace("node.toml", format!("{before}[peers]\n{peers}\n[admin]{after}"));
    let expected = serde_json::json!({
        "certificates": peers.contains(BY_CERTIFICATE), "shows_certificate": peers.contains(BY_CERTIFICATE),
        "signatures": peers.contains(BY_SECRET), "rollover": peers.contains("rollover = true"),
    });
    eventually("the node file is in force", async || {
        let status = node.status().await;
        if status["peers"] == expected { Ok(()) } else { Err(format!("{} {}", status["peers"], status["rejected"])) }
    })
    .await;
}

/// Requests that only the other region may serve, one after the other, until they are to stop.
struct Traffic {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Traffic {
    fn of(node: &Node, country: &'static str, served_by: &'static str) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, over, client) = (answered.clone(), stop.clone(), Client::http1(node.http()));
        let task = tokio::spawn(async move {
            let mut wrong = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for sent in [get("/bound"), post("/bound", "order")] {
                    let answer = client.send(&sent.from(country)).await;
                    if answer.status != 200 || answer.region().as_deref() != Some(served_by) {
                        wrong.push(format!(
                            "{}: {} {:?} {}",
                            answered_by(served_by),
                            answer.status,
                            answer.region(),
                            answer.text()
                        ));
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            wrong
        });
        Self { answered, stop, task }
    }

    /// Waits until so many more are answered.
    async fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("requests are answered", async || match self.answered.load(Ordering::Relaxed) - before {
            20.. => Ok(()),
            few => Err(few.to_string()),
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.task.await.expect("no panic");
        assert!(wrong.is_empty(), "{} of {:?}: {:?}", wrong.len(), self.answered, &wrong[..wrong.len().min(5)]);
    }
}

fn answered_by(region: &str) -> String {
    format!("{region} was to answer")
}

/// Each step of the reference, on one node and then on the other, under requests in both directions.
#[tokio::test]
async fn no_request_is_refused_while_a_fleet_changes_to_certificates() {
    for (first, then) in
        [("http://127.0.0.1", "localhost"), ("localhost", "localhost"), ("https://localhost", "https://localhost")]
    {
        let world = World::probed_often(&[("there", "DE"), ("here", "US")], LAW).await;
        let nodes = Authority::default();
        let (there, here) = (node(&world, "there", &nodes).await, node(&world, "here", &nodes).await);
        let table = |scheme: &str| {
            [("there", &there), ("here", &here)].into_iter().fold(world.table().to_owned(), |table, (name, node)| {
                let port = if scheme.starts_with("http:") { node.http().port() } else { node.https().port() };
                let with = format!("[regions.{name}]\ngateway = \"{scheme}:{port}\"\n");
                table.replacen(&format!("[regions.{name}]\n"), &with, 1)
            })
        };
        let both = [&there, &here];
        let lead = async |scheme: &str| {
            for node in both {
                let skipped = node.log().count();
                node.replace("routes.toml", table(scheme));
                node.logged_after(skipped, "routing table applied").await;
            }
            region_is(&there, "here", "up").await;
            region_is(&here, "there", "up").await;
        };
        lead(first).await;
        let traffic = [Traffic::of(&here, "DE", "there"), Traffic::of(&there, "US", "here")];
        let go_on = async || {
            for each in &traffic {
                each.goes_on().await;
            }
        };
        let step = async |peers: &str| {
            for node in both {
                change(node, peers).await;
                go_on().await;
            }
        };
        go_on().await;
        step(&format!("{BY_SECRET}{BY_CERTIFICATE}rollover = true\n")).await;
        if first != then {
            lead(then).await;
            go_on().await;
        }
        step(&format!("{BY_SECRET}{BY_CERTIFICATE}")).await;
        step(BY_CERTIFICATE).await;
        for each in traffic {
            each.end().await;
        }
        for node in both {
            let metrics = node.metrics().await;
            assert_eq!(metrics.sum("meridian_peer_refusals_total", &[]).unwrap_or(0.0), 0.0, "{first}");
        }
    }
}

/// A connection of before the first step, on which nothing came meanwhile: it asked nobody for a certificate.
#[tokio::test]
async fn a_connection_that_never_asked_is_closed_once_signatures_do_not_count() {
    let world = World::probed_often(&[("there", "DE"), ("here", "US")], LAW).await;
    let nodes = Authority::default();
    let there = node(&world, "there", &nodes).await;
    let over_tls = Client::http1(there.https()).over_tls(&nodes, "localhost");
    let ask = get("/bound").host("localhost").from("DE");
    let mut before = over_tls.connect().await.expect("a connection");
    assert_eq!(before.send(&ask).await.status, 200);
    change(&there, BY_CERTIFICATE).await;
    assert_eq!(before.send(&ask).await.status, 200);
    let forged =
        get("/bound").host("localhost").header("x-meridian-chosen", "there").header("x-meridian-signature", "1;m=00");
    assert_eq!(before.send(&forged).await.status, 421);
    before.closed().await;
    // One that was asked, and had none to show, is somebody's who writes what is a node's.
    let mut since = over_tls.connect().await.expect("a connection");
    assert_eq!(since.send(&forged).await.status, 421);
    assert_eq!(since.send(&ask).await.status, 200);
}
