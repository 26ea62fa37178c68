//! Quotes a user's text for a message.

/// Returns the text in quotation marks: on one line, without control characters, and cut to [`LONGEST`] letters.
pub(crate) fn quote(text: &str) -> String {
    let mut letters = text.chars();
    let mut quoted = String::from('"');
    for letter in letters.by_ref().take(LONGEST) {
        match letter {
            '"' | '\'' => quoted.push(letter),
            _ => quoted.extend(letter.escape_debug()),
        }
    }
    quoted.push_str(if letters.next().is_some() { "…\"" } else { "\"" });
    quoted
}

/// How many letters of a text are shown: about half a line.
const LONGEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_harmless() {
        for (text, expected) in
            [("a 'b' é", "\"a 'b' é\""), ("a\nb\u{1b}[2J", "\"a\\nb\\u{1b}[2J\""), ("\u{202e}x", "\"\\u{202e}x\"")]
        {
            assert_eq!(quote(text), expected);
        }
        assert_eq!(quote(&"é".repeat(61)), format!("\"{}…\"", "é".repeat(60)));
    }
}
