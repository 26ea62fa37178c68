//! Examines a publication: hash, signature, time, compilation and proof, this node's region, the gateways that must
//! know this node, and the shrink guard.

use std::sync::Arc;
use std::time::SystemTime;

use config::bus::{Heartbeat, Origin, Place, Publication, Recency, TableVersion, TrustedKeys};
use config::{BusSource, Problem, RoutingTable, Severity};
use policy::{LawTime, shrinkage};

use crate::bus_state::Here;
use crate::bus_state::freshness::moment;
use crate::peers::headers::PublishedTable;

/// A publication as it arrived.
#[derive(Debug)]
pub(crate) struct Offered {
    /// The publication.
    pub(crate) publication: Publication,
    /// Its revision.
    pub(crate) revision: u64,
    /// When the bus stored it, by the bus's clock.
    pub(crate) created: SystemTime,
}

/// A table that has passed its examination.
#[derive(Debug)]
pub(crate) struct Table {
    /// The publication, as it arrived.
    pub(crate) publication: Publication,
    /// The compiled table.
    pub(crate) document: RoutingTable,
    /// The version with which later tables are compared.
    pub(crate) version: TableVersion,
}

impl Table {
    /// Returns which table of the bus it is.
    pub(crate) fn published(&self) -> PublishedTable {
        PublishedTable { epoch: self.version.epoch, revision: self.version.revision }
    }
}

/// What a publication is compared with.
pub(crate) struct Against<'a> {
    /// The node file's settings of the bus.
    pub(crate) source: &'a BusSource,
    /// The node that the table must fit.
    pub(crate) here: &'a Here,
    /// The table of all nodes in force, if there is one.
    pub(crate) base: Option<&'a Table>,
    /// The compiled table, if the same text was read before.
    pub(crate) known: Option<RoutingTable>,
    /// Where the publication comes from.
    pub(crate) origin: Origin,
    /// The newest verified heartbeat.
    pub(crate) heartbeat: Option<&'a Heartbeat>,
    /// The time at which the law is read.
    pub(crate) at: LawTime,
}

/// Why a publication is refused.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The publication has errors.
    Bad(Vec<Problem>),
    /// No trusted key has signed it, or not recently. Checked again later: a key or a heartbeat may arrive.
    Untrusted(Vec<Problem>),
    /// The table takes away more at once than it may: compared with another table it might be accepted.
    Shrinks(Vec<Problem>),
}

impl Refusal {
    /// Returns the problems, for the publisher.
    pub(crate) fn problems(self) -> Vec<Problem> {
        match self {
            Refusal::Bad(problems) | Refusal::Untrusted(problems) | Refusal::Shrinks(problems) => problems,
        }
    }
}

/// Checks that a publication is whole, recent, and signed by a trusted key.
///
/// # Errors
/// Why not.
pub(crate) fn trust(place: Place, offered: &Offered, against: &Against<'_>) -> Result<(), Refusal> {
    let (publication, name) = (&offered.publication, name(place, offered.revision, against.source));
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

/// Checks only that a trusted key has signed a publication.
///
/// # Errors
/// Why not, in words.
pub(crate) fn verified(publication: &Publication, source: &BusSource) -> Result<(), String> {
    keys(source)?.verify(publication, &source.access.bucket)
}

/// Reads the trusted keys.
///
/// # Errors
/// When one of them is bad, in words.
pub(crate) fn keys(source: &BusSource) -> Result<TrustedKeys, String> {
    TrustedKeys::load(&source.trusted_keys).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("no table is believed while a key is bad: {}", texts.join("; "))
    })
}

/// Examines a publication. Takes as long as the proof does: seconds for the largest tables.
///
/// # Errors
/// All problems that were found.
pub(crate) fn examine(place: Place, offered: &Offered, against: Against<'_>) -> Result<Table, Refusal> {
    trust(place, offered, &against)?;
    let (publication, name) = (&offered.publication, name(place, offered.revision, against.source));
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
        // What the law's dates take away does not count as taken away by the publisher.
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
                problem(&name, "", format!("{loss}; more than {most:.0} % at once needs an override: publish with --allow-shrink {override_name}"))
            })
            .collect();
        if !problems.is_empty() {
            return Err(Refusal::Shrinks(problems));
        }
    }
    let version = TableVersion::of(publication, offered.revision);
    Ok(Table { publication: publication.clone(), document, version })
}

/// Examines a table after those that this node has missed before it. The missed ones do not go in force,
/// but the shrink guard compares with the last good one of them, so that a node that was away accepts
/// what the others accepted step by step.
///
/// # Errors
/// As [`examine`].
pub(crate) fn examine_after(
    missed: &[Arc<Offered>],
    offered: &Offered,
    source: &BusSource,
    here: &Here,
    base: &Arc<Table>,
    at: LawTime,
) -> Result<Table, Refusal> {
    let mut base = base.clone();
    let look = |offered: &Offered, base: &Table| {
        if offered.publication.epoch < base.version.epoch {
            return None;
        }
        let (origin, base) = (Origin::Bus, Some(base));
        let against = Against { source, here, base, known: None, origin, heartbeat: None, at };
        Some(examine(Place::Table, offered, against))
    };
    for offered in missed {
        if let Some(Ok(table)) = look(offered, &base) {
            base = Arc::new(table);
        }
    }
    look(offered, &base).unwrap_or_else(|| Err(Refusal::Bad(Vec::new())))
}

fn problem(file: &str, path: &str, message: String) -> Problem {
    Problem { severity: Severity::Error, file: file.to_owned(), line: 0, path: path.to_owned(), message }
}

/// Returns the name of a bus's table in messages.
pub(crate) fn name(place: Place, revision: u64, source: &BusSource) -> String {
    format!("bus:{}/{}@{revision}", source.access.bucket, place.key())
}
