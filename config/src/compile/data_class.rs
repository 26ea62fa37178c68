//! `[data_classes.NAME]`: kinds of data, and how far the rules apply to them.

use policy::jurisdiction::{DataClass, Scope, Transfer};

use super::names::Names;
use crate::field::{Field, Section};

/// Returns the data classes in the order of their names: those declared, those that only a rule names, and
/// `public`, to which no rule applies unless it is declared otherwise.
pub(super) fn data_classes(root: &Section<'_>, names: &Names<'_>) -> Vec<DataClass> {
    let declared = root.field("data_classes").and_then(|field| field.open_section());
    let class = |name: &str| match declared.as_ref().and_then(|section| section.field(name)) {
        Some(field) => data_class(&field),
        None => DataClass {
            name: name.to_owned(),
            cross_border: Transfer::Allowed,
            scope: if name == "public" { Scope::Global } else { Scope::Jurisdiction },
        },
    };
    names.classes.iter().map(class).collect()
}

fn data_class(field: &Field<'_>) -> DataClass {
    let section = field.section(&["cross_border", "scope"]);
    let value = |key| section.as_ref().and_then(|section| section.field(key));
    let border = value("cross_border");
    let class = DataClass {
        name: field.key().to_owned(),
        cross_border: border.as_ref().and_then(|field| field.choice(CROSS_BORDER)).unwrap_or(Transfer::Allowed),
        scope: value("scope").and_then(|field| field.choice(SCOPES)).unwrap_or(Scope::Jurisdiction),
    };
    if let Some(field) = border.filter(|_| class.scope == Scope::Global && class.cross_border != Transfer::Allowed) {
        field.error("has no effect with scope = \"global\", which no rule reaches: change one of them".to_owned());
    }
    class
}

const CROSS_BORDER: &[(&str, Transfer)] =
    &[("prohibited", Transfer::Prohibited), ("with_consent", Transfer::WithConsent), ("allowed", Transfer::Allowed)];

const SCOPES: &[(&str, Scope)] =
    &[("jurisdiction", Scope::Jurisdiction), ("super_region", Scope::SuperRegion), ("global", Scope::Global)];
