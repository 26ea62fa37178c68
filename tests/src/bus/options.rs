//! What a nats-server is started with: who may enter, over what, and with how much.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use async_nats::ConnectOptions;
use nkeys::KeyPair;
use rustls::RootCertStore;

use super::{BusOperator, BusServer};
use crate::{Authority, Certificate};

/// The options of a [`BusServer`]. The default lets everybody in, without TLS, with values of up to 1 MB.
#[derive(Clone, Default)]
pub struct BusOptions {
    door: Door,
    tls: Option<Tls>,
    max_payload: Option<usize>,
}

/// Who may enter.
#[derive(Clone, Default)]
enum Door {
    #[default]
    Open,
    Token(String),
    Users(Vec<User>),
    Operator(BusOperator),
}

#[derive(Clone)]
struct User {
    /// `user` and `password`, or `nkey`.
    identity: String,
    permissions: String,
}

#[derive(Clone)]
struct Tls {
    certificate: Certificate,
    roots: RootCertStore,
    /// The authority whose certificates clients must show, in PEM, and that of the probe.
    clients: Option<(String, Certificate)>,
}

impl BusOptions {
    /// With one more user. Only users may enter.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> BusOptions {
        self.identity(format!("user: {name:?}, password: {password:?}"))
    }

    /// With one more user, who has the seed of an nkey. Only users may enter.
    ///
    /// # Panics
    /// When it is no seed.
    #[must_use]
    pub fn nkey(self, seed: &str) -> BusOptions {
        let public = KeyPair::from_seed(seed).expect("the seed of an nkey").public_key();
        self.identity(format!("nkey: {public}"))
    }

    /// What the last user may do, instead of everything, in lines such as `publish: { deny: ">" }`.
    ///
    /// # Panics
    /// When there is none yet.
    #[must_use]
    pub fn permissions(mut self, lines: &str) -> BusOptions {
        let Door::Users(users) = &mut self.door else { panic!("no users") };
        users.last_mut().expect("a user").permissions = format!(", permissions: {{\n{lines}\n}}");
        self
    }

    /// With a token. Only who has it may enter.
    #[must_use]
    pub fn token(self, token: &str) -> BusOptions {
        BusOptions { door: Door::Token(token.to_owned()), ..self }
    }

    /// With an operator. Only who has credentials of it may enter.
    #[must_use]
    pub fn operator(self, operator: &BusOperator) -> BusOptions {
        BusOptions { door: Door::Operator(operator.clone()), ..self }
    }

    /// With TLS, by a certificate of this authority.
    #[must_use]
    pub fn tls(self, authority: &Authority, certificate: &Certificate) -> BusOptions {
        let tls = Tls { certificate: certificate.clone(), roots: authority.roots(), clients: None };
        BusOptions { tls: Some(tls), ..self }
    }

    /// With TLS by a certificate of this authority. Only who shows another of it may enter.
    #[must_use]
    pub fn mutual_tls(self, authority: &Authority, certificate: &Certificate) -> BusOptions {
        let clients = Some((authority.pem(), authority.certify(&[PROBE])));
        let tls = Tls { certificate: certificate.clone(), roots: authority.roots(), clients };
        BusOptions { tls: Some(tls), ..self }
    }

    /// With messages of at most so many bytes instead of 1 MB.
    ///
    /// nats-server takes up to 64 MB. Above 32 MB the file store of 2.9 acknowledges a message and loses it.
    #[must_use]
    pub fn max_payload(self, bytes: usize) -> BusOptions {
        BusOptions { max_payload: Some(bytes), ..self }
    }

    /// Starts the server, and returns when it serves.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(self) -> BusServer {
        BusServer::start_with(self).await
    }

    /// The text of the server's configuration file, with all that it names written beside it.
    pub(super) fn configuration(&self, address: SocketAddr, directory: &Path) -> String {
        let store = directory.join(STORE);
        let mut text = format!("listen: {:?}\njetstream {{ store_dir: {store:?} }}\n", address.to_string());
        if let Some(bytes) = self.max_payload {
            writeln!(text, "max_payload: {bytes}").expect("a string takes everything");
        }
        if let Some(tls) = &self.tls {
            tls.certificate.write(directory, "tls");
            let (certificate, key) = (directory.join("tls.pem"), directory.join("tls-key.pem"));
            let verify = tls.clients.as_ref().map_or_else(String::new, |(authority, _)| {
                let file = directory.join("clients.pem");
                std::fs::write(&file, authority).expect("an authority's file");
                format!(", ca_file: {file:?}, verify: true")
            });
            writeln!(text, "tls {{ cert_file: {certificate:?}, key_file: {key:?}{verify} }}")
                .expect("a string takes everything");
        }
        text + &self.door.lines()
    }

    /// How the probe enters, who may do everything.
    pub(super) fn entry(&self) -> ConnectOptions {
        let options = self.door.entry();
        let Some(tls) = &self.tls else { return options };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let client = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(tls.roots.clone());
        let client = match &tls.clients {
            None => client.with_no_client_auth(),
            Some((_, own)) => {
                let (chain, key) = own.identity();
                client.with_client_auth_cert(chain, key).expect("a certificate with its key")
            }
        };
        options.require_tls(true).tls_client_config(client)
    }

    fn identity(mut self, identity: String) -> BusOptions {
        let user = User { identity, permissions: String::new() };
        match &mut self.door {
            Door::Users(users) => users.push(user),
            door => *door = Door::Users(vec![user]),
        }
        self
    }
}

impl Door {
    fn lines(&self) -> String {
        match self {
            Door::Open => String::new(),
            Door::Token(token) => format!("authorization {{ token: {token:?} }}\n"),
            Door::Users(users) => {
                let probe = format!("{{ user: {PROBE:?}, password: {PROBE:?} }}\n");
                let users =
                    users.iter().map(|User { identity, permissions }| format!("{{ {identity}{permissions} }}\n"));
                format!("authorization {{ users: [\n{probe}{}] }}\n", users.collect::<String>())
            }
            Door::Operator(operator) => operator.lines(),
        }
    }

    fn entry(&self) -> ConnectOptions {
        let options = ConnectOptions::new();
        match self {
            Door::Open => options,
            Door::Token(token) => options.token(token.clone()),
            Door::Users(_) => options.user_and_password(PROBE.to_owned(), PROBE.to_owned()),
            Door::Operator(operator) => options.credentials(&operator.credentials()).expect("credentials"),
        }
    }
}

/// The seed of a new user's nkey, which is all that a seed file holds.
pub fn nkey_seed() -> String {
    KeyPair::new_user().seed().expect("a key with its seed")
}

/// The store's directory, in that of the server.
pub(super) const STORE: &str = "store";

/// Name and password of the user that the probe is.
const PROBE: &str = "probe";
