//! For each of the 250 countries, where its clients' data may go by each example table: told once more, by hand, from
//! what the four organisations say and from the treaties. Nothing here asks the code's own groups.

use std::collections::BTreeSet;

use config::RoutingTable;
use policy::hash::client_key;
use policy::{Country, CurrentTable, Facts, Method, Origin, Payload, Reason, RegionSet, RegionView, Verdict, decide};

use super::load;

/// The Union's 27 members, the seven of its parts that have codes of their own, and the three other states of the
/// European Economic Area.
const UNION: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";
const UNION_OVERSEAS: &str = "AX GF GP MF MQ RE YT";
const AREA: &str = "IS LI NO";

/// The kingdom, and whom the tables treat like it: clients there, not places for data.
const KINGDOM: &str = "GB GG GI IM JE";

/// The Americas.
const AMERICAS: &str = "AG AI AR AW BB BL BM BO BQ BR BS BV BZ CA CL CO CR CU CW DM DO EC FK GD GF GL GP GS GT GY HN HT \
    JM KN KY LC MF MQ MS MX NI PA PE PM PR PY SR SV SX TC TT US UY VC VE VG VI";

/// Asia east of Iran, Oceania, and, since they are nobody else's, the scientists of Antarctica.
const APAC: &str = "AF AQ AS AU BD BN BT CC CK CN CX FJ FM GU HK HM ID IN JP KG KH KI KP KR KZ LA LK MH MM MN MO MP MV \
    MY NC NF NP NR NU NZ PF PG PH PK PN PW SB SG TH TJ TK TL TM TO TV TW UM UZ VN VU WF WS";

fn is_in(country: &str, list: &str) -> bool {
    list.split(' ').any(|code| code == country)
}

fn is_european(country: &str) -> bool {
    [UNION, UNION_OVERSEAS, AREA].iter().any(|list| is_in(country, list))
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
struct Request {
    path: &'static str,
    consent: bool,
    method: Method,
}

/// The regions, or nothing for 451.
type Expected = Option<&'static str>;

/// The regions to which a decision sends a client's requests.
fn regions(document: &RoutingTable, origin: Origin, request: Request) -> Option<BTreeSet<String>> {
    let table = &document.table;
    let view = vec![RegionView::default(); document.upstreams.len()];
    let facts = Facts {
        host: "api.example.com",
        path: request.path,
        method: request.method,
        payload: Payload::Nothing,
        origin,
        declared: &[],
        consent: request.consent,
        client_at: None,
        client_key: client_key(b"198.51.100.7"),
        from: table.regions().next().expect("a region").0,
        pinned: None,
        only: None,
        criticality: None,
    };
    let permits = match decide(table, &facts, view.as_slice()) {
        Verdict::Forward(permits) => permits,
        Verdict::Refuse(refusal) => {
            assert_eq!(refusal.reason, Reason::ResidencyProhibited, "{facts:?}");
            return None;
        }
    };
    let (mut tried, mut names) = (RegionSet::EMPTY, BTreeSet::new());
    while let Some(permit) = permits.next(table, &facts, &tried, &CurrentTable { table, view: view.as_slice() }) {
        tried.insert(permit.region());
        names.insert(table.region(permit.region()).name.clone());
    }
    Some(names)
}

fn check(name: &str, paths: &[&'static str], expected: impl Fn(&str, Request) -> Expected) {
    let document = load(name);
    let mut countries = 0;
    for country in Country::all() {
        countries += 1;
        for path in paths {
            for (consent, method) in
                [(false, Method::Get), (true, Method::Get), (false, Method::Post), (true, Method::Post)]
            {
                let request = Request { path, consent, method };
                let found = regions(&document, Origin::Country(country), request);
                let expected = expected(country.code(), request);
                let expected = expected.map(|names| names.split(' ').map(str::to_owned).collect::<BTreeSet<_>>());
                assert_eq!(found, expected, "{name}: {country} {request:?}");
            }
        }
    }
    assert_eq!(countries, 250);
}

#[test]
fn erlmcp_aws_keeps_the_area_in_the_union() {
    const EVERYWHERE: &str = "us-east-1 us-west-2 eu-west-1 eu-central-1 ap-southeast-1 ap-northeast-1";
    check("erlmcp-aws", &["/mcp", "/anything", "/v1/analytics"], |country, request| {
        // "GDPR: extra-EU transfer: no". Everybody else is served anywhere, and the United States at home first.
        let stays = is_european(country) && request.path != "/v1/analytics";
        Some(if stays { "eu-west-1 eu-central-1" } else { EVERYWHERE })
    });
}

#[test]
fn somaagent_never_routes_the_area_abroad() {
    check("somaagent", &["/v1/agents/7", "/x"], |country, _| {
        Some(if is_european(country) { "eu-west-1" } else { "us-west-2 eu-west-1" })
    });
}

#[test]
fn cortex_keeps_three_markets_apart() {
    const EVERYWHERE: &str = "us-east-1 eu-west-1 ap-south-1";
    check("cortex", &["/api/v1/things", "/coordination/status", "/api/v1/batch"], |country, request| {
        let critical = request.path == "/coordination/status";
        Some(match country {
            _ if request.path == "/api/v1/batch" => EVERYWHERE,
            "GB" | "CH" => "eu-west-1",
            european if is_european(european) => "eu-west-1",
            "US" | "CA" | "MX" if critical => "us-east-1",
            "IN" if critical || request.method == Method::Post => "ap-south-1",
            _ => EVERYWHERE,
        })
    });
}

/// What `erlmcp-gcp` says of a class that may not cross a border.
fn gcp_tier_1(country: &str) -> Expected {
    Some(match country {
        "CN" | "RU" => return None,
        european if is_european(european) => "europe-west1 europe-west4 europe-north1 europe-west2",
        "US" => "us-central1 us-east1 us-west1 us-west2",
        kingdom if is_in(kingdom, KINGDOM) => "europe-west2",
        "BR" => "southamerica-east1",
        "IN" => "asia-south1",
        "SG" => "asia-southeast1",
        "AU" => "australia-southeast1",
        "CH" => "europe-west6 europe-west1 europe-west4 europe-north1",
        "JP" => "asia-northeast1",
        _ => GCP_EVERYWHERE,
    })
}

/// And of one that may leave with consent, within the super-region.
fn gcp_tier_2(country: &str, request: Request) -> Expected {
    let around = match country {
        american if is_in(american, AMERICAS) => "southamerica-east1 us-central1 us-east1 us-west1 us-west2",
        asian if is_in(asian, APAC) => "asia-southeast1 asia-northeast1 asia-south1 australia-southeast1",
        _ => "europe-west1 europe-west4 europe-west2 europe-north1 europe-west6 me-west1",
    };
    let reads = request.method == Method::Get;
    match country {
        "CN" | "RU" => None,
        // By adequacy to europe-west2, and nowhere else whatever the client says.
        european if is_european(european) => gcp_tier_1(european),
        // The European Union, with consent: the decision on adequacy.
        kingdom if is_in(kingdom, KINGDOM) && request.consent => {
            Some("europe-west2 europe-west1 europe-west4 europe-north1")
        }
        // "Needs a local copy first": what is written stays.
        "IN" if request.consent && reads => Some(around),
        "US" | "BR" | "SG" | "AU" | "CH" | "JP" if request.consent => Some(around),
        "US" | "BR" | "IN" | "SG" | "AU" | "CH" | "JP" => gcp_tier_1(country),
        kingdom if is_in(kingdom, KINGDOM) => gcp_tier_1(kingdom),
        _ => Some(around),
    }
}

const GCP_EVERYWHERE: &str = "us-central1 europe-west1 asia-southeast1 us-east1 europe-west4 asia-northeast1 \
    southamerica-east1 australia-southeast1 europe-west2 me-west1 asia-south1 europe-north1 europe-west6 us-west1 us-west2";

#[test]
fn erlmcp_gcp_keeps_each_law() {
    check("erlmcp-gcp", &["/v3/identity", "/v3/profiles", "/v3/telemetry"], |country, request| match request.path {
        "/v3/identity" => gcp_tier_1(country),
        "/v3/profiles" => gcp_tier_2(country, request),
        _ => Some(GCP_EVERYWHERE),
    });
}

#[test]
fn unknown_clients_are_under_the_strictest_law_that_is_served() {
    for (name, path, expected) in [
        ("erlmcp-aws", "/mcp", "eu-central-1 eu-west-1"),
        ("somaagent", "/v1/agents", "eu-west-1"),
        ("cortex", "/coordination/status", "eu-west-1"),
        ("cortex", "/api/v1/things", "eu-west-1"),
        ("erlmcp-gcp", "/v3/identity", "europe-north1 europe-west1 europe-west2 europe-west4"),
        ("erlmcp-gcp", "/v3/profiles", "europe-north1 europe-west1 europe-west2 europe-west4"),
    ] {
        for consent in [false, true] {
            let request = Request { path, consent, method: Method::Get };
            let found = regions(&load(name), Origin::Unknown, request).expect("somebody serves");
            assert_eq!(found.into_iter().collect::<Vec<_>>().join(" "), expected, "{name} {path}");
        }
    }
}
