//! A publisher with a key, past the command line: it says whatever a test wants to be signed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::bus::{Bus, BusAccess, Credentials, Entry, Heartbeat, Place, Publication, SigningKey, TableVersion};
use meridian_tests::{BusProbe, BusServer};
use rcgen::{KeyPair, PKCS_ED25519};
use tempfile::TempDir;

use super::said;

/// A publisher with a key.
pub(super) struct Publisher {
    pub(super) key: SigningKey,
    /// The key's file, for commands.
    pub(super) key_file: String,
    pub(super) public_pem: String,
    _directory: TempDir,
}

impl Publisher {
    pub(super) fn new() -> Publisher {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key.pem");
        std::fs::write(&file, pair.serialize_pem()).expect("a file");
        let key = SigningKey::load(&file).expect("an ed25519 key");
        let key_file = file.to_str().expect("a path in UTF-8").to_owned();
        Publisher { key, key_file, public_pem: pair.public_key_pem(), _directory: directory }
    }

    /// Publishes a text in place of what is there, and gives its revision.
    pub(super) async fn publish(&self, bus: &Bus, text: String, issued_ms: u64) -> u64 {
        self.publish_until(bus, text, issued_ms, None).await
    }

    /// The same, to be used until then.
    pub(super) async fn publish_until(&self, bus: &Bus, text: String, issued_ms: u64, until_ms: Option<u64>) -> u64 {
        let mut publication = Publication { valid_until_ms: until_ms, ..Publication::new(text, 0, issued_ms, "test") };
        self.key.sign(&mut publication, bus.bucket());
        let after = bus.live(Place::Table).await.expect("an answer").map_or(0, |entry| entry.revision);
        bus.publish(&publication, after).await.expect("a revision")
    }

    /// A heartbeat of this time about a revision, signed.
    pub(super) async fn heartbeat(&self, bus: &Bus, revision: u64, signed_ms: u64) -> Heartbeat {
        let entry = bus.fetch(Place::Table, revision).await.expect("an answer").expect("a revision");
        let Entry { publication: Some(publication), .. } = entry else { panic!("a table") };
        let mut beat = Heartbeat::new(&TableVersion::of(&publication, revision), signed_ms, "test");
        self.key.sign_heartbeat(&mut beat, bus.bucket());
        beat
    }
}

pub(super) async fn connect(server: &BusServer) -> Bus {
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
pub(super) async fn repeat(probe: &BusProbe, revision: u64, text: Option<String>) -> u64 {
    let found = probe.stream().await.direct_get(revision).await.expect("a revision");
    let text = text.map_or(found.payload.clone(), Into::into);
    let mut fields = said(&[]);
    for name in ["Meridian-Epoch", "Meridian-Issued", "Meridian-Valid-Until", "Meridian-By", "Meridian-Signature"] {
        if let Some(value) = found.headers.get(name) {
            fields.insert(name, value.as_str());
        }
    }
    probe.put_raw("table", text, fields).await
}

/// Now, in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64
}

/// So long before now, in Unix milliseconds.
pub(super) fn ago_ms(age: Duration) -> u64 {
    now_ms() - age.as_millis() as u64
}
