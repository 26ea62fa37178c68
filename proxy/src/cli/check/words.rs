//! Formats the difference between two tables.

use std::path::Path;

use policy::diff::{
    Consent, Diff, Gain, Group, GroupKind, LawChange, NewPlace, Passage, Requests, RouteChange, RouteFate,
};
use policy::diff::{Setting, Takeover, Who};

/// Formats a whole diff for people.
pub(in crate::cli) fn text(diff: &Diff, old: &Path, new: &Path) -> String {
    let mut out = format!(
        "from {} (version {:?}) to {} (version {:?}):\n",
        old.display(),
        diff.old_version,
        new.display(),
        diff.new_version
    );
    if diff.is_empty() {
        out.push_str("  no difference but the version\n");
        return out;
    }
    section(&mut out, "where requests may go", diff.new_places.iter().map(new_place).chain(diff.law.iter().map(law)));
    for dated in &diff.later {
        let title = format!("where requests may go from {} on", dated.at);
        match dated.law.is_empty() {
            true => out.push_str(&format!("{title}\n  same      as in the old table\n")),
            false => section(&mut out, &title, dated.law.iter().map(law)),
        }
    }
    let routes = diff.routes.iter().map(route).chain(diff.takeovers.iter().map(takeover));
    section(&mut out, "routes", routes);
    section(&mut out, "everything else", diff.settings.iter().map(setting));
    out.push_str(&summary(diff));
    out
}

fn summary(diff: &Diff) -> String {
    let law = || diff.law.iter().chain(diff.later.iter().flat_map(|dated| &dated.law));
    let wider = diff.new_places.len() + law().filter(|change| change.widens()).count();
    let stricter = law().filter(|change| change.shrinks()).count();
    let law = match (wider, stricter) {
        (0, 0) => "no request of the old routes may go where the old table does not let it".to_owned(),
        (0, stricter) => {
            format!("no request of the old routes may go where the old table does not let it, {stricter} narrower")
        }
        (wider, 0) => format!("{wider} WIDER"),
        (wider, stricter) => format!("{wider} WIDER, {stricter} narrower"),
    };
    let routes = diff.routes.len() + diff.takeovers.len();
    format!("in all: {law}; routes: {routes}; everything else: {}\n", diff.settings.len())
}

fn new_place(place: &NewPlace) -> (&'static str, String) {
    let NewPlace { region, country } = place;
    (
        "NEW PLACE",
        format!("{region} in {country}, where the old table has no region: whatever no rule keeps away may go there"),
    )
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = (&'static str, String)>) {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("{title}\n"));
    for (mark, words) in lines.iter().take(MOST_LINES) {
        out.push_str(&format!("  {mark:<9} {words}\n"));
    }
    if lines.len() > MOST_LINES {
        out.push_str(&format!("  and {} more: --format json has them all\n", lines.len() - MOST_LINES));
    }
}

fn law(change: &LawChange) -> (&'static str, String) {
    let mark = match (change.widens(), change.shrinks()) {
        (true, true) => "MOVED",
        (true, false) => "WIDER",
        (false, true) if change.refused_with.is_some() => "none left",
        (false, true) => "narrower",
        (false, false) => "order",
    };
    let mut effects = match change.anywhere {
        true => vec!["anywhere, where the old table sets bounds".to_owned()],
        false => gains(&change.gained),
    };
    if change.refused_before {
        effects.push("the old table refuses them all".to_owned());
    }
    if !change.unguarded.is_empty() {
        effects.push(format!("{} without the safeguards that the old table asks for", names(&change.unguarded)));
    }
    if change.was_anywhere {
        effects.push("no longer anywhere: the new table sets bounds".to_owned());
    } else if !change.lost.is_empty() {
        effects.push(format!("no longer {}", names(&change.lost)));
    }
    if !change.guarded.is_empty() {
        effects.push(format!("{} with safeguards only", names(&change.guarded)));
    }
    if let Some(preference) = &change.preference {
        effects.push(format!("first {}, before it was {}", names(&preference.new), names(&preference.old)));
    }
    if let Some(status) = change.refused_with {
        let why = if status == 400 { "the jurisdiction is unknown" } else { "no region is left" };
        effects.push(format!("{why}: answered {status}"));
    }
    (mark, format!("{}: {}", subject(change), effects.join("; ")))
}

/// Returns whose requests a change is for, on which routes.
pub(super) fn subject(change: &LawChange) -> String {
    let mut subject = format!("{}: {}", who(&change.who), some(&change.routes, 3, passage));
    if let Some(requests) = &change.requests {
        subject.push_str(&format!(", {}", all(requests, |each| requests_in_words(*each).to_owned(), " and ")));
    }
    if let Some(consent) = &change.consent {
        subject.push_str(&format!(", {}", all(consent, |each| consent_in_words(*each).to_owned(), " and ")));
    }
    subject
}

/// Returns the gained regions, grouped by why they matter.
fn gains(gained: &[Gain]) -> Vec<String> {
    let of = |wanted: &dyn Fn(&Gain) -> bool| gained.iter().filter(|gain| wanted(gain)).collect::<Vec<_>>();
    let mut words = Vec::new();
    let known = of(&|gain| !gain.is_new);
    if !known.is_empty() {
        words.push(format!("also {}, which the old table forbids", some(&known, 8, |gain| gain.region.clone())));
    }
    let place = |gain: &&Gain| match gain.was_in {
        Some(country) => format!("{} (in {} now, it was in {country})", gain.region, gain.country),
        None => format!("{} (new region, in {})", gain.region, gain.country),
    };
    let (lawful, unlawful) =
        (of(&|gain| gain.is_new && gain.under_old_rules), of(&|gain| gain.is_new && !gain.under_old_rules));
    if !lawful.is_empty() {
        words.push(format!("also {}", some(&lawful, 8, place)));
    }
    if !unlawful.is_empty() {
        words.push(format!("also {}, which the old rules would forbid", some(&unlawful, 8, place)));
    }
    words
}

fn who(who: &Who) -> String {
    if who.everybody {
        return "everybody".to_owned();
    }
    let mut words: Vec<String> = who.groups.iter().map(group).collect();
    if !who.others.is_empty() {
        words.push(some(&who.others, 8, |country| country.to_string()));
    }
    if who.unknown {
        words.push("clients of unknown country".to_owned());
    }
    if !who.declared.is_empty() {
        words.push(format!("tenants declared under {}", names(&who.declared)));
    }
    words.join(", ")
}

fn group(group: &Group) -> String {
    let Group { name, kind, countries } = group;
    match (kind, countries) {
        (GroupKind::Jurisdiction, 1) => name.clone(),
        (GroupKind::Jurisdiction, countries) => format!("{name} ({countries} countries)"),
        (GroupKind::SuperRegion, countries) => format!("super-region {name} ({countries} countries)"),
        (GroupKind::Unlisted, countries) => format!("the {countries} countries in no jurisdiction"),
        (GroupKind::UnlistedInSuperRegion, countries) => {
            format!("the {countries} countries of {name} in no jurisdiction")
        }
    }
}

fn passage(passage: &Passage) -> String {
    let Passage { old, new, old_class, new_class, at } = passage;
    let class = if old_class == new_class { new_class.clone() } else { format!("{new_class}, before {old_class}") };
    if old == new {
        return format!("{new:?} ({class})");
    }
    format!("{old:?}, now {new:?} ({class}) at {}", some(at, 2, Clone::clone))
}

fn requests_in_words(requests: Requests) -> &'static str {
    match requests {
        Requests::Reads => "reads",
        Requests::Writes => "writes",
        Requests::ReadsTakenForWrites => "reads that are taken for writes now",
        Requests::WritesTakenForReads => "writes that are taken for reads now",
    }
}

fn consent_in_words(consent: Consent) -> &'static str {
    match consent {
        Consent::Without => "without consent",
        Consent::With => "with consent",
        Consent::NewlyHeard => "with consent where only the new table looks for it",
        Consent::NoLongerHeard => "with consent where only the old table looks for it",
    }
}

fn route(change: &RouteChange) -> (&'static str, String) {
    let RouteChange { route, fate, requests, data_class, settings } = change;
    let settings = || settings.iter().map(setting_in_words).collect::<Vec<_>>().join("; ");
    match fate {
        RouteFate::Added => ("added", format!("{route:?}: {requests} ({data_class})")),
        RouteFate::Removed { goes_to, not_found } => {
            let to = (!goes_to.is_empty()).then(|| format!("go to {}", some(goes_to, 3, |name| format!("{name:?}"))));
            let nowhere = not_found.then(|| "are answered 404".to_owned());
            let ends: Vec<String> = to.into_iter().chain(nowhere).collect();
            let ends = if ends.is_empty() {
                "nothing reached it".to_owned()
            } else {
                format!("its requests {}", ends.join(" or "))
            };
            ("removed", format!("{route:?}: {requests} ({data_class}); {ends}"))
        }
        RouteFate::Renamed { from } => {
            let settings = settings();
            let also = if settings.is_empty() { settings } else { format!("; {settings}") };
            ("renamed", format!("{from:?} to {route:?}{also}"))
        }
        RouteFate::Changed => ("changed", format!("{route:?}: {}", settings())),
    }
}

fn takeover(takeover: &Takeover) -> (&'static str, String) {
    let Takeover { route, data_class, by, by_class, by_new_route, at, methods, shadowed } = takeover;
    let methods = methods
        .as_ref()
        .map_or(String::new(), |methods| format!("{} ", some(methods, 5, |method| method.name().to_owned())));
    let at = format!("{methods}{}", some(at, 3, Clone::clone));
    let to = match (by, by_class) {
        (Some(by), Some(class)) => {
            let new = if *by_new_route { "new " } else { "" };
            let was = if class == data_class { String::new() } else { format!(", before {data_class}") };
            format!("go to the {new}route {by:?} ({class}{was})")
        }
        _ => "are answered 404".to_owned(),
    };
    let left = if *shadowed { "; nothing reaches it any more" } else { "" };
    (if *shadowed { "shadowed" } else { "taken" }, format!("{route:?}: its requests for {at} {to}{left}"))
}

fn setting(setting: &Setting) -> (&'static str, String) {
    let mark = match (&setting.old, &setting.new) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    (mark, setting_in_words(setting))
}

fn setting_in_words(setting: &Setting) -> String {
    match (&setting.old, &setting.new) {
        (Some(old), Some(new)) => format!("{}: {old} → {new}", setting.key),
        (Some(only), None) | (None, Some(only)) => format!("{}: {only}", setting.key),
        (None, None) => setting.key.clone(),
    }
}

pub(super) fn names(names: &[String]) -> String {
    some(names, 8, Clone::clone)
}

/// Returns the first of a list in words, and how many more there are.
fn some<T>(list: &[T], most: usize, words: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = list.iter().take(most).map(words).collect();
    if list.len() > most {
        shown.push(format!("and {} more", list.len() - most));
    }
    shown.join(", ")
}

fn all<T>(list: &[T], words: impl Fn(&T) -> String, between: &str) -> String {
    list.iter().map(words).collect::<Vec<_>>().join(between)
}

/// The most lines of a section that are shown: more are not read.
const MOST_LINES: usize = 50;
