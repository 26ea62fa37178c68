//! A page of text, with lines that are broken between words.

/// The lines that are written so far.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// The width that lines keep to where they can.
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

    /// Writes text after a lead, broken between words; what does not fit is indented.
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

/// Stands for a space that no line breaks at.
pub(super) const GLUE: &str = "\u{a0}";
