//! Keys whose behaviour comes with a later release.

use crate::field::Field;

/// Warns that a key is checked and kept but changes nothing yet, so that nobody relies on it.
pub(super) fn not_yet(field: &Field<'_>) {
    field.warning("parsed, but not acted on in this version".to_owned());
}
