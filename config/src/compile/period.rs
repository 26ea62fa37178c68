//! `valid_from` and `valid_until`, `from` and `until`: when something holds.

use policy::Period;

use crate::field::Section;

/// Returns the period that two keys give, from the first and up to the second; `None` where one of them is wrong.
pub(super) fn period(section: &Section<'_>, [from, until]: [&str; 2]) -> Option<Period> {
    let moment = |key| match section.field(key) {
        None => Some(None),
        Some(field) => field.moment().map(Some),
    };
    // Both are read, and so checked, before either can end it.
    let (begins, ends) = (moment(from), moment(until));
    let period = Period { from: begins?, until: ends? };
    if let Some(field) = section.field(until).filter(|_| period.is_empty()) {
        field.error(format!("must be after {from}: it is up to this moment, and without it, that it holds"));
        return None;
    }
    Some(period)
}
