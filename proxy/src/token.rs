//! Bearer tokens: JWTs (RFC 7519) of issuers that the node file names.

mod verified;

use std::path::PathBuf;

use config::TokenAlgorithm;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use self::verified::{TokenDigest, VerifiedTokens};
use crate::clock;

/// What verifies tokens, and what it has verified; the default believes none. Other keys, or another issuer or audience, make another. Any thread
/// uses it.
pub(crate) struct Tokens {
    keys: Vec<(DecodingKey, Validation)>,
    verified: VerifiedTokens,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { keys: Vec::new(), verified: VerifiedTokens::of_keys(0) }
    }
}

/// What a signature turned out to be, each time that one is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// One of a key's, on a token that holds.
    Verified,
    /// None, or on a token that does not hold.
    Refused,
}

impl Verification {
    /// Returns the word for the metrics.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Refused => "refused",
        }
    }
}

/// A key that cannot verify.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct KeyError {
    /// The file.
    pub(crate) file: PathBuf,
    what: String,
}

impl Tokens {
    /// Reads the keys.
    ///
    /// # Errors
    /// Every key that cannot be read, or is not of its algorithm.
    pub(crate) fn load(config: &config::Tokens) -> Result<Self, Vec<KeyError>> {
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for config::TokenKey { file, algorithm } in &config.keys {
            let algorithm = named(*algorithm);
            let key = std::fs::read(file).map_err(|error| format!("cannot be read: {error}")).and_then(|pem| {
                key(algorithm, &pem).map_err(|error| format!("is no {algorithm:?} public key: {error}"))
            });
            match key {
                Ok(key) => keys.push((key, validation(algorithm, config))),
                Err(what) => errors.push(KeyError { file: file.clone(), what }),
            }
        }
        let verified = VerifiedTokens::of_keys(keys.len());
        if errors.is_empty() { Ok(Self { keys, verified }) } else { Err(errors) }
    }

    /// Returns whether a request's bearer token, verified, says `true` or `"granted"` under a claim. Its signature,
    /// its times, and what the node file asks of issuer and audience must all hold. A token that holds is remembered
    /// until its `exp`; what comes of any other is told to `looked_into`.
    pub(crate) fn grants(&self, headers: &HeaderMap, claim: &str, looked_into: impl FnOnce(Verification)) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        // With two tokens nobody knows which of them the origin believes.
        let (Some(line), None) = (lines.next(), lines.next()) else { return false };
        let token = line.to_str().ok().and_then(|line| {
            let (scheme, token) = line.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token.filter(|token| token.len() <= MAX_TOKEN) else { return false };
        let digest = TokenDigest::of(token, claim);
        if let Some(grants) = self.verified.find(&digest, clock::unix_seconds()) {
            return grants;
        }
        let claims = self
            .keys
            .iter()
            .find_map(|(key, validation)| decode::<Map<String, Value>>(token, key, validation).ok())
            .map(|token| token.claims);
        looked_into(if claims.is_some() { Verification::Verified } else { Verification::Refused });
        let Some(claims) = claims else { return false };
        let grants = match claims.get(claim) {
            Some(Value::Bool(granted)) => *granted,
            Some(Value::String(word)) => word == "granted",
            _ => false,
        };
        // Past it the leeway for clocks that differ may still let it hold: that is looked into each time.
        let until = claims.get("exp").and_then(|exp| exp.as_u64().or(exp.as_f64().map(|exp| exp as u64)));
        self.verified.note(digest, grants, until.unwrap_or(0), clock::unix_seconds());
        grants
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} keys)", self.keys.len())
    }
}

/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

fn key(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }
}

fn validation(algorithm: Algorithm, config: &config::Tokens) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    match &config.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        None => validation.validate_aud = false,
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn named(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
    }
}
