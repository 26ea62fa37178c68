//! Who a request's client is, and where it may be.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use geoip::{ClientIp, Database, Flag, Forwarded, GeoDatabases, Place, Record, TrustedProxies, client_ip};
use http::{HeaderMap, HeaderName, HeaderValue};
use policy::explain::Testimony;
use policy::globe::Coordinates;
use policy::{Country, CountrySet, Origin, Table};

use crate::client_counts::ClientNetwork;

/// Where clients are, and whose word about that counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Geo {
    /// The databases.
    pub(crate) databases: Arc<GeoDatabases>,
    /// The proxies whose headers are believed.
    pub(crate) trusted: TrustedProxies,
    /// The header in which they name the client's country.
    pub(crate) country_header: Option<HeaderName>,
    /// Autonomous systems whose addresses say nothing of where their users are.
    pub(crate) anonymous_asns: Vec<u32>,
}

impl Geo {
    /// Returns what a table that scores by how far clients are misses, if no database says where they are.
    pub(crate) fn lacks_coordinates(&self, table: &Table) -> Option<&'static str> {
        let is_known = self.databases.databases().any(Database::has_coordinates);
        (table.has_scores_by_client() && !is_known).then_some(
            "no database of geoip.databases has coordinates, so that routes whose scoring has latency_from = \"client\" go by \
             the node: take a database of cities",
        )
    }

    /// Returns whether the user of an address hides behind it.
    pub(crate) fn is_anonymous(&self, place: &Place<'_>) -> bool {
        self.hides(place.anonymous, place.asn)
    }

    /// Returns whether a network that is said to be anonymous, or has this number, hides its users.
    pub(crate) fn hides(&self, anonymous: bool, asn: Option<u32>) -> bool {
        anonymous || asn.is_some_and(|asn| self.anonymous_asns.contains(&asn))
    }

    /// Returns where the user of an address may be: on an anonymous network the address says nothing.
    pub(crate) fn origin(&self, place: &Place<'_>) -> Origin {
        if self.is_anonymous(place) { Origin::Unknown } else { Origin::of(place.countries()) }
    }
}

/// Who the client is, as far as the node can tell.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Whether the peer is a trusted proxy, whose headers are believed.
    pub(crate) peer_trusted: bool,
    /// Whether that is the client's own address: a trusted proxy that names nobody, or not readably,
    /// stands for its clients, and where they are is unknown.
    pub(crate) is_named: bool,
    /// Where it may be, by the databases.
    pub(crate) origin: Origin,
    /// What each of them says, as the access log has it: a JSON array of [`Testimony`], or nothing.
    pub(crate) evidence: Arc<str>,
    /// Whether it hides behind its address, so that no other source can make it certain.
    pub(crate) anonymous: bool,
    /// Where that is by the databases, unless it hides: for how far it is, and nothing else.
    pub(crate) coordinates: Option<Coordinates>,
    /// The country for the upstream's `x-client-country`.
    pub(crate) country: Option<HeaderValue>,
    /// The region for `x-client-region`.
    pub(crate) region: Option<HeaderValue>,
    /// The city for `x-client-city`.
    pub(crate) city: Option<HeaderValue>,
    /// The hash of its identity.
    pub(crate) key: u64,
}

impl Client {
    /// Makes a client whom the proxy that it comes by does not name: it may be anywhere, and nothing that it sends
    /// is the proxy's word.
    pub(crate) fn unnamed(proxy: IpAddr, geo: &Geo) -> Self {
        let address = proxy.to_canonical();
        Self::at(ClientIp { address, peer_trusted: false, forwarded: Forwarded::Malformed }, geo)
    }

    fn at(client: ClientIp, geo: &Geo) -> Self {
        let is_named = match client.forwarded {
            Forwarded::Header => true,
            Forwarded::Direct => !client.peer_trusted,
            Forwarded::Malformed => false,
        };
        let place = if is_named { geo.databases.lookup(client.address) } else { Place::default() };
        let text = |text: Option<&str>| text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
        Self {
            address: client.address,
            peer_trusted: client.peer_trusted,
            is_named,
            origin: geo.origin(&place),
            evidence: if is_named { evidence_text(geo, client.address) } else { Arc::default() },
            anonymous: geo.is_anonymous(&place),
            coordinates: place.coordinates.filter(|_| !geo.is_anonymous(&place)),
            country: text(place.country.as_ref().map(Country::code)),
            region: text(place.region),
            city: text(place.city),
            key: key_of(client.address),
        }
    }
}

/// Returns what each geo database says of an address.
pub(crate) fn evidence(geo: &Geo, address: IpAddr) -> Vec<Testimony> {
    geo.databases.databases().map(|database| testimony(geo, database, database.lookup(address))).collect()
}

fn evidence_text(geo: &Geo, address: IpAddr) -> Arc<str> {
    serde_json::to_string(&evidence(geo, address)).map_or_else(|_| Arc::default(), Arc::from)
}

/// Returns what one database says of an address: its country, by which field, and what else bears on where the
/// client is.
fn testimony(geo: &Geo, database: &Database, record: Option<Record<'_>>) -> Testimony {
    let source = database.path().file_name().unwrap_or(database.path().as_os_str()).to_string_lossy().into_owned();
    let Some(record) = record else {
        return Testimony { source, notes: vec!["does not list the address".to_owned()], ..Testimony::default() };
    };
    let mut notes = Vec::new();
    match (record.flag(), record.country) {
        (Some(Flag::Inside), Some(country)) => notes.push(format!(
            "is_in_european_union is true, and {country} is not in @EU: any country of the Union is possible as well"
        )),
        (Some(Flag::Inside), None) => notes.push("is_in_european_union is true".to_owned()),
        (Some(Flag::Outside), country) => notes.push(format!(
            "is_in_european_union is false, and {} is in @EU: any country is possible",
            country.map_or_else(String::new, |country| country.to_string())
        )),
        (None, _) => {}
    }
    if let Some(country) = record.represented {
        notes.push(format!("a base or an embassy of {country} (represented_country)"));
    }
    if record.country.is_none() {
        notes.extend(record.registered.map(|country| format!("registered in {country}, which is no place")));
        notes.extend(record.continent.map(|continent| format!("continent {}, which is no place", continent.code())));
    }
    notes.extend(record.asn.map(|asn| format!("AS{asn}")));
    if geo.hides(record.anonymous, record.asn) {
        notes.push("anonymous network".to_owned());
    }
    let field = record.country.map(|_| record.country_field.to_owned());
    Testimony { source, country: record.country, field, notes }
}

/// What a country header says of where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountryHint {
    /// Nothing, or that it does not know.
    Nothing,
    /// Any of these countries: one, unless a node says it.
    Countries(CountrySet),
    /// An anonymous network, or nothing that can be understood: the client may be anywhere.
    Anywhere,
}

/// Reads what a trusted proxy's country header says. `XX` is Cloudflare's and Fastly's word for an unknown
/// country, `T1` Cloudflare's for Tor.
pub(crate) fn country_hint(headers: &HeaderMap, header: &HeaderName) -> CountryHint {
    country_hint_in(headers.get_all(header).iter())
}

/// Reads the same from a header's lines.
pub(crate) fn country_hint_in<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> CountryHint {
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (None | Some(b"" | b"XX"), None) => CountryHint::Nothing,
        (Some(codes), None) => {
            let countries = std::str::from_utf8(codes).ok().and_then(|codes| {
                codes.split(',').map(|code| code.trim().parse::<Country>().ok()).collect::<Option<CountrySet>>()
            });
            countries.map_or(CountryHint::Anywhere, CountryHint::Countries)
        }
        (_, Some(_)) => CountryHint::Anywhere,
    }
}

/// Returns a client's origin, with one more source.
pub(crate) fn widened(client: &Client, hint: &CountryHint) -> Origin {
    match hint {
        _ if client.anonymous => Origin::Unknown,
        CountryHint::Nothing => client.origin,
        CountryHint::Anywhere => Origin::Unknown,
        CountryHint::Countries(more) => {
            let mut countries = client.origin.countries();
            countries.extend(more);
            Origin::of(countries)
        }
    }
}

/// Recent clients of one worker by address, so that a load balancer's connections, which carry
/// requests of many clients, do not look each of them up again. Of a fixed size: where an address may be there are
/// [`WAYS`] places, and a newcomer takes that of the client who was not there for longest.
#[derive(Debug)]
pub(crate) struct PlaceCache(Mutex<Box<[Places]>>);

/// The last one seen first.
type Places = [Option<CachedClient>; WAYS];

#[derive(Clone, Debug)]
struct CachedClient {
    seen: ClientIp,
    /// The databases that were asked: weak, so that replaced ones go.
    geo: Weak<Geo>,
    client: Arc<Client>,
}

/// Sets of places of a [`PlaceCache`]: for 4,096 clients, of about 500 bytes each.
const SETS: usize = 1024;
/// Places in a set: with as many clients as sets, one in 300 shares its set with more than there are places. With one
/// place, it would be every fifth that is looked up time and again.
const WAYS: usize = 4;

impl Default for PlaceCache {
    fn default() -> Self {
        Self(Mutex::new(vec![[const { None }; WAYS]; SETS].into()))
    }
}

impl PlaceCache {
    /// Finds out who a request's client is.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap, geo: &Arc<Geo>) -> Arc<Client> {
        let lines = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
        self.find(client_ip(peer, lines, &geo.trusted), geo)
    }

    /// Finds out who the client is whom another node names.
    pub(crate) fn named(&self, address: IpAddr, is_named: bool, geo: &Arc<Geo>) -> Arc<Client> {
        let forwarded = if is_named { Forwarded::Header } else { Forwarded::Malformed };
        self.find(ClientIp { address: address.to_canonical(), peer_trusted: true, forwarded }, geo)
    }

    fn find(&self, seen: ClientIp, geo: &Arc<Geo>) -> Arc<Client> {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(places) = sets.get_mut(key_of(seen.address) as usize % SETS) else {
            return Arc::new(Client::at(seen, geo));
        };
        let is_it = |known: &CachedClient| known.seen == seen && known.geo.as_ptr() == Arc::as_ptr(geo);
        let known = places.iter().position(|place| place.as_ref().is_some_and(is_it));
        // Those before it, or all, move on by one, and it comes first.
        if let Some(moved) = places.get_mut(..=known.unwrap_or(WAYS - 1)) {
            moved.rotate_right(1);
        }
        let [first, ..] = places;
        if known.is_none() {
            let client = Arc::new(Client::at(seen, geo));
            *first = Some(CachedClient { seen, geo: Arc::downgrade(geo), client });
        }
        first.as_ref().map_or_else(|| Arc::new(Client::at(seen, geo)), |known| known.client.clone())
    }
}

/// Returns the hash of the client that an address is of.
pub(crate) fn key_of(address: IpAddr) -> u64 {
    ClientNetwork::of(address).key()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn as_many_clients_as_there_are_sets_are_known_again() {
        let (places, geo) = (PlaceCache::default(), Arc::new(Geo::default()));
        let addresses = || (0..SETS as u32).map(|n| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n * 77)));
        let first: Vec<Arc<Client>> = addresses().map(|address| places.named(address, true, &geo)).collect();
        let again: Vec<Arc<Client>> = addresses().map(|address| places.named(address, true, &geo)).collect();
        assert!(first.iter().zip(addresses()).all(|(client, address)| client.address == address));
        let known = first.iter().zip(&again).filter(|(first, again)| Arc::ptr_eq(first, again)).count();
        assert!(known > SETS * 97 / 100, "{known} of {SETS}");
        let other = Arc::new(Geo::default());
        let anew: Vec<Arc<Client>> = addresses().map(|address| places.named(address, true, &other)).collect();
        assert!(
            first.iter().zip(&anew).all(|(first, anew)| !Arc::ptr_eq(first, anew)),
            "other databases, other answers"
        );
        let unnamed = places.named(first[0].address, false, &other);
        assert!(!unnamed.is_named && !Arc::ptr_eq(&unnamed, &anew[0]));
    }
}
