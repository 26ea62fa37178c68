//! Shares of a whole, as people write them.

use crate::field::Field;
use crate::quote::quote;

/// Parses a share such as `2%` or `0.5%`, as 0 to 1; `None` for anything else.
pub fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    // Rust reads `inf`, `+1` and `1e1` as numbers, too.
    let plain = text.bytes().next().is_some_and(|first| first.is_ascii_digit()) && !text.contains(['e', 'E']);
    (plain && (0.0..=100.0).contains(&percent)).then_some(percent / 100.0)
}

/// Parses a share, or `"off"`, which is `Some(None)`; anything else is reported.
pub(crate) fn share_or_off(field: &Field<'_>) -> Option<Option<f64>> {
    let Some(text) = field.peek_text() else { return field.wrong(REMEDY) };
    if text == "off" {
        return Some(None);
    }
    let share = share(text);
    if share.is_none() {
        field.error(format!("{} is not {REMEDY}", quote(text)));
    }
    share.map(Some)
}

const REMEDY: &str = "a share such as \"2%\", from \"0%\" to \"100%\", or \"off\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (text, expected) in [
            ("2%", Some(0.02)),
            ("0.5%", Some(0.005)),
            ("0%", Some(0.0)),
            ("100%", Some(1.0)),
            ("10 %", Some(0.1)),
            ("101%", None),
            ("-1%", None),
            ("+1%", None),
            ("1e1%", None),
            ("inf%", None),
            ("NaN%", None),
            ("2", None),
            ("%", None),
            ("", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
    }
}
