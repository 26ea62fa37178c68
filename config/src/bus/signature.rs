//! Who may publish: ed25519 signatures over a table and its headers.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::heartbeat::Heartbeat;
use super::publication::{Publication, sha256_hex};

/// A publisher's key.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

/// The keys whose tables a node accepts. Without any, it accepts tables from everybody whom the bus lets write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    id: String,
    bytes: Vec<u8>,
}

/// A key that does not load.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct KeyError {
    /// The key's file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl SigningKey {
    /// Reads a private key, PEM, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// When the file is not one.
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let bad = |what: String| KeyError { file: file.to_owned(), what };
        let key = PrivatePkcs8KeyDer::from_pem_file(file)
            .map_err(|error| bad(format!("no private key in PEM (PKCS#8): {error}; {HOW_TO_MAKE}")))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
        pair.map(Self).map_err(|error| bad(format!("not an ed25519 private key: {error}; {HOW_TO_MAKE}")))
    }

    /// Returns whether a publication's signature names this key.
    pub fn has_made(&self, signature: &str) -> bool {
        signature.split_once(':').is_some_and(|(id, _)| id == key_id(self.0.public_key().as_ref()))
    }

    /// Returns a set of trusted keys that holds this one alone.
    pub fn trusted(&self) -> TrustedKeys {
        let bytes = self.0.public_key().as_ref().to_vec();
        TrustedKeys(vec![PublicKey { id: key_id(&bytes), bytes }])
    }

    /// Signs a publication for a bucket.
    pub fn sign(&self, publication: &mut Publication, bucket: &str) {
        publication.signature = Some(self.signature_of(&publication.statement(bucket)));
    }

    /// Signs a heartbeat for a bucket.
    pub fn sign_heartbeat(&self, heartbeat: &mut Heartbeat, bucket: &str) {
        heartbeat.signature = Some(self.signature_of(&heartbeat.statement(bucket)));
    }

    fn signature_of(&self, statement: &str) -> String {
        let signature = self.0.sign(statement.as_bytes());
        format!("{}:{}", key_id(self.0.public_key().as_ref()), HEXLOWER.encode(signature.as_ref()))
    }
}

impl TrustedKeys {
    /// Reads public keys, PEM, as `openssl pkey -pubout` writes them.
    ///
    /// # Errors
    /// Every file that is not one.
    pub fn load(files: &[PathBuf]) -> Result<Self, Vec<KeyError>> {
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for file in files {
            match public_key(file) {
                Ok(key) => keys.push(key),
                Err(what) => errors.push(KeyError { file: file.clone(), what }),
            }
        }
        if errors.is_empty() { Ok(Self(keys)) } else { Err(errors) }
    }

    /// Returns the keys of both sets.
    #[must_use]
    pub fn and(mut self, others: TrustedKeys) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Returns whether there is no key, so that no signature is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies that one of the keys signed a publication for this bucket; without any key, accepts it.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn verify(&self, publication: &Publication, bucket: &str) -> Result<(), String> {
        if self.is_empty() {
            return Ok(());
        }
        let Some(signature) = &publication.signature else {
            return Err("it is not signed, and this node accepts signed tables only (trusted_keys): \
                        publish it with --sign KEY"
                .to_owned());
        };
        self.verify_statement(signature, &publication.statement(bucket))
    }

    /// Verifies that one of the keys signed a heartbeat for this bucket; without any key, rejects it.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn verify_heartbeat(&self, heartbeat: &Heartbeat, bucket: &str) -> Result<(), String> {
        let signature = heartbeat.signature.as_ref().ok_or_else(|| "it is not signed".to_owned())?;
        self.verify_statement(signature, &heartbeat.statement(bucket))
    }

    fn verify_statement(&self, signature: &str, statement: &str) -> Result<(), String> {
        let (id, signature) = signature.split_once(':').unwrap_or_default();
        let Some(key) = self.0.iter().find(|key| key.id == id) else {
            let known: Vec<&str> = self.0.iter().map(|key| key.id.as_str()).collect();
            return Err(format!(
                "it is signed by the key {id:?}, which this node does not trust; it trusts {}",
                known.join(", ")
            ));
        };
        let verified = HEXLOWER.decode(signature.as_bytes()).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, &key.bytes).verify(statement.as_bytes(), &signature).is_ok()
        });
        if verified {
            Ok(())
        } else {
            Err(format!("its signature by the key {id} does not hold: it was changed on the way"))
        }
    }
}

fn public_key(file: &Path) -> Result<PublicKey, String> {
    let key = SubjectPublicKeyInfoDer::from_pem_file(file)
        .map_err(|error| format!("no public key in PEM: {error}; {HOW_TO_MAKE}"))?;
    // RFC 8410: an Ed25519 key's information is this prefix and 32 bytes.
    match key.as_ref().strip_prefix(&ED25519_SPKI) {
        Some(bytes) if bytes.len() == 32 => Ok(PublicKey { id: key_id(bytes), bytes: bytes.to_vec() }),
        _ => Err(format!("not an ed25519 public key; {HOW_TO_MAKE}")),
    }
}

/// Returns a key's id: the first 16 digits of its SHA-256.
fn key_id(public: &[u8]) -> String {
    sha256_hex(public).chars().take(16).collect()
}

const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const HOW_TO_MAKE: &str = "make a pair with `openssl genpkey -algorithm ed25519 -out publisher.pem` \
                           and `openssl pkey -in publisher.pem -pubout -out publisher.pub.pem`";

#[cfg(test)]
mod tests {
    use super::*;

    // Made with the two commands of HOW_TO_MAKE.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBqqBVi5rtRhMb+jDOOa7AKvAAp+LXnqb0KTHIg2N7zH\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEALmFEq4p5YrUdr1HKmciOVw2zqEmR7OHXHu6/tHrmx1s=\n-----END PUBLIC KEY-----\n";

    fn keys() -> (SigningKey, TrustedKeys) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (private, public) = (file("key.pem", PRIVATE), file("key.pub.pem", PUBLIC));
        assert!(SigningKey::load(&public).unwrap_err().to_string().contains("openssl genpkey"));
        assert!(TrustedKeys::load(std::slice::from_ref(&private)).is_err());
        (SigningKey::load(&private).unwrap(), TrustedKeys::load(&[public]).unwrap())
    }

    #[test]
    fn only_what_was_signed_holds() {
        let (signing, trusted) = keys();
        let mut publication = Publication::new("version = '1'", 1, 5, "me");
        assert!(TrustedKeys::default().verify(&publication, "b").is_ok());
        assert!(trusted.verify(&publication, "b").unwrap_err().contains("not signed"));
        signing.sign(&mut publication, "b");
        assert_eq!(trusted.verify(&publication, "b"), Ok(()));
        assert!(trusted.verify(&publication, "another bucket").unwrap_err().contains("does not hold"));
        let tampered = Publication { text: "version = '2'".into(), ..publication.clone() };
        assert!(trusted.verify(&tampered, "b").is_err());
        let (_, signature) = publication.signature.as_ref().unwrap().split_once(':').unwrap();
        let stranger = Publication { signature: Some(format!("0123:{signature}")), ..publication.clone() };
        assert!(trusted.verify(&stranger, "b").unwrap_err().contains("does not trust"));
        for garbage in ["", ":", "x", &format!("{}:zz", key_id(&[0; 32]))] {
            let publication = Publication { signature: Some(garbage.to_owned()), ..publication.clone() };
            assert!(trusted.verify(&publication, "b").is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_heartbeat_is_a_trusted_keys_for_its_bucket() {
        let (signing, trusted) = keys();
        let mut beat = super::super::heartbeat::tests::heartbeat(1, 2);
        assert!(trusted.verify_heartbeat(&beat, "b").unwrap_err().contains("not signed"));
        signing.sign_heartbeat(&mut beat, "b");
        assert_eq!(trusted.verify_heartbeat(&beat, "b"), Ok(()));
        assert!(trusted.verify_heartbeat(&beat, "c").is_err());
        let later = Heartbeat { signed_ms: 3, ..beat.clone() };
        assert!(trusted.verify_heartbeat(&later, "b").unwrap_err().contains("does not hold"));
        // Without keys a heartbeat says nothing, unlike a table.
        assert!(TrustedKeys::default().verify_heartbeat(&beat, "b").is_err());
    }
}
