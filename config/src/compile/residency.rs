//! `[[residency]]`: the law.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::Period;
use policy::jurisdiction::{ClassId, Rule, Scope, Transfer, WhenUnavailable};

use super::Context;
use super::names::Names;
use super::page::Files;
use super::period::period;
use super::selector::{denial, selectors};
use crate::field::{Field, Section};
use crate::name::name as read_name;
use crate::quote::quote;
use crate::suggest::nearest;

/// Returns the rules in the order of the file; a rule with an error may be left out.
pub(super) fn rules(root: &Section<'_>, context: &Context<'_, '_>, files: &mut Files) -> Vec<Rule> {
    let fields = root.field("residency").and_then(|field| field.list()).unwrap_or_default();
    if let Some(field) = fields.get(MAX_RULES) {
        field.error(format!("{} rules; a table may have at most {MAX_RULES}", fields.len()));
    }
    fields.iter().take(MAX_RULES).filter_map(|field| rule(field, context, files)).collect()
}

/// Reports classes that only a rule names: no route carries them, and they are not declared. One that
/// resembles another class is an error, lest a typo escape the law.
pub(super) fn check_implied_classes(root: &Section<'_>, names: &Names<'_>) {
    let list = |key| root.field(key).and_then(|field| field.peek_list()).unwrap_or_default();
    let declared = root.field("data_classes").and_then(|field| field.peek_section());
    let declared = declared.iter().flat_map(Section::fields).map(|field| field.key());
    let routes = list("routes");
    let carried = routes.iter().filter_map(|route| route.peek_section()?.field("data_class")?.peek_text());
    let mut known: BTreeSet<&str> = declared.chain(carried).chain(["public"]).collect();
    let rules = list("residency");
    let lists = rules.iter().filter_map(|rule| rule.peek_section()?.field("data_classes")?.peek_list());
    for field in lists.flatten() {
        let Some(name) = field.peek_text() else { continue };
        // Past the bound on classes, names have no class; that was reported.
        if names.classes.get(name).is_none() || !known.insert(name) {
            continue;
        }
        match nearest(name, names.classes.iter().filter(|other| *other != name)) {
            Some(near) => field.error(format!(
                "no route carries {}, and it is not declared: did you mean \"{near}\"? If not, declare it in \
                 [data_classes]",
                quote(name)
            )),
            None => field.warning(format!("no route carries {}: is it spelled as on the routes?", quote(name))),
        }
    }
}

fn rule(field: &Field<'_>, context: &Context<'_, '_>, files: &mut Files) -> Option<Rule> {
    let names = context.names;
    let section = field.section(KEYS)?;
    let jurisdiction_field = section.required("jurisdiction", "name the one whose clients it protects");
    let classes_field = section.required("data_classes", "name the kinds of data it protects");
    let (allow_field, deny_field) = (section.field("allow"), section.field("deny"));
    if allow_field.is_none() && deny_field.is_none() {
        let remedy = "say which regions may serve, as in { jurisdictions = [\"eu\"] }; [] allows none at all. A rule that \
            only denies has deny";
        section.missing("allow", remedy);
    }
    let data_classes = classes_field.map(|field| data_classes(&field, context)).unwrap_or_default();
    let only_denies = allow_field.is_none();
    let allow = allow_field.map(|field| selectors(&field, names, context.frameworks));
    let deny = deny_field.and_then(|field| denial(&field, names));
    if let Some(field) = section.field("transfer").filter(|_| only_denies) {
        field.error(
            "has no effect on a rule that only denies, which leaves all else as it is: give it an allow".to_owned(),
        );
    }
    let transfer = section.field("transfer").and_then(|field| field.choice(TRANSFER)).unwrap_or(Transfer::Prohibited);
    let when_unavailable = when_unavailable(&section, files);
    let regulation = section.field("regulation").and_then(|field| regulation(&field));
    let jurisdiction_field = jurisdiction_field?;
    Some(Rule {
        jurisdiction: names.jurisdictions.resolve(&jurisdiction_field)?,
        data_classes,
        allow,
        deny,
        transfer,
        period: period(&section, ["valid_from", "valid_until"]).unwrap_or(Period::ALWAYS),
        when_unavailable,
        blocked_by: section.field("blocked_by").and_then(|field| blocked_by(&field)),
        regulation: regulation.unwrap_or(jurisdiction_field.text()?).to_owned(),
        line: field.line(),
    })
}

fn data_classes(field: &Field<'_>, context: &Context<'_, '_>) -> Vec<ClassId> {
    let ids = context.names.classes.resolve_all(field).unwrap_or_default();
    for member in field.peek_list().unwrap_or_default() {
        let Some(name) = member.peek_text() else { continue };
        read_name(&member);
        let class = context.names.classes.get(name).and_then(|id| context.classes.get(id.0));
        if class.is_some_and(|class| class.scope == Scope::Global) {
            member.error(format!(
                "{} is of scope \"global\", to which no rule applies: declare it in [data_classes] with another \
                 scope, or take it out of the rule",
                quote(name)
            ));
        }
    }
    ids
}

fn when_unavailable(section: &Section<'_>, files: &mut Files) -> WhenUnavailable {
    let shows_page = section.field("when_unavailable").map_or(Some(false), |field| field.choice(WHEN_UNAVAILABLE));
    let (file, text) = (section.field("page"), section.field("page_text"));
    let page = match (shows_page, file, text) {
        (Some(true), Some(file), None) => files.page(&file),
        (Some(true), None, Some(text)) => Files::text(&text),
        (Some(true), Some(_), Some(text)) => {
            text.error("there is page already: give the page in one way".to_owned());
            None
        }
        (Some(true), None, None) => {
            section.missing("page", "when_unavailable = \"maintenance\" shows a page: page = \"maintenance.html\"");
            None
        }
        (Some(false), file, text) => {
            for page in [file, text].into_iter().flatten() {
                page.error("is shown only with when_unavailable = \"maintenance\"".to_owned());
            }
            None
        }
        (None, ..) => None,
    };
    page.map_or(WhenUnavailable::Reject, WhenUnavailable::Maintenance)
}

fn blocked_by(field: &Field<'_>) -> Option<Arc<str>> {
    let is_url = |text: &str| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\"".contains(&byte);
        (1..=MAX_URL).contains(&rest.len()) && rest.bytes().all(is_plain)
    };
    field.text_that(is_url, "is not a URL such as \"https://authority.example/decision\"").map(Arc::from)
}

/// The longest URL, in bytes: more is a mistake, and goes with every answer.
const MAX_URL: usize = 512;

fn regulation<'t>(field: &Field<'t>) -> Option<&'t str> {
    let is_line = |text: &str| !text.contains(char::is_control) && (1..=128).contains(&text.chars().count());
    field.text_that(is_line, "is not a single line of 1 to 128 letters")
}

const KEYS: &[&str] = &[
    "jurisdiction",
    "data_classes",
    "allow",
    "deny",
    "transfer",
    "valid_from",
    "valid_until",
    "when_unavailable",
    "page",
    "page_text",
    "blocked_by",
    "regulation",
];

const TRANSFER: &[(&str, Transfer)] = &[
    ("prohibited", Transfer::Prohibited),
    ("with_consent", Transfer::WithConsent),
    ("with_safeguards", Transfer::WithSafeguards),
    ("requires_local_copy", Transfer::RequiresLocalCopy),
    ("allowed", Transfer::Allowed),
];

/// Whether a page is shown.
const WHEN_UNAVAILABLE: &[(&str, bool)] = &[("reject", false), ("maintenance", true)];

const MAX_RULES: usize = 2048;
