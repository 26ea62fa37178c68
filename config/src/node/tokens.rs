//! `[tokens]`: whose bearer tokens are accepted.

use std::path::Path;

use super::{TokenAlgorithm, TokenKey, Tokens};
use crate::field::{Field, Section};

/// Reads the keys and the claims that a token must have; no key by default.
pub(super) fn tokens(root: &Section<'_>, directory: &Path) -> Tokens {
    let section = root.field("tokens").and_then(|field| field.section(&["keys", "issuer", "audience"]));
    let Some(section) = section else { return Tokens::default() };
    let line = |key| {
        let is_line = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        section.field(key).and_then(|field| field.text_that(is_line, "is not a line of text")).map(str::to_owned)
    };
    let keys = section.required("keys", "name the keys: keys = [{ file = \"issuer.pem\", algorithm = \"ES256\" }]");
    let keys = keys.and_then(|field| field.list()).unwrap_or_default();
    Tokens {
        keys: keys.iter().filter_map(|field| key(field, directory)).collect(),
        issuer: line("issuer"),
        audience: line("audience"),
    }
}

fn key(field: &Field<'_>, directory: &Path) -> Option<TokenKey> {
    let section = field.section(&["file", "algorithm"])?;
    let file =
        section.required("file", "name the file with the public key, PEM").and_then(|field| field.file(directory));
    let algorithm = section.required("algorithm", "say what signs: algorithm = \"ES256\"");
    Some(TokenKey { algorithm: algorithm.and_then(|field| field.choice(ALGORITHMS))?, file: file? })
}

const ALGORITHMS: &[(&str, TokenAlgorithm)] = &[
    ("ES256", TokenAlgorithm::Es256),
    ("ES384", TokenAlgorithm::Es384),
    ("EdDSA", TokenAlgorithm::EdDsa),
    ("RS256", TokenAlgorithm::Rs256),
    ("RS384", TokenAlgorithm::Rs384),
    ("RS512", TokenAlgorithm::Rs512),
    ("PS256", TokenAlgorithm::Ps256),
    ("PS384", TokenAlgorithm::Ps384),
    ("PS512", TokenAlgorithm::Ps512),
];
