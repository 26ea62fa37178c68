//! What an explanation says. These types are the JSON of `meridian explain --format json`; their
//! comments are the descriptions of its schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::country::Country;
use crate::load::Reported;
use crate::moment::Moment;
use crate::region::Access;
use crate::round_trip::Measured;
use crate::score::{CurveShape, LatencyFrom, Terms};
use crate::verdict::Reason;

/// A decision explained: which region serves one request, and why each of the others does not.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Whether some region serves.
    pub verdict: Outcome,
    /// The status of the refusal; 200 for a forward, whose true status is the origin's.
    pub status: u16,
    /// The refusal's reason; null for a forward.
    pub reason: Option<Reason>,
    /// The reason in words; null for a forward.
    #[serde(default)]
    pub detail: Option<String>,
    /// Whether the refusal shows a rule's maintenance page instead of a problem document.
    #[serde(default)]
    pub page: bool,
    /// The request, as it was understood.
    #[serde(default)]
    pub request: RequestExplained,
    /// The route's name; null when none matches.
    pub route: Option<String>,
    /// What else the route says that the decision depends on.
    #[serde(default)]
    pub route_terms: Option<RouteTerms>,
    /// The route's data class.
    pub data_class: Option<String>,
    /// Whether the request reads or writes.
    pub access: Option<Access>,
    /// How the route scores.
    #[serde(default)]
    pub scoring: Option<ScoringExplained>,
    /// The table's version.
    pub table_version: String,
    /// The region of the node that decides.
    pub from: String,
    /// Where the client may be.
    pub origin: OriginExplained,
    /// The jurisdictions whose rules hold: those of the possible countries, and those declared.
    pub jurisdictions: Vec<String>,
    /// The rules that hold for this request. None: no rule restricts its data class here.
    #[serde(default)]
    pub rules: Vec<RuleExplained>,
    /// The rules for this data, of these jurisdictions, that bind nobody at this time: they have not begun, or
    /// are over and a later one has taken their place.
    #[serde(default)]
    pub not_in_force: Vec<DormantRule>,
    /// The time at which the law was read; null from a version that did not tell it.
    #[serde(default)]
    pub at: Option<Moment>,
    /// When a rule or an entry of a list begins or ends next; null for never.
    #[serde(default)]
    pub next_boundary: Option<Moment>,
    /// The regions that the law allows.
    pub allowed: Vec<String>,
    /// Those of them that could serve now.
    pub eligible: Vec<String>,
    /// What would be tried, first to last.
    pub order: Vec<String>,
    /// What happens if the first is down, and the next as well, to the refusal: the first eight
    /// steps and the last.
    #[serde(default)]
    pub if_down: Vec<FailureStep>,
    /// Every region of the table, in its order.
    pub regions: Vec<RegionExplained>,
}

/// Whether a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A region serves it.
    Forward,
    /// No region does.
    Refuse,
}

/// The request, as it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestExplained {
    /// The method; `OTHER` for one that no route can name.
    pub method: String,
    /// Whether it asks to upgrade to a tunnel (a WebSocket): a write, unless the route says otherwise.
    pub upgrade: bool,
    /// Whether it has content: a write too, unless the route says otherwise.
    pub content: bool,
    /// The host, in lower case, without its port.
    pub host: String,
    /// The path, decoded, without its query.
    pub path: String,
    /// Whether a trusted source says that the client consented.
    pub consent: bool,
    /// The jurisdictions that a trusted source declares.
    pub declared: Vec<String>,
    /// The region that the client is pinned to.
    pub pinned: Option<String>,
    /// The only region that may serve, because another node has already chosen it.
    pub only: Option<String>,
}

/// What a route says that the decision depends on, beside its data class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteTerms {
    /// The line of the table that declares the route.
    pub line: u32,
    /// How late it is shed and spilled: `critical`, `default` or `sheddable`.
    pub criticality: String,
    /// Its traffic class; null for none.
    #[serde(default)]
    pub traffic_class: Option<String>,
    /// How a client is kept at its region: `none`, `client_ip` or `cookie`. By `client_ip` neither
    /// the load below the overload mark nor the measured latency of the moment is weighed.
    pub affinity: String,
    /// How many attempts one request makes at most.
    pub attempts: u32,
    /// How far from the first choice they may go: `any`, `jurisdiction` or `region`; empty from a version that did not
    /// tell it.
    #[serde(default)]
    pub failover: String,
}

/// How a route scores regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoringExplained {
    /// The name of the scoring.
    pub name: String,
    /// What each term counts; together 1. A score is the sum of each term times its weight.
    pub weights: Shares,
    /// From where round trips are reckoned.
    #[serde(default)]
    pub latency_from: LatencyFrom,
    /// What a round trip is worth; null from a version that did not tell it.
    #[serde(default)]
    pub latency_curve: Option<CurveExplained>,
    /// Whether the shares of regions decide before scores do, where regions have them.
    #[serde(default)]
    pub shares: bool,
}

/// The points of the latency term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurveExplained {
    /// The name of the curve; null for one that the table draws itself.
    pub name: Option<String>,
    /// What holds between two knots. Before the first and after the last the curve is flat.
    pub shape: CurveShape,
    /// The knots, by their milliseconds.
    pub knots: Vec<KnotExplained>,
}

/// A knot of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KnotExplained {
    /// The round trip, in milliseconds.
    pub ms: f64,
    /// What it is worth, 0 to 100.
    pub points: f64,
}

/// The weights of a score's four terms, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Shares {
    pub latency: f32,
    pub load: f32,
    pub compliance: f32,
    pub cost: f32,
}

/// Where the client may be, and who says so.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OriginExplained {
    /// The possible countries; none when nothing is known.
    pub countries: Vec<Country>,
    /// Whether it is exactly one.
    pub certain: bool,
    /// What each source answered, in words.
    pub sources: Vec<String>,
    /// What each geo database says of the client's address.
    #[serde(default)]
    pub evidence: Vec<Testimony>,
    /// The jurisdictions that an unknown client is treated like; none where the client is known, or under every rule.
    #[serde(default)]
    pub like: Vec<String>,
    /// Its latitude and longitude in degrees, where the route's score goes by them; null where they are not known, or have no
    /// part in it. They never say whose law holds.
    #[serde(default)]
    pub coordinates: Option<(f64, f64)>,
}

/// What one source says of where a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Testimony {
    /// Who says it: a geo database's file, or a header.
    pub source: String,
    /// The country that it names; null where it names none.
    pub country: Option<Country>,
    /// The field that names it.
    #[serde(default)]
    pub field: Option<String>,
    /// What else it says, in words: what contradicts the country, and what does not place a client.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A rule that holds for the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleExplained {
    /// The rule: its regulation, or the key of the table that stands in for one.
    pub rule: String,
    /// The law's name; null for what is not a `[[residency]]` rule.
    pub regulation: Option<String>,
    /// Its line in the table; null for what stands in no line.
    pub line: Option<u32>,
    /// The jurisdiction that it protects.
    pub jurisdiction: Option<String>,
    /// Why it holds for this request.
    pub ground: Ground,
    /// The regions that it selects. Of a rule that is over, those that it has left.
    pub selects: Vec<String>,
    /// The regions that it denies, whatever opens them.
    #[serde(default)]
    pub denies: Vec<String>,
    /// When it begins; null for ever since.
    #[serde(default)]
    pub valid_from: Option<Moment>,
    /// When it is over; null for never.
    #[serde(default)]
    pub valid_until: Option<Moment>,
    /// Whether it is over and nothing has taken its place: it opens nothing, and goes on restricting.
    #[serde(default)]
    pub is_over: bool,
    /// When it lets the data go elsewhere, in words: `never`, `always`, or what that
    /// needs.
    pub elsewhere: String,
    /// Whether it has a maintenance page for when its regions cannot serve.
    pub page: bool,
}

/// A rule that binds nobody at this time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DormantRule {
    /// Its regulation.
    pub rule: String,
    /// Its line in the table.
    pub line: u32,
    /// The jurisdiction that it protects.
    pub jurisdiction: String,
    /// When it begins; null for ever since.
    pub valid_from: Option<Moment>,
    /// When it is over; null for never.
    pub valid_until: Option<Moment>,
    /// The line of the rule that has taken its place; null where it has not begun.
    pub succeeded_by: Option<u32>,
}

/// Why a rule holds for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    /// The client is, or may be, in its countries.
    Client,
    /// Where the client is is not known: every rule holds.
    Unknown,
    /// The route declares the jurisdiction.
    Route,
    /// A trusted source declares the jurisdiction for this request.
    Request,
}

/// One step of the answer to "and if that is down as well?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureStep {
    /// The regions taken as down, beside those that are.
    pub down: Vec<String>,
    /// The region that then serves; null for a refusal.
    pub serves: Option<String>,
    /// Whether some region then serves.
    pub verdict: Outcome,
    /// The status of the refusal; 200 for a forward.
    pub status: u16,
    /// The refusal's reason; null for a forward.
    pub reason: Option<Reason>,
    /// Whether the refusal shows a maintenance page.
    pub page: bool,
}

/// One region's part in a decision.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RegionExplained {
    /// Its name.
    pub name: String,
    /// The country whose law holds there.
    #[serde(default)]
    pub country: Option<Country>,
    /// Its place in the order, from 1; null when it is not tried.
    #[serde(default)]
    pub place: Option<usize>,
    /// Whether the law allows it.
    pub allowed: bool,
    /// Whether the law allows it on a condition only, as a later level.
    #[serde(default)]
    pub opened: bool,
    /// Whether the law asks for safeguards there: a decision for it is marked for the audit.
    #[serde(default)]
    pub safeguards: bool,
    /// Whether it is allowed and could serve now.
    pub eligible: bool,
    /// Its priority level, lower first; null when it is not allowed.
    pub level: Option<u16>,
    /// Its score, 0 to 100.
    pub score: f32,
    /// The score's terms, each 0 to 100.
    pub terms: Terms,
    /// The round trip that the score uses, in milliseconds.
    pub latency_ms: f32,
    /// Where that is from.
    #[serde(default)]
    pub latency_source: LatencySource,
    /// The round trip by what is measured, mixed with the table's while little is; null when nothing is. By affinity
    /// `client_ip` no score uses it.
    #[serde(default)]
    pub rtt_ms: Option<f32>,
    /// The round trip that the route's `max_latency` goes by, in milliseconds: from this node, slow to fall.
    #[serde(default)]
    pub reach_ms: Option<f32>,
    /// What this node measures of the way there; null when nothing was for two windows.
    #[serde(default)]
    pub measured: Option<MeasuredExplained>,
    /// The share of its capacity in use, as the score weighs it: what this node knows by itself, or
    /// what is reported where that is more; 1 is full.
    pub utilisation: f32,
    /// What the nodes of the fleet report of its load; null when none has for twenty seconds.
    #[serde(default)]
    pub reported: Option<ReportedExplained>,
    /// The utilisation as the overload mark (0.85) sees it: smoothed, slow to fall.
    #[serde(default)]
    pub pressure: f32,
    /// What overload does.
    #[serde(default)]
    pub spill: SpillExplained,
    /// What the region's weight and its ramp do.
    #[serde(default)]
    pub weight: WeightExplained,
    /// Its weight among regions that tie, where no shares decide: the requests per second that are free
    /// (in the share of a region, when the table gives no capacity).
    #[serde(default)]
    pub headroom: f32,
    /// Its share of the clients among the regions that it ties with, in proportion to theirs; null where
    /// scores decide.
    #[serde(default)]
    pub share: Option<u32>,
    /// Whether it shares clients with others of its level by hash: since its score is within five points
    /// of the best, or since they have shares.
    #[serde(default)]
    pub tied: bool,
    /// The regions that it ties with.
    #[serde(default)]
    pub tied_with: Vec<String>,
    /// What this client draws for it where it ties, by its share or its headroom. Of those that tie the highest is first;
    /// without shares, each is first multiplied by how close its score is to the best of those that are left
    /// ([`closeness`](crate::decide::closeness)), which is another at each place of the order.
    #[serde(default)]
    pub hash: Option<f32>,
    /// Whether it serves now.
    #[serde(default)]
    pub health: HealthExplained,
    /// What let it in, kept it out or moved it: first the law, then the route, the table and the
    /// moment.
    pub why: Vec<Why>,
}

/// What a node measures of the way to a region.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredExplained {
    /// Half of the round trips are no longer, in milliseconds.
    pub median_ms: f32,
    /// 95 % of them are no longer.
    pub p95_ms: f32,
    /// How many there are in the last two windows.
    pub samples: usize,
    /// Since the last of them.
    pub age_seconds: f32,
}

impl From<Measured> for MeasuredExplained {
    fn from(measured: Measured) -> Self {
        let Measured { median_ms, p95_ms, samples, age } = measured;
        Self { median_ms, p95_ms, samples, age_seconds: age.as_secs_f32() }
    }
}

/// What the nodes of the fleet report of a region's load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedExplained {
    /// The share of the region's capacity in use by all of them, averaged over about half a minute; 1
    /// is full.
    pub utilisation: f32,
    /// Since the last report. It counts in full for ten seconds, and fades over the next ten.
    pub age_seconds: f32,
    /// How many nodes reported in the ten seconds before that.
    pub nodes: u32,
}

impl From<Reported> for ReportedExplained {
    fn from(reported: Reported) -> Self {
        let Reported { utilisation, age, nodes } = reported;
        Self { utilisation, age_seconds: age.as_secs_f32(), nodes }
    }
}

/// Where a round trip is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatencySource {
    /// It is measured: by this node, or while this has measured nothing by others of its region (`measured` is null then).
    Measured,
    /// The table's `latency_ms` gives it, in this direction or the other.
    Table,
    /// It is the node's own region.
    Local,
    /// The distance between the coordinates.
    GreatCircle,
    /// The distance from the client's coordinates.
    ClientDistance,
    /// The same, corrected by what nodes measure of the clients of its country.
    ClientMeasured,
    /// Nothing is known: 150 ms.
    #[default]
    Unknown,
}

/// Whether a region serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthExplained {
    /// It does.
    #[default]
    Up,
    /// It is coming back, for a share of its clients.
    Ramping,
    /// It does not.
    Down,
}

/// What overload does to a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpillExplained {
    /// The share of its clients, 0 to 1, of the route's criticality that it moves on.
    pub share: f32,
    /// Whether this client is among them.
    pub spilled: bool,
}

/// What a region's weight and its ramp do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightExplained {
    /// The percentage of its clients that the table gives it.
    pub percent: u8,
    /// The percentage of those that it gets while it comes back; 100 otherwise.
    pub ramp: u8,
    /// Whether this client is among the others, for whom it is a last resort.
    pub moved_off: bool,
}

impl Default for WeightExplained {
    /// Makes every client.
    fn default() -> Self {
        Self { percent: 100, ramp: 100, moved_off: false }
    }
}

/// One thing that let a region in, kept it out or moved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The rule: its regulation, or the key of the table or the fact that has this effect.
    pub rule: String,
    /// The law's name; null for what is not a `[[residency]]` rule.
    #[serde(default)]
    pub regulation: Option<String>,
    /// Its line in the table; null for what stands in no line.
    pub line: Option<u32>,
    /// What it does to the region, for machines.
    #[serde(default)]
    pub verdict: Ruling,
    /// What it does to the region, for people.
    pub effect: String,
}

/// What a rule, a key or a fact does to a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ruling {
    /// Lets it in.
    Allows,
    /// Lets it in on a condition that holds, as a later level.
    Opens,
    /// Keeps it out.
    Refuses,
    /// Changes its place in the order.
    Moves,
    /// Does none of that, and is worth knowing.
    #[default]
    Notes,
}
