//! `[routing]`: where the routing table comes from.

use std::path::Path;
use std::time::Duration;

use super::{Bus, Routing};
use crate::field::Field;
use crate::name::name;
use crate::section::Section;

/// The source of the routing table; `None` after an error, which is reported.
pub(super) fn routing(root: &Section<'_>, directory: &Path) -> Option<Routing> {
    let remedy = "say where the routing table is: [routing] with file = \"routes.toml\"";
    let section = root.required("routing", remedy)?.section(&["file", "bus", "max_age"])?;
    let max_age = section.field("max_age");
    let age = max_age.as_ref().and_then(|field| field.duration()).unwrap_or(MAX_AGE);
    match (section.field("file"), section.field("bus")) {
        (Some(file), None) => {
            if let Some(field) = max_age {
                field.warning("a file has no age: this counts only with a bus".to_owned());
            }
            file.file(directory).map(Routing::File)
        }
        (None, Some(field)) => {
            let bus = bus(&field, directory, age);
            field.error("the config bus is not in this version; use routing.file".to_owned());
            bus.map(Routing::Bus)
        }
        (Some(_), Some(bus)) => {
            bus.error("the table comes from a file or from a bus, not from both; use routing.file".to_owned());
            None
        }
        (None, None) => {
            section.missing("file", remedy);
            None
        }
    }
}

fn bus(field: &Field<'_>, directory: &Path, max_age: Duration) -> Option<Bus> {
    let section = field.section(&["servers", "bucket", "snapshot"])?;
    let servers = section.required("servers", "name at least one: servers = [\"nats://127.0.0.1:4222\"]");
    let bucket = section.field("bucket").and_then(|field| name(&field));
    let servers = servers.and_then(|field| {
        let list = field.list()?;
        if list.is_empty() {
            field.error("the list is empty: name at least one server".to_owned());
        }
        Some(list.iter().filter_map(server).collect())
    });
    Some(Bus {
        bucket: bucket.unwrap_or("meridian").to_owned(),
        snapshot: section.field("snapshot").and_then(|field| field.file(directory)),
        max_age,
        servers: servers?,
    })
}

fn server(field: &Field<'_>) -> Option<String> {
    let is_server = |text: &str| text.starts_with("nats://") || text.starts_with("tls://");
    field.text_that(is_server, "is not a server such as \"nats://127.0.0.1:4222\"").map(str::to_owned)
}

/// How old a table from the bus may be by default.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
