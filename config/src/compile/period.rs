//! `valid_from` and `valid_until`, `from` and `until`: when something holds.

use policy::Period;

use crate::field::Section;

/// Reads the period of two keys, from the first and up to the second; `None` where one of them is wrong.
pub(super) fn period(section: &Section<'_>, [from, until]: [&str; 2]) -> Option<Period> {
    let moment = |key| match section.field(key) {
        None => Some(None),
        Some(field) => field.moment().map(Some),
    };
    // Both are read, and so checked, before either can return early.
    let (begins, ends) = (moment(from), moment(until));
    let period = Period { from: begins?, until: ends? };
    if let Some(field) = section.field(until).filter(|_| period.is_empty()) {
        field.error(format!("must be after {from}: the period ends just before this moment"));
        return None;
    }
    Some(period)
}
