//! An operator of nats-server: the one who signs accounts, which sign users.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator of the test's own, with one account for everybody.
#[derive(Clone)]
pub struct BusOperator(Arc<Keys>);

struct Keys {
    operator: KeyPair,
    /// nats-server has JetStream with an operator only if there is an account for itself.
    system: KeyPair,
    account: KeyPair,
}

impl Default for BusOperator {
    fn default() -> BusOperator {
        let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
        BusOperator(Arc::new(Keys { operator, system, account: KeyPair::new_account() }))
    }
}

impl BusOperator {
    /// A credentials file for a new user, who may do everything.
    pub fn credentials(&self) -> String {
        self.sign_user(&json!({}), None)
    }

    /// A credentials file for a new user with these permissions, such as `{"pub": {"deny": [">"]}}`.
    pub fn credentials_for(&self, permissions: &Value) -> String {
        self.sign_user(permissions, None)
    }

    /// A credentials file for a new user, who may do everything until then. The server counts in whole seconds.
    pub fn credentials_until(&self, expiry: SystemTime) -> String {
        self.sign_user(&json!({}), Some(expiry))
    }

    /// The lines of the server's configuration file.
    pub(super) fn lines(&self) -> String {
        let Keys { operator, system, account } = &*self.0;
        let nats = json!({ "type": "operator" });
        let mut lines = format!("operator: {}\n", sign(operator, "operator", &operator.public_key(), nats, None));
        let accounts = [("system", system, json!({})), ("everybody", account, unlimited_jetstream())];
        let preloaded = accounts.map(|(name, key, limits)| {
            let public = key.public_key();
            let nats = json!({ "type": "account", "limits": merged(unlimited(), limits) });
            format!("{public}: {}\n", sign(operator, name, &public, nats, None))
        });
        lines += &format!("system_account: {}\nresolver: MEMORY\n", system.public_key());
        lines + &format!("resolver_preload {{\n{}}}\n", preloaded.concat())
    }

    fn sign_user(&self, permissions: &Value, expiry: Option<SystemTime>) -> String {
        let user = KeyPair::new_user();
        let nats = merged(json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 }), permissions.clone());
        let token = sign(&self.0.account, "user", &user.public_key(), nats, expiry);
        let seed = user.seed().expect("a key with its seed");
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A token in which the issuer says this of the subject, as in github.com/nats-io/jwt, version 2.
fn sign(issuer: &KeyPair, name: &str, subject: &str, nats: Value, expiry: Option<SystemTime>) -> String {
    let mut claims = json!({
        "iss": issuer.public_key(),
        "iat": seconds(SystemTime::now()),
        "name": name,
        "sub": subject,
        "nats": merged(nats, json!({ "version": 2 })),
    });
    if let Some(expiry) = expiry {
        claims["exp"] = seconds(expiry).into();
    }
    let encoded = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).expect("a key with its seed");
    format!("{signed}.{}", encoded(&signature))
}

fn unlimited() -> Value {
    json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    })
}

fn unlimited_jetstream() -> Value {
    json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 })
}

/// Both objects in one.
fn merged(mut into: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut into, more) {
        into.extend(more);
    }
    into
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
