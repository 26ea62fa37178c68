//! `[lists.NAME]`: countries with dates, scopes and sources.

use std::path::Path;

use policy::Period;
use policy::list::{Entry, List};

use super::countries::country;
use super::page::{Files, MAX_LIST};
use super::period::period;
use crate::document;
use crate::field::{Field, Section};
use crate::text::read_bounded;

/// Returns the lists in the order of their names; one with an error may be left out.
pub(super) fn lists(root: &Section<'_>, files: &mut Files) -> Vec<List> {
    let Some(section) = root.field("lists").and_then(|field| field.open_section()) else { return Vec::new() };
    let list = |field: Field<'_>| {
        let section = field.section(&["entries", "file"])?;
        let entries = match (section.field("entries"), section.field("file")) {
            (Some(field), None) => entries(&field),
            (None, Some(field)) => from_file(&field, files)?,
            (None, None) => {
                section.missing("entries", "give the entries, or a file that has them: file = \"eu-adequacy.toml\"");
                return None;
            }
            (Some(_), Some(file)) => {
                file.error("there are entries already: give them in one way".to_owned());
                return None;
            }
        };
        Some(List { name: field.key().to_owned(), entries })
    };
    section.fields().filter_map(list).collect()
}

fn from_file(field: &Field<'_>, files: &mut Files) -> Option<Vec<Entry>> {
    let file =
        files.path(field, "give the entries themselves, entries = [...]; `meridian publish` does so by itself")?;
    let text = files.list(field, &file)?;
    match read(&file, &text) {
        Ok((entries, warnings)) => {
            warnings.iter().for_each(|warning| field.warning(warning.to_string()));
            Some(entries)
        }
        Err(problems) => {
            problems.0.iter().for_each(|problem| field.error(problem.to_string()));
            None
        }
    }
}

/// Reads a file of entries.
pub(super) fn read(file: &Path, text: &str) -> Result<(Vec<Entry>, Vec<crate::Problem>), crate::Problems> {
    document::read(file, text, &["entries"], |root| {
        root.required("entries", "a list has entries = [{ country = \"…\", from = \"…\", source = \"…\" }]")
            .map(|field| entries(&field))
    })
}

fn entries(field: &Field<'_>) -> Vec<Entry> {
    let list = field.list().unwrap_or_default();
    if list.len() > MAX_ENTRIES {
        field.error(format!("{} entries; a list can have at most {MAX_ENTRIES}", list.len()));
    }
    list.iter().take(MAX_ENTRIES).filter_map(entry).collect()
}

fn entry(field: &Field<'_>) -> Option<Entry> {
    let section = field.section(KEYS)?;
    let is_line = |text: &str| !text.contains(char::is_control) && (1..=1024).contains(&text.chars().count());
    let line =
        |field: Field<'_>| field.text_that(is_line, "is not a single line of 1 to 1024 letters").map(str::to_owned);
    let text = |key| section.field(key).and_then(line).unwrap_or_default();
    let (named, unnamed) = (section.field("country"), section.field("no_country"));
    match (&named, &unnamed) {
        (None, None) => section.missing(
            "country",
            "say which: country = \"GB\"; or, of what has no code, why it stands here: no_country = \"…\"",
        ),
        (Some(_), Some(field)) => field.error("there is a country: take one of them out".to_owned()),
        (None, Some(field)) => drop(line(field.clone())),
        (Some(_), None) => {}
    }
    section.required("from", "say since when it counts: from = \"2021-06-28\"");
    section.required("source", "say where it is written: source = \"Decision (EU) 2021/1772\"");
    let is_known = named.is_none();
    let country = named.and_then(|field| country(&field));
    Some(Entry {
        period: period(&section, ["from", "until"]).unwrap_or(Period::ALWAYS),
        scope: text("scope"),
        source: text("source"),
        partial: section.field("partial").and_then(|field| field.boolean()).unwrap_or(false),
        country: if is_known { None } else { Some(country?) },
    })
}

/// Returns the text of a table with the lists that it names by file written into it, on the same lines. The name of
/// a file that cannot be read stays, and is reported when the table is read.
pub(crate) fn inlined(text: &str, directory: &Path) -> String {
    let mut whole = text.to_owned();
    let mut files = document::texts_below(text, "lists", "file");
    files.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    for (span, name) in files {
        let file = directory.join(name);
        let entries = read_bounded(&file, MAX_LIST).ok().and_then(|list| read(&file, &list).ok());
        if let Some((entries, _)) = entries {
            whole.replace_range(span, &written(&entries));
        }
    }
    whole
}

/// Returns `entries = […]`, on one line.
fn written(entries: &[Entry]) -> String {
    // One line each, without control characters: they were read.
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let entry = |entry: &Entry| {
        let mut keys = match entry.country {
            Some(country) => vec![format!("country = \"{country}\"")],
            None => vec!["no_country = \"it has no code\"".to_owned()],
        };
        keys.extend(entry.period.from.map(|from| format!("from = \"{from}\"")));
        keys.extend(entry.period.until.map(|until| format!("until = \"{until}\"")));
        for (key, value) in [("scope", &entry.scope), ("source", &entry.source)] {
            keys.extend((!value.is_empty()).then(|| format!("{key} = {}", quoted(value))));
        }
        keys.extend(entry.partial.then(|| "partial = true".to_owned()));
        format!("{{ {} }}", keys.join(", "))
    };
    format!("entries = [{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

const KEYS: &[&str] = &["country", "no_country", "from", "until", "scope", "source", "partial"];

/// The most entries of a list: four times the number of countries.
const MAX_ENTRIES: usize = 1000;
