//! A publication: a table, and its headers.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::HeaderMap;
use sha2::{Digest, Sha256};

use crate::document::top_level_text;

/// A routing table as it is published, with the content of its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The table's text; not yet known to be UTF-8, let alone TOML.
    pub text: bytes::Bytes,
    /// Counts the times that revisions were allowed to start over. Compared before the revision.
    pub epoch: u64,
    /// When the table was signed or written, in Unix milliseconds by the publisher's clock. A signed table
    /// is refused when it was issued before the one in force.
    pub issued_ms: u64,
    /// Until when the table may be used, in Unix milliseconds: past it, restricted routes are refused. `None` when its
    /// publisher sets no end.
    pub valid_until_ms: Option<u64>,
    /// Who published the table: `user@host`.
    pub by: String,
    /// Why, in the publisher's words.
    pub note: String,
    /// What the shrink guard must let pass, by name: `fleet`, or a jurisdiction's.
    pub allow: BTreeSet<String>,
    /// The nodes for which it is staged; `None` for a table for all.
    pub stage: Option<Stage>,
    /// `KEY:HEX`: which key signed it, and the signature.
    pub signature: Option<String>,
    /// The hash that the publisher computed, in hexadecimal, which must be the text's.
    pub claimed_sha256: Option<String>,
}

/// For whom a table is staged, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The nodes' names.
    pub nodes: BTreeSet<String>,
    /// How long these nodes keep the table without its promotion, before they return to the table of all nodes: the
    /// publisher may be gone.
    pub lease: Duration,
}

/// Identifies a table on the bus: decides which of two is newer, and whether two are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableVersion {
    /// The epoch, compared first.
    pub epoch: u64,
    /// The revision, compared within an epoch.
    pub revision: u64,
    /// When its publisher issued it, in Unix milliseconds.
    pub issued_ms: u64,
    /// The hash of its text, in hexadecimal.
    pub sha256: String,
}

impl Publication {
    /// Returns a publication of this text for all nodes, unsigned.
    pub fn new(text: impl Into<bytes::Bytes>, epoch: u64, issued_ms: u64, by: &str) -> Self {
        let text = text.into();
        let claimed_sha256 = Some(sha256_hex(&text));
        let (by, note) = (printable(by), String::new());
        Self {
            text,
            epoch,
            issued_ms,
            valid_until_ms: None,
            by,
            note,
            allow: BTreeSet::new(),
            stage: None,
            signature: None,
            claimed_sha256,
        }
    }

    /// Returns the text's hash, in hexadecimal.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.text)
    }

    /// Returns the `version` in the table's text, even where the rest does not parse.
    pub fn version(&self) -> Option<String> {
        top_level_text(std::str::from_utf8(&self.text).ok()?, "version")
    }

    /// Returns a hash of the text and all headers: another publication of the same text may be accepted where this one
    /// was refused.
    pub fn fingerprint(&self) -> String {
        let signature = self.signature.as_deref().unwrap_or_default();
        let claimed = self.claimed_sha256.as_deref().unwrap_or_default();
        sha256_hex(format!("{}\n{signature}\n{claimed}", self.statement("")).as_bytes())
    }

    /// Returns the signed text, one field a line. No field can hold a line break.
    pub(super) fn statement(&self, bucket: &str) -> String {
        let Self { epoch, issued_ms, by, note, .. } = self;
        let (nodes, lease_ms) = match &self.stage {
            Some(stage) => (listed(&stage.nodes), stage.lease.as_millis()),
            None => ("*".to_owned(), 0),
        };
        // Only where it is set: signatures from before this field existed stay valid.
        let valid_until = self.valid_until_ms.map(|until| format!("valid-until {until}\n")).unwrap_or_default();
        format!(
            "meridian table 1\nbucket {bucket}\nnodes {nodes}\nlease {lease_ms}\nepoch {epoch}\nissued {issued_ms}\n\
             by {by}\nnote {note}\nallow {}\nsha256 {}\n{valid_until}",
            listed(&self.allow),
            self.sha256()
        )
    }

    /// Returns the message's headers.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut insert = |name: &'static str, value: String| {
            if !value.is_empty() {
                headers.insert(name, value.as_str());
            }
        };
        insert(EPOCH, self.epoch.to_string());
        insert(ISSUED, self.issued_ms.to_string());
        insert(VALID_UNTIL, self.valid_until_ms.map(|until| until.to_string()).unwrap_or_default());
        insert(BY, self.by.clone());
        insert(NOTE, self.note.clone());
        insert(ALLOW, listed(&self.allow));
        insert(SHA256, self.claimed_sha256.clone().unwrap_or_default());
        insert(SIGNATURE, self.signature.clone().unwrap_or_default());
        if let Some(stage) = &self.stage {
            insert(NODES, listed(&stage.nodes));
            insert(LEASE, stage.lease.as_millis().to_string());
        }
        headers
    }

    /// Parses a message. One without headers, as `nats kv put` writes it, is of epoch 0 and unsigned.
    ///
    /// # Errors
    /// When a staged table has no nodes, or no valid lease.
    pub(super) fn read(text: bytes::Bytes, headers: &HeaderMap, staged: bool) -> Result<Self, StageError> {
        let header = |name: &'static str| headers.get(name).map(|value| printable(value.as_str())).unwrap_or_default();
        let number = |name| header(name).parse::<u64>().unwrap_or(0);
        let given = |name| Some(header(name)).filter(|value| !value.is_empty());
        let stage = staged.then(|| Stage { nodes: names(&header(NODES)), lease: Duration::from_millis(number(LEASE)) });
        let is_odd = |stage: &Stage| stage.nodes.is_empty() || stage.lease.is_zero() || stage.lease > LONGEST_LEASE;
        if stage.as_ref().is_some_and(is_odd) {
            return Err(StageError);
        }
        Ok(Self {
            text,
            epoch: number(EPOCH),
            issued_ms: number(ISSUED),
            // A value that is no number has expired: corrupting the header must not prolong a table's use.
            valid_until_ms: given(VALID_UNTIL).map(|until| until.parse().unwrap_or(0)),
            by: header(BY),
            note: header(NOTE),
            allow: names(&header(ALLOW)),
            stage,
            signature: given(SIGNATURE),
            claimed_sha256: given(SHA256),
        })
    }

    /// Returns the publication with its publisher's reason.
    #[must_use]
    pub fn noted(self, note: &str) -> Self {
        Self { note: printable(note), ..self }
    }
}

/// The error of a staged table without nodes, without a lease, or with too long a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a staged table must say for which nodes, and for how long (a week at most): use meridian publish --canary")]
pub struct StageError;

/// Returns the SHA-256 in hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn names(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

impl TableVersion {
    /// Returns the sort key of tables: the epoch, and within an epoch the revision.
    pub fn order(&self) -> (u64, u64) {
        (self.epoch, self.revision)
    }

    /// Returns the version of a publication at this revision.
    pub fn of(publication: &Publication, revision: u64) -> Self {
        let Publication { epoch, issued_ms, .. } = *publication;
        Self { epoch, revision, issued_ms, sha256: publication.sha256() }
    }
}

/// Returns the text with `?` for each character that a header cannot hold, cut where it is too long.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    shown.take(MAX_HEADER).collect::<String>().trim().to_owned()
}

/// The longest lease, a week: a table that is to stay longer should be promoted.
const LONGEST_LEASE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const MAX_HEADER: usize = 256 * 1024;

const EPOCH: &str = "Meridian-Epoch";
const ISSUED: &str = "Meridian-Issued";
const VALID_UNTIL: &str = "Meridian-Valid-Until";
const BY: &str = "Meridian-By";
const NOTE: &str = "Meridian-Note";
const ALLOW: &str = "Meridian-Allow";
const SHA256: &str = "Meridian-Sha256";
const SIGNATURE: &str = "Meridian-Signature";
const NODES: &str = "Meridian-Nodes";
const LEASE: &str = "Meridian-Lease-Ms";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_read_as_it_was_sent() {
        let mut sent = Publication::new("version = '1'", 3, 17, "me@host").noted("why\nnot");
        sent.allow = names("eu, fleet");
        sent.stage = Some(Stage { nodes: names("b,a"), lease: Duration::from_secs(90) });
        sent.signature = Some("ab:cd".to_owned());
        sent.valid_until_ms = Some(99);
        let read = Publication::read(sent.text.clone(), &sent.headers(), true).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.note, "why?not");
        assert_eq!(read.statement("b"), sent.statement("b"));
        let plain = Publication::read("x".into(), &HeaderMap::new(), false).unwrap();
        assert_eq!((plain.epoch, plain.issued_ms, plain.claimed_sha256), (0, 0, None));
        assert_eq!(Publication::read("x".into(), &HeaderMap::new(), true), Err(StageError));
        let mut spoilt = HeaderMap::new();
        spoilt.insert(VALID_UNTIL, "never");
        assert_eq!(Publication::read("x".into(), &spoilt, false).unwrap().valid_until_ms, Some(0));
    }

    #[test]
    fn the_version_is_the_texts() {
        for (text, expected) in
            [("version = '1'\n[regions", Some("1")), ("a.version = '1'", None), ("version = 1", None), ("", None)]
        {
            assert_eq!(Publication::new(text, 1, 2, "me").version().as_deref(), expected, "{text}");
        }
        assert_eq!(Publication::new(&b"version = '\xff'"[..], 1, 2, "me").version(), None);
    }

    #[test]
    fn every_field_is_in_the_statement() {
        let base = Publication::new("t", 1, 2, "me");
        let stage = |nodes, seconds| Some(Stage { nodes: names(nodes), lease: Duration::from_secs(seconds) });
        let others = [
            Publication { epoch: 2, ..base.clone() },
            Publication { issued_ms: 3, ..base.clone() },
            Publication { text: "u".into(), ..base.clone() },
            Publication { allow: names("fleet"), ..base.clone() },
            Publication { stage: stage("a", 1), ..base.clone() },
            Publication { stage: stage("a", 2), ..base.clone() },
            Publication { stage: stage("a,b", 1), ..base.clone() },
            Publication { by: "you".into(), ..base.clone() },
            Publication { note: "n".into(), ..base.clone() },
            Publication { valid_until_ms: Some(3), ..base.clone() },
            Publication { valid_until_ms: Some(4), ..base.clone() },
        ];
        let mut all: BTreeSet<String> = others.iter().map(|other| other.statement("b")).collect();
        all.insert(base.statement("b"));
        all.insert(base.statement("c"));
        assert_eq!(all.len(), others.len() + 2);
    }
}
