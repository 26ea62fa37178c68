//! Signed tables: a node with `trusted_keys` believes nobody else.

use config::bus::{Bus, BusAccess, Credentials, Place, Publication, SigningKey};
use meridian_tests::{BusProbe, BusServer, eventually, get};
use rcgen::{KeyPair, PKCS_ED25519};
use tempfile::TempDir;

use super::{has, refuses, routed, said, table, world};

/// A publisher with a key.
struct Publisher {
    key: SigningKey,
    public_pem: String,
    _directory: TempDir,
}

impl Publisher {
    fn new() -> Publisher {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key.pem");
        std::fs::write(&file, pair.serialize_pem()).expect("a file");
        let key = SigningKey::load(&file).expect("an ed25519 key");
        Publisher { key, public_pem: pair.public_key_pem(), _directory: directory }
    }

    /// Publishes a text in place of what is there, and gives its revision.
    async fn publish(&self, bus: &Bus, text: String, issued_ms: u64) -> u64 {
        let mut publication = Publication::new(text, 0, issued_ms, "test");
        self.key.sign(&mut publication, bus.bucket());
        let after = bus.live(Place::Table).await.expect("an answer").map_or(0, |entry| entry.revision);
        bus.publish(&publication, after).await.expect("a revision")
    }
}

async fn connect(server: &BusServer) -> Bus {
    let access = BusAccess {
        servers: vec![server.url()],
        bucket: "meridian".to_owned(),
        credentials: Credentials::None,
        certificate_authorities: Vec::new(),
        client_certificate: None,
    };
    Bus::connect(&access, "test").await.expect("a connection")
}

/// Puts a revision again as somebody would who has only read it, with another text if there is one.
async fn repeat(probe: &BusProbe, revision: u64, text: Option<String>) -> u64 {
    let found = probe.stream().await.direct_get(revision).await.expect("a revision");
    let text = text.map_or(found.payload.clone(), Into::into);
    let mut fields = said(&[]);
    for name in ["Meridian-Epoch", "Meridian-Issued", "Meridian-By", "Meridian-Signature"] {
        if let Some(value) = found.headers.get(name) {
            fields.insert(name, value.as_str());
        }
    }
    probe.put_raw("table", text, fields).await
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_in_force() {
    let (server, world) = (BusServer::start().await, world().await);
    let (bus, probe) = (connect(&server).await, server.probe().await);
    probe.create_bucket().await;
    let (publisher, stranger, next) = (Publisher::new(), Publisher::new(), Publisher::new());
    let unsigned = probe.put("table", table(&world, "unsigned")).await;
    let setup =
        routed(&server, "a", ", trusted_keys = [\"trusted.pem\"]").file("trusted.pem", publisher.public_pem.clone());
    let mut node = setup.start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains(&format!("revision {unsigned} was refused")) && text.contains("not signed") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let first = publisher.publish(&bus, table(&world, "first"), 1_000).await;
    node.serves().await;
    has(&node, first).await;

    let bad = probe.put("table", table(&world, "unsigned again")).await;
    assert!(refuses(&node, bad).await.contains("not signed"));
    let bad = stranger.publish(&bus, table(&world, "strange"), 2_000).await;
    assert!(refuses(&node, bad).await.contains("does not trust"));
    let bad = repeat(&probe, first, Some(table(&world, "tampered"))).await;
    assert!(refuses(&node, bad).await.contains("does not hold"));

    let second = publisher.publish(&bus, table(&world, "second"), 3_000).await;
    has(&node, second).await;
    let bad = repeat(&probe, first, None).await;
    assert!(refuses(&node, bad).await.contains("repeats an old one"));
    // To repeat what is in force changes nothing.
    let same = repeat(&probe, second, None).await;
    assert_eq!(has(&node, same).await["table"]["version"], "second");

    // The key changes under a running node.
    node.replace("trusted.pem", "no key");
    let third = publisher.publish(&bus, table(&world, "third"), 4_000).await;
    assert!(refuses(&node, third).await.contains("no table is believed while a key is bad"));
    node.replace("trusted.pem", &next.public_pem);
    let bad = publisher.publish(&bus, table(&world, "by the old key"), 5_000).await;
    assert!(refuses(&node, bad).await.contains("does not trust"));
    let fourth = next.publish(&bus, table(&world, "fourth"), 6_000).await;
    has(&node, fourth).await;

    // The snapshot is verified like anything else.
    server_is_away(&mut node, server, next.public_pem.as_str(), publisher.public_pem.as_str()).await;
}

async fn server_is_away(node: &mut meridian_tests::Node, mut server: BusServer, trusted: &str, other: &str) {
    server.kill();
    node.replace("trusted.pem", other);
    node.restart("TERM").await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains("does not trust") { Ok(()) } else { Err(text) }
    })
    .await;
    node.replace("trusted.pem", trusted);
    node.restart("TERM").await;
    node.serves().await;
    assert_eq!(node.status().await["bus"]["table"]["from_snapshot"], true);
}
