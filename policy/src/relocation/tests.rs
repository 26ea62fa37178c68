use super::*;
use crate::country::{Country, CountrySet};
use crate::jurisdiction::Transfer;
use crate::region::AdminState;
use crate::route::RouteSpec;
use crate::table::{TableSpec, UnlistedJurisdiction};

use crate::sample::{class, jurisdiction, region, route, rule, spec};

/// Two regions; personal data of the Union and of Switzerland is kept there; Brazil's goes abroad with consent.
fn law() -> TableSpec {
    let mut spec = spec(vec![region("eu", "IE"), region("us", "US")]);
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.data_classes.push(class("unused", Transfer::Allowed));
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("ch", &["CH"]), jurisdiction("br", &["BR"])];
    spec.rules = vec![
        rule(0, 1, &["IE"], Transfer::Prohibited),
        rule(1, 1, &["CH"], Transfer::Prohibited),
        rule(2, 1, &["IE"], Transfer::WithConsent),
    ];
    spec.routes.push(route("api", "/api", 1));
    spec
}

fn origin(codes: &str) -> Origin {
    let countries: CountrySet = codes.split(' ').filter_map(|code| code.parse::<Country>().ok()).collect();
    Origin::of(countries)
}

/// Returns the change of personal data: gained, unguarded, lost, and whether it is refused or served.
fn change(spec: TableSpec, before: &str, after: &str) -> String {
    let table = Table::new(spec).unwrap();
    let relocations = Relocations::new(&table);
    let names: Vec<&str> = relocations.classes().iter().map(|class| class.name).collect();
    assert_eq!(names, ["public", "personal"], "classes that routes carry");
    assert_eq!(relocations.change(0, &origin(before), &origin(after)), ClassChange::NONE, "public data");
    let change = relocations.change(1, &origin(before), &origin(after));
    assert_eq!(
        change.refused && !change.served,
        relocations.refuses(1, &origin(after)) && !relocations.refuses(1, &origin(before))
    );
    let sets = [("gains", &change.gained), ("unguards", &change.unguarded), ("loses", &change.lost)];
    let sets = sets.iter().filter(|(_, set)| !set.is_empty());
    let mut words: Vec<String> =
        sets.map(|(what, set)| format!("{what} {}", relocations.regions(set).join(","))).collect();
    words.extend(change.refused.then(|| "refused".to_owned()));
    words.extend(change.served.then(|| "served".to_owned()));
    words.join(", ")
}

#[test]
fn moves_and_what_they_mean() {
    for (before, after, expected) in [
        ("DE", "DE", ""),
        ("DE", "FR", ""),
        ("DE", "DE FR", ""),
        ("DE", "US", "gains us"),
        ("US", "DE", "loses us"),
        ("US", "DE US", "loses us"),
        ("DE US", "US", "gains us"),
        // Nothing in Switzerland: nobody may serve it.
        ("US", "CH", "loses eu,us, refused"),
        ("CH", "DE", "gains eu, served"),
        ("DE", "DE CH", "loses eu, refused"),
        // Unknown is everywhere at once.
        ("US", "", "loses eu,us, refused"),
        ("", "US", "gains eu,us, served"),
        ("", "CH", ""),
        // No route hears consent.
        ("BR", "DE", ""),
    ] {
        assert_eq!(change(law(), before, after), expected, "{before:?} to {after:?}");
    }
}

#[test]
fn what_a_route_hears_and_asks_counts() {
    let with = |edit: &dyn Fn(&mut RouteSpec)| {
        let mut spec = law();
        edit(spec.routes.last_mut().unwrap());
        spec
    };
    assert_eq!(change(with(&|route| route.consent_header = Some("x-consent".into())), "BR", "DE"), "loses us");
    // A tenant's law holds wherever the client is.
    assert_eq!(change(with(&|route| route.jurisdictions = vec![JurisdictionId(0)]), "DE", "US"), "");
    // What the law leaves is no use where the route asks for more.
    let picky = with(&|route| route.require_compliance = vec!["hipaa".into()]);
    assert_eq!(change(picky, "US", "DE"), "loses us");
}

#[test]
fn a_disabled_region_is_gained_and_serves_nobody() {
    let mut spec = law();
    spec.regions[1].state = AdminState::Disabled;
    assert_eq!(change(spec, "DE", "US"), "gains us");
    let mut spec = law();
    spec.regions[0].state = AdminState::Disabled;
    assert_eq!(change(spec, "US", "DE"), "loses us, refused");
}

#[test]
fn safeguards_that_fall_away_widen() {
    let mut spec = law();
    spec.rules[2].transfer = Transfer::WithSafeguards;
    let table = Table::new(spec.clone()).unwrap();
    let relocations = Relocations::new(&table);
    let change_of = |before: &str, after: &str| relocations.change(1, &origin(before), &origin(after));
    assert_eq!(change(spec, "BR", "US"), "unguards us");
    assert!(change_of("BR", "US").widens() && !change_of("BR", "US").narrows());
    assert!(change_of("US", "DE").narrows() && !change_of("US", "DE").widens());
}

#[test]
fn jurisdictions_are_named() {
    let mut spec = law();
    spec.unlisted_jurisdiction = UnlistedJurisdiction::Allow;
    let table = Table::new(spec).unwrap();
    let relocations = Relocations::new(&table);
    let names = |codes: &str| relocations.names(&relocations.jurisdictions(&origin(codes))).join(" ");
    for (codes, expected) in [
        ("DE", "eu"),
        ("DE FR", "eu"),
        ("DE CH", "eu ch"),
        ("US", "unlisted"),
        ("DE US", "eu unlisted"),
        ("", "unknown"),
    ] {
        assert_eq!(names(codes), expected);
    }
}
