//! `[emergency]`: what an operator switches off in an incident.

use policy::emergency::{EmergencySpec, ReadOnly};
use policy::route::Criticality;
use policy::{LawTime, RouteId};

use super::names::Names;
use super::page::Files;
use crate::field::{Field, Section};
use crate::suggest::nearest;

/// Reads what is switched off. `at` is the time at which the law is read, after which it may have an end.
pub(super) fn emergency(
    root: &Section<'_>,
    names: &Names<'_>,
    files: &mut Files,
    at: LawTime,
) -> Option<EmergencySpec> {
    let field = root.field("emergency")?;
    let section = field.section(KEYS)?;
    let value = |key| section.field(key);
    if ["shed", "read_only", "routes_off"].into_iter().all(|key| value(key).is_none()) {
        field.error(
            "switches nothing off: give it shed = \"sheddable\", read_only = \"all\" or routes_off = [\"NAME\"], or take it out"
                .to_owned(),
        );
    }
    let page = match (value("page"), value("page_text")) {
        (Some(_), Some(text)) => {
            text.error("there is page already: give the page in one way".to_owned());
            None
        }
        (Some(file), None) => files.page(&file),
        (None, Some(text)) => Files::text(&text),
        (None, None) => None,
    };
    let spec = EmergencySpec {
        shed: value("shed").and_then(|field| field.choice(SHED)),
        read_only: value("read_only").and_then(|field| read_only(&field, names)),
        routes_off: value("routes_off").map(|field| routes_off(&field, root)).unwrap_or_default(),
        page,
        until: value("until").and_then(|field| field.moment()),
    };
    if let Some(until) = value("until").filter(|_| !spec.is_in_force(at)) {
        until.warning(
            "NOTHING IS REFUSED: the emergency is over by this time, and switches nothing off; write a later one, or take \
             [emergency] out"
                .to_owned(),
        );
    }
    Some(spec)
}

/// Reads whose writes are refused: everybody's, or those of the clients of some jurisdictions.
fn read_only(field: &Field<'_>, names: &Names<'_>) -> Option<ReadOnly> {
    match field.peek_text() {
        Some("all") => return Some(ReadOnly::All),
        Some(name) => {
            // A mistake that is likely while there is no time: a name where a list of names stands.
            let known = names.jurisdictions.iter();
            let near = names.jurisdictions.get(name).map(|_| name).or_else(|| nearest(name, known));
            field.error(format!(
                "expected \"all\" or a list of jurisdictions: read_only = [\"{}\"]",
                near.unwrap_or("NAME")
            ));
            return None;
        }
        None => {}
    }
    if field.peek_list().is_none() {
        return field.wrong("\"all\" or a list of jurisdictions such as [\"eu\"]");
    }
    let all = |member: &&Field<'_>| member.peek_text() == Some("all") && names.jurisdictions.get("all").is_none();
    if let Some(all) = field.peek_list().unwrap_or_default().iter().find(all) {
        all.error(
            "there is no jurisdiction \"all\"; for everybody's writes, without a list: read_only = \"all\"".to_owned(),
        );
        return None;
    }
    let named = names.jurisdictions.resolve_all(field)?;
    (!named.is_empty()).then_some(ReadOnly::Of(named))
}

/// Reads the names of routes. Ids are positions in the file.
fn routes_off(field: &Field<'_>, root: &Section<'_>) -> Vec<RouteId> {
    let routes = root.field("routes").and_then(|routes| routes.peek_list()).unwrap_or_default();
    let names: Vec<Option<&str>> =
        routes.iter().map(|route| route.peek_section()?.field("name")?.peek_text()).collect();
    let list = field.list().unwrap_or_default();
    if field.is_empty_list() {
        field.error("the list is empty: name at least one route, or leave it out".to_owned());
    }
    let mut ids: Vec<RouteId> = Vec::new();
    for member in &list {
        let Some(name) = member.text() else { continue };
        match names.iter().position(|known| *known == Some(name)) {
            Some(index) => ids.push(RouteId(index as u32)),
            None => member.unknown("route", name, names.iter().copied().flatten()),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

const KEYS: &[&str] = &["shed", "read_only", "routes_off", "page", "page_text", "until"];

/// What is critical is not shed by an operator's word: routes_off names it.
const SHED: &[(&str, Criticality)] = &[("sheddable", Criticality::Sheddable), ("default", Criticality::Default)];
