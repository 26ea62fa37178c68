//! A publication on its way in force: signed by whom we trust, whole, new, compiled, proved, with this
//! node's region in it and gateways that this node is known to, and no more than the guard lets pass taken away.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::bus::{Entry, Heartbeat, Origin, Place, Publication, Recency, TableVersion, TrustedKeys};
use config::{BusSource, Problem, RoutingTable, Severity};
use policy::{LawTime, shrinkage};

use super::freshness::moment;
use super::tables::Table;
use crate::peers::Peers;

/// What a publication is compared with.
pub struct Against<'a> {
    /// How this node takes tables.
    pub source: &'a BusSource,
    /// The node that it must fit.
    pub here: &'a Here,
    /// The table of all that is in force, if there is one.
    pub base: Option<&'a Table>,
    /// What the text says, if it was read before.
    pub known: Option<RoutingTable>,
    /// How it came here.
    pub origin: Origin,
    /// The newest verified heartbeat.
    pub heartbeat: Option<&'a Heartbeat>,
    /// The time at which the law is read.
    pub at: LawTime,
}

/// What of this node a table must fit.
#[derive(Clone, Debug)]
pub struct Here {
    /// The region that it is in.
    pub region: String,
    /// Its node file.
    pub node_file: PathBuf,
    /// Which other processes are nodes, now.
    pub peers: Arc<ArcSwap<Peers>>,
}

/// Why a publication does not go in force.
#[derive(Debug)]
pub enum Refusal {
    /// There is something wrong with it.
    Bad(Vec<Problem>),
    /// Nobody whom this node trusts stands for it. Quickly found out, and other tomorrow: a key may come.
    Untrusted(Vec<Problem>),
    /// It takes away more at once than it may: compared with another table it might be good.
    Shrinks(Vec<Problem>),
}

impl Refusal {
    /// What its publisher needs to know.
    pub fn problems(self) -> Vec<Problem> {
        match self {
            Refusal::Bad(problems) | Refusal::Untrusted(problems) | Refusal::Shrinks(problems) => problems,
        }
    }
}

/// Whether a publication is whole, and stands for somebody whom this node trusts.
///
/// # Errors
/// Why not.
pub fn trust(place: Place, entry: &Entry, publication: &Publication, against: &Against<'_>) -> Result<(), Refusal> {
    let name = name(place, entry.revision, against.source);
    let bad = |path: &str, message: String| Refusal::Untrusted(vec![problem(&name, path, message)]);
    let claimed = publication.claimed_sha256.as_ref();
    if claimed.is_some_and(|claimed| *claimed != publication.sha256()) {
        return Err(bad("", "its text is not what its publisher sent: the hash differs".to_owned()));
    }
    verified(publication, against.source).map_err(|why| bad("", why))?;
    let recency = Recency {
        witness: against.source.witness(),
        origin: against.origin,
        in_force: against.base.map(|base| &base.version),
        heartbeat: against.heartbeat,
        max_age: against.source.max_age,
        minimum_issued_ms: against.source.minimum_issued_ms,
    };
    recency.check(publication, moment()).map_err(|why| bad("", why.to_string()))
}

/// Checks whether a key that this node believes has signed a publication, whatever else is to be said of it.
///
/// # Errors
/// Why not, in words.
pub fn verified(publication: &Publication, source: &BusSource) -> Result<(), String> {
    keys(source)?.verify(publication, &source.access.bucket)
}

/// Reads the keys whose tables and heartbeats this node believes.
///
/// # Errors
/// When one of them is bad, in words.
pub fn keys(source: &BusSource) -> Result<TrustedKeys, String> {
    TrustedKeys::load(&source.trusted_keys).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("no table is believed while a key is bad: {}", texts.join("; "))
    })
}

/// Examines a publication. Takes as long as the proof does: seconds for the largest tables.
///
/// # Errors
/// Everything that is wrong with it, as far as that could be found out.
pub fn examine(place: Place, entry: &Entry, publication: &Publication, against: Against<'_>) -> Result<Table, Refusal> {
    trust(place, entry, publication, &against)?;
    let name = name(place, entry.revision, against.source);
    let bad = |path: &str, message: String| Refusal::Bad(vec![problem(&name, path, message)]);
    let document = match against.known {
        Some(document) if document.table.holds_at(against.at) => document,
        Some(document) => document.at(against.at).map_err(|error| bad("", error.to_string()))?,
        None => RoutingTable::from_afar(&name, &publication.text, against.at)
            .map_err(|problems| Refusal::Bad(problems.0))?,
    };
    if document.table.region_named(&against.here.region).is_none() {
        let known: Vec<&str> = document.table.regions().map(|(_, region)| region.name.as_str()).collect();
        let (mine, known) = (&against.here.region, known.join(", "));
        return Err(bad("regions", format!("there is no region {mine:?}, which this node is in; there are {known}")));
    }
    let Here { region, node_file, peers } = against.here;
    let unfit = peers.load().problems_with(&document, node_file, region);
    if !unfit.is_empty() {
        return Err(Refusal::Bad(unfit.into_iter().map(|problem| Problem { file: name.clone(), ..problem }).collect()));
    }
    if let Some(base) = against.base {
        // What the calendar takes away is nothing that the publisher does.
        let then = Some(&base.document.table).filter(|table| !table.holds_at(against.at));
        let then = then.map(|table| table.at(against.at)).transpose().map_err(|error| bad("", error.to_string()))?;
        let lost = shrinkage(then.as_ref().unwrap_or(&base.document.table), &document.table);
        let too_much = lost
            .iter()
            .filter(|loss| loss.lost() > against.source.max_shrink && !publication.allow.contains(loss.name()));
        let most = against.source.max_shrink * 100.0;
        let problems: Vec<Problem> = too_much
            .map(|loss| {
                let override_name = loss.name();
                problem(&name, "", format!("{loss}; more than {most:.0} % at once needs its publisher's word: publish with --allow-shrink {override_name}"))
            })
            .collect();
        if !problems.is_empty() {
            return Err(Refusal::Shrinks(problems));
        }
    }
    let version = TableVersion::of(publication, entry.revision);
    Ok(Table { publication: publication.clone(), document, version })
}

/// Examines a table after those that this node has missed before it. They do not go in force, but what
/// takes away no more at once than it may from the last good one of them is good: a node that was away
/// goes the way that the others went.
///
/// # Errors
/// As [`examine`].
pub fn examine_after(
    missed: &[Entry],
    entry: &Entry,
    source: &BusSource,
    here: &Here,
    base: &Arc<Table>,
    at: LawTime,
) -> Result<Table, Refusal> {
    let mut base = base.clone();
    let look = |entry: &Entry, base: &Table| {
        let publication = entry.publication.as_ref().filter(|publication| publication.epoch >= base.version.epoch)?;
        let (origin, base) = (Origin::Bus, Some(base));
        let against = Against { source, here, base, known: None, origin, heartbeat: None, at };
        Some(examine(Place::Table, entry, publication, against))
    };
    for entry in missed {
        if let Some(Ok(table)) = look(entry, &base) {
            base = Arc::new(table);
        }
    }
    look(entry, &base).unwrap_or_else(|| Err(Refusal::Bad(Vec::new())))
}

fn problem(file: &str, path: &str, message: String) -> Problem {
    Problem { severity: Severity::Error, file: file.to_owned(), line: 0, path: path.to_owned(), message }
}

/// What a table of the bus is called in messages.
pub fn name(place: Place, revision: u64, source: &BusSource) -> String {
    format!("bus:{}/{}@{revision}", source.access.bucket, place.key())
}
