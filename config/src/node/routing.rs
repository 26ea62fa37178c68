//! `[routing]`: where the routing table comes from.

use std::path::Path;
use std::time::Duration;

use super::Routing;
use super::bus::bus;
use crate::field::Section;

/// Reads the source of the routing table; `None` after an error, which is reported.
pub(super) fn routing(root: &Section<'_>, directory: &Path) -> Option<Routing> {
    let remedy = "say where the routing table is: [routing] with file = \"routes.toml\" or bus = { servers = [\"nats://127.0.0.1:4222\"] }";
    let section = root.required("routing", remedy)?.section(&["file", "bus", "max_age"])?;
    let max_age = section.field("max_age");
    let age = max_age.as_ref().and_then(|field| field.duration());
    if let Some(field) = max_age.as_ref().filter(|_| age.is_some_and(|age| age < LEAST_AGE)) {
        field
            .error(format!("at least {LEAST_AGE:?}: the bus is not asked so often that a table would ever be younger"));
    }
    match (section.field("file"), section.field("bus")) {
        (Some(file), None) => {
            if let Some(field) = max_age {
                field.warning("a file has no age: this counts only with a bus".to_owned());
            }
            file.file(directory).map(Routing::File)
        }
        (None, Some(field)) => bus(&field, directory, age).map(Routing::Bus),
        (Some(_), Some(bus)) => {
            bus.error("the table comes from a file or from a bus, not from both: leave one out".to_owned());
            None
        }
        (None, None) => {
            section.missing("file", remedy);
            None
        }
    }
}

/// The least `max_age`: the bus confirms a table no more often.
const LEAST_AGE: Duration = Duration::from_secs(1);
