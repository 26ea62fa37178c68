//! Finds the directories to watch in order to notice that a path leads to another file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Returns every directory in which a change can make `path` lead to another file: those that hold the file and the
/// symbolic links on the way. Where a directory on the way does not exist, the deepest that does is returned.
pub(super) fn directories_on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else { return found };
    // The parts still to go, the next one last.
    let mut rest: Vec<PathBuf> = parts(&absolute);
    let mut here = PathBuf::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let is_last = rest.is_empty();
        match fs::symlink_metadata(&next) {
            Ok(entry) if entry.is_symlink() => {
                found.insert(here.clone());
                links += 1;
                let Ok(target) = fs::read_link(&next) else { break };
                if links > MAX_LINKS {
                    break;
                }
                if target.is_absolute() {
                    here = PathBuf::new();
                }
                rest.extend(parts(&target));
            }
            Ok(_) if is_last => {
                found.insert(here.clone());
            }
            Ok(_) => here = next,
            Err(_) => {
                found.insert(here.clone());
                break;
            }
        }
    }
    found
}

/// Returns a path's parts, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<PathBuf> = parts.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

/// The most links that are followed: as many as Linux follows.
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_through_every_directory() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let directory = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        // As Kubernetes mounts a ConfigMap.
        let (mount, first) = (directory("mount"), directory("mount/..first"));
        fs::write(first.join("routes.toml"), "").unwrap();
        symlink("..first", mount.join("..data")).unwrap();
        symlink("..data/routes.toml", mount.join("routes.toml")).unwrap();
        let expect = |path: PathBuf, expected: &[&PathBuf]| {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|path| (*path).clone()).collect();
            assert_eq!(directories_on_the_way(&path), expected, "{}", path.display());
        };
        expect(mount.join("routes.toml"), &[&mount, &first]);
        expect(mount.join("none.toml"), &[&mount]);
        expect(mount.join("none/at/all"), &[&mount]);
        let elsewhere = directory("elsewhere");
        symlink(&mount, elsewhere.join("absolute")).unwrap();
        expect(elsewhere.join("absolute/../mount/./routes.toml"), &[&elsewhere, &mount, &first]);
        symlink("loop", elsewhere.join("loop")).unwrap();
        expect(elsewhere.join("loop"), &[&elsewhere]);
    }
}
