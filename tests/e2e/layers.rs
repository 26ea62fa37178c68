//! The source's own order: which module may use which, by the lists in ARCHITECTURE.md, and no cycles.
//!
//! A crate's list is a fenced block `layers CRATE`. Each line is a layer: its modules use only modules of
//! lines below it. Inside a directory the order is free, as long as there is none that goes round.

mod modules;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use modules::{Modules, Use};

const CRATES: [&str; 6] = ["policy", "geoip", "config", "loadtest", "loadtest/demo", "proxy"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The layers of one crate, from top to bottom, as ARCHITECTURE.md has them.
struct Layers(Vec<Vec<String>>);

impl Layers {
    fn of(document: &str, crate_name: &str) -> Self {
        let fence = format!("```layers {crate_name}");
        let lines = document.lines().skip_while(|line| *line != fence).skip(1).take_while(|line| *line != "```");
        let names = |line: &str| -> Vec<String> {
            line.split('#').next().unwrap().split_whitespace().map(str::to_owned).collect()
        };
        Self(lines.map(names).filter(|names| !names.is_empty()).collect())
    }

    /// The layer of a module, counted from the top.
    fn of_module(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|layer| layer.iter().any(|name| name == module))
    }
}

/// What a crate's uses have against its list, one line for each pair of modules.
fn faults(modules: &Modules, layers: &Layers) -> Vec<String> {
    let top: BTreeSet<&str> = modules.top_level().collect();
    let mut faults = Vec::new();
    for name in &top {
        match layers.0.iter().flatten().filter(|listed| listed == name).count() {
            1 => {}
            0 => faults.push(format!("{name} is in no layer")),
            _ => faults.push(format!("{name} is in several layers")),
        }
    }
    for name in layers.0.iter().flatten().filter(|name| !top.contains(name.as_str())) {
        faults.push(format!("{name} is listed, and there is no such module"));
    }
    let mut upward: BTreeMap<(&str, &str), &Use> = BTreeMap::new();
    for found in modules.uses() {
        let (user, used) = (found.user_at(0), found.used_at(0));
        if let (Some(user), Some(used)) = (user, used)
            && user != used
            && layers.of_module(user) >= layers.of_module(used)
        {
            upward.entry((user, used)).or_insert(found);
        }
    }
    faults.extend(upward.into_iter().map(|((user, used), found)| {
        format!("{user} uses {used}, which is not below it ({} uses {})", found.user, found.used)
    }));
    faults
}

/// The cycles among the parts of one directory, for every directory. A module and its own parts are one.
fn cycles(modules: &Modules) -> Vec<String> {
    let mut directories: BTreeMap<String, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for found in modules.uses() {
        if let Some(depth) = found.fork() {
            let (user, used) = (found.user_at(depth).unwrap(), found.used_at(depth).unwrap());
            directories.entry(found.directory(depth)).or_default().entry(user).or_default().insert(used);
        }
    }
    let mut cycles = Vec::new();
    for (directory, uses) in &directories {
        // What uses nothing that is left, and so on, is in no cycle; nor is what nothing left uses.
        let mut left: BTreeSet<&str> = uses.keys().copied().collect();
        loop {
            let in_some_cycle = |name: &&str| {
                let goes_on = uses[name].iter().any(|used| left.contains(used));
                goes_on && left.iter().any(|user| uses[user].contains(name))
            };
            let next: BTreeSet<&str> = left.iter().filter(|name| in_some_cycle(name)).copied().collect();
            if next.len() == left.len() {
                break;
            }
            left = next;
        }
        if !left.is_empty() {
            let mut text = format!("a cycle in {directory}/ (");
            for user in &left {
                let used: Vec<&str> = uses[user].iter().filter(|used| left.contains(*used)).copied().collect();
                write!(text, "{user} uses {}; ", used.join(" and ")).unwrap();
            }
            text.truncate(text.len() - 2);
            text.push(')');
            cycles.push(text);
        }
    }
    cycles
}

#[test]
fn modules_use_only_what_is_below_them() {
    let document = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut all = String::new();
    for name in CRATES {
        let modules = Modules::of_crate(&root().join(name).join("src"));
        let layers = Layers::of(&document, name);
        assert!(!layers.0.is_empty(), "ARCHITECTURE.md has no list of layers of {name}");
        for fault in faults(&modules, &layers).into_iter().chain(cycles(&modules)) {
            writeln!(all, "{name}: {fault}").unwrap();
        }
    }
    assert!(all.is_empty(), "against the layers of ARCHITECTURE.md:\n{all}");
}

#[test]
fn only_the_clock_reads_clocks() {
    let mut readers = BTreeSet::new();
    for (module, file) in Modules::of_crate(&root().join("proxy/src")).files() {
        let text = source::without_tests(&source::without_comments(&std::fs::read_to_string(file).unwrap()));
        if CLOCKS.iter().any(|clock| text.contains(clock)) {
            readers.insert(module.to_owned());
        }
    }
    let clock = BTreeSet::from(["clock".to_owned()]);
    assert_eq!(readers, clock, "only proxy/src/clock.rs reads clocks");
}

/// What is started is looked after: by `supervise`, by who waits for it, or since it ends with its connection.
#[test]
fn tasks_and_threads_are_started_in_known_places() {
    let mut starters = BTreeSet::new();
    for (module, file) in Modules::of_crate(&root().join("proxy/src")).files() {
        let text = source::without_tests(&source::without_comments(&std::fs::read_to_string(file).unwrap()));
        if !module.starts_with("cli") && STARTS.iter().any(|start| text.contains(start)) {
            starters.insert(module.to_owned());
        }
    }
    let known: BTreeSet<String> = STARTERS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(starters, known, "say here who looks after what a module starts");
}

#[test]
fn the_check_sees_what_it_is_for() {
    let modules = Modules::of_sources(&[
        ("", "pub use b::B;"),
        ("a", "use crate::{b::B, d::e::E as _};"),
        ("b", "fn f() { crate::a::g() } #[cfg(test)] mod tests { use crate::d::e; }"),
        ("c", "use crate::B; // use crate::a::A;\nconst C: &str = \"use crate::a::A;\";"),
        ("d", "pub mod e; pub mod f;"),
        ("d::e", "use super::f::F;"),
        ("d::f", "use super::e::E;"),
    ]);
    let layers = Layers::of("```layers x\nc\na b # a comment\nd\n```\n", "x");
    assert_eq!(
        faults(&modules, &layers),
        ["a uses b, which is not below it (a uses b)", "b uses a, which is not below it (b uses a)"]
    );
    assert_eq!(cycles(&modules), ["a cycle in / (a uses b; b uses a)", "a cycle in d/ (e uses f; f uses e)"]);
    let layers = Layers::of("```layers x\na b\nc\nz\n```\n", "x");
    let found = faults(&modules, &layers);
    for fault in ["d is in no layer", "z is listed, and there is no such module"] {
        assert!(found.iter().any(|found| found == fault), "{fault}: {found:#?}");
    }
    assert!(found.iter().any(|found| found.starts_with("c uses b")), "by the crate's own name of it: {found:#?}");
}

/// What reads a clock.
const CLOCKS: [&str; 4] = ["Instant::now", "SystemTime::now", "Timestamp::now", "UnixTime::now"];

/// What starts a task or thread.
const STARTS: [&str; 4] = ["spawn(", "spawn_blocking(", "spawn_local(", "spawn_scoped("];

/// Who does in `proxy`, and what becomes of a panic there.
const STARTERS: [(&str, &str); 16] = [
    ("admin", "a connection, which it ends"),
    ("boundary", "waits for it, and tries again"),
    ("bus::controller", "waits for it"),
    ("bus::controller::effects", "waits for it, and refuses the table"),
    ("bus::session", "kept by supervise"),
    ("bus::thread", "ends the node"),
    ("exchange", "a tunnel, which it ends"),
    ("in_force", "it drops what it holds, and ends"),
    ("ingress::stream", "a stream, which it ends"),
    ("ingress::worker", "a worker ends the node; a connection ends"),
    ("probes::watch", "a probe, which is made again"),
    ("supervise", "starts it again"),
    ("upstream::http1", "an upload, whose request fails"),
    ("upstream::http2", "a connection, which it ends"),
    ("upstream::http2_tunnel", "a connection, which it ends"),
    ("upstream::resolve", "a name, which is looked up anew"),
];
