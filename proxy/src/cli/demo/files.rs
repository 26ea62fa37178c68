//! The files of the demo: a small working example of what a node needs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::origins::Origins;
use super::{certificate, geo_database};
use crate::cli::Failed;
use crate::node::unix_seconds;

/// The directory with the files. One of our own goes away with this value; the user's stays.
pub(super) enum Files {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Files {
    /// Writes all files to a directory that the user names, or to a new temporary one.
    pub(super) fn write(keep: Option<&Path>, origins: &Origins) -> Result<Self, Failed> {
        let files = match keep {
            Some(directory) => Self::Kept(empty(directory).map_err(Failed::Input)?),
            None => {
                let made = tempfile::Builder::new().prefix("meridian-demo-").tempdir();
                let made = made.context("cannot make a temporary directory; name one with --keep");
                Self::Temporary(made.map_err(Failed::Ran)?)
            }
        };
        let context = || format!("cannot write the demo's files to {}", files.directory().display());
        files.write_all(origins).with_context(context).map_err(Failed::Ran)?;
        Ok(files)
    }

    /// Where they are.
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(directory) => directory,
        }
    }

    /// The node file among them.
    pub(super) fn node(&self) -> PathBuf {
        self.directory().join("node.toml")
    }

    fn write_all(&self, origins: &Origins) -> anyhow::Result<()> {
        let now = SystemTime::now();
        let pair = certificate::make(now)?;
        let mut database = Vec::new();
        geo_database::write(&mut database, unix_seconds(now))?;
        self.put("node.toml", include_str!("node.toml").as_bytes())?;
        self.put("routes.toml", table(origins).as_bytes())?;
        self.put("geo.mmdb", &database)?;
        self.put("certificate.pem", pair.certificate.as_bytes())?;
        self.put("key.pem", pair.key.as_bytes())?;
        Ok(())
    }

    /// Writes a file for its owner's eyes: one of them is a private key.
    fn put(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let file = self.directory().join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(contents)
    }
}

/// The user's directory, made if need be. What is in it already would be overwritten, so nothing may.
fn empty(directory: &Path) -> anyhow::Result<PathBuf> {
    let context = || format!("meridian demo: --keep {}", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    if fs::read_dir(directory).with_context(context)?.next().is_some() {
        bail!("{}: the directory is not empty; name a new one", context());
    }
    fs::canonicalize(directory).with_context(context)
}

/// The routing table with the origins' addresses for the `{region}` in the template.
fn table(origins: &Origins) -> String {
    origins.addresses().fold(include_str!("routes.toml").to_owned(), |text, (region, address)| {
        text.replace(&format!("{{{region}}}"), &address.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::clients;
    use crate::prepare::Prepared;

    #[tokio::test]
    async fn a_node_can_run_on_the_files_and_find_every_client() {
        let origins = Origins::start().await.unwrap();
        let files = Files::write(None, &origins).unwrap();
        let prepared = Prepared::load(&files.node(), crate::clock::wall().into()).unwrap();
        for client in clients::all() {
            let place = prepared.parts.geo.databases.lookup(client.address);
            let code = place.country.map_or(clients::UNKNOWN.to_owned(), |country| country.to_string());
            assert_eq!(code, client.group.code, "{}", client.address);
        }
    }

    #[tokio::test]
    async fn a_directory_in_use_is_refused() {
        let origins = Origins::start().await.unwrap();
        let used = tempfile::tempdir().unwrap();
        let directory = used.path().join("new");
        assert!(Files::write(Some(&directory), &origins).is_ok());
        assert!(Files::write(Some(&directory), &origins).is_err(), "the second would overwrite the first");
        assert!(directory.join("routes.toml").exists(), "what the user asked to keep stays");
    }
}
