//! Dates, lists, denials and operators.

use std::path::Path;

use policy::jurisdiction::JurisdictionId;
use policy::list::Entry;
use policy::{CountrySet, Moment, Payload, RegionSet};

use super::{expect, good, today};
use crate::problem::Severity;
use crate::table::RoutingTable;

/// A table of two regions with one law; the marker is a rule of it. What replaces `#top` stands on line 1.
const TABLE: &str = "\
#top
[regions.de]
country = 'DE'
endpoints = ['10.0.0.1:80']
#de
[regions.us]
country = 'US'
endpoints = ['10.0.0.2:80']
#us
[jurisdictions.eu]
countries = ['@EU']
[residency_defaults]
unlisted_jurisdiction = 'allow'
[[routes]]
name = 'r'
data_class = 'personal'
[[residency]]
jurisdiction = 'eu'
data_classes = ['personal']
#rule
";

fn table(changes: &[(&str, &str)]) -> String {
    let mut text = TABLE.to_owned();
    for (marker, snippet) in changes {
        assert!(text.contains(marker), "{marker}");
        text = text.replace(marker, snippet);
    }
    text
}

const ALLOW: &str = "allow = { countries = ['DE'] }";
const LIST: &str = "lists.l.entries = [{ country = 'US', from = '2023-07-10', source = 's' }]";

#[test]
fn what_is_wrong_with_dates_is_told() {
    for (rule, line, path, fragment) in [
        ("valid_from = 'soon'", 21, "residency[0].valid_from", "\"soon\" is no date such as \"2031-12-27\""),
        ("valid_from = 20270514", 21, "residency[0].valid_from", "expected a date such as"),
        ("valid_from = 2027-05-14T00:00:00", 21, "residency[0].valid_from", "no time with an offset"),
        ("valid_until = '2031-02-30'", 21, "residency[0].valid_until", "is no date"),
        ("valid_until = '2031-12-27T10:00:00'", 21, "residency[0].valid_until", "no time with an offset"),
        (
            "valid_from = '2031-12-27'\nvalid_until = '2031-12-27T01:00:00+01:00'",
            22,
            "residency[0].valid_until",
            "must be after valid_from",
        ),
    ] {
        expect(&table(&[("#rule", &format!("{ALLOW}\n{rule}"))]), Severity::Error, line, path, fragment);
    }
    for (entry, path, fragment) in [
        ("{ from = '2023-07-10', source = 's' }", "entries[0].country", "missing: say which"),
        ("{ country = 'US', source = 's' }", "entries[0].from", "missing: say since when"),
        ("{ country = 'US', from = '2023-07-10' }", "entries[0].source", "missing: say where it is written"),
        ("{ country = 'XX', from = '2023-07-10', source = 's' }", "entries[0].country", "is not an ISO 3166-1"),
        ("{ country = '@EU', from = '2023-07-10', source = 's' }", "entries[0].country", "is a group of countries"),
        (
            "{ country = 'US', no_country = 'x', from = '2023-07-10', source = 's' }",
            "entries[0].no_country",
            "there is a country",
        ),
        (
            "{ country = 'US', from = '2023-07-10', until = '2023-07-10', source = 's' }",
            "entries[0].until",
            "must be after from",
        ),
    ] {
        let text = table(&[("#top", &format!("lists.l.entries = [{entry}]")), ("#rule", ALLOW)]);
        expect(&text, Severity::Error, 1, &format!("lists.l.{path}"), fragment);
    }
    let named = |top: &str, rule: &str| table(&[("#top", top), ("#rule", rule)]);
    expect(
        &named(LIST, "allow = { countries = ['list:m'] }"),
        Severity::Error,
        20,
        "residency[0].allow.countries[0]",
        "unknown list \"m\"",
    );
    expect(
        &named("super_regions.s.countries = ['list:l']", ALLOW),
        Severity::Error,
        1,
        "super_regions.s.countries[0]",
        "a list with dates cannot stand here",
    );
    expect(&named("lists.l = {}", ALLOW), Severity::Error, 1, "lists.l.entries", "missing: give the entries");
}

#[test]
fn what_is_wrong_with_denials_and_operators_is_told() {
    for (rule, line, path, fragment) in [
        ("deny = {}", 20, "residency[0].deny", "this denies nothing"),
        ("deny = { compliance = ['gdpr'] }", 20, "residency[0].deny.compliance", "the keys here are: regions,"),
        ("deny = { countries = [] }", 20, "residency[0].deny.countries", "the list is empty"),
        ("deny = { countries = ['US'] }\ntransfer = 'allowed'", 21, "residency[0].transfer", "has no effect on a rule"),
        ("deny = { operator_countries = ['RU'] }", 20, "residency[0].deny", "none is named for de, us"),
        ("allow = { assurance = [] }", 20, "residency[0].allow.assurance", "name at least one level"),
    ] {
        expect(&table(&[("#rule", rule)]), Severity::Error, line, path, fragment);
    }
    let known = "operator = { name = 'Cloud', country = 'DE' }";
    let half = [("#de", known), ("#us", known), ("#rule", "deny = { assurance = ['seal-1'] }")];
    expect(&table(&half), Severity::Error, 20, "residency[0].deny", "that of de, us is not known");
    for (operator, path, fragment) in [
        ("operator = 'Cloud'", "operator", "expected a table"),
        ("operator = { name = 'Cloud' }", "operator.country", "missing: say whose law binds it"),
        ("operator = { country = 'DE' }", "operator.name", "missing: say who runs it"),
        ("operator = { name = 'C', country = 'DE', assurance = 'a b' }", "operator.assurance", "it is one word"),
    ] {
        let text = table(&[("#de", operator), ("#rule", ALLOW)]);
        expect(&text, Severity::Error, 5, &format!("regions.de.{path}"), fragment);
    }
}

/// Returns the regions that a German's personal data may go to, without consent.
fn lawful(document: &RoutingTable) -> Vec<&str> {
    let table = &document.table;
    let facts = policy::Facts {
        host: "any",
        path: "/",
        method: policy::Method::Get,
        payload: Payload::Nothing,
        origin: policy::Origin::Country("DE".parse().unwrap()),
        declared: &[],
        consent: false,
        client_at: None,
        client_key: 0,
        from: policy::RegionId::new(0).unwrap(),
        pinned: None,
        only: None,
        criticality: None,
    };
    let lawful: RegionSet =
        table.regions().map(|(id, _)| id).filter(|id| policy::decide::is_lawful(table, &facts, *id)).collect();
    lawful.iter().map(|id| table.region(id).name.as_str()).collect()
}

fn at(text: &str, time: &str) -> RoutingTable {
    let time: Moment = time.parse().unwrap();
    RoutingTable::from_text(Path::new("routes.toml"), text, time).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_table_is_read_as_of_a_time() {
    let rule =
        "allow = { countries = ['DE', 'US'] }\nvalid_from = 2020-01-01\nvalid_until = '2031-12-27T01:00:00+01:00'";
    let text = table(&[("#rule", rule)]);
    for (time, expected) in [
        ("2019-12-31T23:59:59Z", &["de", "us"][..]),
        ("2020-01-01", &["de", "us"]),
        ("2031-12-26T23:59:59Z", &["de", "us"]),
        ("2031-12-27", &["de"]),
    ] {
        assert_eq!(lawful(&at(&text, time)), expected, "{time}");
    }
    let before = at(&text, "2031-12-26");
    assert_eq!(before.table.next_boundary().map(|next| next.to_string()).as_deref(), Some("2031-12-27"));
    let after = before.at("2031-12-27".parse::<Moment>().unwrap().into()).unwrap();
    assert_eq!((lawful(&after), after.text.as_ref()), (vec!["de"], text.as_str()));
}

#[test]
fn a_denial_holds_whatever_else_opens() {
    let operator =
        |country: &str| format!("operator = {{ name = 'Cloud', country = '{country}', assurance = 'SEAL-2' }}");
    let (german, american) = (operator("DE"), operator("US"));
    for (rule, expected) in [
        ("deny = { countries = ['US'] }", &["de"][..]),
        ("deny = { countries = ['CN'] }", &["de", "us"]),
        ("allow = { countries = ['DE'] }\ntransfer = 'allowed'\ndeny = { regions = ['us'] }", &["de"]),
        ("allow = { countries = ['DE'] }\ntransfer = 'allowed'", &["de", "us"]),
        ("deny = { operator_countries = ['US'], countries = ['DE'] }", &[]),
        ("deny = { assurance = ['seal-1'] }", &["de", "us"]),
        ("allow = { assurance = ['seal-2', 'seal-3'], operator_countries = ['@EU'] }", &["de"]),
    ] {
        let text = table(&[("#de", &german), ("#us", &american), ("#rule", rule)]);
        assert_eq!(lawful(&good(&text)), expected, "{rule}");
    }
}

#[test]
fn a_list_that_covers_a_country_in_part_opens_nothing_and_says_so() {
    let list = LIST.replace("source = 's'", "source = 's', partial = true, scope = 'certified ones'");
    let with = |rule: &str| table(&[("#top", &list), ("#rule", rule)]);
    let opened = with("allow = { countries = ['DE', 'list:l'] }");
    expect(&opened, Severity::Warning, 20, "residency[0].allow", "covers US only in part (certified ones)");
    assert_eq!(lawful(&good(&opened)), ["de"]);
    let named = good(&with("allow = [{ countries = ['DE', 'list:l'] }, { regions = ['us'] }]"));
    assert_eq!((lawful(&named), named.warnings.len()), (vec!["de", "us"], 0));
    let denied = good(&with("allow = { countries = ['DE', 'list:l'] }\ndeny = { countries = ['US'] }"));
    assert_eq!((lawful(&denied), denied.warnings.len()), (vec!["de"], 0));
    let narrow = good(&with("allow = [{ countries = ['DE'] }, { regions = ['de'], countries = ['list:l'] }]"));
    assert_eq!(narrow.warnings, []);
}

#[test]
fn the_shipped_list_is_what_it_says() {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("lists");
    let file = lists.join("routes.toml");
    let text = table(&[
        ("#top", "lists.eu_adequacy.file = 'eu-adequacy.toml'"),
        ("#rule", "allow = [{ countries = ['@EU', 'list:eu_adequacy'] }, { regions = ['us'] }]"),
    ]);
    let document = RoutingTable::from_text(&file, &text, today()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(document.warnings, []);
    assert_eq!(document.files(), [file.clone(), lists.join("eu-adequacy.toml")]);
    let list = &document.table.spec().lists[0];
    let codes = |wanted: &dyn Fn(&Entry) -> bool| {
        let set: CountrySet =
            list.entries.iter().filter(|entry| wanted(entry)).filter_map(|entry| entry.country).collect();
        set.iter().map(|country| country.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes(&|_| true), "AD AR BR CA CH FO GB GG IL IM JE JP KR NZ US UY");
    assert_eq!(codes(&|entry| entry.partial), "CA US");
    assert!(list.entries.iter().all(|entry| !entry.source.is_empty() && !entry.scope.is_empty()));
    assert_eq!(list.entries.iter().filter(|entry| entry.country.is_none()).count(), 1);
    assert_eq!(list.boundaries().max().map(|last| last.to_string()).as_deref(), Some("2031-12-27"));

    // On the bus it travels inside, and says the same, on the same lines.
    let published = RoutingTable::text_to_publish(&file, &text);
    assert_eq!(published.lines().count(), text.lines().count());
    let from_afar =
        RoutingTable::from_afar("bus", published.as_bytes(), today()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(from_afar.table.spec().lists, document.table.spec().lists);
    assert!(
        RoutingTable::from_afar("bus", text.as_bytes(), today()).unwrap_err().to_string().contains("names no files")
    );
    assert_eq!(RoutingTable::text_to_publish(&file, &published), published);
}

#[test]
fn a_list_in_a_file_is_told_by_its_own_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (file, list) = (directory.path().join("routes.toml"), directory.path().join("l.toml"));
    let text = table(&[("#top", "lists.l.file = 'l.toml'"), ("#rule", "allow = { countries = ['DE', 'list:l'] }")]);
    let problem = || RoutingTable::from_text(&file, &text, today()).unwrap_err().to_string();
    assert!(problem().contains("lists.l.file: the list"), "{}", problem());
    std::fs::write(&list, "\nentries = [{ country = 'XX', from = '2023-07-10', source = 's' }]").unwrap();
    assert!(problem().contains("l.toml:2: error: entries[0].country: \"XX\" is not"), "{}", problem());
    std::fs::write(&list, "entries = [{ country = 'US', from = '2023-07-10', source = 'it is \"s\\\"' }]").unwrap();
    let document = RoutingTable::from_text(&file, &text, today()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(lawful(&document), ["de", "us"]);
    assert_eq!(document.table.spec().jurisdictions[JurisdictionId(0).0].countries.lists(), []);
    let published = RoutingTable::text_to_publish(&file, &text);
    let from_afar =
        RoutingTable::from_afar("bus", published.as_bytes(), today()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(from_afar.table.spec().lists, document.table.spec().lists);
}

#[test]
fn a_date_on_which_nobody_is_served_any_more_is_told_ahead() {
    let text = table(&[("#rule", "allow = { regions = ['us'] }\nvalid_until = '2027-06-01'")])
        .replace("unlisted_jurisdiction = 'allow'", "unlisted_jurisdiction = 'refuse'");
    let warnings = good(&text).warnings;
    let told = "from 2027-06-01 on no route has a region for anybody";
    assert!(warnings.iter().any(|warning| warning.message.starts_with(told)), "{warnings:?}");
    assert!(
        !good(&text.replace("2027-06-01", "2029-06-01")).warnings.iter().any(|one| one.message.starts_with("from "))
    );
}
