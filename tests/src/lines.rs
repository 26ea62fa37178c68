//! What a process writes, line by line.

use std::io::{BufRead, BufReader, Read};
use std::thread;

use tokio::sync::watch;

use crate::patiently;

/// The lines of a pipe, collected as they come.
#[derive(Debug)]
pub struct Lines(watch::Receiver<Collected>);

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads a pipe to its end, in a thread of its own.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = watch::channel(Collected::default());
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                // A line that is not UTF-8 is a defect of the program, and shows as the end.
                let Ok(line) = line else { break };
                sender.send_modify(|collected| collected.lines.push(line));
            }
            sender.send_modify(|collected| collected.ended = true);
        });
        Lines(receiver)
    }

    /// Reads a pipe up to the first line that `wanted` takes, and returns the pipe, of which nobody reads more.
    ///
    /// # Panics
    /// When there is no such line.
    pub(crate) fn up_to<R: Read>(pipe: R, wanted: impl Fn(&str) -> bool) -> (Lines, R) {
        let mut reader = BufReader::with_capacity(1, pipe);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).expect("a line in UTF-8") > 0, "ended, having written {lines:#?}");
            lines.push(line.trim_end().to_owned());
            if lines.last().is_some_and(|line| wanted(line)) {
                let (_, receiver) = watch::channel(Collected { lines, ended: true });
                return (Lines(receiver), reader.into_inner());
            }
        }
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.0.borrow().lines.clone()
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.0.borrow().lines.len()
    }

    /// The first line that `wanted` takes, which may still have to come.
    ///
    /// # Panics
    /// When none comes.
    pub async fn find(&self, what: &str, wanted: impl FnMut(&str) -> bool) -> String {
        self.find_after(0, what, wanted).await
    }

    /// The first line that `wanted` takes past the first `skipped`.
    ///
    /// # Panics
    /// When none comes.
    pub async fn find_after(&self, skipped: usize, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let mut receiver = self.0.clone();
        let mut seen = skipped;
        let search = async {
            loop {
                {
                    let collected = receiver.borrow_and_update();
                    if let Some(line) = collected.lines.iter().skip(seen).find(|line| wanted(line)) {
                        return Some(line.clone());
                    }
                    seen = collected.lines.len().max(skipped);
                    if collected.ended {
                        return None;
                    }
                }
                receiver.changed().await.ok()?;
            }
        };
        match patiently(what, search).await {
            Some(line) => line,
            None => panic!("{what}: the process ended without it, having written\n{}", self.all().join("\n")),
        }
    }

    /// All lines, once the pipe has ended.
    pub async fn to_end(&self) -> Vec<String> {
        let mut receiver = self.0.clone();
        let ended = async { receiver.wait_for(|collected| collected.ended).await.is_ok() };
        assert!(patiently("the end of the output", ended).await, "the reader is gone");
        self.all()
    }
}
