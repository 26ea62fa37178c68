//! A terminal that a picture is drawn on, again and again in the same place.

use std::io::{self, IsTerminal, Write};

/// The terminal's second screen; the first comes back, as it was, when this is dropped.
#[derive(Debug)]
pub struct Screen {
    ink: Ink,
}

/// How a text stands out.
#[derive(Clone, Copy, Debug)]
pub enum Ink {
    /// It does, by colour.
    Colour,
    /// It does not: the user wants no colour (<https://no-color.org>).
    Plain,
}

/// What a text is to the reader.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    /// Nothing in particular.
    Normal,
    /// A heading.
    Head,
    /// As it should be.
    Good,
    /// Not as before.
    Changed,
    /// As it should not be.
    Bad,
    /// Of less importance.
    Quiet,
}

impl Screen {
    /// Takes over the terminal, if stdout is one that can be drawn on.
    pub fn open() -> io::Result<Option<Self>> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let capable = set("TERM").is_some_and(|term| term != "dumb");
        if !io::stdout().is_terminal() || !capable {
            return Ok(None);
        }
        let ink = if set("NO_COLOR").is_some() { Ink::Plain } else { Ink::Colour };
        let screen = Self { ink };
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// What stands out, and how.
    pub fn ink(&self) -> Ink {
        self.ink
    }

    /// Draws the lines from the top. Each is put in its own row, so that a terminal that is too low
    /// or too narrow shows less, and not a mess.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let rows = lines.iter().zip(1..).map(|(line, row)| format!("\x1b[{row};1H{line}\x1b[K"));
        write(&format!("{}\x1b[J", rows.collect::<String>()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no cleaning up.
        drop(write(LEAVE));
    }
}

impl Ink {
    /// The text in this tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Normal => 0,
            Tone::Head => 1,
            Tone::Good => 32,
            Tone::Changed => 33,
            Tone::Bad => 31,
            Tone::Quiet => 2,
        };
        match self {
            Ink::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Ink::Plain => text.to_owned(),
        }
    }
}

/// Writes text to stdout. Unlike `print!` it returns the error, so that all is cleaned up after one.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The second screen, no cursor, no wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
