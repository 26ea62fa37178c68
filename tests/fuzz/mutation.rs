//! Mutations of a corpus, without coverage: what CI runs, always the same.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Runs `check` on `cases` mutations of the target's corpus; or, when `MERIDIAN_FUZZ_SECONDS` is set,
/// for that long, from a seed that is printed. An input that fails is kept in the target's `crashes`.
pub(crate) fn run(target: &str, cases: u64, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("__fuzz__").join(target);
    let corpus = read(&directory.join("corpus"));
    assert!(!corpus.is_empty(), "{target} has no corpus");
    let session = number("MERIDIAN_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("MERIDIAN_FUZZ_SEED").unwrap_or_else(|| session.map_or(SEED, |_| fastrand::u64(..)));
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let mut done = 0;
    while session.map_or(done < cases, |session| started.elapsed() < session) {
        let input = mutated(&mut rng, &corpus);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            keep(&directory.join("crashes"), &input);
            resume_unwind(panic);
        }
        done += 1;
    }
    println!("{target}: {done} mutations with MERIDIAN_FUZZ_SEED={seed}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The files of a directory, in the order of their names.
fn read(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("it can be read")).collect()
}

/// Where bolero will find it in the next run.
fn keep(directory: &Path, input: &[u8]) {
    let file = directory.join(format!("{:016x}", policy::hash::client_key(input)));
    let kept = fs::create_dir_all(directory).and_then(|()| fs::write(&file, input));
    println!("the input that failed, kept as {} ({kept:?}):\n{}", file.display(), input.escape_ascii());
}

/// One of the corpus, or rarely noise, with a few edits.
fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = if rng.u8(..) < 8 { noise(rng, 200) } else { pick(rng, corpus).clone() };
    for _ in 0..rng.usize(1..6) {
        edit(rng, &mut bytes, corpus);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn edit(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let start = rng.usize(0..=bytes.len());
    let end = (start + rng.usize(0..=16)).min(bytes.len());
    let (range, replacement) = match rng.u8(0..9) {
        0 => (start..end, noise(rng, 8)),
        1 => (start..end, piece(rng)),
        2 => (start..start, piece(rng)),
        3 => (start..end, Vec::new()),
        // Something repeated, and often.
        4 => (start..start, bytes[start..end].repeat(rng.usize(1..80))),
        // Something of another file: any bytes, or a line in the place of a line.
        5 => {
            let other = pick(rng, corpus);
            let from = rng.usize(0..=other.len());
            let to = (from + rng.usize(0..=64)).min(other.len());
            (start..end, other[from..to].to_vec())
        }
        6 => {
            let other = pick(rng, corpus);
            let taken = line(other, rng.usize(0..=other.len()));
            (line(bytes, start), other[taken].to_vec())
        }
        // A value: the syntax mostly stays good, so that what follows parsing is reached.
        7 => {
            let line = line(bytes, start);
            let name = bytes[line.clone()].iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
            (line.start + name..line.end, piece(rng))
        }
        _ => {
            let end = (start + 1).min(bytes.len());
            (start..end, bytes[start..end].iter().map(|byte| byte ^ (1 << rng.u8(0..8))).collect())
        }
    };
    bytes.splice(range, replacement);
}

fn piece(rng: &mut Rng) -> Vec<u8> {
    pick(rng, PIECES).as_bytes().to_vec()
}

fn line(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| at + newline);
    start..end
}

fn noise(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let length = rng.usize(0..=longest);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}

const SEED: u64 = 0x6d65_7269_6469_616e;

const LONGEST: usize = 64 * 1024;

/// What is put in place of something else: ends of ranges, half tokens, what is read in two ways.
const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{7f}",
    "\u{feff}",
    "é",
    "\u{2028}",
    "🦀",
    "0",
    "-1",
    "1",
    "00",
    "255",
    "256",
    "65535",
    "65536",
    "1e400",
    "nan",
    "inf",
    "18446744073709551616",
    "true",
    "''",
    "\"\"",
    "\"a\\nb\"",
    "'''",
    "\"",
    "[]",
    "{}",
    "[[[[",
    "}}",
    "=",
    "#",
    "[a]",
    "[[routes]]",
    "['']",
    "[1, 'x']",
    "{ a.b = 1 }",
    "1979-05-27",
    "'9e9s'",
    "'0s'",
    "'18446744073709551615s'",
    "'@EU'",
    "'@'",
    "'*.'",
    "'*.*.a'",
    "'=/'",
    "'/%zz'",
    "'[::1]:1'",
    "'/dev/null'",
    "weight = 0",
    "state = 'disabled'",
    "transfer = 'prohibited'",
    "allow = {}",
    "affinity = { kind = 'cookie' }",
    "/",
    "//",
    "/.",
    "/..",
    "/../",
    ".",
    "..",
    "%",
    "%2",
    "%2F",
    "%2f",
    "%2e",
    "%2E%2E",
    "%25",
    "%00",
    "%5c",
    "\\",
    ";",
    ";a=1",
    "%3B",
    "*",
    "*.",
    ":",
    "::",
    "::1",
    "::ffff:",
    "[",
    "]",
    ",",
    ", ,",
    "10.0.0.1",
    "10.0.0.2:80",
    "[2001:db8::1]:443",
    "::ffff:10.0.0.1",
    "0.0.0.0/0",
    "::/0",
    "fe80::1%eth0",
    "unknown",
    "_hidden",
];
