//! A new geo database on its way into force: judged by whom it would move, and held if they are too many.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use geoip::{Database, GeoDatabases, WalkError};
use policy::Table;
use policy::relocation::Relocations;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::CurrentDatabases;
use super::survey::{Clients, DatabaseGroup, Survey};
use crate::client::Geo;
use crate::clock;

/// Databases that are held: loaded and sound, and not in force.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Option<HeldRelease>>);

#[derive(Debug)]
struct HeldRelease {
    databases: Arc<GeoDatabases>,
    status: HeldStatus,
}

/// What `/status` tells of held databases. Times are Unix seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeldStatus {
    /// Those that are not in force yet.
    pub(crate) databases: Vec<HeldDatabase>,
    /// Since when.
    pub(crate) since: u64,
    /// What they would change.
    pub(crate) change: Change,
    /// What the node file lets them, 0 to 1.
    pub(crate) max_change: f64,
}

/// A database that is not the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub(crate) struct HeldDatabase {
    pub(crate) file: String,
    pub(crate) kind: String,
    pub(crate) build_epoch: u64,
    /// Of the one in force at its place.
    pub(crate) build_epoch_in_force: Option<u64>,
}

/// Whom new databases would move to other jurisdictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// By which `share` is.
    pub(crate) by: Measure,
    /// The share that moves, 0 to 1: of IPv4 or of IPv6, whichever is more, if it is by address space.
    pub(crate) share: f64,
    /// Recent clients that were asked about.
    pub(crate) clients: usize,
    /// Of these, how many move.
    pub(crate) clients_moved: usize,
    /// From which jurisdictions to which, the largest first.
    pub(crate) moves: Vec<JurisdictionMove>,
}

/// What a change is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// The clients of recent requests.
    Clients,
    /// The address space that any of the databases has a record for: too few clients were seen.
    AddressSpace,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Measure::Clients => "recent clients",
            Measure::AddressSpace => "address space",
        }
    }
}

/// What goes one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub(crate) struct JurisdictionMove {
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    /// As [`Change::share`] is.
    pub(crate) share: f64,
}

/// With fewer clients, one more or less would be a percent: the address space is asked instead.
const FEWEST_CLIENTS: usize = 100;

/// Moves that `/status` and the log show: more would not be read.
const MOVES: usize = 5;

impl Change {
    /// Compares two sets of databases under a table: by these clients if they are enough, else by address space. Where
    /// the rest of the node's settings for locating clients is the same, the result is what the node would do.
    ///
    /// # Errors
    /// When the address space has to be asked, and a database cannot be walked.
    pub(crate) fn between(old: &Geo, new: &Geo, table: &Table, clients: &[IpAddr]) -> Result<Self, WalkError> {
        let relocations = Relocations::new(table);
        let by_clients = Self::for_clients(old, new, &relocations, clients);
        if clients.len() >= FEWEST_CLIENTS {
            return Ok(by_clients);
        }
        let by_space = Self::for_address_space(old, new, &relocations)?;
        Ok(Self { clients: by_clients.clients, clients_moved: by_clients.clients_moved, ..by_space })
    }

    fn for_clients(old: &Geo, new: &Geo, relocations: &Relocations<'_>, clients: &[IpAddr]) -> Self {
        let mut ways: FxHashMap<_, usize> = FxHashMap::default();
        for client in clients {
            let jurisdictions = |geo: &Geo| relocations.jurisdictions(&geo.origin(&geo.databases.lookup(*client)));
            let (before, after) = (jurisdictions(old), jurisdictions(new));
            if before != after {
                *ways.entry((before, after)).or_default() += 1;
            }
        }
        let clients_moved = ways.values().sum();
        let share = |count: usize| if clients.is_empty() { 0.0 } else { count as f64 / clients.len() as f64 };
        let shares = ways.into_iter().map(|((before, after), count)| JurisdictionMove {
            from: names(relocations.names(&before)),
            to: names(relocations.names(&after)),
            share: share(count),
        });
        let (by, moves) = (Measure::Clients, largest(shares.collect()));
        Self { by, share: share(clients_moved), clients: clients.len(), clients_moved, moves }
    }

    fn for_address_space(old: &Geo, new: &Geo, relocations: &Relocations<'_>) -> Result<Self, WalkError> {
        let databases: Vec<&Database> = old.databases.databases().chain(new.databases.databases()).collect();
        let before: DatabaseGroup = (0..old.databases.databases().count()).collect();
        let after: DatabaseGroup = (before.len()..databases.len()).collect();
        let onwards = |_, _| ControlFlow::Continue(());
        let survey = Survey::of(&databases, &[before, after], new, &Clients::default(), onwards)?;
        let (mut moved, mut ways) = (geoip::Space::default(), FxHashMap::default());
        for (answers, what) in survey.combinations() {
            let [before, after] = answers.as_slice() else { continue };
            let (before, after) = (relocations.jurisdictions(before), relocations.jurisdictions(after));
            if before != after {
                moved.add(what.amount.space);
                let way: &mut geoip::Space = ways.entry((before, after)).or_default();
                way.add(what.amount.space);
            }
        }
        let whole = &survey.assigned.space;
        let shares = ways.into_iter().map(|((before, after), space)| JurisdictionMove {
            from: names(relocations.names(&before)),
            to: names(relocations.names(&after)),
            share: space.greater_share(whole),
        });
        let (by, moves) = (Measure::AddressSpace, largest(shares.collect()));
        Ok(Self { by, share: moved.greater_share(whole), clients: 0, clients_moved: 0, moves })
    }

    /// Returns the change in words, for a log.
    fn in_words(&self) -> String {
        let moves: Vec<String> = self
            .moves
            .iter()
            .map(|each| format!("{} → {}: {:.2} %", each.from.join(" "), each.to.join(" "), each.share * 100.0))
            .collect();
        moves.join("; ")
    }
}

impl Held {
    /// Returns what `/status` shows of held databases.
    pub(crate) fn status(&self) -> Option<HeldStatus> {
        self.lock().as_ref().map(|release| release.status.clone())
    }

    /// Returns what operators should know, in words; `None` while nothing is held.
    pub(crate) fn warning(&self) -> Option<String> {
        let held = self.lock();
        let status = &held.as_ref()?.status;
        let files: Vec<&str> = status.databases.iter().map(|database| database.file.as_str()).collect();
        let share = status.change.share * 100.0;
        let by = status.change.by.name();
        Some(format!(
            "geo databases are held ({}): they would move {share:.2} % by {by}; see /status",
            files.join(", ")
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Option<HeldRelease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CurrentDatabases {
    /// Puts databases in force, with what else of the node file locates clients; or holds the databases, when they
    /// would move a larger share of the clients, in the jurisdictions of `table`, than `max_change`. What was held
    /// before is superseded. Returns whether they are in force.
    ///
    /// # Errors
    /// When they cannot be compared with those in force; these stay, then.
    pub(crate) fn admit(&self, geo: Geo, max_change: Option<f64>, table: &Table) -> Result<bool, WalkError> {
        let Some(max_change) = max_change else {
            let mut held = self.held.lock();
            self.in_force.store(Arc::new(geo));
            *held = None;
            return Ok(true);
        };
        let clients = self.recent.distinct();
        loop {
            let before = self.in_force.load_full();
            // What else of the node file locates clients counts at once, and is no change of databases.
            let as_before = Geo { databases: before.databases.clone(), ..geo.clone() };
            let change = Change::between(&as_before, &geo, table, &clients);
            let mut held = self.held.lock();
            if !Arc::ptr_eq(&before, &self.in_force.load()) {
                // What was held has been accepted meanwhile.
                continue;
            }
            let change = match change {
                Ok(change) => change,
                Err(error) => {
                    self.in_force.store(Arc::new(as_before));
                    return Err(error);
                }
            };
            if change.share <= max_change {
                self.in_force.store(Arc::new(geo));
                if held.take().is_some() {
                    tracing::info!("geo databases are no longer held: those that came after them are in force");
                }
                return Ok(true);
            }
            let databases = differing(&before.databases, &geo.databases);
            let names: Vec<&str> = databases.iter().map(|database| database.file.as_str()).collect();
            tracing::warn!(
                databases = names.join(", "),
                moved = format!("{:.2} %", change.share * 100.0),
                by = change.by.name(),
                clients = change.clients,
                max_change = format!("{:.2} %", max_change * 100.0),
                moves = change.in_words(),
                "geo databases held: they would move too many clients to other jurisdictions; those before stay in force; \
                 see `meridian geo compare`, then POST /geoip/accept or restart to put them in force"
            );
            let again = held.as_ref().filter(|release| release.status.databases == databases);
            let since = again.map_or_else(clock::unix_seconds, |release| release.status.since);
            self.in_force.store(Arc::new(as_before));
            let status = HeldStatus { databases, since, change, max_change };
            *held = Some(HeldRelease { databases: geo.databases, status });
            return Ok(false);
        }
    }

    /// Puts the held databases in force. `build_epoch` says which are meant, if others may have come since: that of any of
    /// them will do.
    ///
    /// # Errors
    /// When none are held, or others.
    pub(crate) fn accept(&self, build_epoch: Option<u64>) -> Result<HeldStatus, NotAccepted> {
        let mut held = self.held.lock();
        let Some(release) = held.take() else { return Err(NotAccepted::NoneHeld) };
        let is_meant = |epoch: u64| release.status.databases.iter().any(|database| database.build_epoch == epoch);
        if !build_epoch.is_none_or(is_meant) {
            *held = Some(release);
            return Err(NotAccepted::Others);
        }
        let geo = self.in_force.load_full();
        self.in_force.store(Arc::new(Geo { databases: release.databases, ..(*geo).clone() }));
        drop(held);
        tracing::warn!(moves = release.status.change.in_words(), "held geo databases accepted, and in force");
        Ok(release.status)
    }
}

/// Why held databases are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAccepted {
    /// None are held.
    NoneHeld,
    /// Others are held than those that are meant.
    Others,
}

/// Returns the databases that are not those in force at their places; all of them, if they look the same.
fn differing(in_force: &GeoDatabases, new: &GeoDatabases) -> Vec<HeldDatabase> {
    let facts = |database: &Database| (database.kind().to_owned(), database.build_epoch(), database.nodes());
    let in_force: Vec<&Database> = in_force.databases().collect();
    let pair = |(index, database): (usize, &Database)| {
        let at_its_place = in_force.iter().find(|old| old.path() == database.path()).or(in_force.get(index)).copied();
        let told = HeldDatabase {
            file: database.path().display().to_string(),
            kind: database.kind().to_owned(),
            build_epoch: database.build_epoch(),
            build_epoch_in_force: at_its_place.map(Database::build_epoch),
        };
        (told, at_its_place.is_some_and(|old| facts(old) == facts(database)))
    };
    let pairs: Vec<(HeldDatabase, bool)> = new.databases().enumerate().map(pair).collect();
    let alike = pairs.iter().all(|(_, same)| *same);
    pairs.into_iter().filter(|(_, same)| alike || !same).map(|(told, _)| told).collect()
}

fn largest(mut moves: Vec<JurisdictionMove>) -> Vec<JurisdictionMove> {
    moves.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to))));
    moves.truncate(MOVES);
    moves
}

fn names(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
