//! What changes from one routing table to another.

use std::collections::BTreeMap;

use config::{Endpoint, RoutingTable};
use policy::diff::{Diff, DiffError, Setting};

/// What changes for whom, and what the policy does not know of: whom to dial, and the cookies.
///
/// # Errors
/// When the tables are too large to be compared.
pub(super) fn diff(old: &RoutingTable, new: &RoutingTable) -> Result<Diff, DiffError> {
    let mut diff = Diff::between(&old.table, &new.table)?;
    let (before, after) = (upstreams(old), upstreams(new));
    for (key, old) in &before {
        // A region that comes or goes is told already.
        if let Some(new) = after.get(key).filter(|new| *new != old) {
            diff.settings.push(Setting { key: key.clone(), old: Some(old.clone()), new: Some(new.clone()) });
        }
    }
    // Without a secret it is the text that signs, which differs whenever anything does.
    let secret = |document: &RoutingTable| document.has_affinity_secret.then(|| document.affinity.seal("", "", 0));
    let (before, after) = (secret(old), secret(new));
    if before != after {
        let said = |secret: Option<String>, which: &str| Some(secret.map_or("none", |_| which).to_owned());
        diff.settings.push(Setting {
            key: "affinity.secret".to_owned(),
            old: said(before, "one"),
            new: said(after, "another: cookies made under the old one pin nobody"),
        });
    }
    Ok(diff)
}

/// Whom to dial, by the key in the table's file.
fn upstreams(document: &RoutingTable) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for ((_, region), upstream) in document.table.regions().zip(&document.upstreams) {
        let mut say = |key: &str, value: String| said.insert(format!("regions.{}.{key}", region.name), value);
        let endpoints: Vec<String> = upstream.endpoints.iter().map(Endpoint::to_string).collect();
        say("endpoints", endpoints.join(", "));
        say("gateway", upstream.gateway.as_ref().map_or("none".to_owned(), Endpoint::to_string));
        let health = &upstream.health;
        say("health.check", format!("{:?}", health.check));
        say("health.interval", format!("{:?}", health.interval));
        say("health.timeout", format!("{:?}", health.timeout));
        say("health.failures", health.failures.to_string());
        say("health.successes", health.successes.to_string());
    }
    said
}
