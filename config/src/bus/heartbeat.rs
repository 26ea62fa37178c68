//! A heartbeat: a publisher's signed statement that a table is still the newest one.
//!
//! Whoever controls the bus can replay an old signed table for ever, but cannot make a heartbeat, which is signed and
//! dated.

use serde::{Deserialize, Serialize};

use super::publication::{TableVersion, printable};

/// A publisher's statement, under the key `heartbeat`, that a publication was the newest one at `signed_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The publication's epoch.
    pub epoch: u64,
    /// The publication's revision when the heartbeat was signed, for people: the same publication may be written again.
    pub revision: u64,
    /// When the publication was signed, in Unix milliseconds.
    pub issued_ms: u64,
    /// The hash of the publication's text, in hexadecimal.
    pub sha256: String,
    /// When the heartbeat was signed, in Unix milliseconds by the signer's clock.
    pub signed_ms: u64,
    /// Who signed the heartbeat: `user@host`.
    pub by: String,
    /// `KEY:HEX`: the signing key's id, and the signature.
    #[serde(default)]
    pub signature: Option<String>,
}

impl Heartbeat {
    /// Returns an unsigned heartbeat for a publication, dated `signed_ms`.
    pub fn new(version: &TableVersion, signed_ms: u64, by: &str) -> Self {
        let TableVersion { epoch, revision, issued_ms, sha256 } = version.clone();
        Self { epoch, revision, issued_ms, sha256, signed_ms, by: printable(by), signature: None }
    }

    /// Parses a value of the bus.
    ///
    /// # Errors
    /// When the value is no heartbeat, in words.
    pub(super) fn parse(value: &[u8]) -> Result<Self, String> {
        if value.len() > LONGEST {
            return Err(format!("the heartbeat has {} bytes; at most {LONGEST} are read", value.len()));
        }
        let read: Self =
            serde_json::from_slice(value).map_err(|error| format!("the heartbeat does not parse: {error}"))?;
        // A line break would add a line to the signed text, and a control character could confuse a terminal.
        Ok(Self { by: printable(&read.by), sha256: printable(&read.sha256), ..read })
    }

    /// Returns whether the heartbeat is about this publication.
    pub fn is_about(&self, version: &TableVersion) -> bool {
        (self.epoch, self.issued_ms) == (version.epoch, version.issued_ms) && self.sha256 == version.sha256
    }

    /// Returns whether the heartbeat is about a publication that came after this one.
    pub fn is_beyond(&self, version: &TableVersion) -> bool {
        (self.epoch, self.issued_ms) > (version.epoch, version.issued_ms)
    }

    /// Returns the sort key of heartbeats: the publication, then the time of the signature.
    pub fn order(&self) -> (u64, u64, u64) {
        (self.epoch, self.issued_ms, self.signed_ms)
    }

    /// Returns the signed text, one field a line. Its first line differs from a table's, so that neither passes for the
    /// other.
    pub(super) fn statement(&self, bucket: &str) -> String {
        let Self { epoch, revision, issued_ms, sha256, signed_ms, by, .. } = self;
        format!(
            "meridian heartbeat 1\nbucket {bucket}\nepoch {epoch}\nrevision {revision}\nissued {issued_ms}\n\
             sha256 {sha256}\nsigned {signed_ms}\nby {by}\n"
        )
    }
}

/// The longest value that is parsed, in bytes: ten times the usual 400.
const LONGEST: usize = 4096;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a heartbeat signed at `signed_ms`, for a publication of hash `a`, epoch 1 and revision 5.
    pub(in crate::bus) fn heartbeat(issued_ms: u64, signed_ms: u64) -> Heartbeat {
        let version = TableVersion { epoch: 1, revision: 5, issued_ms, sha256: "a".to_owned() };
        Heartbeat::new(&version, signed_ms, "me@host")
    }

    #[test]
    fn a_value_is_a_heartbeat_or_an_error() {
        let sent = heartbeat(1, 2);
        let json = serde_json::to_vec(&sent).unwrap();
        assert_eq!(Heartbeat::parse(&json), Ok(sent.clone()));
        let text = String::from_utf8(json).unwrap();
        for bad in ["", "{}", "[]", "x", &text.replace("\"epoch\":1", "\"epoch\":-1"), &text.replace("by", "who")] {
            assert!(Heartbeat::parse(bad.as_bytes()).unwrap_err().contains("does not parse"), "{bad}");
        }
        assert!(Heartbeat::parse(&[b' '; LONGEST + 1]).unwrap_err().contains("at most"));
        // A name with a line break in it is not what was signed.
        let forged = text.replace("me@host", "me\\nsigned 9");
        assert_ne!(Heartbeat::parse(forged.as_bytes()).unwrap().statement("b"), sent.statement("b"));
    }

    #[test]
    fn every_field_is_in_the_statement() {
        let base = heartbeat(1, 2);
        let others = [
            Heartbeat { epoch: 9, ..base.clone() },
            Heartbeat { revision: 9, ..base.clone() },
            Heartbeat { issued_ms: 9, ..base.clone() },
            Heartbeat { sha256: "b".to_owned(), ..base.clone() },
            Heartbeat { signed_ms: 9, ..base.clone() },
            Heartbeat { by: "you".to_owned(), ..base.clone() },
        ];
        let mut all: std::collections::BTreeSet<String> = others.iter().map(|other| other.statement("b")).collect();
        all.extend([base.statement("b"), base.statement("c")]);
        assert_eq!(all.len(), others.len() + 2);
    }

    #[test]
    fn it_is_about_one_publication_whatever_its_revision() {
        let version =
            |epoch, issued_ms, sha256: &str| TableVersion { epoch, revision: 77, issued_ms, sha256: sha256.into() };
        let beat = heartbeat(10, 20);
        for (version, is_about, is_beyond) in [
            (version(1, 10, "a"), true, false),
            (version(1, 10, "b"), false, false),
            (version(1, 9, "a"), false, true),
            (version(1, 11, "a"), false, false),
            (version(0, 99, "a"), false, true),
            (version(2, 1, "a"), false, false),
        ] {
            assert_eq!((beat.is_about(&version), beat.is_beyond(&version)), (is_about, is_beyond), "{version:?}");
        }
    }
}
