//! Detects which kind of file a text is.

use crate::document::top_level_keys;
use crate::{compile, node};

/// The kinds of file that Meridian reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A node file: [`crate::NodeConfig`].
    Node,
    /// A routing table: [`crate::RoutingTable`].
    Table,
}

/// Returns the kind of file that has more of the text's top-level keys; a routing table if in doubt.
pub fn kind_of(text: &str) -> FileKind {
    let keys = top_level_keys(text);
    let count = |known: &[&str]| keys.iter().filter(|key| known.contains(&key.as_str())).count();
    if count(node::KEYS) > count(compile::KEYS) { FileKind::Node } else { FileKind::Table }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_tell_the_kind() {
        for (text, expected) in [
            ("[node]\nregion = 'a'", FileKind::Node),
            ("[[listeners]]\naddress = 1\n[regoins.a]", FileKind::Node),
            ("[node]\n[admin]\nx = = 3", FileKind::Node),
            ("[regions.a]\n[[routes]]", FileKind::Table),
            ("version = '1'", FileKind::Table),
            ("", FileKind::Table),
            ("\u{0}", FileKind::Table),
        ] {
            assert_eq!(kind_of(text), expected, "{text}");
        }
    }
}
