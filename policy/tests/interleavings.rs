//! Requests under way while tables are replaced and regions fail: every interleaving in a small world.
//!
//! Two requests, four tables, four names of regions. Whatever the order of reloads, failures,
//! decisions and attempts, each permit satisfies the naive law of both tables, the one that the
//! request was decided under and the one in force, and none that may be given is withheld.

use std::sync::LazyLock;

use policy::decide::is_lawful;
use policy::jurisdiction::Transfer;
use policy::region::AdminState;
use policy::table::TableSpec;
use policy::{
    CurrentTable, Facts, Health, Method, Origin, Payload, Permits, RegionSet, RegionView, Table, Verdict, decide,
};
use stateright::{Checker, Model, Property};

mod naive;
mod sample;

use naive::{Book, Request, at_rest, law, most_specific};

/// Every name that a region has in some table.
const NAMES: [&str; 4] = ["de", "fr", "fr-2", "us"];

/// A set of [`NAMES`], a bit each.
type Names = u8;

fn bit(name: &str) -> Names {
    1 << NAMES.iter().position(|known| *known == name).expect("one of the names")
}

const BASE: usize = 0;
const NARROW: usize = 1;
const WIDE: usize = 2;
const OTHER: usize = 3;

static TABLES: LazyLock<[Table; 4]> =
    LazyLock::new(|| [base(), narrow(), wide(), other()].map(|spec| Table::new(spec).expect("a table")));

/// Personal data of the Union stays there; with consent it may leave.
fn base() -> TableSpec {
    let mut spec =
        sample::spec(vec![sample::region("de", "DE"), sample::region("fr", "FR"), sample::region("us", "US")]);
    spec.jurisdictions = vec![sample::jurisdiction("eu", &["@EU"])];
    spec.data_classes.push(sample::class("personal", Transfer::Allowed));
    spec.rules = vec![sample::rule(0, 1, &["@EU"], Transfer::WithConsent)];
    spec.routes
        .push(policy::route::RouteSpec { consent_header: Some("x-consent".into()), ..sample::route("api", "/v3", 1) });
    spec
}

/// Germany only, whatever the consent; France drains.
fn narrow() -> TableSpec {
    let mut spec = base();
    let denied = policy::jurisdiction::Denial {
        countries: Some(sample::countries(&["FR", "US"]).into()),
        ..policy::jurisdiction::Denial::default()
    };
    let rule = sample::rule(0, 1, &["DE"], Transfer::Allowed);
    spec.rules = vec![policy::jurisdiction::Rule { deny: Some(denied), ..rule }];
    spec.regions[1].state = AdminState::Draining;
    spec
}

/// Before its law begins, and consent comes from elsewhere.
fn wide() -> TableSpec {
    let mut spec = base();
    spec.rules[0].period.from = Some(sample::today().plus_seconds(1));
    spec.routes[1].consent_header = Some("x-other".into());
    spec
}

/// France has another name; "us" is a region in Germany now, and "de" one in the United States.
fn other() -> TableSpec {
    let mut spec = base();
    spec.regions[0].country = "US".parse().expect("a country");
    spec.regions[1].name = "fr-2".into();
    spec.regions[2].country = "DE".parse().expect("a country");
    spec
}

/// Who asks. The pin is from the cookie of an earlier request.
#[derive(Debug)]
struct Client {
    country: Option<&'static str>,
    consent: bool,
    pinned: Option<&'static str>,
    from: &'static str,
}

const CLIENTS: [Client; 5] = [
    Client { country: Some("DE"), consent: false, pinned: Some("us"), from: "us" },
    Client { country: Some("FR"), consent: true, pinned: Some("fr"), from: "us" },
    Client { country: Some("JP"), consent: false, pinned: Some("fr"), from: "de" },
    Client { country: None, consent: true, pinned: None, from: "de" },
    Client { country: Some("DE"), consent: true, pinned: Some("de"), from: "fr" },
];

impl Client {
    /// The request's facts under a table; `None` where its node's region is none.
    fn facts(&self, table: &Table) -> Option<Facts<'static>> {
        Some(Facts {
            host: "api.example.com",
            path: "/v3/x",
            method: Method::Get,
            payload: Payload::Nothing,
            origin: match self.country {
                Some(code) => Origin::Country(code.parse().expect("a country")),
                None => Origin::Unknown,
            },
            declared: &[],
            consent: self.consent,
            client_at: None,
            client_key: 7,
            from: table.region_named(self.from)?,
            pinned: self.pinned.and_then(|name| table.region_named(name)),
            only: None,
            criticality: None,
        })
    }

    /// What the naive law lets one table, and the table's levers, give to this client.
    fn may_have(&self, pinned: usize, table: usize) -> Names {
        let Some(facts) = self.facts(&TABLES[table]) else { return 0 };
        let spec = TABLES[table].spec();
        let book = Book::new(spec);
        let route = most_specific(&spec.routes, facts.host, facts.path, facts.method)[0];
        let header = |table: usize| &TABLES[table].spec().routes[1].consent_header;
        let consent = self.consent && header(pinned) == header(table);
        let request = Request { consent, ..Request::new(spec, &facts) };
        let law = law(&book, route, &request);
        let able = spec.regions.iter().filter(|region| at_rest(route, &request, &law, region));
        able.map(|region| bit(&region.name)).sum()
    }
}

/// By client, pinned table and table in force: what both may give.
static MAY_HAVE: LazyLock<Vec<[[Names; 4]; 4]>> = LazyLock::new(|| {
    let both = |client: &Client, pinned, current| client.may_have(pinned, pinned) & client.may_have(pinned, current);
    let row = |client, pinned| [BASE, NARROW, WIDE, OTHER].map(|current| both(client, pinned, current));
    CLIENTS.iter().map(|client| [BASE, NARROW, WIDE, OTHER].map(|pinned| row(client, pinned))).collect()
});

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Moment {
    /// The table in force.
    table: usize,
    down: Names,
    reloads_left: u8,
    failures_left: u8,
    requests: [(usize, Progress); 2],
    /// What went wrong.
    broken: Option<&'static str>,
}

/// How far a client's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
    Arrived,
    UnderWay { pinned: usize, down_then: Names, tried: Names },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Reload(usize),
    /// A region goes down, or comes back.
    Flip(Names),
    Decide(usize),
    Attempt(usize),
}

/// The small world: how much may happen in it.
struct World {
    reloads: u8,
    failures: u8,
}

impl Model for World {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        let pairs = [(0, 1), (2, 3), (4, 1), (0, 3)];
        let start = |(one, other)| Moment {
            table: BASE,
            down: 0,
            reloads_left: self.reloads,
            failures_left: self.failures,
            requests: [(one, Progress::Arrived), (other, Progress::Arrived)],
            broken: None,
        };
        pairs.map(start).into()
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        if moment.reloads_left > 0 {
            actions.extend((0..TABLES.len()).filter(|table| *table != moment.table).map(Action::Reload));
        }
        if moment.failures_left > 0 {
            actions.extend(NAMES.map(|name| Action::Flip(bit(name))));
        }
        for (index, (_, progress)) in moment.requests.iter().enumerate() {
            match progress {
                Progress::Arrived => actions.push(Action::Decide(index)),
                Progress::UnderWay { .. } => actions.push(Action::Attempt(index)),
                Progress::Over => {}
            }
        }
    }

    fn next_state(&self, last: &Moment, action: Action) -> Option<Moment> {
        let mut moment = last.clone();
        match action {
            Action::Reload(table) => {
                moment.table = table;
                moment.reloads_left -= 1;
            }
            Action::Flip(name) => {
                moment.down ^= name;
                moment.failures_left -= 1;
            }
            Action::Decide(index) => {
                let (client, progress) = &mut moment.requests[index];
                *progress = match decided(*client, last.table, last.down) {
                    Some(_) => Progress::UnderWay { pinned: last.table, down_then: last.down, tried: 0 },
                    None => Progress::Over,
                };
            }
            Action::Attempt(index) => match attempt(last, index) {
                Ok(progress) => moment.requests[index].1 = progress,
                Err(broken) => moment.broken = Some(broken),
            },
        }
        Some(moment)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every permit is one of both tables", |_, moment: &Moment| moment.broken.is_none()),
            Property::sometimes("a request tries three regions", |_, moment: &Moment| {
                moment.tried().any(|tried| tried.count_ones() == 3)
            }),
            Property::sometimes("a client reaches the draining region that it is pinned to", |_, moment: &Moment| {
                let drained = |progress: &Progress| matches!(progress, Progress::UnderWay { pinned: NARROW, tried, .. } if *tried == bit("fr"));
                moment.requests.iter().any(|(_, progress)| drained(progress))
            }),
            Property::sometimes("a table in force forbids what is left", |_, moment: &Moment| {
                moment.requests.iter().any(|(client, progress)| match progress {
                    Progress::UnderWay { pinned, tried, .. } => {
                        let left = |current: usize| MAY_HAVE[*client][*pinned][current] & !tried & !moment.down;
                        left(*pinned) != 0 && left(moment.table) == 0
                    }
                    Progress::Arrived | Progress::Over => false,
                })
            }),
        ]
    }
}

impl Moment {
    fn tried(&self) -> impl Iterator<Item = Names> {
        self.requests.iter().filter_map(|(_, progress)| match progress {
            Progress::UnderWay { tried, .. } => Some(*tried),
            Progress::Arrived | Progress::Over => None,
        })
    }
}

/// By table and regions that are down.
static VIEWS: LazyLock<Vec<Vec<Vec<RegionView>>>> = LazyLock::new(|| {
    let health = |name: &str, down: Names| if down & bit(name) == 0 { Health::Up } else { Health::Down };
    let view = |table: &Table, down| -> Vec<RegionView> {
        let healths = table.regions().map(|(_, region)| health(&region.name, down));
        healths.map(|health| RegionView { health, ..RegionView::default() }).collect()
    };
    TABLES.iter().map(|table| (0..1 << NAMES.len()).map(|down| view(table, down)).collect()).collect()
});

/// By client, table, and regions that are down.
static DECIDED: LazyLock<Vec<Vec<Vec<Option<Permits>>>>> = LazyLock::new(|| {
    let decided = |client: &Client, table: usize, down: usize| match decide(
        &TABLES[table],
        &client.facts(&TABLES[table])?,
        VIEWS[table][down].as_slice(),
    ) {
        Verdict::Forward(permits) => Some(permits),
        Verdict::Refuse(_) => None,
    };
    let whatever_is_down = |client, table| (0..1 << NAMES.len()).map(|down| decided(client, table, down)).collect();
    CLIENTS.iter().map(|client| (0..TABLES.len()).map(|table| whatever_is_down(client, table)).collect()).collect()
});

fn decided(client: usize, table: usize, down: Names) -> Option<&'static Permits> {
    DECIDED[client][table][usize::from(down)].as_ref()
}

/// One attempt of a request that is under way, which fails; or what is wrong with its permit.
fn attempt(moment: &Moment, index: usize) -> Result<Progress, &'static str> {
    let (client, progress) = moment.requests[index];
    let Progress::UnderWay { pinned, down_then, tried } = progress else { return Err("it was decided") };
    let (was, is) = (&TABLES[pinned], &TABLES[moment.table]);
    let permits = decided(client, pinned, down_then).ok_or("the same inputs gave a verdict")?;
    let facts = CLIENTS[client].facts(was).ok_or("the same table has the node's region")?;
    let known: RegionSet =
        NAMES.into_iter().filter(|name| tried & bit(name) != 0).filter_map(|name| was.region_named(name)).collect();
    let view = VIEWS[moment.table][usize::from(moment.down)].as_slice();
    let permit = permits.next(was, &facts, &known, &CurrentTable { table: is, view });

    let possible = MAY_HAVE[client][pinned][moment.table] & !moment.down & !tried;
    let Some(permit) = permit else {
        return if possible == 0 { Ok(Progress::Over) } else { Err("a region is withheld that both tables allow") };
    };
    let name = &is.region(permit.region()).name;
    if tried & bit(name) != 0 {
        return Err("a region is given twice");
    }
    if possible & bit(name) == 0 {
        return Err("a region is given that is down, or that one of the tables forbids");
    }
    if !was.region_named(name).is_some_and(|region| is_lawful(was, &facts, region)) {
        return Err("a region is given that the table of the decision does not call lawful");
    }
    // A pin counts from when its region was up: the decision's own first region holds while it can.
    let pin = CLIENTS[client].pinned.map_or(0, bit);
    let decided_without = pinned == moment.table && tried == 0 && down_then & pin != 0;
    if possible & pin != 0 && bit(name) != pin && !decided_without {
        return Err("a pin that may be honoured is not");
    }
    Ok(Progress::UnderWay { pinned, down_then, tried: tried | bit(name) })
}

#[test]
fn no_interleaving_gives_a_region_that_either_table_forbids() {
    let checker = World { reloads: 2, failures: 2 }.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.is_done(), "all of them");
    assert!(checker.unique_state_count() > 100_000, "{} states", checker.unique_state_count());
}
