//! Suggests the valid name that a wrong one was probably meant to be.

/// Returns ` (did you mean "NAME"?)`, or nothing when no known name is near.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default()
}

/// Returns the known name with the fewest edits: at most a third of its letters, or else one; case does not count.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > LONGEST {
        return None;
    }
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(edits, name)| *edits <= (name.chars().count() / 3).max(1) && *edits < wrong.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// The longest name that is compared, in bytes: the comparison is quadratic.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["us-east-1", "us-west-2", "eu-west-1", "a"];
        for (wrong, expected) in [
            ("us-esat-1", Some("us-east-1")),
            ("US-EAST-1", Some("us-east-1")),
            ("us-east1", Some("us-east-1")),
            ("eu-wset-1", Some("eu-west-1")),
            ("mars", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, known), expected, "{wrong}");
        }
        assert_eq!(did_you_mean("us-esat-1", known), " (did you mean \"us-east-1\"?)");
        assert_eq!(nearest(&"x".repeat(65), [&*"x".repeat(64)]), None);
    }
}
