//! The addresses that endpoints' names stand for: looked up once for all, renewed in the background,
//! and kept while the name server fails, or says for less than a grace period that a name does not exist: registries drop
//! a name for some seconds when they lose their leader, restart, or redeploy what is behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name as DnsName, RecordType};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock;
use crate::clock::uptime;
use crate::supervise::{note_end, rehearse};
use crate::upstream::name_servers;

/// Looks names up, for every worker and every probe. A copy shares the names that it knows.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Names>);

/// Every name in use, and who is asked for them.
struct Names {
    /// The system's when empty.
    servers: Vec<SocketAddr>,
    /// Made for the first name: a node without names needs no name server. Made anew when the system's files change.
    dns: ArcSwapOption<TokioResolver>,
    /// Counts how often it was made anew; each name is looked up then.
    remade: watch::Sender<u64>,
    /// How long the addresses of a name that does not exist any more stay in use, in milliseconds.
    absence_grace_ms: AtomicU64,
    known: DashMap<String, Arc<Name>>,
}

/// One name, which a task of its own keeps current while it is in use.
#[derive(Debug)]
struct Name {
    host: String,
    answer: watch::Sender<LookupState>,
    /// Counts the answers that differed from the one before.
    generation: AtomicU64,
    /// Which address the next connection tries first.
    turn: AtomicUsize,
    /// When it was last asked for, in milliseconds of [`uptime`].
    used_ms: AtomicU64,
    /// Whether the last look-up failed, so that an outage is logged once.
    fails: AtomicBool,
    /// Whether the name was said not to exist, and its addresses are in use all the same.
    is_doubted: AtomicBool,
}

/// What is known of a name.
#[derive(Clone, Debug)]
enum LookupState {
    /// Nothing yet.
    Awaited,
    /// Its addresses, sorted, and never none.
    Addresses { addresses: Arc<[IpAddr]>, generation: u64 },
    /// There are none, or nobody could say.
    Nothing(Arc<str>),
}

/// An address that a name stood for when a connection was opened.
#[derive(Debug)]
pub(crate) struct ResolvedAddress {
    /// The address.
    pub(crate) address: IpAddr,
    name: Arc<Name>,
    /// The newest answer that is known to have the address.
    generation: AtomicU64,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum ResolveError {
    #[error("no address for {host:?}: {why}")]
    Nothing { host: String, why: Arc<str> },
    #[error("no address for {0:?}: the node keeps {MAX_NAMES} names already")]
    TooMany(String),
}

/// Returns whether a connection leads where its endpoint's name leads now; `None` is an endpoint that is an
/// address. One load of an integer, unless the answer has changed since.
pub(crate) fn leads_there(place: &Option<ResolvedAddress>) -> bool {
    place.as_ref().is_none_or(|place| {
        let latest = place.name.generation.load(Ordering::Acquire);
        place.generation.load(Ordering::Relaxed) == latest || place.is_still_in(latest)
    })
}

impl ResolvedAddress {
    #[cold]
    fn is_still_in(&self, latest: u64) -> bool {
        let LookupState::Addresses { addresses, .. } = &*self.name.answer.borrow() else { return false };
        let found = addresses.binary_search(&self.address).is_ok();
        if found {
            self.generation.store(latest, Ordering::Relaxed);
        }
        found
    }
}

impl Resolver {
    /// Asks these name servers, or the system's if there are none. Nothing is asked before the first name. The addresses of
    /// a name that is said not to exist any more stay in use for `absence_grace`.
    pub(crate) fn new(servers: Vec<SocketAddr>, absence_grace: Duration) -> Self {
        Self(Arc::new(Names {
            servers,
            dns: ArcSwapOption::empty(),
            remade: watch::Sender::new(0),
            absence_grace_ms: AtomicU64::new(millis(absence_grace)),
            known: DashMap::new(),
        }))
    }

    /// The same, with another's grace for absent names from now on.
    #[must_use]
    pub(crate) fn with_grace_of(&self, other: &Self) -> Self {
        self.0.absence_grace_ms.store(other.0.absence_grace_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.clone()
    }

    /// Reads the [`name_servers::system_files`] anew, has every name looked up by them, and returns whether it did. What is known
    /// of a name stays until there is an answer; files that cannot be used change nothing.
    pub(crate) fn read_system(&self) -> bool {
        if self.0.dns.load().is_none() {
            // They are read for the first name.
            return false;
        }
        match name_servers::resolver(&self.0.servers) {
            Ok(dns) => {
                self.0.dns.store(Some(Arc::new(dns)));
                self.0.remade.send_modify(|count| *count += 1);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the system's name servers or hosts cannot be read; those before stay in use");
                false
            }
        }
    }

    /// Returns whether both ask the same name servers.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        self.0.servers == other.0.servers
    }

    /// Returns the addresses of a name, the first another one each time. Waits only for a name's first answer, and
    /// then together with all others who do.
    ///
    /// # Errors
    /// When the name has no address, or none is known and no name server answers.
    pub(crate) async fn look_up(&self, host: &str) -> Result<Vec<ResolvedAddress>, ResolveError> {
        let name = self.name(host)?;
        name.used_ms.store(now_ms(), Ordering::Relaxed);
        let mut answer = name.answer.subscribe();
        // The channel cannot close: the name holds its sender.
        let answer = answer.wait_for(|answer| !matches!(answer, LookupState::Awaited)).await;
        let (addresses, generation) = match answer.as_deref() {
            Ok(LookupState::Addresses { addresses, generation }) => (addresses.clone(), *generation),
            Ok(LookupState::Nothing(why)) => {
                return Err(ResolveError::Nothing { host: host.to_owned(), why: why.clone() });
            }
            Ok(LookupState::Awaited) | Err(_) => {
                return Err(ResolveError::Nothing { host: host.to_owned(), why: "not known yet".into() });
            }
        };
        let first = name.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let (before, from) = addresses.split_at(first);
        let place = |address: &IpAddr| ResolvedAddress {
            address: *address,
            name: name.clone(),
            generation: AtomicU64::new(generation),
        };
        Ok(from.iter().chain(before).map(place).collect())
    }

    /// Returns a name, which is looked up from now on if it was not before.
    fn name(&self, host: &str) -> Result<Arc<Name>, ResolveError> {
        if let Some(name) = self.0.known.get(host) {
            return Ok(name.clone());
        }
        if self.0.known.len() >= MAX_NAMES {
            return Err(ResolveError::TooMany(host.to_owned()));
        }
        match self.0.known.entry(host.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => {
                let name = Arc::new(Name {
                    host: host.to_owned(),
                    answer: watch::Sender::new(LookupState::Awaited),
                    generation: AtomicU64::new(0),
                    turn: AtomicUsize::new(fastrand::usize(..)),
                    used_ms: AtomicU64::new(now_ms()),
                    fails: AtomicBool::new(false),
                    is_doubted: AtomicBool::new(false),
                });
                entry.insert(name.clone());
                tokio::spawn(keep_current(LookedUp { names: Arc::downgrade(&self.0), name: name.clone() }));
                Ok(name)
            }
        }
    }
}

/// Forgets a name whose look-ups have ended, however they have: the next request for it begins them anew. Lives as long as
/// they do.
struct LookedUp {
    names: Weak<Names>,
    name: Arc<Name>,
}

impl Drop for LookedUp {
    fn drop(&mut self) {
        if let Some(names) = self.names.upgrade() {
            names.known.remove_if(&self.name.host, |_, kept| Arc::ptr_eq(kept, &self.name));
        }
        if std::thread::panicking() {
            note_end("resolver");
            tracing::error!(
                name = self.name.host,
                "the look-ups of a name have panicked; the next request begins them anew"
            );
            self.name.lose("its look-ups have ended");
        }
    }
}

/// Looks a name up again whenever its answer is past its time, until nobody uses it.
async fn keep_current(looked_up: LookedUp) {
    let LookedUp { names, name } = &looked_up;
    rehearse("resolver");
    let Some(mut remade) = names.upgrade().map(|known| known.remade.subscribe()) else { return };
    let mut full_name = None;
    let mut absent_since = None;
    while let Some(known) = names.upgrade() {
        // What is found out now is by what is in force now.
        remade.mark_unchanged();
        let next = match known.ask(&name.host, full_name.as_ref()).await {
            Ok(found) => {
                name.learn(found.addresses);
                full_name = Some(found.full_name);
                absent_since = None;
                found.ttl.clamp(MIN_TTL, MAX_TTL)
            }
            Err(Unknown::Absent(why)) => {
                let since = *absent_since.get_or_insert_with(uptime);
                let left = known.absence_grace().saturating_sub(uptime().saturating_sub(since));
                if left.is_zero() || !name.doubt(&why) {
                    name.lose(&why);
                    ABSENT_TTL
                } else {
                    RETRY.min(left)
                }
            }
            Err(Unknown::Unanswered(why)) => {
                name.miss(&why);
                RETRY
            }
        };
        // Not held while waiting: the names of a connector that is gone end.
        drop(known);
        // An error: the names are gone, as is seen next.
        drop(timeout(next, remade.changed()).await);
        if let Some(known) = names.upgrade()
            && name.is_unused()
            && known.known.remove_if(&name.host, |_, kept| Arc::strong_count(kept) == HELD_HERE).is_some()
        {
            return;
        }
    }
    // Connections that are left lead where nobody looks any more.
    name.lose("other name servers are asked now");
}

/// What a look-up found.
struct LookupResult {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    /// The name that has them: with a search domain, longer than the one asked for.
    full_name: DnsName,
}

/// Why a look-up has no addresses.
enum Unknown {
    /// A name server says that there are none.
    Absent(String),
    /// No name server says anything that can be used.
    Unanswered(String),
}

impl Names {
    /// Asks for a name's addresses. One that had some under its full name has none only when that
    /// very name has none of either family: with several questions, to several search domains, one
    /// that nobody answers can hide behind another that is answered.
    async fn ask(&self, host: &str, full_name: Option<&DnsName>) -> Result<LookupResult, Unknown> {
        let dns = match self.dns.load_full() {
            Some(dns) => dns,
            None => {
                let dns = Arc::new(
                    name_servers::resolver(&self.servers).map_err(|error| Unknown::Unanswered(error.to_string()))?,
                );
                self.dns.store(Some(dns.clone()));
                dns
            }
        };
        // What is kept is kept here.
        dns.clear_cache();
        let error = match dns.lookup_ip(host).await {
            Ok(found) => {
                let ttl = found.valid_until().saturating_duration_since(clock::timer_now().into_std());
                let addresses: Vec<IpAddr> = found.iter().take(MAX_KEPT).collect();
                return if addresses.is_empty() {
                    Err(Unknown::Absent("the name has no address".to_owned()))
                } else {
                    Ok(LookupResult { addresses, ttl, full_name: found.query().name().clone() })
                };
            }
            Err(error) => error,
        };
        if !is_absence(&error) {
            return Err(Unknown::Unanswered(error.to_string()));
        }
        if let Some(full_name) = full_name {
            for family in [RecordType::A, RecordType::AAAA] {
                match dns.lookup(full_name.clone(), family).await {
                    Err(error) if is_absence(&error) => {}
                    Ok(_) => return Err(Unknown::Unanswered("the answers differ".to_owned())),
                    Err(error) => return Err(Unknown::Unanswered(error.to_string())),
                }
            }
        }
        Err(Unknown::Absent(error.to_string()))
    }

    fn absence_grace(&self) -> Duration {
        Duration::from_millis(self.absence_grace_ms.load(Ordering::Relaxed))
    }
}

impl Name {
    /// Takes a look-up's answer.
    fn learn(&self, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        if self.fails.swap(false, Ordering::Relaxed) {
            tracing::info!(name = self.host, "the name server answers again");
        }
        if self.is_doubted.swap(false, Ordering::Relaxed) {
            tracing::info!(name = self.host, "a name exists again");
        }
        let mut first = false;
        let changed = self.answer.send_if_modified(|answer| {
            first = matches!(answer, LookupState::Awaited);
            if matches!(answer, LookupState::Addresses { addresses: before, .. } if **before == *addresses) {
                return false;
            }
            let generation = self.generation.load(Ordering::Relaxed) + 1;
            *answer = LookupState::Addresses { addresses: addresses.as_slice().into(), generation };
            self.generation.store(generation, Ordering::Release);
            true
        });
        if changed && !first {
            tracing::info!(name = self.host, ?addresses, "a name's addresses changed");
        }
    }

    /// Takes it that the name may have no address any more, and returns whether it has some that stay in use for now.
    fn doubt(&self, why: &str) -> bool {
        let is_known = matches!(&*self.answer.borrow(), LookupState::Addresses { .. });
        if is_known && !self.is_doubted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                name = self.host,
                why,
                "a name is said not to exist any more; its last answer stays in use for now"
            );
        }
        is_known
    }

    /// Takes it that the name has no address: what it stood for may be somebody else's by now.
    fn lose(&self, why: &str) {
        let before = self.answer.send_replace(LookupState::Nothing(why.into()));
        self.generation.fetch_add(1, Ordering::Release);
        self.is_doubted.store(false, Ordering::Relaxed);
        if matches!(before, LookupState::Addresses { .. }) {
            tracing::warn!(name = self.host, why, "a name has no address any more");
        }
    }

    /// Takes it that nobody could say: the last answer stays in use.
    fn miss(&self, why: &str) {
        self.answer.send_if_modified(|answer| {
            let knows_nothing = !matches!(answer, LookupState::Addresses { .. });
            if knows_nothing {
                *answer = LookupState::Nothing(why.into());
            }
            knows_nothing
        });
        if !self.fails.swap(true, Ordering::Relaxed) {
            tracing::warn!(name = self.host, why, "no name server answers; the last answer, if any, stays in use");
        }
    }

    fn is_unused(&self) -> bool {
        now_ms().saturating_sub(self.used_ms.load(Ordering::Relaxed)) > UNUSED_MS
    }
}

/// Returns whether a name server has said that there is no such name or no such record.
fn is_absence(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(_)))
}

fn now_ms() -> u64 {
    millis(uptime())
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// How long an answer is good, whatever its TTL says.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(5 * 60);
/// How long it is good that there is no address.
const ABSENT_TTL: Duration = Duration::from_secs(5);
/// From one look-up that nobody answered to the next; and from one that says that a known name is absent.
const RETRY: Duration = Duration::from_secs(1);
/// Names of a node's endpoints, over all its tables.
const MAX_NAMES: usize = 10_000;
/// Addresses of one name.
const MAX_KEPT: usize = 64;
/// Who holds a name that no connection leads to: the map, and the task that keeps it current.
const HELD_HERE: usize = 2;
/// A name that is in a table is asked for by its probes, once an hour at the least.
const UNUSED_MS: u64 = 2 * 60 * 60 * 1000;
