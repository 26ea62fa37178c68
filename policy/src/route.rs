//! Routes: which of a table's entries a request falls under.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use smallvec::SmallVec;

use crate::failover::FailoverScope;
use crate::jurisdiction::{ClassId, JurisdictionId};
pub use crate::pressure::Criticality;
use crate::pressure::Spill;
use crate::region::{Access, RegionSet};
use crate::score::Scoring;

/// One route as a table describes it, names resolved.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The name, unique in the table.
    pub name: String,
    /// Which hosts it is for.
    pub host: HostPattern,
    /// Which paths it is for.
    pub path: PathPattern,
    /// Which methods it is for; `None` is all.
    pub methods: Option<MethodSet>,
    /// What kind of data it carries.
    pub data_class: ClassId,
    /// An index into the table's scorings.
    pub scoring: usize,
    /// How late it is shed.
    pub criticality: Criticality,
    /// Whose share of a region's places its requests take: a position in the table's traffic classes.
    pub traffic_class: Option<usize>,
    /// Whether requests read or write; `None` decides by method and upgrade.
    pub access: Option<Access>,
    /// Frameworks a region must hold, in lower case.
    pub require_compliance: Vec<String>,
    /// Frameworks that earn compliance points, in lower case.
    pub prefer_compliance: Vec<String>,
    /// Regions beyond this round trip are not eligible.
    pub max_latency: Option<Duration>,
    /// For reads: regions that report a larger lag are not eligible.
    pub max_replication_lag: Option<Duration>,
    /// Whether a replica that reports no lag is eligible under [`RouteSpec::max_replication_lag`].
    pub lag_unknown: UnknownLag,
    /// How far requests may go from their first choice.
    pub failover: FailoverScope,
    /// The header in which a trusted proxy says `granted`, in lower case.
    pub consent_header: Option<String>,
    /// The claim of a verified bearer token that says the same.
    pub consent_claim: Option<String>,
    /// The tenant's jurisdictions: their rules hold wherever the client is.
    pub jurisdictions: Vec<JurisdictionId>,
    /// The header in which a trusted proxy names more of them, in lower case.
    pub jurisdiction_header: Option<String>,
    /// Request fields that origins of this route get though they are [`crate::stripped`] by default, in
    /// lower case.
    pub pass_request_headers: Vec<String>,
    /// The name that TLS origins are asked for, and must prove.
    pub server_name: ServerName,
    /// How a client is kept at its region.
    pub affinity: Affinity,
    /// From the request's arrival to the response head, over all attempts; and between two pieces of an answer that
    /// says how long it is.
    pub timeout: Duration,
    /// For how long an answer that does not say how long it is (a stream) may be silent, and a gRPC call's client.
    pub stream_idle_timeout: Duration,
    /// Whether any client may pause for as long, in content that does not say how long it is: the table says for how
    /// long.
    pub streams_uploads: bool,
    /// What may be tried again.
    pub retry: Retry,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// The name that a TLS origin is asked for (SNI), and that its certificate must be for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// The endpoint's own.
    #[default]
    Endpoint,
    /// The host that the client asks for.
    Client,
    /// This one, in lower case.
    Name(Arc<str>),
}

/// What is assumed of a replica that reports no replication lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownLag {
    /// That it is fresh enough.
    #[default]
    Eligible,
    /// That it is not.
    Ineligible,
}

impl UnknownLag {
    /// Returns its name, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            UnknownLag::Eligible => "eligible",
            UnknownLag::Ineligible => "ineligible",
        }
    }
}

/// What a client sends after a request's head. Whatever it is, it carries data to where the request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Payload {
    /// Nothing.
    #[default]
    Nothing,
    /// Content (RFC 9110, 6.4), which any method may have.
    Content,
    /// The bytes of a tunnel that it asks to upgrade to, such as a WebSocket.
    Tunnel,
}

/// A compiled route: its description, and masks for the decision.
#[derive(Clone, Debug)]
pub struct Route {
    /// What the table says.
    pub spec: RouteSpec,
    /// Regions that may serve reads, if healthy: capability, required compliance, not disabled.
    pub(crate) able_to_read: RegionSet,
    /// The same for writes.
    pub(crate) able_to_write: RegionSet,
    pub(crate) restricted: bool,
    pub(crate) scoring: Arc<Scoring>,
    /// [`RouteSpec::max_latency`] in milliseconds; infinite when there is none.
    pub(crate) max_latency_ms: f32,
    /// What share of its clients an overloaded region spills, by how critical their requests are.
    pub(crate) spills: [Spill; 3],
}

impl Route {
    /// Returns how critical a request of which a trusted source says so is: that can lower it, and never raise it.
    pub fn criticality(&self, said: Option<Criticality>) -> Criticality {
        said.map_or(self.spec.criticality, |said| said.min(self.spec.criticality))
    }

    /// Returns what share of the clients of such requests an overloaded region spills.
    pub(crate) fn spill(&self, said: Option<Criticality>) -> &Spill {
        let [sheddable, default, critical] = &self.spills;
        match self.criticality(said) {
            Criticality::Sheddable => sheddable,
            Criticality::Default => default,
            Criticality::Critical => critical,
        }
    }

    /// Returns whether a request with this method reads or writes on this route. One with a payload writes
    /// whatever its method: in the content of a GET, and through a tunnel, a client sends what it likes.
    pub fn access(&self, method: Method, payload: Payload) -> Access {
        self.spec.access.unwrap_or(match (method, payload) {
            (Method::Get | Method::Head | Method::Options, Payload::Nothing) => Access::Read,
            _ => Access::Write,
        })
    }

    /// Returns whether the law keeps its data from some region, for some client: without a table that holds, nobody
    /// is served here ([`crate::View::table_expired`]).
    pub fn is_restricted(&self) -> bool {
        self.restricted
    }

    /// Returns the regions that could serve this kind of access.
    pub fn able(&self, access: Access) -> &RegionSet {
        match access {
            Access::Read => &self.able_to_read,
            Access::Write => &self.able_to_write,
        }
    }
}

/// An index into the table's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// Which hosts a route is for. Names are in lower case, without port or final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host.
    Exact(String),
    /// Every host below this name, at any depth: `*.example.com` holds `example.com`.
    Below(String),
}

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path only.
    Exact(String),
    /// This path and everything below it, by whole segments. Without its final `/`; the root is empty.
    Prefix(String),
}

/// How a client is kept at the region that served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// It is not.
    None,
    /// By its address, until the region is overloaded.
    ClientIp,
    /// By a cookie with this lifetime.
    Cookie(Duration),
}

/// What may be tried again, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// Upstream statuses that count as a failed attempt.
    pub statuses: Vec<u16>,
    /// Statuses of gRPC, 1 to 16, that count likewise where they come without a message.
    pub grpc_statuses: Vec<u8>,
    /// Bytes of request body kept for another attempt.
    pub body_bytes: usize,
    /// From an attempt's start to its response head.
    pub per_try_timeout: Option<Duration>,
    /// Whether a slow idempotent attempt is doubled.
    pub hedge: bool,
}

/// The request methods that a route can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any extension method: matches only routes that name no method.
    Other,
}

impl Method {
    /// Every method with a name of its own.
    pub const NAMED: [(&'static str, Method); 9] = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("CONNECT", Method::Connect),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("PATCH", Method::Patch),
    ];

    /// Makes the method of a request line; names are case-sensitive (RFC 9110, 9.1).
    pub fn from_name(name: &str) -> Self {
        Self::NAMED.iter().find(|(known, _)| *known == name).map_or(Method::Other, |(_, method)| *method)
    }

    /// Returns its name, `OTHER` for extension methods.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, known)| *known == self).map_or("OTHER", |(name, _)| name)
    }

    /// Returns whether repeating the request does no harm (RFC 9110, 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch | Method::Connect | Method::Other)
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MethodSet(u16);

impl MethodSet {
    /// Returns whether the method is in the set.
    pub fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u16) != 0
    }

    /// Returns whether a method is in both sets.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        Self(methods.into_iter().fold(0, |bits, method| bits | 1 << method as u16))
    }
}

/// The index that finds a request's route: exact host, then the longest wildcard, then any host;
/// in each the exact path, then the longest prefix; in each a route with methods, then without.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteIndex {
    exact: FxHashMap<Box<str>, Paths>,
    below: FxHashMap<Box<str>, Paths>,
    any: Paths,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    exact: FxHashMap<Box<str>, Alternatives>,
    prefix: FxHashMap<Box<str>, Alternatives>,
    longest_prefix: usize,
}

/// Routes of one host and path, those with methods first.
type Alternatives = SmallVec<[(Option<MethodSet>, RouteId); 2]>;

impl RouteIndex {
    pub(crate) fn new(routes: &[RouteSpec]) -> Self {
        let mut index = Self::default();
        for (id, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Any => &mut index.any,
                HostPattern::Exact(host) => index.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Below(parent) => index.below.entry(parent.as_str().into()).or_default(),
            };
            let alternatives = match &route.path {
                PathPattern::Exact(path) => paths.exact.entry(path.as_str().into()).or_default(),
                PathPattern::Prefix(path) => {
                    paths.longest_prefix = paths.longest_prefix.max(path.len());
                    paths.prefix.entry(path.as_str().into()).or_default()
                }
            };
            alternatives.push((route.methods, RouteId(id as u32)));
            alternatives.sort_by_key(|(methods, _)| methods.is_none());
        }
        index
    }

    /// Returns the most specific route for a request; `host` in lower case without port.
    pub(crate) fn find(&self, host: &str, path: &str, method: Method) -> Option<RouteId> {
        if let Some(found) = self.exact.get(host).and_then(|paths| paths.find(path, method)) {
            return Some(found);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(found) = self.below.get(parent).and_then(|paths| paths.find(path, method)) {
                    return Some(found);
                }
                rest = parent;
            }
        }
        self.any.find(path, method)
    }
}

impl Paths {
    fn find(&self, path: &str, method: Method) -> Option<RouteId> {
        if let Some(found) = self.exact.get(path).and_then(|routes| pick(routes, method)) {
            return Some(found);
        }
        if self.prefix.is_empty() {
            return None;
        }
        let mut prefix = path.strip_suffix('/').unwrap_or(path);
        loop {
            if prefix.len() <= self.longest_prefix
                && let Some(found) = self.prefix.get(prefix).and_then(|routes| pick(routes, method))
            {
                return Some(found);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

fn pick(routes: &Alternatives, method: Method) -> Option<RouteId> {
    let fits = |methods: &Option<MethodSet>| methods.is_none_or(|set| set.contains(method));
    routes.iter().find(|(methods, _)| fits(methods)).map(|(_, id)| *id)
}
