//! `[traffic_classes.NAME]`: what a class of requests is guaranteed of each region's places.

use policy::concurrency::{ConcurrencyPlan, MOST_CLASSES, Mode, TrafficClass};
use policy::region::Region;
use policy::route::RouteSpec;

use super::names::Names;
use crate::endpoint::Upstream;
use crate::field::Section;

/// Returns the classes in the order of their names, which is that of their ids.
pub(super) fn traffic_classes(root: &Section<'_>, names: &Names<'_>) -> Vec<TrafficClass> {
    let Some(field) = root.field("traffic_classes") else { return Vec::new() };
    let Some(section) = field.open_section() else { return Vec::new() };
    let count = section.fields().count();
    if count > MOST_CLASSES {
        field.error(format!("{count} traffic classes; a table may have at most {MOST_CLASSES}"));
        return Vec::new();
    }
    let guaranteed = |name: &str| {
        let class = section.field(name)?.section(&["guaranteed"])?;
        let remedy = "say which share of a region's places is the class's: guaranteed = 0.4";
        let field = class.required("guaranteed", remedy)?;
        let share = field.number(0.0..=1.0)?;
        if share == 0.0 {
            field.error(
                "a class that is guaranteed nothing is none: give it a share above 0, or take it out".to_owned(),
            );
        }
        Some(share)
    };
    let name = |name: &str| Some(TrafficClass { name: name.to_owned(), guaranteed: guaranteed(name)? });
    let classes: Vec<TrafficClass> = names.traffic_classes.iter().filter_map(name).collect();
    let sum: f64 = classes.iter().map(|class| class.guaranteed).sum();
    if sum > 1.0 + ROUNDING {
        field.error(format!("the classes are guaranteed {sum:.3} together: at most 1, all of a region's places"));
    }
    classes
}

/// Warns of classes whose guarantees do nothing, or do not hold: a region has no limit, too small a one or no queue, or no
/// route is of one.
pub(super) fn check(root: &Section<'_>, regions: &[Region], upstreams: &[Upstream], routes: &[RouteSpec]) {
    let Some(field) = root.field("traffic_classes") else { return };
    let Some(section) = field.peek_section() else { return };
    let is_off = |plan: &ConcurrencyPlan| plan.mode == Mode::Off;
    let off: Vec<&str> = regions
        .iter()
        .zip(upstreams)
        .filter(|(_, upstream)| is_off(&upstream.concurrency))
        .map(|(region, _)| region.name.as_str())
        .collect();
    if !off.is_empty() {
        field.warning(format!(
            "guarantees are of the places of [concurrency], and do nothing in {}, where mode is \"off\": write mode = \
             \"adaptive\" in [concurrency]",
            if off.len() == regions.len() { "any region".to_owned() } else { off.join(", ") }
        ));
    }
    let classes = section.fields().count();
    for (region, upstream) in regions.iter().zip(upstreams) {
        let ConcurrencyPlan { mode, queue } = upstream.concurrency;
        let why = match mode {
            Mode::Off => continue,
            Mode::Fixed(limit) if (limit as usize) < classes => {
                format!("a limit of {limit} is too small for {classes} classes, each of which has one place at least")
            }
            _ if queue.length == 0 => {
                "nobody waits, since queue = 0: a place that is given back goes to whoever comes \
                                       first, of whatever class"
                    .to_owned()
            }
            _ if queue.length < classes => {
                format!("a queue of {} is too short for {classes} classes to wait in", queue.length)
            }
            _ => continue,
        };
        field.warning(format!("guarantees do not hold in region {}: {why}", region.name));
    }
    // Ids are positions in the order of the names.
    let mut names: Vec<_> = section.fields().collect();
    names.sort_by(|one, other| one.key().cmp(other.key()));
    for (index, class) in names.iter().enumerate() {
        if !routes.iter().any(|route| route.traffic_class == Some(index)) {
            class.warning(format!("no route is of this class: give one traffic_class = \"{}\"", class.key()));
        }
    }
}

/// 0.4, 0.3 and 0.3 are 1, whatever fractions of two make of it.
const ROUNDING: f64 = 1e-9;
