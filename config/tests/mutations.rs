//! No text makes reading panic, and every answer keeps its promises: mutated examples, pieced-together
//! tables, and noise.

use std::path::Path;
use std::sync::LazyLock;

use config::{NodeConfig, Problems, RoutingTable, Severity, kind_of};
use policy::Moment;
use proptest::prelude::*;

/// The examples, node file included.
static EXAMPLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let tomls = files.filter(|file| file.extension().is_some_and(|extension| extension == "toml"));
    let mut texts: Vec<String> = tomls.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    texts.sort();
    texts
});

/// When the laws are read.
fn today() -> Moment {
    "2026-11-29".parse().unwrap()
}

/// Reads a text as both kinds of file.
fn check(text: &str) {
    let _ = kind_of(text);
    let file = Path::new("examples/x.toml");
    match RoutingTable::from_text(file, text, today()) {
        Ok(table) => {
            assert!(table.warnings.iter().all(|warning| warning.severity == Severity::Warning));
            assert_eq!(table.upstreams.len(), table.table.regions().count());
            assert!(!table.proof.has_errors());
            assert!(table.proof.lines(table.table.spec()).iter().all(|line| !line.is_empty()));
        }
        Err(problems) => check_problems(&problems, text),
    }
    match NodeConfig::from_text(file, text) {
        Ok(node) => assert!(node.warnings.iter().all(|warning| warning.severity == Severity::Warning)),
        Err(problems) => check_problems(&problems, text),
    }
}

fn check_problems(problems: &Problems, text: &str) {
    assert!(problems.has_errors());
    let lines = text.lines().count() as u32 + 1;
    for problem in &problems.0 {
        assert!(problem.line <= lines, "{problem}");
        assert!(!problem.message.is_empty());
        assert!(!problem.message.contains("Meridian itself"), "{problem}");
        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
    }
}

/// What is put in place of something else.
const PIECES: &[&str] = &[
    "",
    "''",
    "\"a\\nb\"",
    "[\"\\u0007\"]",
    "0",
    "-1",
    "1e400",
    "nan",
    "true",
    "[]",
    "{}",
    "[[[[",
    "}}",
    "\"",
    "'''",
    "=",
    ".",
    "\n",
    "\u{0}",
    "é",
    "[a]",
    "[[routes]]",
    "[regions]",
    "99999999999999999999",
    "0x",
    "'-'",
    "'a.b'",
    "1979-05-27",
    "a.b.c.d = 1\n",
    "['']",
    "[1, 'x']",
    "'[::1]:1'",
    "'9e9s'",
    "'18446744073709551615s'",
    "'%'",
    "'/%zz'",
    "'@'",
    "'*.'",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(PIECES).prop_map(str::to_owned),
        "\\PC{0,8}",
        "[a-z_]{1,12} = [0-9'\\[\\]{}]{1,6}\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_examples(
        example in 0..6_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, piece()), 1..6),
    ) {
        let mut text: Vec<char> = EXAMPLES[example].chars().collect();
        for (at, length, piece) in edits {
            let start = at.index(text.len().max(1)).min(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn values_replaced(
        example in 0..6_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), piece()), 1..6),
    ) {
        // The syntax mostly stays good, so that what compiles is reached.
        let mut lines: Vec<String> = EXAMPLES[example].lines().map(str::to_owned).collect();
        for (at, piece) in edits {
            let line = at.get_mut(&mut lines);
            if let Some((key, _)) = line.split_once('=') {
                *line = format!("{key}= {piece}");
            } else if line.starts_with("[regions.") {
                *line = "[regions.\"a\\nb\"]".to_owned();
            }
        }
        check(&lines.join("\n"));
    }

    #[test]
    fn lines_shuffled_between_examples(
        picks in prop::collection::vec((0..6_usize, any::<prop::sample::Index>()), 0..40),
    ) {
        let line = |(example, at): (usize, prop::sample::Index)| {
            let lines: Vec<&str> = EXAMPLES[example].lines().collect();
            (*at.get(&lines)).to_owned()
        };
        check(&picks.into_iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn noise(text in "[\\PC\n\t]{0,200}") {
        check(&text);
    }
}
