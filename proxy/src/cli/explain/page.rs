//! A page of text, with lines wrapped between words.

/// The lines written so far.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// The width of wrapped lines: a word that is longer exceeds it.
    const WIDTH: usize = 100;

    /// Writes a line as it is.
    pub(super) fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// Writes a fact under its label.
    pub(super) fn entry(&mut self, label: &str, text: &str) {
        self.wrapped(&format!("{label:<9}"), 11, text);
    }

    /// Writes text after a lead, wrapped between words; further lines are indented.
    pub(super) fn wrapped(&mut self, lead: &str, indent: usize, text: &str) {
        let mut line = lead.to_owned();
        let mut fresh = true;
        for word in text.split(' ') {
            if !fresh && line.chars().count() + 1 + word.chars().count() > Self::WIDTH {
                self.line(&line);
                line = " ".repeat(indent);
                fresh = true;
            }
            if !fresh {
                line.push(' ');
            }
            line.push_str(&word.replace(GLUE, " "));
            fresh = false;
        }
        self.line(&line);
    }
}

/// A no-break space, written as a space.
pub(super) const GLUE: &str = "\u{a0}";
