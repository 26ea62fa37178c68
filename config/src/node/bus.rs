//! `[routing] bus`: the config bus that the routing table comes from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::BusSource;
use crate::bus::{BusAccess, ClientCertificate, Credentials, MAX_AGE};
use crate::field::{Field, Section};
use crate::name::name;

/// Returns the bus; `None` after an error, which is reported.
pub(super) fn bus(field: &Field<'_>, directory: &Path, max_age: Option<Duration>) -> Option<BusSource> {
    let section = field.section(KEYS)?;
    let servers = section.required("servers", "name at least one: servers = [\"nats://127.0.0.1:4222\"]");
    let servers = servers.and_then(|field| {
        let list = field.list()?;
        if list.is_empty() {
            field.error("the list is empty: name at least one server".to_owned());
        }
        Some(list.iter().filter_map(server).collect())
    });
    let bucket = section.field("bucket").and_then(|field| bucket_name(&field));
    let snapshot = section.field("snapshot").map(|field| field.file(directory));
    if snapshot.is_none() {
        section.warning(
            "without snapshot = \"last-good.toml\" this node cannot start while the bus is away, and forgets at its end who \
             has the writes of a standby with writes = \"when_primary\""
                .to_owned(),
        );
    }
    let files = |key| files(&section, key, directory);
    let trusted_keys = files("trusted_keys");
    if section.field("trusted_keys").is_none() {
        section.warning(
            "without trusted_keys, whoever may write the bucket decides which regions may serve whom: publish with \
             --sign KEY, and name the public key here: trusted_keys = [\"publisher.pub.pem\"]"
                .to_owned(),
        );
    } else if max_age.is_none() {
        section.warning(format!(
            "with trusted_keys only signatures keep a table fresh: restricted routes are refused {} after it was \
             signed, unless `meridian heartbeat --sign KEY` runs where tables are published, or they are published with \
             --valid-for; [routing] max_age sets another limit",
            humantime::format_duration(MAX_AGE)
        ));
    }
    let minimum = section.field("minimum_issued");
    if let Some(field) = minimum.as_ref().filter(|_| section.field("trusted_keys").is_none()) {
        field.warning("no effect without trusted_keys: only with them are times signed".to_owned());
    }
    Some(BusSource {
        access: BusAccess {
            bucket: bucket.unwrap_or("meridian").to_owned(),
            credentials: credentials(&section, directory),
            certificate_authorities: files("certificate_authorities"),
            client_certificate: client_certificate(&section, directory),
            servers: servers?,
        },
        snapshot: snapshot.flatten(),
        max_age,
        minimum_issued_ms: minimum.and_then(|field| unix_ms(&field)),
        trusted_keys,
        max_shrink: section
            .field("max_shrink")
            .and_then(|field| field.number(0.0..=1.0))
            .unwrap_or(BusSource::MAX_SHRINK),
    })
}

fn server(field: &Field<'_>) -> Option<String> {
    field.text_that(BusAccess::is_server, "is not a server such as \"nats://127.0.0.1:4222\"").map(str::to_owned)
}

/// Reads a time such as `2026-11-29T12:00:00Z`, as Unix milliseconds.
fn unix_ms(field: &Field<'_>) -> Option<u64> {
    let text = field.text()?;
    let time = humantime::parse_rfc3339(text).ok();
    let since = time.and_then(|time| time.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
    if since.is_none() {
        field.error(format!("{} is no time such as \"2026-11-29T12:00:00Z\", in UTC", crate::quote::quote(text)));
    }
    since.and_then(|since| u64::try_from(since.as_millis()).ok())
}

/// Reads a bucket's name, which unlike other names cannot have dots.
fn bucket_name<'t>(field: &Field<'t>) -> Option<&'t str> {
    let name = name(field)?;
    if name.contains('.') {
        field.error("a bucket's name cannot have a dot".to_owned());
        return None;
    }
    Some(name)
}

/// Reads the credentials: one kind, or none.
fn credentials(section: &Section<'_>, directory: &Path) -> Credentials {
    let file = |key| section.field(key).and_then(|field| field.file(directory));
    let user = section.field("user");
    let ways: Vec<Field<'_>> =
        [user.clone(), section.field("token_file"), section.field("nkey_file"), section.field("credentials")]
            .into_iter()
            .flatten()
            .collect();
    if let [first, second, ..] = ways.as_slice() {
        second.error(format!("there is {} already: connect in one way", first.key()));
    }
    let password = file("password_file");
    if let Some(user) = &user {
        let name = user.text().map(str::to_owned);
        if password.is_none() {
            section.missing("password_file", "a user has a password, in a file: password_file = \"bus.password\"");
        }
        return match (name, password) {
            (Some(user), Some(password)) => Credentials::Password { user, password },
            _ => Credentials::None,
        };
    }
    if let Some(field) = section.field("password_file") {
        field.error("whose? name the user: user = \"meridian\"".to_owned());
    }
    let token = file("token_file").map(Credentials::Token);
    let nkey = || file("nkey_file").map(Credentials::Nkey);
    let creds = || file("credentials").map(Credentials::Creds);
    token.or_else(nkey).or_else(creds).unwrap_or_default()
}

fn client_certificate(section: &Section<'_>, directory: &Path) -> Option<ClientCertificate> {
    let pair = section.field("client_certificate")?.section(&["certificate", "key"])?;
    let file = |key, remedy| pair.required(key, remedy).and_then(|field| field.file(directory));
    let certificate = file("certificate", "name the PEM file with the chain: certificate = \"node.pem\"");
    let key = file("key", "name the PEM file with the private key: key = \"node-key.pem\"");
    Some(ClientCertificate { certificate: certificate?, key: key? })
}

fn files(section: &Section<'_>, key: &str, directory: &Path) -> Vec<PathBuf> {
    let Some(field) = section.field(key) else { return Vec::new() };
    let Some(list) = field.list() else { return Vec::new() };
    if list.is_empty() {
        field.error("the list is empty: leave the key out".to_owned());
    }
    list.iter().filter_map(|field| field.file(directory)).collect()
}

const KEYS: &[&str] = &[
    "servers",
    "bucket",
    "snapshot",
    "user",
    "password_file",
    "token_file",
    "nkey_file",
    "credentials",
    "certificate_authorities",
    "client_certificate",
    "trusted_keys",
    "minimum_issued",
    "max_shrink",
];
