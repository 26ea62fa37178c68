//! Reads the lines of an access log one by one; `telemetry/access_log/line.rs` writes them.

use std::io::{self, BufRead};
use std::net::IpAddr;

use policy::globe::Coordinates;
use policy::pressure::Criticality;
use policy::{Country, CountrySet, Method, Origin, Payload};
use serde::Deserialize;

/// The fields of a line that are read. Fields that older nodes did not write may be missing.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Line {
    #[serde(default)]
    pub(super) time: Option<String>,
    /// The part of the client's address that is logged.
    #[serde(default)]
    pub(in crate::cli) client: Option<IpAddr>,
    countries: Vec<Country>,
    client_key: String,
    method: String,
    /// Missing in the logs of nodes that took an upgrade for a read.
    #[serde(default)]
    upgrade: bool,
    /// Missing in the logs of nodes that took a GET with content for a read.
    #[serde(default)]
    content: bool,
    pub(super) host: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) consent: bool,
    #[serde(default)]
    pub(super) declared: Vec<String>,
    #[serde(default)]
    pub(super) pinned: Option<String>,
    /// Only of a request that is less critical than its route.
    #[serde(default)]
    criticality: Option<String>,
    /// Only where a score went by it.
    #[serde(default)]
    coordinates: Option<(f64, f64)>,
    #[serde(default)]
    pub(super) from: Option<String>,
    /// Whether another node had chosen the region, which has a line of its own for the request.
    #[serde(default)]
    pub(in crate::cli) chosen: bool,
    #[serde(default)]
    route: Option<String>,
    #[serde(default)]
    pub(in crate::cli) data_class: Option<String>,
    pub(super) status: u16,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) region: Option<String>,
}

impl Line {
    /// Returns whether the node made a decision: not for requests that it redirected, or refused as malformed
    /// or misdirected, nor where another node had chosen.
    pub(super) fn was_decided(&self) -> bool {
        let reason = self.reason.as_deref();
        !self.chosen
            && !self.client_key.is_empty()
            && (reason == Some("no_route")
                || (self.route.is_some() && !matches!(reason, Some("bad_request" | "misdirected"))))
    }

    /// Returns where the client may have been.
    pub(super) fn origin(&self) -> Origin {
        Origin::of(self.countries.iter().copied().collect::<CountrySet>())
    }

    /// Returns the hash of the client's identity; one value for all unreadable hashes.
    pub(super) fn client_key(&self) -> u64 {
        u64::from_str_radix(&self.client_key, 16).unwrap_or(0)
    }

    /// Returns what the client sent after the head.
    pub(super) fn payload(&self) -> Payload {
        match (self.upgrade, self.content) {
            (true, _) => Payload::Tunnel,
            (false, true) => Payload::Content,
            (false, false) => Payload::Nothing,
        }
    }

    /// Returns how critical the request was, where that is less than its route says.
    pub(super) fn criticality(&self) -> Option<Criticality> {
        Criticality::named(self.criticality.as_deref()?)
    }

    /// Returns where the client was, where a score went by that.
    pub(super) fn client_at(&self) -> Option<Coordinates> {
        let (latitude, longitude) = self.coordinates?;
        Coordinates::new(latitude, longitude)
    }

    pub(super) fn method(&self) -> Method {
        Method::from_name(&self.method)
    }

    /// Returns when the request ended, in Unix seconds; `None` for an invalid time.
    pub(super) fn second(&self) -> Option<i64> {
        Some(self.time.as_ref()?.parse::<jiff::Timestamp>().ok()?.as_second())
    }

    /// Returns the command that explains the request under a table.
    pub(super) fn explain(&self, table: &str) -> String {
        let countries: Vec<&str> = self.countries.iter().map(Country::code).collect();
        let countries = if countries.is_empty() { "unknown".to_owned() } else { countries.join(",") };
        let from = self.from.as_deref().unwrap_or_default();
        let mut words = vec![
            "meridian",
            "explain",
            "--table",
            table,
            "--from",
            from,
            "--country",
            &countries,
            "--host",
            &self.host,
            "--path",
            &self.path,
            "--method",
            &self.method,
        ];
        match self.payload() {
            Payload::Nothing => {}
            Payload::Content => words.push("--content"),
            Payload::Tunnel => words.push("--upgrade"),
        }
        if self.consent {
            words.push("--consent");
        }
        let at = self.client_at().map(|at| {
            let (latitude, longitude) = at.degrees();
            format!("--coordinates={latitude},{longitude}")
        });
        words.extend(at.as_deref());
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,=:%@+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let shown: String = word.chars().filter(|letter| !letter.is_control()).collect();
    format!("'{}'", shown.replace('\'', r"'\''"))
}

/// A line, or why it cannot be read.
pub(in crate::cli) enum Read {
    Line(Box<Line>),
    Unreadable(String),
}

/// Reads the lines of a log in constant memory.
pub(in crate::cli) struct Lines<R> {
    reader: R,
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(in crate::cli) fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes: 0, buffer: Vec::new() }
    }

    /// Returns the number of bytes read so far.
    pub(in crate::cli) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the next line that is not blank, with its number from 1; `None` at the end.
    pub(in crate::cli) fn next(&mut self) -> io::Result<Option<(u64, Read)>> {
        loop {
            self.buffer.clear();
            let (length, whole) = self.take_line()?;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += length as u64;
            let text = self.buffer.trim_ascii();
            if text.is_empty() && whole {
                continue;
            }
            let read = match whole {
                false => Read::Unreadable(format!("it is longer than {LONGEST_LINE} bytes")),
                true => match serde_json::from_slice(text) {
                    Ok::<Line, _>(mut line) => {
                        // As routes have it; other writers' logs may not.
                        line.host.make_ascii_lowercase();
                        Read::Line(Box::new(line))
                    }
                    Err(error) => Read::Unreadable(error.to_string()),
                },
            };
            return Ok(Some((self.number, read)));
        }
    }

    /// Reads to the end of the line; returns the number of bytes, and whether they are all in the buffer.
    fn take_line(&mut self) -> io::Result<(usize, bool)> {
        let (mut length, mut whole) = (0, true);
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            let end = memchr::memchr(b'\n', available);
            let piece = available.get(..end.map_or(available.len(), |at| at + 1)).unwrap_or(available);
            let taken = piece.len();
            if self.buffer.len() + taken <= LONGEST_LINE {
                self.buffer.extend_from_slice(piece);
            } else {
                whole = false;
            }
            self.reader.consume(taken);
            length += taken;
            if end.is_some() || taken == 0 {
                return Ok((length, whole));
            }
        }
    }
}

/// The longest line that is read, in bytes: far longer than a node's limits let a request be.
const LONGEST_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_numbered() {
        let good = r#"{"countries":["DE"],"client_key":"00ff","method":"GET","host":"h","path":"/","status":200}"#;
        let text = format!("{good}\n\nnonsense\n{}\n{good}", "x".repeat(LONGEST_LINE + 1));
        let mut lines = Lines::new(std::io::BufReader::with_capacity(7, text.as_bytes()));
        let mut seen = Vec::new();
        while let Some((number, read)) = lines.next().expect("no error") {
            seen.push((number, matches!(read, Read::Line(_))));
        }
        assert_eq!(seen, [(1, true), (3, false), (4, false), (5, true)]);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/v3/x%20y"), "/v3/x%20y");
        assert_eq!(quoted("/a;rm -rf '~'\u{1b}"), r"'/a;rm -rf '\''~'\'''");
        assert_eq!(quoted(""), "''");
    }
}
