//! The files of the demo: a small working example of what a node needs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::Failed;
use crate::origins::Origins;
use crate::{certificate, geo_database};

/// The directory with the files. One of our own goes away with this value; the user's stays.
pub(crate) enum Files {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Files {
    /// Writes all files to a directory that the user names, or to a new temporary one.
    pub(crate) fn write(keep: Option<&Path>, origins: &Origins) -> Result<Self, Failed> {
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
    pub(crate) fn directory(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(directory) => directory,
        }
    }

    /// The node file among them.
    pub(crate) fn node(&self) -> PathBuf {
        self.directory().join("node.toml")
    }

    /// The gateway's node file among them.
    pub(crate) fn gateway(&self) -> PathBuf {
        self.directory().join("gateway.toml")
    }

    /// Writes the table of the ingress, which reaches one region through this gateway.
    pub(crate) fn write_table(&self, origins: &Origins, gateway: SocketAddr) -> Result<(), Failed> {
        let section = format!("[regions.{GATEWAY_REGION}]\n");
        let through = format!("{section}gateway = \"localhost:{}\"     # its own node\n", gateway.port());
        let written = self.put("routes.toml", table(origins).replacen(&section, &through, 1).as_bytes());
        written.context("cannot write the routing table").map_err(Failed::Ran)
    }

    fn write_all(&self, origins: &Origins) -> anyhow::Result<()> {
        let now = SystemTime::now();
        let pair = certificate::make(now)?;
        let mut database = Vec::new();
        geo_database::write(&mut database, now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?;
        let nodes = certificate::Authority::make(now)?;
        self.put("node.toml", include_str!("node.toml").as_bytes())?;
        self.put("gateway.toml", include_str!("gateway.toml").as_bytes())?;
        self.put("gateway-routes.toml", table(origins).as_bytes())?;
        self.put("peers-ca.pem", nodes.pem().as_bytes())?;
        for (name, node) in [("node", "us-east-1"), ("gateway", GATEWAY_REGION)] {
            let pair = nodes.certify(node, now)?;
            self.put(&format!("{name}.pem"), pair.certificate.as_bytes())?;
            self.put(&format!("{name}-key.pem"), pair.key.as_bytes())?;
        }
        self.put("geo.mmdb", &database)?;
        self.put("certificate.pem", pair.certificate.as_bytes())?;
        self.put("key.pem", pair.key.as_bytes())?;
        Ok(())
    }

    /// Writes a file for its owner's eyes: some of them are private keys.
    fn put(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let file = self.directory().join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(contents)
    }
}

/// The region that is reached through a node of its own. It outlives every phase.
const GATEWAY_REGION: &str = "ap-southeast-1";

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
    use config::{NodeConfig, Routing, RoutingTable};
    use geoip::GeoDatabases;

    use crate::clients;

    #[tokio::test]
    async fn a_node_can_read_the_files_and_find_every_client() {
        let origins = Origins::start().await.unwrap();
        let files = Files::write(None, &origins).unwrap();
        let gateway = read(&files.gateway());
        assert_eq!(gateway.1.upstreams.iter().filter(|upstream| upstream.gateway.is_some()).count(), 0);
        files.write_table(&origins, "127.0.0.1:443".parse().unwrap()).unwrap();
        let (node, table) = read(&files.node());
        assert_eq!(table.upstreams.iter().filter(|upstream| upstream.gateway.is_some()).count(), 1);
        let databases = GeoDatabases::open_all(&node.geoip.databases).unwrap();
        for client in clients::all() {
            let place = databases.lookup(client.address);
            let code = place.country.map_or(clients::UNKNOWN.to_owned(), |country| country.to_string());
            assert_eq!(code, client.group.code, "{}", client.address);
        }
    }

    fn read(node_file: &Path) -> (NodeConfig, RoutingTable) {
        let node = NodeConfig::load(node_file).unwrap();
        let Routing::File(table) = &node.routing else { panic!("a bus") };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let now = policy::Moment::from_unix_seconds(i64::try_from(now).unwrap());
        let table = RoutingTable::load(table, now).unwrap();
        assert!(table.table.region_named(&node.region).is_some());
        (node, table)
    }

    #[tokio::test]
    async fn a_directory_in_use_is_refused() {
        let origins = Origins::start().await.unwrap();
        let used = tempfile::tempdir().unwrap();
        let directory = used.path().join("new");
        assert!(Files::write(Some(&directory), &origins).is_ok());
        assert!(Files::write(Some(&directory), &origins).is_err(), "the second would overwrite the first");
        assert!(directory.join("gateway-routes.toml").exists(), "what the user asked to keep stays");
    }
}
