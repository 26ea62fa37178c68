//! The modules of a crate, and which of them uses which, as its source says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{without_comments, without_tests};

/// The modules of one crate. A module is its path without `crate`, `a::b`; the crate's root is empty.
#[derive(Default)]
pub(super) struct Modules {
    files: BTreeMap<String, PathBuf>,
    uses: Vec<Use>,
}

/// One module uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) user: String,
    pub(super) used: String,
}

/// What one module's code says.
#[derive(Default)]
struct Said {
    /// Each path that begins with `crate`, `super`, `self` or, in a `use`, any name.
    paths: Vec<Vec<String>>,
    /// What it calls by a name of its own: by `use`.
    names: BTreeMap<String, Vec<String>>,
}

impl Modules {
    /// Reads all of a crate's `src`, but for its tests.
    pub(super) fn of_crate(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(src, &mut Vec::new(), &mut files);
        let sources: Vec<(&str, String)> =
            files.iter().map(|(module, file)| (module.as_str(), std::fs::read_to_string(file).unwrap())).collect();
        let sources: Vec<(&str, &str)> = sources.iter().map(|(module, text)| (*module, text.as_str())).collect();
        let uses = Self::of_sources(&sources).uses;
        Self { files, uses }
    }

    /// The same of texts.
    pub(super) fn of_sources(sources: &[(&str, &str)]) -> Self {
        let said: BTreeMap<&str, Said> =
            sources.iter().map(|(module, text)| (*module, said(&without_tests(&without_comments(text))))).collect();
        let mut uses = BTreeSet::new();
        for (module, Said { paths, .. }) in &said {
            for path in paths {
                if let Some(used) = resolve(&said, module, path, 0).filter(|used| used != module) {
                    uses.insert(Use { user: (*module).to_owned(), used });
                }
            }
        }
        let files = sources.iter().map(|(module, _)| ((*module).to_owned(), PathBuf::new())).collect();
        Self { files, uses: uses.into_iter().collect() }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|(module, file)| (module.as_str(), file.as_path()))
    }

    pub(super) fn uses(&self) -> impl Iterator<Item = &Use> {
        self.uses.iter()
    }

    /// The modules that the crate's root has. Those of a binary's `main.rs` are the root's.
    pub(super) fn top_level(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str).filter(|module| !module.is_empty() && !module.contains("::"))
    }
}

impl Use {
    /// The name that the user has in its directory, so many levels down.
    pub(super) fn user_at(&self, depth: usize) -> Option<&str> {
        part(&self.user, depth)
    }

    pub(super) fn used_at(&self, depth: usize) -> Option<&str> {
        part(&self.used, depth)
    }

    /// The level at which the two differ; `None` when one is a part of the other.
    pub(super) fn fork(&self) -> Option<usize> {
        let (mut user, mut used) = (parts(&self.user), parts(&self.used));
        let mut depth = 0;
        loop {
            match (user.next(), used.next()) {
                (Some(user), Some(used)) if user == used => depth += 1,
                (Some(_), Some(_)) => return Some(depth),
                _ => return None,
            }
        }
    }

    /// The directory of a level.
    pub(super) fn directory(&self, depth: usize) -> String {
        parts(&self.user).take(depth).collect::<Vec<_>>().join("/")
    }
}

fn parts(module: &str) -> impl Iterator<Item = &str> {
    module.split("::").filter(|part| !part.is_empty())
}

fn part(module: &str, depth: usize) -> Option<&str> {
    parts(module).nth(depth)
}

fn collect(directory: &Path, module: &mut Vec<String>, files: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "tests" || name == "bin" {
            continue;
        }
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_its_directory = name == "mod" || (module.is_empty() && name == "lib");
            if module.is_empty() && name == "main" {
                continue;
            }
            let own = module.iter().cloned().chain((!is_its_directory).then_some(name));
            files.insert(own.collect::<Vec<_>>().join("::"), path);
        }
    }
}

/// The module in which a path ends, by way of names that modules on it give to others' things.
fn resolve(said: &BTreeMap<&str, Said>, module: &str, path: &[String], depth: usize) -> Option<String> {
    let mut current: Vec<&str> = parts(module).collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            current.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                current.pop();
                rest = &rest[1..];
            }
        }
        // In a `use`: a part of this module, or another crate.
        first => {
            let own = [&current[..], &[first]].concat().join("::");
            if !said.contains_key(own.as_str()) {
                return None;
            }
        }
    }
    for (at, part) in rest.iter().enumerate() {
        let next = [&current[..], &[part.as_str()]].concat();
        if said.contains_key(next.join("::").as_str()) {
            current = next;
            continue;
        }
        let name = current.join("::");
        let elsewhere = said.get(name.as_str()).and_then(|said| said.names.get(part));
        if let Some(elsewhere) = elsewhere.filter(|_| depth < 8 && name != module) {
            let path: Vec<String> = elsewhere.iter().chain(&rest[at + 1..]).cloned().collect();
            return resolve(said, &name, &path, depth + 1).or(Some(name));
        }
        break;
    }
    Some(current.join("::"))
}

fn said(code: &str) -> Said {
    let tokens = tokens(code);
    let mut said = Said::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "use" => {
                at = tree(&tokens, at + 1, &mut Vec::new(), &mut said);
            }
            "crate" | "super" if tokens.get(at + 1).is_some_and(|next| next == "::") => {
                let mut path = vec![token.clone()];
                while tokens.get(at + 1).is_some_and(|next| next == "::")
                    && tokens.get(at + 2).is_some_and(|next| is_word(next))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                said.paths.push(path);
                at += 1;
            }
            _ => at += 1,
        }
    }
    said
}

/// Reads a `use` tree, and returns where it ends.
fn tree(tokens: &[String], mut at: usize, path: &mut Vec<String>, said: &mut Said) -> usize {
    let length = path.len();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, path, said);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                path.truncate(length);
                return at + 1;
            }
            word if is_word(word) && word != "as" => path.push(word.to_owned()),
            _ => {
                at -= 1;
                break;
            }
        }
    }
    let mut name = path.last().cloned();
    if name.as_deref() == Some("self") && path.len() > 1 {
        path.pop();
        name = path.last().cloned();
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        name = tokens.get(at + 1).cloned();
        at += 2;
    }
    at += usize::from(tokens.get(at).is_some_and(|token| token == "*"));
    said.paths.push(path.clone());
    if let Some(name) = name {
        said.names.insert(name, path.clone());
    }
    path.truncate(length);
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |next: char| next.is_alphanumeric() || next == '_';
        let length = match first {
            _ if is_part(first) => rest.find(|next| !is_part(next)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}
