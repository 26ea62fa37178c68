//! What a proof finds, and a request that shows it.

use std::fmt::Write as _;

use super::clients::Clients;
use super::request::{Part, Request, Routes};
use crate::country::Country;
use crate::jurisdiction::{ClassId, JurisdictionId, Rule, Transfer};
use crate::moment::Period;
use crate::origin::Origin;
use crate::region::{RegionId, RegionSet};
use crate::residency::Source;
use crate::route::{HostPattern, Payload, RouteId};
use crate::table::{Table, TableSpec, UnknownOrigin};

/// Something wrong with a table, or worth knowing of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A decision permits a region that the law forbids.
    Leak {
        /// A request that it permits there.
        case: Case,
        /// The region.
        region: RegionId,
    },
    /// A decision differs from what the table says in another way. Like a leak, it is a fault of
    /// Meridian and not of the table.
    Misjudged {
        /// A request with which it does.
        case: Case,
        /// The region that it is wrong about.
        region: RegionId,
        /// How.
        how: Misjudgement,
    },
    /// No route has a region for anybody: the table would refuse every request.
    ServesNobody,
    /// No region can serve these routes, or this part of their requests, whoever asks.
    RoutesServeNobody {
        /// The routes.
        routes: Routes,
        /// Which of their requests.
        part: Part,
    },
    /// Some clients have no region.
    Unserved(Box<Gap>),
    /// A rule names regions, and there is none such.
    RuleSelectsNothing {
        /// The rule's position in the table.
        rule: usize,
        /// Whom that leaves without a region.
        refuses: Option<Box<Gap>>,
    },
    /// A rule changes nothing.
    RuleWithoutEffect {
        /// The rule's position in the table.
        rule: usize,
        /// Why.
        why: Idle,
    },
    /// No request falls under this route.
    RouteUnreachable {
        /// The route.
        route: RouteId,
        /// Those that take its requests.
        takers: Vec<RouteId>,
    },
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The table must not be used.
    Error,
    /// Its author can mend it, or say what is meant.
    Warning,
    /// It follows from what the table says on purpose.
    Note,
}

/// How a decision differs from what the table says, other than by a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misjudgement {
    /// It permits a region that cannot serve the request.
    Unable,
    /// It leaves out a region that may and can serve.
    Withheld,
    /// It takes a region of the law's own for one that is open on a condition, or the reverse; or its
    /// mark for the audit is wrong.
    Mismarked,
}

/// Why a rule changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// No route carries its data.
    Uncarried,
    /// This other rule, by position, asks for all that it does.
    ImpliedBy(usize),
}

/// Clients without a region for some requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Who.
    pub clients: Clients,
    /// Whose data.
    pub class: ClassId,
    /// On which routes.
    pub routes: Routes,
    /// For which of their requests.
    pub part: Part,
    /// Why.
    pub cause: Cause,
    /// A request that is refused.
    pub case: Case,
}

/// Why clients have no region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// These constraints, each of which leaves regions that the others forbid. Without any of them
    /// there would be one.
    Contradiction(Vec<Source>),
    /// This rule allows no region, and does not say `allow = []`.
    Rule(usize),
    /// The class keeps to its jurisdiction, in which there is no region.
    Border,
    /// The class keeps to its super-region, in which there is no region.
    SuperRegion,
    /// The class keeps to its super-region, and they are in none.
    NoSuperRegion,
    /// These may serve, and none of them can: state, capabilities, required compliance.
    Unable(RegionSet),
    /// Consent would open a region, and the route takes none.
    ConsentNotTaken,
    /// Only consent opens a region.
    OnlyWithConsent,
    /// The route's own jurisdictions and the client's leave no region in common.
    Tenant,
    /// The client is unknown, and no region satisfies all jurisdictions whose rules that brings.
    Strictest,
}

impl Finding {
    /// Returns how bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Leak { .. } | Finding::Misjudged { .. } | Finding::ServesNobody => Severity::Error,
            Finding::Unserved(gap) => match gap.cause {
                Cause::OnlyWithConsent | Cause::Tenant => Severity::Note,
                _ => Severity::Warning,
            },
            _ => Severity::Warning,
        }
    }

    /// Returns a request that shows it, for the findings that one can.
    pub fn case(&self) -> Option<&Case> {
        match self {
            Finding::Leak { case, .. } | Finding::Misjudged { case, .. } => Some(case),
            Finding::Unserved(gap) => Some(&gap.case),
            Finding::RuleSelectsNothing { refuses, .. } => refuses.as_ref().map(|gap| &gap.case),
            _ => None,
        }
    }

    /// Returns what it is, in a sentence. `spec` is that of the table.
    pub fn describe(&self, spec: &TableSpec) -> String {
        let region = |id: &RegionId| spec.regions[id.index()].name.as_str();
        let route = |id: &RouteId| spec.routes[id.0 as usize].name.as_str();
        match self {
            Finding::Leak { region: leaked, .. } => {
                format!("the law forbids {}, and a decision permits it: a fault of Meridian", region(leaked))
            }
            Finding::Misjudged { region: wrong, how, .. } => {
                let how = match how {
                    Misjudgement::Unable => "cannot serve this, and a decision permits it",
                    Misjudgement::Withheld => "may and can serve this, and a decision leaves it out",
                    Misjudgement::Mismarked => "is permitted as what it is not",
                };
                format!("{} {how}: a fault of Meridian", region(wrong))
            }
            Finding::ServesNobody => {
                "no route has a region for anybody: this table would refuse every request".to_owned()
            }
            Finding::RoutesServeNobody { routes, part } => {
                let what = match part {
                    Part::All => "serve",
                    Part::Reads => "serve the reads of",
                    Part::Writes => "serve the writes of",
                };
                format!(
                    "no region can ever {what} {}: look at capabilities, state and require_compliance",
                    routes.describe(spec)
                )
            }
            Finding::Unserved(gap) => gap.describe(spec),
            Finding::RuleSelectsNothing { refuses, .. } => {
                let refused = |gap: &Gap| format!(", and so nobody may serve {}", gap.subject(spec));
                let refused = refuses.as_deref().map(refused).unwrap_or_default();
                format!("no region satisfies this{refused}: write allow = [] if that is meant")
            }
            Finding::RuleWithoutEffect { why: Idle::Uncarried, .. } => {
                "this rule has no effect: no route carries its data".to_owned()
            }
            Finding::RuleWithoutEffect { why: Idle::ImpliedBy(other), .. } => {
                format!("this rule has no effect: {} asks for all that it does", rule(spec, *other))
            }
            Finding::RouteUnreachable { takers, .. } => {
                let takers: Vec<&str> = takers.iter().map(route).collect();
                format!("no request comes here: they fall under {}", takers.join(", "))
            }
        }
    }
}

impl Gap {
    /// Why, in a sentence.
    fn describe(&self, spec: &TableSpec) -> String {
        let subject = self.subject(spec);
        match &self.cause {
            Cause::Contradiction(sources) => {
                let sources: Vec<String> = sources.iter().map(|one| constraint(spec, self.class, one)).collect();
                format!("no region satisfies both {}, so that nobody may serve {subject}", sources.join(" and "))
            }
            Cause::Rule(index) => match spec.rules[*index].period {
                Period { until: Some(until), .. } if spec.at.may_have_reached(until) => format!(
                    "{} is over since {until}, and nothing has taken its place: no region is left for {subject}",
                    rule(spec, *index)
                ),
                _ => format!("{} leaves no region for {subject}", rule(spec, *index)),
            },
            Cause::Border => format!(
                "nobody may serve {subject}: {} keeps to its jurisdiction, and no region is there; where that is \
                 meant, say so with a rule whose allow = []",
                spec.data_classes[self.class.0].name
            ),
            Cause::SuperRegion => format!(
                "nobody may serve {subject}: {} keeps to its super-region, and no region is there",
                spec.data_classes[self.class.0].name
            ),
            Cause::NoSuperRegion => format!(
                "nobody may serve {subject}: {} keeps to its super-region, and these countries are in none",
                spec.data_classes[self.class.0].name
            ),
            Cause::Unable(regions) => {
                let regions: Vec<&str> = regions.iter().map(|id| spec.regions[id.index()].name.as_str()).collect();
                format!(
                    "only {} may serve {subject}, and cannot: look at state, capabilities and require_compliance",
                    regions.join(", ")
                )
            }
            Cause::ConsentNotTaken => {
                format!("nobody may serve {subject} without consent, and the route takes none: name a consent_header")
            }
            Cause::OnlyWithConsent => format!("refused without consent: {subject}"),
            Cause::Tenant => {
                format!("always refused: {subject}, for the route's own jurisdictions allow none of their regions")
            }
            Cause::Strictest => self.strictest(spec, &subject),
        }
    }

    /// Returns what the rules of several jurisdictions at once leave to unknown clients, and what to write instead.
    fn strictest(&self, spec: &TableSpec, subject: &str) -> String {
        let asks = match &spec.unknown_origin {
            UnknownOrigin::Like(_) => "the jurisdictions that unknown_origin names leave no region in common",
            _ => "unknown_origin = \"strictest\" asks for the rules of every jurisdiction at once",
        };
        let rules = || spec.rules.iter().filter(|rule| rule.data_classes.contains(&self.class));
        let name = |id: JurisdictionId| spec.jurisdictions[id.0].name.as_str();
        let closes = |rule: &&Rule| rule.allow.as_ref().is_some_and(Vec::is_empty);
        let mut closed: Vec<&str> = rules().filter(closes).map(|rule| name(rule.jurisdiction)).collect();
        closed.dedup();
        let closed = match closed.as_slice() {
            [] => String::new(),
            [one] => format!(" ({one} allows no region)"),
            several => format!(" ({} allow no region)", several.join(", ")),
        };
        let served = |rule: &&Rule| {
            rule.allow.as_ref().is_some_and(|allow| !allow.is_empty()) && rule.transfer == Transfer::Prohibited
        };
        let example = rules().find(served).map_or("eu", |rule| name(rule.jurisdiction));
        format!(
            "nobody may serve {subject}: {asks}{closed}; name the jurisdictions that unknown clients are treated like, \
             as in unknown_origin = {{ like = [\"{example}\"] }}, or write \"refuse\" if that is meant"
        )
    }

    /// Whose what.
    fn subject(&self, spec: &TableSpec) -> String {
        subject(spec, &self.clients, self.class, self.part, &self.routes)
    }
}

/// `eu: reads of personal (routes a, b)`.
pub(super) fn subject(spec: &TableSpec, clients: &Clients, class: ClassId, part: Part, routes: &Routes) -> String {
    let part = match part {
        Part::All => "",
        Part::Reads => "reads of ",
        Part::Writes => "writes of ",
    };
    let class = &spec.data_classes[class.0].name;
    format!("{part}{class} of {} ({})", clients.describe(spec), routes.describe(spec))
}

fn rule(spec: &TableSpec, index: usize) -> String {
    let rule = &spec.rules[index];
    format!("the rule at line {} ({})", rule.line, rule.regulation)
}

fn constraint(spec: &TableSpec, class: ClassId, source: &Source) -> String {
    let class = &spec.data_classes[class.0].name;
    match source {
        Source::Rule(index) => rule(spec, *index),
        Source::ClassBorder(jurisdiction) => {
            format!("data_classes.{class}.cross_border in {}", spec.jurisdictions[jurisdiction.0].name)
        }
        Source::SuperRegion => format!("data_classes.{class}.scope"),
        Source::Unlisted => "residency_defaults.unlisted_jurisdiction".to_owned(),
        Source::Unknown => "residency_defaults.unknown_origin".to_owned(),
    }
}

/// One request, and the regions that are down: what one can ask `meridian explain` about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The region of the node that decides.
    pub from: String,
    /// Where the client may be; nowhere known when there is none.
    pub countries: Vec<Country>,
    /// Jurisdictions that a trusted proxy declares, and the header in which it does.
    pub declared: Option<(String, String)>,
    /// The host, unless any will do.
    pub host: Option<String>,
    /// The path.
    pub path: String,
    /// The method's name.
    pub method: &'static str,
    /// What it sends after its head.
    pub payload: Payload,
    /// Whether the client consents.
    pub consent: bool,
    /// The regions that are down.
    pub down: Vec<String>,
}

impl Case {
    pub(super) fn new(table: &Table, request: &Request, origin: &Origin, consent: bool) -> Self {
        let spec = table.spec();
        let any_host = spec.routes[request.route.0 as usize].host == HostPattern::Any && request.host == "any";
        Self {
            from: spec.regions.first().map(|region| region.name.clone()).unwrap_or_default(),
            countries: origin.countries().iter().collect(),
            declared: None,
            host: (!any_host).then(|| request.host.clone()),
            path: request.path.clone(),
            method: request.method.name(),
            payload: request.payload,
            consent,
            down: Vec::new(),
        }
    }

    /// Returns the command that explains it with this table, for a shell.
    pub fn command(&self, table: &str) -> String {
        let countries: Vec<&str> = self.countries.iter().map(Country::code).collect();
        let country = if countries.is_empty() { "unknown".to_owned() } else { countries.join(",") };
        let mut line = "meridian explain".to_owned();
        let mut say = |flag: &str, value: &str| {
            let _ = write!(line, " --{flag} {}", quoted(value));
        };
        say("table", table);
        say("from", &self.from);
        say("country", &country);
        self.host.iter().for_each(|host| say("host", host));
        say("path", &self.path);
        say("method", self.method);
        self.declared.iter().for_each(|(header, names)| say("header", &format!("{header}:{names}")));
        self.down.iter().for_each(|region| say("down", region));
        match self.payload {
            Payload::Nothing => {}
            Payload::Content => line.push_str(" --content"),
            Payload::Tunnel => line.push_str(" --upgrade"),
        }
        if self.consent {
            line.push_str(" --consent");
        }
        line
    }
}

/// Returns a word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
