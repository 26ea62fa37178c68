//! What a node vouches for, signed: where something between the regions ends the TLS, a certificate does
//! not come through, and the field `x-meridian-signature` proves who speaks.
//!
//! ```text
//! of a request:  1;t=1764450000;n=5f0c…(128 bits);b=none|some|LENGTH;m=HMAC-SHA-256
//! of its answer: 1;m=HMAC-SHA-256
//! ```
//!
//! A request's covers the time, the nonce, the method, the host, path and query, whether a body follows
//! and of what length, and each other `x-meridian-` field; its answer's covers the request's nonce, the
//! status, and each other such field. A body itself is not signed: who ends the TLS reads and writes it.

use std::path::Path;

use aws_lc_rs::{hmac, rand};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::PeersError;
use super::fields::{self, is_reserved};

/// The secrets that a fleet shares: the first signs, any verifies, so that one can be replaced while
/// nodes go on.
pub(crate) struct Secrets {
    keys: Vec<hmac::Key>,
    /// Of the keys, for [`Secrets::each`].
    digests: Vec<Vec<u8>>,
}

/// What says which request an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE_BYTES]);

/// What follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyClaim {
    /// Nothing.
    None,
    /// A body of a length that nobody has said.
    Some,
    /// A body of so many bytes.
    Length(u64),
}

/// What of a request is signed beside its `x-meridian-` fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// The host asked for, with its port.
    pub(crate) authority: &'a [u8],
    /// Path and query.
    pub(crate) path: &'a str,
    /// What follows.
    pub(crate) body: BodyClaim,
}

/// Why a signature proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum SignatureRefusal {
    #[error("this node has no peers.secret_file to verify a signature with")]
    NoSecret,
    #[error("the signature does not parse")]
    Malformed,
    #[error("it was signed more than 30 s ago, or ahead: a replay, or a clock that is off")]
    Stale,
    #[error("another body follows than was signed")]
    Body,
    #[error("no secret of peers.secret_file has signed this request")]
    Wrong,
}

impl SignatureRefusal {
    /// Returns the word for the metrics.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::Malformed | Self::Body | Self::Wrong => "signature_wrong",
            Self::Stale => "signature_stale",
        }
    }
}

impl BodyClaim {
    /// Returns what follows a head, if it is not at its end there.
    pub(crate) fn of(headers: &HeaderMap, is_at_end: bool) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        match length {
            _ if is_at_end => Self::None,
            Some(0) => Self::None,
            Some(length) => Self::Length(length),
            None => Self::Some,
        }
    }

    fn text(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Some => "some".to_owned(),
            Self::Length(length) => length.to_string(),
        }
    }
}

impl Secrets {
    /// Reads secrets from a file: one on each line that is not empty.
    ///
    /// # Errors
    /// When there is none, or one is short enough to be guessed.
    pub(crate) fn load(file: &Path) -> Result<Self, PeersError> {
        let wrong = |what: String| PeersError { file: file.to_owned(), key: "peers.secret_file", what };
        let text = std::fs::read(file).map_err(|error| wrong(format!("cannot read the file: {error}")))?;
        if text.len() > MAX_FILE {
            return Err(wrong(format!("the file is longer than {MAX_FILE} bytes")));
        }
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let lines: Vec<&[u8]> = lines.collect();
        if lines.is_empty() || lines.len() > MAX_SECRETS {
            return Err(wrong(format!(
                "{} secrets; write one on each line, 1 to {MAX_SECRETS}, the one that signs first, such as `openssl \
                 rand -hex 32` gives",
                lines.len()
            )));
        }
        if let Some(short) = lines.iter().position(|line| line.len() < MIN_SECRET) {
            let number = short + 1;
            return Err(wrong(format!(
                "secret {number} has less than {MIN_SECRET} bytes, and could be guessed: take `openssl rand -hex 32`"
            )));
        }
        Ok(Self {
            keys: lines.iter().map(|line| hmac::Key::new(hmac::HMAC_SHA256, line)).collect(),
            digests: lines
                .iter()
                .map(|line| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line).as_ref().to_vec())
                .collect(),
        })
    }

    /// Signs a request's head as it is sent, at this Unix time.
    pub(crate) fn sign(&self, signed: &Signed<'_>, headers: &mut HeaderMap, now: u64) -> Option<Nonce> {
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).ok()?;
        let nonce = Nonce(nonce);
        let statement = request_statement(signed, headers, nonce, now);
        let mac = hmac::sign(self.keys.first()?, &statement);
        let (n, b, m) = (hex(&nonce.0), signed.body.text(), hex(mac.as_ref()));
        let value = HeaderValue::try_from(format!("{VERSION};t={now};n={n};b={b};m={m}")).ok()?;
        headers.insert(fields::SIGNATURE, value);
        Some(nonce)
    }

    /// Verifies a request's signature at this Unix time. `signed.body` is what really follows.
    ///
    /// # Errors
    /// When it proves nothing.
    pub(crate) fn verify(&self, signed: &Signed<'_>, headers: &HeaderMap, now: u64) -> Result<Nonce, SignatureRefusal> {
        let malformed = SignatureRefusal::Malformed;
        let text = only(headers, &fields::SIGNATURE).ok_or(malformed)?;
        let [version, time, nonce, body, mac] =
            <[&str; 5]>::try_from(text.split(';').collect::<Vec<_>>()).map_err(|_| malformed)?;
        let value = |part: &'static str, text: &str| text.strip_prefix(part).map(str::to_owned).ok_or(malformed);
        let (time, nonce) = (value("t=", time)?, value("n=", nonce)?);
        let (body, mac) = (value("b=", body)?, value("m=", mac)?);
        let then: u64 = time.parse().ok().filter(|then: &u64| then.to_string() == time).ok_or(malformed)?;
        let nonce = from_hex(&nonce).and_then(|nonce| nonce.try_into().ok()).map(Nonce).ok_or(malformed)?;
        let mac = from_hex(&mac).ok_or(malformed)?;
        if version != VERSION {
            return Err(malformed);
        }
        if now.abs_diff(then) > WINDOW_SECONDS {
            return Err(SignatureRefusal::Stale);
        }
        if body != signed.body.text() && !(body == "some" && signed.body != BodyClaim::None) {
            return Err(SignatureRefusal::Body);
        }
        // What was signed is the claim: one of an unknown length may have got one on its way.
        let claimed = if body == "some" { BodyClaim::Some } else { signed.body };
        let statement = request_statement(&Signed { body: claimed, ..*signed }, headers, nonce, then);
        // In constant time, each.
        let is_ours = self.keys.iter().any(|key| hmac::verify(key, &statement, &mac).is_ok());
        if is_ours { Ok(nonce) } else { Err(SignatureRefusal::Wrong) }
    }

    /// Signs the answer to a request.
    pub(crate) fn sign_answer(&self, status: u16, headers: &mut HeaderMap, nonce: Nonce) {
        let Some(key) = self.keys.first() else { return };
        let mac = hmac::sign(key, &answer_statement(status, headers, nonce));
        if let Ok(value) = HeaderValue::try_from(format!("{VERSION};m={}", hex(mac.as_ref()))) {
            headers.insert(fields::SIGNATURE, value);
        }
    }

    /// Returns whether a node has given this answer to the request with this nonce.
    pub(crate) fn is_answer(&self, status: u16, headers: &HeaderMap, nonce: Nonce) -> bool {
        let mac = only(headers, &fields::SIGNATURE).and_then(|text| text.strip_prefix("1;m=")).and_then(from_hex);
        let Some(mac) = mac else { return false };
        let statement = answer_statement(status, headers, nonce);
        self.keys.iter().any(|key| hmac::verify(key, &statement, &mac).is_ok())
    }

    /// Returns the authentication code of a statement, by the secret that signs.
    pub(super) fn mac(&self, statement: &[u8]) -> Option<Vec<u8>> {
        Some(hmac::sign(self.keys.first()?, statement).as_ref().to_vec())
    }

    /// Returns whether this is the authentication code of a statement by any of the secrets.
    pub(super) fn is_mac(&self, statement: &[u8], mac: &[u8]) -> bool {
        self.keys.iter().any(|key| hmac::verify(key, statement, mac).is_ok())
    }

    /// Calls `add` with what tells each secret from another.
    pub(super) fn each(&self, add: &mut impl FnMut(&[u8])) {
        self.digests.iter().for_each(|digest| add(digest));
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.keys.len())
    }
}

fn request_statement(signed: &Signed<'_>, headers: &HeaderMap, nonce: Nonce, time: u64) -> Vec<u8> {
    let mut statement = Statement::new(b"meridian peer request 1");
    statement.part(&time.to_be_bytes());
    statement.part(&nonce.0);
    statement.part(signed.method.as_str().as_bytes());
    statement.part(&signed.authority.to_ascii_lowercase());
    statement.part(signed.path.as_bytes());
    statement.part(signed.body.text().as_bytes());
    statement.fields(headers);
    statement.0
}

fn answer_statement(status: u16, headers: &HeaderMap, nonce: Nonce) -> Vec<u8> {
    let mut statement = Statement::new(b"meridian peer answer 1");
    statement.part(&nonce.0);
    statement.part(&status.to_be_bytes());
    statement.fields(headers);
    statement.0
}

/// What is signed: each part after its length, so that no two lists of parts read alike.
pub(super) struct Statement(Vec<u8>);

impl Statement {
    pub(super) fn new(purpose: &[u8]) -> Self {
        let mut statement = Self(Vec::with_capacity(512));
        statement.part(purpose);
        statement
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Every field that only nodes write, sorted by its name, and the signature left out.
    fn fields(&mut self, headers: &HeaderMap) {
        let reserved = headers.iter().filter(|(name, _)| is_reserved(name) && **name != fields::SIGNATURE);
        let mut fields: Vec<(&HeaderName, &HeaderValue)> = reserved.collect();
        // Stable: values of one name keep their order.
        fields.sort_by_key(|(name, _)| name.as_str());
        self.part(&(fields.len() as u64).to_be_bytes());
        for (name, value) in fields {
            self.part(name.as_str().as_bytes());
            self.part(value.as_bytes());
        }
    }
}

/// Returns the value of a field that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()
}

const VERSION: &str = "1";
const NONCE_BYTES: usize = 16;
/// How old a signature may be, and how far ahead: as long as a request may wait in a balancer's queue
/// while its nodes' clocks are off by a few seconds. Within it a request that somebody has seen can be
/// sent again, unchanged, to the same region.
const WINDOW_SECONDS: u64 = 30;
/// 256 bits, if they are random.
const MIN_SECRET: usize = 32;
/// The one before, the one in use and the one to come, for each of a few teams.
const MAX_SECRETS: usize = 16;
const MAX_FILE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_450_000;

    fn secrets(lines: &[&str]) -> Secrets {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        Secrets::load(file.path()).unwrap()
    }

    fn get() -> Signed<'static> {
        Signed { method: &Method::GET, authority: b"api.example.com", path: "/v3/users?a=b", body: BodyClaim::None }
    }

    fn fields() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(fields::CHOSEN, HeaderValue::from_static("eu"));
        headers.insert(fields::ORIGIN, HeaderValue::from_static("DE"));
        headers.insert("x-other", HeaderValue::from_static("1"));
        headers
    }

    const FIRST: &str = "0123456789abcdef0123456789abcdef";
    const SECOND: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn only_what_was_signed_verifies() {
        let ours = secrets(&[FIRST]);
        let mut headers = fields();
        let nonce = ours.sign(&get(), &mut headers, NOW).unwrap();
        assert_eq!(ours.verify(&get(), &headers, NOW), Ok(nonce));
        assert_eq!(ours.verify(&Signed { authority: b"API.example.com", ..get() }, &headers, NOW), Ok(nonce));
        headers.insert("x-other", HeaderValue::from_static("2"));
        assert_eq!(ours.verify(&get(), &headers, NOW + 30), Ok(nonce), "what nobody vouches for may change");
        for (signed, now, refusal) in [
            (get(), NOW + 31, SignatureRefusal::Stale),
            (get(), NOW - 31, SignatureRefusal::Stale),
            (Signed { method: &Method::POST, ..get() }, NOW, SignatureRefusal::Wrong),
            (Signed { authority: b"other.example.com", ..get() }, NOW, SignatureRefusal::Wrong),
            (Signed { authority: b"api.example.com:444", ..get() }, NOW, SignatureRefusal::Wrong),
            (Signed { path: "/v3/users", ..get() }, NOW, SignatureRefusal::Wrong),
            (Signed { path: "/v3/users?a=c", ..get() }, NOW, SignatureRefusal::Wrong),
            (Signed { body: BodyClaim::Length(1), ..get() }, NOW, SignatureRefusal::Body),
            (Signed { body: BodyClaim::Some, ..get() }, NOW, SignatureRefusal::Body),
        ] {
            assert_eq!(ours.verify(&signed, &headers, now), Err(refusal), "{signed:?} at {now}");
        }
        for (name, value) in [
            ("x-meridian-chosen", "us"),
            ("x-meridian-origin", "US"),
            ("x-meridian-consent", "x-consent"),
            ("x_meridian-tenant", "us"),
        ] {
            let mut changed = headers.clone();
            changed.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            assert_eq!(ours.verify(&get(), &changed, NOW), Err(SignatureRefusal::Wrong), "{name}");
        }
        let mut doubled = headers.clone();
        doubled.append(fields::ORIGIN, HeaderValue::from_static("DE"));
        assert_eq!(ours.verify(&get(), &doubled, NOW), Err(SignatureRefusal::Wrong));
        doubled = headers.clone();
        doubled.append(fields::SIGNATURE, headers[fields::SIGNATURE].clone());
        assert_eq!(ours.verify(&get(), &doubled, NOW), Err(SignatureRefusal::Malformed));
        let mut less = headers.clone();
        less.remove(fields::ORIGIN);
        assert_eq!(ours.verify(&get(), &less, NOW), Err(SignatureRefusal::Wrong));
        assert_eq!(secrets(&[SECOND]).verify(&get(), &headers, NOW), Err(SignatureRefusal::Wrong));
    }

    #[test]
    fn a_body_is_what_was_signed() {
        let ours = secrets(&[FIRST]);
        for (signed, follows, good) in [
            (BodyClaim::Length(5), BodyClaim::Length(5), true),
            (BodyClaim::Length(5), BodyClaim::Length(6), false),
            (BodyClaim::Length(5), BodyClaim::Some, false),
            (BodyClaim::Length(5), BodyClaim::None, false),
            // A balancer may have waited for all of it.
            (BodyClaim::Some, BodyClaim::Length(6), true),
            (BodyClaim::Some, BodyClaim::Some, true),
            (BodyClaim::Some, BodyClaim::None, false),
            (BodyClaim::None, BodyClaim::Some, false),
        ] {
            let (mut headers, post) = (fields(), Signed { method: &Method::POST, body: signed, ..get() });
            ours.sign(&post, &mut headers, NOW).unwrap();
            let verified = ours.verify(&Signed { body: follows, ..post }, &headers, NOW);
            assert_eq!(verified.is_ok(), good, "{signed:?} {follows:?}");
        }
    }

    #[test]
    fn secrets_are_replaced_one_by_one() {
        let (old, both, new) = (secrets(&[FIRST]), secrets(&[FIRST, "", SECOND]), secrets(&[SECOND, FIRST]));
        for (signer, verifier) in [(&old, &both), (&both, &new), (&new, &both)] {
            let mut headers = fields();
            signer.sign(&get(), &mut headers, NOW).unwrap();
            assert!(verifier.verify(&get(), &headers, NOW).is_ok());
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("peers.key");
        for (text, fragment) in [("", "0 secrets"), ("short\n", "less than 32 bytes")] {
            std::fs::write(&file, text).unwrap();
            assert!(Secrets::load(&file).unwrap_err().what.contains(fragment), "{text}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_request() {
        let ours = secrets(&[FIRST]);
        let first = ours.sign(&get(), &mut fields(), NOW).unwrap();
        let second = ours.sign(&get(), &mut fields(), NOW).unwrap();
        let mut answer = HeaderMap::new();
        answer.insert(fields::UNSENT, HeaderValue::from_static("1"));
        ours.sign_answer(503, &mut answer, first);
        assert!(ours.is_answer(503, &answer, first));
        assert!(!ours.is_answer(503, &answer, second) && !ours.is_answer(200, &answer, first));
        let mut without = answer.clone();
        without.remove(fields::UNSENT);
        assert!(!ours.is_answer(503, &without, first));
        assert!(!secrets(&[SECOND]).is_answer(503, &answer, first));
    }

    #[test]
    fn anything_else_does_not_parse() {
        let ours = secrets(&[FIRST]);
        let mut headers = fields();
        ours.sign(&get(), &mut headers, NOW).unwrap();
        let good = headers[fields::SIGNATURE].to_str().unwrap().to_owned();
        let bad = [
            String::new(),
            "1".to_owned(),
            good.replacen("1;", "2;", 1),
            good.replacen("t=", "t=+", 1),
            good.replacen("t=", "t=0", 1),
            good.replacen("n=", "n=0", 1),
            good.to_uppercase(),
            format!("{good};"),
            good.replacen(";m=", ";m=00", 1).replace('é', ""),
        ];
        for text in bad {
            headers.insert(fields::SIGNATURE, text.parse().unwrap());
            let refusal = ours.verify(&get(), &headers, NOW).unwrap_err();
            assert!(matches!(refusal, SignatureRefusal::Malformed | SignatureRefusal::Wrong), "{text}: {refusal:?}");
        }
    }
}
