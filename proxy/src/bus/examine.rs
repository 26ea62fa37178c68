//! A publication on its way in force: signed by whom we trust, whole, new, compiled, proved, with this
//! node's region in it, and no more than the guard lets pass taken away.

use config::bus::{Entry, Place, Publication, Standing, TrustedKeys};
use config::{BusSource, Problem, RoutingTable, Severity};
use policy::shrinkage;

use super::tables::Table;

/// What a publication is compared with.
pub struct Against<'a> {
    /// How this node takes tables.
    pub source: &'a BusSource,
    /// The region that this node is in.
    pub region: &'a str,
    /// The table of all that is in force, if there is one.
    pub base: Option<&'a Table>,
    /// What the text says, if it was read before.
    pub known: Option<RoutingTable>,
}

/// Why a publication does not go in force.
#[derive(Debug)]
pub enum Refusal {
    /// There is something wrong with it.
    Bad(Vec<Problem>),
    /// It takes away more at once than it may: compared with another table it might be good.
    Shrinks(Vec<Problem>),
}

impl Refusal {
    /// What its publisher needs to know.
    pub fn problems(self) -> Vec<Problem> {
        match self {
            Refusal::Bad(problems) | Refusal::Shrinks(problems) => problems,
        }
    }
}

/// Examines a publication. Takes as long as the proof does: seconds for the largest tables.
///
/// # Errors
/// Everything that is wrong with it, as far as that could be found out.
pub fn examine(place: Place, entry: &Entry, publication: &Publication, against: Against<'_>) -> Result<Table, Refusal> {
    let name = name(place, entry.revision, against.source);
    let problem = |path: &str, message: String| Problem {
        severity: Severity::Error,
        file: name.clone(),
        line: 0,
        path: path.to_owned(),
        message,
    };
    let bad = |path: &str, message: String| Refusal::Bad(vec![problem(path, message)]);
    let claimed = publication.claimed_sha256.as_ref();
    if claimed.is_some_and(|claimed| *claimed != publication.sha256()) {
        return Err(bad("", "its text is not what its publisher sent: the hash differs".to_owned()));
    }
    let keys = TrustedKeys::load(&against.source.trusted_keys).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        bad("trusted_keys", format!("no table is believed while a key is bad: {}", texts.join("; ")))
    })?;
    keys.verify(publication, &against.source.access.bucket).map_err(|why| bad("", why))?;
    let standing = Standing::of(publication, entry.revision);
    if let Some(base) = against.base.filter(|base| !keys.is_empty() && standing.issued_ms < base.standing.issued_ms) {
        let (its, ours) = (standing.issued_ms, base.standing.issued_ms);
        let why = format!("it was signed before the table in force ({its} ms, {ours} ms): somebody repeats an old one");
        return Err(bad("", why));
    }
    let document = match against.known {
        Some(document) => document,
        None => RoutingTable::from_afar(&name, &publication.text).map_err(|problems| Refusal::Bad(problems.0))?,
    };
    if document.table.region_named(against.region).is_none() {
        let known: Vec<&str> = document.table.regions().map(|(_, region)| region.name.as_str()).collect();
        let (mine, known) = (against.region, known.join(", "));
        return Err(bad("regions", format!("there is no region {mine:?}, which this node is in; there are {known}")));
    }
    if let Some(base) = against.base {
        let lost = shrinkage(&base.document.table, &document.table);
        let too_much = lost
            .iter()
            .filter(|loss| loss.lost() > against.source.max_shrink && !publication.allow.contains(loss.name()));
        let most = against.source.max_shrink * 100.0;
        let problems: Vec<Problem> = too_much
            .map(|loss| {
                let name = loss.name();
                problem("", format!("{loss}; more than {most:.0} % at once needs its publisher's word: publish with --allow-shrink {name}"))
            })
            .collect();
        if !problems.is_empty() {
            return Err(Refusal::Shrinks(problems));
        }
    }
    Ok(Table { publication: publication.clone(), document, standing })
}

/// What a table of the bus is called in messages.
pub fn name(place: Place, revision: u64, source: &BusSource) -> String {
    format!("bus:{}/{}@{revision}", source.access.bucket, place.key())
}
