//! Reloads: a changed file is loaded and checked whole, off the hot path, and then swapped in; a bad
//! one changes nothing, and says so in the log, `/status` and the metrics.

mod watches;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{NodeConfig, NodeReload, Problem, Problems, RoutingTable, Severity};
use policy::Table;

pub(crate) use self::watches::{Reloader, Watches};
use crate::client::Geo;
use crate::clock;
use crate::descriptors;
use crate::node::Node;
use crate::peers::Peers;
use crate::peers::headers::PublishedTable;
use crate::prepare::{self, Components, Identity, IdentityInForce, problem};
use crate::routing::{Edition, Routing};
use crate::status::EmergencyStatus;

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in force, or bad by its content: nothing to do before another change.
    Settled,
    /// It could not be read for something that may pass, such as a want of descriptors.
    Unread,
}

/// Certificates of listeners, what `[peers]` names, and the authorities of upstreams.
fn certificate_files(config: &NodeConfig) -> Vec<PathBuf> {
    let pairs = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates);
    let peers = config.peers.as_ref();
    let pairs = pairs.chain(peers.and_then(|peers| peers.certificate.as_ref()));
    let mut files: Vec<PathBuf> = pairs.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]).collect();
    if let Some(peers) = peers {
        files.extend(peers.certificate_authorities.iter().chain(&peers.secret_file).cloned());
    }
    files.extend(config.upstream.certificate_authorities.iter().cloned());
    files
}

fn token_key_files(config: &NodeConfig) -> Vec<PathBuf> {
    config.tokens.keys.iter().map(|key| key.file.clone()).collect()
}

/// Loads the routing table again, and puts it in force if it is good.
pub(crate) fn reload_table(node: &Node) -> Outcome {
    let started = clock::now();
    let before = node.routing.load_full();
    let config = node.config.load_full();
    let config::Routing::File(file) = &config.routing else { return Outcome::Settled };
    let loaded = RoutingTable::load(file, node.routing.law.now()).and_then(|document| {
        if same(&document, &before.document) {
            return Ok(None);
        }
        document.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        put_in_force(node, document, None).map(Some)
    });
    match loaded {
        Ok(None) => {
            node.reloads.accept(file);
            tracing::debug!(file = %file.display(), "the routing table's file changed, its text did not");
            Outcome::Settled
        }
        Ok(Some(routing)) => {
            node.reloads.accept(file);
            node.telemetry.metrics.table_reloads.with_label_values(&["applied"]).inc();
            let version = routing.table().spec().version.as_str();
            tracing::info!(version, revision = routing.revision, took = ?started.elapsed(), "routing table applied");
            Outcome::Settled
        }
        Err(problems) => {
            node.telemetry.metrics.table_reloads.with_label_values(&["rejected"]).inc();
            refuse(node, file, &problems, "routing table rejected; the one before stays in force")
        }
    }
}

/// Returns whether two documents say the same: the text, and the maintenance pages and lists that it names.
fn same(a: &RoutingTable, b: &RoutingTable) -> bool {
    let pages = |document: &RoutingTable| -> Vec<_> {
        document.table.spec().rules.iter().map(|rule| rule.when_unavailable.clone()).collect()
    };
    let lists = |document: &RoutingTable| document.table.spec().lists.clone();
    let emergency = |document: &RoutingTable| document.table.spec().emergency.clone();
    *a.text == *b.text && pages(a) == pages(b) && lists(a) == lists(b) && emergency(a) == emergency(b)
}

/// Swaps a compiled table in: one of the bus, or of a file, whose revision is its generation.
///
/// # Errors
/// When the node's region is not in it, or it has gateways that know no node like this one; nothing has
/// changed then.
pub(crate) fn put_in_force(
    node: &Node,
    document: RoutingTable,
    published: Option<PublishedTable>,
) -> Result<Arc<Routing>, Problems> {
    swap(node, |_| (document, published))
}

/// Builds the routing anew from the table in force: the node file has changed.
fn rebuild(node: &Node) -> Result<Arc<Routing>, Problems> {
    swap(node, |routing| (routing.document.clone(), routing.published))
}

/// Puts the table in force anew, its law read as of now. `read` is that table, if it was read ahead of time.
///
/// # Errors
/// None that the table in force did not have.
pub(crate) fn read_anew(node: &Node, read: Option<RoutingTable>) -> Result<Arc<Routing>, Problems> {
    swap(node, |routing| {
        // Another may have come in force meanwhile.
        let read = read.filter(|read| Arc::ptr_eq(&read.text, &routing.document.text));
        (read.unwrap_or_else(|| routing.document.clone()), routing.published)
    })
}

/// One swap at a time: what is built of one table must not take the place of a later one. Whichever way a table
/// comes, and however long it took to look at it, its law is read as of now.
fn swap(
    node: &Node,
    next: impl FnOnce(&Routing) -> (RoutingTable, Option<PublishedTable>),
) -> Result<Arc<Routing>, Problems> {
    let _alone = node.routing.lock();
    let (config, before) = (node.config.load_full(), node.routing.load_full());
    let (document, published) = next(&before);
    let document = as_of_now(node, document)?;
    let problems = node.peers.load().problems_with(&document, &config.file, &config.region);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let generation = before.generation + 1;
    let edition = Edition { generation, published };
    let cap = config.limits.requests_in_flight_per_region;
    let routing = Routing::new(document, &config.region, cap, edition, &node.routing.persisted)
        .map_err(|error| Problems(vec![problem(&config.file, "node.region", error.to_string())]))?;
    let routing = Arc::new(routing);
    node.routing.replace(routing.clone());
    log_emergency(Some(before.table()), routing.table());
    if let Some(lack) = node.databases.load().lacks_coordinates(routing.table()) {
        tracing::warn!("{lack}");
    }
    Ok(routing)
}

/// Says loudly that a table's emergency is in force, or another than `before`, or that it is over.
pub(crate) fn log_emergency(before: Option<&Table>, now: &Table) {
    let [before, now] = [before, Some(now)].map(|table| table.and_then(EmergencyStatus::of));
    match now {
        Some(now) if before.as_ref() != Some(&now) => {
            tracing::warn!("AN EMERGENCY IS IN FORCE, by the table's [emergency]: {now}");
        }
        None if before.is_some() => tracing::warn!("the emergency is over: its refusals have ended"),
        Some(_) | None => {}
    }
}

fn as_of_now(node: &Node, document: RoutingTable) -> Result<RoutingTable, Problems> {
    let now = node.routing.law.now();
    if document.table.holds_at(now) {
        return Ok(document);
    }
    let name = document.files().first().cloned().unwrap_or_default();
    document.at(now).map_err(|error| Problems(vec![problem(&name, "", error.to_string())]))
}

/// Loads the node file again, and puts its reloadable components in force if all of it is good.
pub(crate) fn reload_node_file(node: &Node) -> Outcome {
    let before = node.config.load_full();
    let loaded = NodeConfig::load(&before.file).and_then(|newer| {
        let components = Components::load(&newer)?;
        fits(node, &components.identity.peers)?;
        Ok((components, newer))
    });
    match loaded {
        Err(problems) => refuse(node, &before.file, &problems, "node file rejected; the one before stays in force"),
        Ok((components, newer)) => {
            let warnings = newer.warnings.iter().chain(&components.identity.warnings);
            warnings.for_each(|warning| tracing::warn!("{warning}"));
            if let Some(shortage) = descriptors::shortage(descriptors::hard_limit(), &newer.limits) {
                tracing::warn!("{shortage}");
            }
            let NodeReload { config, needs_restart } = before.reload(newer.clone());
            node.written.store(Arc::new(newer));
            for key in &needs_restart {
                tracing::warn!("{}: {key} changed; that needs a restart and is not in force", before.file.display());
            }
            let written = node.written.load();
            let read = certificate_files(&written).into_iter().chain(token_key_files(&written));
            read.chain(written.geoip.databases.iter().cloned()).for_each(|file| node.reloads.accept(&file));
            node.reloads.accept(&before.file);
            // What it refuses of it comes after.
            apply(node, &before, &Arc::new(config), components);
            tracing::info!(file = %before.file.display(), "node file applied");
            Outcome::Settled
        }
    }
}

/// Returns whether the table in force can stay with these peers.
fn fits(node: &Node, peers: &Peers) -> Result<(), Problems> {
    let (config, routing) = (node.config.load(), node.routing.load());
    let problems = peers.problems_with(&routing.document, &config.file, &config.region);
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn apply(node: &Node, before: &NodeConfig, config: &Arc<NodeConfig>, components: Components) {
    let Components { geo, tokens, identity } = components;
    let renamed = before.geoip.databases != config.geoip.databases;
    node.config.store(config.clone());
    node.occupancy.requests.set_limit(config.limits.requests_in_flight);
    put_geo_in_force(node, geo, if renamed { Said::ByOperator } else { Said::ByFile });
    node.tokens.store(Arc::new(tokens));
    put_identity_in_force(node, identity);
    if let Err(problems) = rebuild(node) {
        refuse(node, &config.file, &problems, "routing table rejected");
    }
}

fn reload_databases(node: &Node) -> Outcome {
    let config = node.config.load_full();
    match prepare::geo(&config) {
        Ok(geo) => {
            config.geoip.databases.iter().for_each(|file| node.reloads.accept(file));
            put_geo_in_force(node, geo, Said::ByFile);
            Outcome::Settled
        }
        Err(problems) => refuse_each(node, problems, "geo database rejected; the one before stays in force"),
    }
}

fn reload_token_keys(node: &Node) -> Outcome {
    let config = node.config.load_full();
    match prepare::tokens(&config) {
        Ok(tokens) => {
            node.tokens.store(Arc::new(tokens));
            token_key_files(&config).iter().for_each(|file| node.reloads.accept(file));
            tracing::info!("token keys applied");
            Outcome::Settled
        }
        Err(problems) => refuse_each(node, problems, "token key rejected; the ones before stay in force"),
    }
}

/// Who says that databases are to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The operator, by a start or by other names in the node file.
    ByOperator,
    /// Nobody: a file has other contents.
    ByFile,
}

/// Puts databases in force, unless they have to wait for somebody's word.
fn put_geo_in_force(node: &Node, geo: Geo, said: Said) {
    let max_change = node.config.load().geoip.max_change.filter(|_| said == Said::ByFile);
    let admitted = node.databases.admit(geo, max_change, node.routing.load_full().table());
    node.report_held_databases();
    match admitted {
        Ok(true) => tracing::info!("geo databases applied"),
        Ok(false) => {}
        Err(error) => {
            let file = node.config.load().file.clone();
            let problem = problem(&file, "geoip.databases", error.to_string());
            refuse(node, &file, &Problems(vec![problem]), "geo databases rejected; the ones before stay in force");
        }
    }
}

/// Loads certificates, authorities and secrets again. What is bad among them stays as it is in force, and keeps nothing
/// else from being renewed.
fn reload_certificates(node: &Node) -> Outcome {
    let written = node.written.load_full();
    let sets =
        node.listeners.iter().filter_map(|listener| Some((listener.id, listener.tls.as_ref()?.current().set.clone())));
    let in_force = IdentityInForce {
        peers: node.peers.load_full(),
        certificates: sets.collect(),
        roots: node.connector.load().roots(),
    };
    match Identity::renew(&written, &in_force, |peers| fits(node, peers)) {
        Ok((identity, problems)) => {
            identity.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            put_identity_in_force(node, identity);
            let bad: HashSet<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
            let good =
                certificate_files(&written).into_iter().filter(|file| !bad.contains(file.to_string_lossy().as_ref()));
            good.for_each(|file| node.reloads.accept(&file));
            tracing::info!("certificates applied");
            refuse_each(node, Problems(problems), "certificates rejected; the ones before stay in force")
        }
        Err(problems) => refuse_each(node, problems, "certificates rejected; the ones before stay in force"),
    }
}

/// Waits until a certificate in force becomes valid or expires; for a minute at most, since the wall clock may be set.
async fn certificate_boundary(node: &Node) {
    let now = clock::unix_seconds() as i64;
    let sets = node.listeners.iter().filter_map(|listener| Some(listener.tls.as_ref()?.current().set.clone()));
    let mut next: Option<i64> = node.peers.load().certificate.as_ref().and_then(|own| own.validity.next_boundary(now));
    for set in sets {
        next = next.into_iter().chain(set.entries().iter().filter_map(|entry| entry.validity.next_boundary(now))).min();
    }
    loop {
        let now = clock::unix_seconds() as i64;
        let left = next.map_or(u64::MAX, |next| u64::try_from(next - now).unwrap_or(0));
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left).min(LONGEST_LOOK)).await;
    }
}

/// From one look at the wall clock to the next.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// Peers come first: a handshake with what a listener has from them is judged by them too. A listener that the node
/// file has no more keeps its certificates until the restart that ends it.
fn put_identity_in_force(node: &Node, identity: Identity) {
    let Identity { peers, mut certificates, connector, warnings: _ } = identity;
    node.peers.replace(peers.clone());
    for listener in &node.listeners {
        let Some(tls) = &listener.tls else { continue };
        if let Err(error) = tls.replace(certificates.remove(&listener.id), &peers) {
            tracing::error!(%error, listener = listener.name, "a listener's certificates cannot be replaced");
        }
    }
    let connector = connector.succeeding(&node.connector.load());
    node.connector.store(Arc::new(connector));
}

/// Logs every problem, and shows them in `/status` under the file that was to be reloaded. What could not be read is tried
/// again, and told once.
fn refuse(node: &Node, source: &Path, problems: &Problems, what: &str) -> Outcome {
    let may_pass = problems.0.iter().any(Problem::may_pass);
    let is_news = node.reloads.reject(source.to_owned(), problems.0.clone());
    if is_news || !may_pass {
        let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error).count();
        tracing::error!(source = %source.display(), errors, "{what}");
        problems.0.iter().for_each(|problem| tracing::error!("{problem}"));
    }
    if may_pass { Outcome::Unread } else { Outcome::Settled }
}

/// The same for problems that each stand for a file of their own.
fn refuse_each(node: &Node, problems: Problems, what: &str) -> Outcome {
    let mut by_file: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
    for problem in problems.0 {
        by_file.entry(problem.file.clone()).or_default().push(problem);
    }
    let mut outcome = Outcome::Settled;
    for (file, problems) in by_file {
        if refuse(node, Path::new(&file), &Problems(problems), what) == Outcome::Unread {
            outcome = Outcome::Unread;
        }
    }
    outcome
}
