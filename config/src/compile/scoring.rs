//! `[scoring.NAME]`: what counts in the choice between regions.

use policy::Table;
use policy::region::Region;
use policy::route::RouteSpec;
use policy::score::{CurveShape, LatencyCurve, LatencyFrom, ScoringSpec, Weights};

use super::names::Names;
use crate::field::{Field, Section};

/// Returns the scorings in the order of their names: the built-in ones, and those declared, which may replace a
/// built-in one.
pub(super) fn scorings(root: &Section<'_>, names: &Names<'_>) -> Vec<ScoringSpec> {
    let declared = root.field("scoring").and_then(|field| field.open_section());
    let scoring = |name: &str| match declared.as_ref().and_then(|section| section.field(name)) {
        Some(field) => scoring(&field),
        None => ScoringSpec::built_in(name),
    };
    let scorings: Vec<ScoringSpec> = names.scorings.iter().filter_map(scoring).collect();
    let mut curves: Vec<&LatencyCurve> = Vec::new();
    for scoring in &scorings {
        if !curves.contains(&&scoring.latency_curve) {
            curves.push(&scoring.latency_curve);
        }
    }
    if let (Some(section), true) = (&declared, curves.len() > Table::MAX_CURVES) {
        let max = Table::MAX_CURVES;
        section
            .error(format!("{} different latency curves, \"line\" included; there can be at most {max}", curves.len()));
    }
    scorings
}

/// Reports regions without coordinates, where some route's scoring goes by how far its clients are from each of them.
pub(super) fn check_coordinates(
    root: &Section<'_>,
    scorings: &[ScoringSpec],
    regions: &[Region],
    routes: &[RouteSpec],
) {
    let goes_by_clients = |scoring: &&ScoringSpec| scoring.latency_from == LatencyFrom::Client;
    let mut used = routes.iter().filter_map(|route| scorings.get(route.scoring)).filter(goes_by_clients);
    let lacking = regions.iter().filter(|region| region.coordinates.is_none());
    let Some(scoring) = used.next() else { return };
    // Where it is no table, that has been reported.
    let Some(section) = root.field("regions").and_then(|field| field.peek_section()) else { return };
    for region in lacking {
        if let Some(field) = section.field(&region.name) {
            field.error(format!(
                "scoring.{} reckons from clients (latency_from = \"client\"), and where this region is is not said: give \
                 coordinates = [53.35, -6.26], its latitude and longitude",
                scoring.name
            ));
        }
    }
}

fn scoring(field: &Field<'_>) -> Option<ScoringSpec> {
    let section = field.section(KEYS)?;
    // Everything is read, and so checked, before a part of it can return early.
    let weights = weights(field, &section);
    let curve = section.field("latency_curve").map(|field| curve(&field));
    let latency_curve = curve.unwrap_or_else(|| Some(LatencyCurve::default()));
    let latency_from = section.field("latency_from").and_then(|field| field.choice(FROM)).unwrap_or_default();
    let shares = section.field("shares").and_then(|field| field.boolean()).unwrap_or(true);
    Some(ScoringSpec {
        name: field.key().to_owned(),
        weights: weights?,
        latency_curve: latency_curve?,
        latency_from,
        shares,
    })
}

/// Reads the weights. A declaration of a built-in scoring that names none of them keeps its own.
fn weights(field: &Field<'_>, section: &Section<'_>) -> Option<Weights> {
    let built_in = Weights::built_in(field.key()).filter(|_| WEIGHTS.iter().all(|key| section.field(key).is_none()));
    if built_in.is_some() && !section.is_empty() {
        return built_in;
    }
    let weight = |key| match section.field(key) {
        Some(field) => field.number(0.0..=1e6),
        None => Some(0.0),
    };
    let (latency, load, compliance, cost) = (weight("latency"), weight("load"), weight("compliance"), weight("cost"));
    let weights = Weights { latency: latency?, load: load?, compliance: compliance?, cost: cost? };
    if !weights.is_usable() {
        field.error("no weight is above zero: give at least one of latency, load, compliance, cost".to_owned());
    }
    Some(weights)
}

/// Reads a built-in curve's name, or `{ line = [[ms, points], …] }`, or `{ steps = [[ms, points], …] }`.
fn curve(field: &Field<'_>) -> Option<LatencyCurve> {
    if field.peek_text().is_some() {
        let names: Vec<(&str, &str)> = LatencyCurve::BUILT_IN.iter().map(|name| (*name, *name)).collect();
        return LatencyCurve::built_in(field.choice(&names)?);
    }
    if field.peek_section().is_none() {
        return field.wrong(CURVE);
    }
    let section = field.section(&["line", "steps"])?;
    let (shape, knots) = match (section.field("line"), section.field("steps")) {
        (Some(knots), None) => (CurveShape::Line, knots),
        (None, Some(knots)) => (CurveShape::Steps, knots),
        (Some(_), Some(_)) => {
            field.error("a curve is a line or steps, not both".to_owned());
            return None;
        }
        (None, None) => {
            // Any other key has been reported.
            if section.is_empty() {
                field.error(format!("expected {CURVE}"));
            }
            return None;
        }
    };
    let list = knots.list()?;
    if list.len() > LatencyCurve::MAX_KNOTS {
        knots.error(format!("{} knots; a curve has at most {}", list.len(), LatencyCurve::MAX_KNOTS));
        return None;
    }
    let read: Vec<Option<(f64, f64)>> = list.iter().map(knot).collect();
    let read: Option<Vec<(f64, f64)>> = read.into_iter().collect();
    LatencyCurve::new(shape, read?).map_err(|error| knots.error(error.to_string())).ok()
}

fn knot(field: &Field<'_>) -> Option<(f64, f64)> {
    match field.list()?.as_slice() {
        [ms, points] => {
            let (ms, points) = (ms.number(0.0..=1e6), points.number(0.0..=100.0));
            Some((ms?, points?))
        }
        _ => {
            field.error("expected [milliseconds, points], such as [50, 90]".to_owned());
            None
        }
    }
}

const KEYS: &[&str] = &["latency", "load", "compliance", "cost", "latency_curve", "latency_from", "shares"];

const FROM: &[(&str, LatencyFrom)] = &[("node", LatencyFrom::Node), ("client", LatencyFrom::Client)];

const WEIGHTS: &[&str] = &["latency", "load", "compliance", "cost"];

/// What a curve may be, in words.
const CURVE: &str = "the name of a curve such as \"steps\", or its knots, { line = [[20, 100], [300, 20]] } or \
    { steps = [[0, 100], [50, 70]] }";
