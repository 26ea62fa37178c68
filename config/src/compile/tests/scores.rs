//! What regions are worth: weights, curves and shares.

use policy::score::{CurveShape, LatencyCurve, LatencyFrom, ScoringSpec};

use super::{base_with, expect, good};
use crate::problem::Severity;

fn scoring(name: &str, declared: &str) -> ScoringSpec {
    let table = good(&base_with("#end", declared));
    table.table.spec().scorings.iter().find(|scoring| scoring.name == name).unwrap().clone()
}

#[test]
fn curves_are_named_or_drawn() {
    let curve = |value: &str| scoring("mine", &format!("[scoring.mine]\nload = 1\n{value}")).latency_curve;
    assert_eq!(curve("").name(), Some("line"));
    for name in LatencyCurve::BUILT_IN {
        assert_eq!(curve(&format!("latency_curve = '{name}'")).name(), Some(*name));
    }
    let steps = curve("latency_curve = { steps = [[0, 90], [10, 80.5]] }");
    assert_eq!((steps.shape(), steps.knots()), (CurveShape::Steps, &[(0.0, 90.0), (10.0, 80.5)][..]));
    let line = curve("latency_curve = { line = [[10, 100], [20, 0]] }");
    assert_eq!((line.shape(), line.points(15.0)), (CurveShape::Line, 50.0));
}

#[test]
fn a_built_in_scoring_keeps_the_weights_that_its_declaration_leaves_out_as_a_whole() {
    let changed = scoring("throughput", "[scoring.throughput]\nlatency_curve = 'steps'");
    let built_in = ScoringSpec::built_in("throughput").unwrap();
    assert_eq!((changed.weights, changed.latency_curve.name()), (built_in.weights, Some("steps")));
    let replaced = scoring("throughput", "[scoring.throughput]\ncost = 2\nlatency_curve = 'steps'").weights;
    assert_eq!((replaced.latency, replaced.load, replaced.cost), (0.0, 0.0, 2.0));
}

#[test]
fn a_score_by_clients_needs_to_know_where_regions_are() {
    let from = |value: &str| scoring("mine", &format!("[scoring.mine]\nload = 1\n{value}")).latency_from;
    assert_eq!((from(""), from("latency_from = 'client'")), (LatencyFrom::Node, LatencyFrom::Client));
    let declared = "[scoring.mine]\nlatency = 1\nlatency_from = 'client'\n";
    // As long as no route scores so, nobody asks.
    good(&format!("{}{declared}", regions([""; 3])));
    let used = |more| format!("{}scoring = 'mine'\n{declared}", regions(more));
    good(&used(["coordinates = [1, 2]"; 3]));
    let text = used(["coordinates = [1, 2]", "", "coordinates = [1, 2]"]);
    expect(&text, Severity::Error, 5, "regions.b", "give coordinates = ");
    let bad = format!("{}[scoring.mine]\nload = 1\nlatency_from = 'clients'\n", regions([""; 3]));
    expect(&bad, Severity::Error, 18, "scoring.mine.latency_from", "known: node, client");
}

/// Regions a, b and c with these further lines, and a route.
fn regions(more: [&str; 3]) -> String {
    let region = |(name, more): (&str, &str)| {
        format!("[regions.{name}]\ncountry = 'DE'\nendpoints = ['{name}.example.com:80']\n{more}\n")
    };
    let regions: String = ["a", "b", "c"].into_iter().zip(more).map(region).collect();
    format!("{regions}[[routes]]\nname = 'r'\ndata_class = 'public'\n")
}

#[test]
fn shares_arrive_where_they_belong() {
    let table = good(&regions(["share = 40", "share = 35", "share = 1000000"]));
    assert_eq!(table.warnings, []);
    let shares: Vec<_> = table.table.spec().regions.iter().map(|region| region.share).collect();
    assert_eq!(shares, [Some(40), Some(35), Some(1_000_000)]);
    // Regions of other priorities, and cold ones, stand by themselves.
    let table = good(&regions(["share = 40", "role = 'warm'", "priority = 0\nrole = 'cold'"]));
    let shares: Vec<_> = table.table.spec().regions.iter().map(|region| region.share).collect();
    assert_eq!(shares, [Some(40), None, None]);
    assert!(scoring("balanced", "").shares && scoring("mine", "[scoring.mine]\nload = 1").shares);
    assert!(!scoring("balanced", "[scoring.balanced]\nshares = false").shares);
}

#[test]
fn bad_shares() {
    for (more, line, path, fragment) in [
        (["share = 0", "share = 1", "share = 1"], 4, "regions.a.share", "it must be 1 to 1000000"),
        (["share = 1", "share = 1", "share = 1000001"], 12, "regions.c.share", "it must be 1 to 1000000"),
        (["share = 1", "share = 0.5", "share = 1"], 8, "regions.b.share", "expected a whole number"),
        (
            ["share = 1", "", "share = 1"],
            5,
            "regions.b",
            "a has a share and this region, of the same priority, has none",
        ),
        (["", "share = 1", "share = 1"], 1, "regions.a", "b has a share and this region"),
    ] {
        expect(&regions(more), Severity::Error, line, path, fragment);
    }
    let text = base_with("#end", "[scoring.mine]\nload = 1\nshares = 1");
    expect(&text, Severity::Error, 11, "scoring.mine.shares", "expected true or false");
}

#[test]
fn weights_that_were_meant_as_shares_are_told() {
    let told = "the weights of this priority add up to 100 (a 40, b 35, c 25), as shares of the traffic do, and are none: \
        of the clients that would choose a, 40 % stay, the others move on to the next best region. To split the traffic \
        in these proportions write share = 40 in place of weight";
    let weights = |a, b, c| regions([a, b, c].map(|weight: &'static str| weight));
    expect(&weights("weight = 40", "weight = 35", "weight = 25"), Severity::Warning, 4, "regions.a.weight", told);
    let thirds = weights("weight = 33", "weight = 33", "weight = 33");
    expect(&thirds, Severity::Warning, 4, "regions.a.weight", "add up to 99");
    let pair = weights("role = 'warm'", "weight = 50", "weight = 50");
    expect(&pair, Severity::Warning, 8, "regions.b.weight", "(b 50, c 50)");
    for fine in [
        weights("weight = 40", "weight = 35", "weight = 10"),
        weights("weight = 10", "", ""),
        weights("weight = 0", "weight = 100", "weight = 0"),
        weights("weight = 0", "weight = 60", "weight = 40"),
        weights("weight = 60", "weight = 40\nrole = 'warm'", ""),
        weights("share = 1\nweight = 40", "share = 1\nweight = 35", "share = 1\nweight = 25"),
        weights("weight = 40", "weight = 35", "weight = 25\nstate = 'disabled'"),
    ] {
        assert_eq!(good(&fine).warnings, [], "{fine}");
    }
}

#[test]
fn bad_curves() {
    let mine = |value: &str| base_with("#end", &format!("[scoring.mine]\nload = 1\nlatency_curve = {value}"));
    let place = "scoring.mine.latency_curve";
    for (value, path, fragment) in [
        ("'stpes'", place, "unknown value \"stpes\" (did you mean \"steps\"?)"),
        ("5", place, "expected the name of a curve such as \"steps\", or its knots"),
        ("{}", place, "expected the name of a curve such as \"steps\", or its knots"),
        ("{ lin = [] }", "scoring.mine.latency_curve.lin", "did you mean \"line\"?"),
        ("{ line = [[0, 1]], steps = [[0, 1]] }", place, "not both"),
        ("{ line = [] }", "scoring.mine.latency_curve.line", "0 knots; a curve has 1 to 32"),
        ("{ line = 5 }", "scoring.mine.latency_curve.line", "expected a list"),
        ("{ line = [5] }", "scoring.mine.latency_curve.line[0]", "expected a list"),
        ("{ line = [[5]] }", "scoring.mine.latency_curve.line[0]", "expected [milliseconds, points]"),
        ("{ line = [[0, 100], [5, 101]] }", "scoring.mine.latency_curve.line[1][1]", "0 to 100"),
        ("{ line = [[-1, 100]] }", "scoring.mine.latency_curve.line[0][0]", "0 to 1000000"),
        ("{ line = [[5, 100], [5, 90]] }", "scoring.mine.latency_curve.line", "5 ms comes after 5 ms"),
        ("{ line = [[5, 90], [6, 100]] }", "scoring.mine.latency_curve.line", "100 points come after 90"),
        ("{ steps = [[5, 90]] }", "scoring.mine.latency_curve.steps", "with a step at 0"),
    ] {
        expect(&mine(value), Severity::Error, 11, path, fragment);
    }
    let many = |count| (0..count).map(|ms| format!("[{ms}, 5]")).collect::<Vec<_>>().join(", ");
    good(&mine(&format!("{{ line = [{}] }}", many(32))));
    let path = "scoring.mine.latency_curve.line";
    expect(&mine(&format!("{{ line = [{}] }}", many(33))), Severity::Error, 11, path, "33 knots");
    let of = |count| {
        let one = |n| format!("[scoring.s{n}]\nload = 1\nlatency_curve = {{ steps = [[0, {n}]] }}\n");
        base_with("#end", &(1..=count).map(one).collect::<String>())
    };
    good(&of(15));
    let many = "17 different latency curves, \"line\" included; there can be at most 16";
    expect(&of(16), Severity::Error, 9, "scoring", many);
}

/// The reference's table of values, row by row.
#[test]
fn the_reference_has_the_values_of_every_curve() {
    let reference = include_str!("../../../REFERENCE.md");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = reference.lines().skip_while(|line| !line.starts_with("| `latency_curve` | 0 ms |"));
    let head = cells(rows.next().expect("the table"));
    let trips: Vec<f32> = head[2..9].iter().map(|cell| cell.trim_end_matches(" ms").parse().unwrap()).collect();
    let mut names = Vec::new();
    for row in rows.skip(1).take_while(|line| line.starts_with('|')).map(cells) {
        let name = row[1].trim_matches(['`', '"']).to_owned();
        let curve = LatencyCurve::built_in(&name).expect("a curve");
        for (ms, points) in trips.iter().zip(&row[2..9]) {
            assert!((curve.points(*ms) - points.parse::<f32>().unwrap()).abs() < 1e-4, "{name} at {ms} ms");
        }
        names.push(name);
    }
    assert_eq!(names, LatencyCurve::BUILT_IN);
}
