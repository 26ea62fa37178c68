//! What a node is started with: its files in a directory of their own.

use std::fmt::Write as _;
use std::path::Path;

use tempfile::TempDir;

use crate::node::{Node, Outside, Stderr, Stdout};
use crate::{Authority, Certificate, geo};

/// A node file in the making, with all that it names. The default has one plain listener, the database of [`geo`], and
/// trusts 127.0.0.1: the client of a test is a proxy that names its clients, unless it connects from elsewhere.
#[derive(Clone)]
pub struct Setup {
    name: String,
    region: String,
    routing: Routing,
    listeners: Vec<Listener>,
    trusted: Vec<String>,
    database: Option<Vec<u8>>,
    threads: usize,
    sections: String,
    databases: Vec<String>,
    geoip: String,
    peers: String,
    files: Vec<(String, Vec<u8>)>,
    outside: Outside,
}

/// Where the routing table comes from.
#[derive(Clone)]
enum Routing {
    File(String),
    Bus(String),
}

#[derive(Clone)]
struct Listener {
    address: String,
    kind: Kind,
    proxy_header: bool,
}

impl Listener {
    fn of(kind: Kind) -> Listener {
        Listener { address: "127.0.0.1:0".to_owned(), kind, proxy_header: false }
    }
}

#[derive(Clone)]
enum Kind {
    Plain,
    Redirecting,
    Tls(Vec<Certificate>),
}

impl Setup {
    /// A node in this region of this table.
    pub fn new(region: &str, table: &str) -> Setup {
        Setup {
            name: "test".to_owned(),
            region: region.to_owned(),
            routing: Routing::File(table.to_owned()),
            listeners: Vec::new(),
            trusted: vec!["127.0.0.1/32".to_owned()],
            database: Some(geo::database()),
            threads: 2,
            sections: String::new(),
            databases: Vec::new(),
            geoip: String::new(),
            peers: String::new(),
            files: Vec::new(),
            outside: Outside { stdout: Stdout::Read, stderr: Stderr::Read, environment: Vec::new(), open_files: None },
        }
    }

    /// With a name of its own, where there are several nodes.
    #[must_use]
    pub fn name(self, name: &str) -> Setup {
        Setup { name: name.to_owned(), ..self }
    }

    /// With these lines in the node file's `[routing]`, and no table in its directory.
    #[must_use]
    pub fn bus(self, lines: &str) -> Setup {
        Setup { routing: Routing::Bus(lines.to_owned()), ..self }
    }

    /// With one more listener: plain. Without any there is one plain listener.
    #[must_use]
    pub fn plain(self) -> Setup {
        self.listener(Kind::Plain)
    }

    /// With one more listener: plain, and redirecting to HTTPS.
    #[must_use]
    pub fn redirecting(self) -> Setup {
        self.listener(Kind::Redirecting)
    }

    /// With one more listener: TLS with these certificates, in files `tls-0`, `tls-1` and so on.
    #[must_use]
    pub fn tls(self, certificates: &[&Certificate]) -> Setup {
        self.listener(Kind::Tls(certificates.iter().map(|certificate| (*certificate).clone()).collect()))
    }

    /// The last listener takes PROXY headers from whom the node trusts.
    ///
    /// # Panics
    /// When there is none yet.
    #[must_use]
    pub fn with_proxy_header(mut self) -> Setup {
        self.listeners.last_mut().expect("a listener").proxy_header = true;
        self
    }

    /// The last listener binds this address instead of 127.0.0.1:0.
    ///
    /// # Panics
    /// When there is none yet.
    #[must_use]
    pub fn at(mut self, address: &str) -> Setup {
        self.listeners.last_mut().expect("a listener").address = address.to_owned();
        self
    }

    /// Trusting these networks instead.
    #[must_use]
    pub fn trusting(self, networks: &[&str]) -> Setup {
        Setup { trusted: networks.iter().map(ToString::to_string).collect(), ..self }
    }

    /// With this database, or none.
    #[must_use]
    pub fn database(self, database: Option<Vec<u8>>) -> Setup {
        Setup { database, ..self }
    }

    /// With so many worker threads instead of two. With one, all requests share one pool of connections.
    #[must_use]
    pub fn threads(self, threads: usize) -> Setup {
        Setup { threads, ..self }
    }

    /// With a section more in the node file, such as `limits`.
    #[must_use]
    pub fn section(mut self, name: &str, lines: &str) -> Setup {
        write!(self.sections, "\n[{name}]\n{lines}\n").expect("a string takes everything");
        self
    }

    /// With more lines in the node file's `[geoip]`.
    #[must_use]
    pub fn geoip(mut self, lines: &str) -> Setup {
        writeln!(self.geoip, "{lines}").expect("a string takes everything");
        self
    }

    /// A node among those that this authority certifies under `nodes.example.com`, with this certificate.
    #[must_use]
    pub fn peer(mut self, authority: &Authority, certificate: &Certificate) -> Setup {
        self.peers.push_str(
            "certificate_authorities = [\"peers-ca.pem\"]\nnames = [\"*.nodes.example.com\"]\n\
             certificate = { certificate = \"node.pem\", key = \"node-key.pem\" }\n",
        );
        self.file("peers-ca.pem", authority.pem())
            .file("node.pem", certificate.certificate_pem.as_str())
            .file("node-key.pem", certificate.key_pem.as_str())
    }

    /// A node among those that share this secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Setup {
        self.peers.push_str("secret_file = \"peers.key\"\n");
        self.file("peers.key", secret)
    }

    /// With a file of its directory as one more database.
    #[must_use]
    pub fn database_file(mut self, name: &str) -> Setup {
        self.databases.push(name.to_owned());
        self
    }

    /// With a file more in its directory.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Setup {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Without an access log.
    #[must_use]
    pub fn without_access_log(self) -> Setup {
        self.stdout(Stdout::Silenced)
    }

    /// With an access log that nobody reads.
    #[must_use]
    pub fn with_stdout_unread(self) -> Setup {
        self.stdout(Stdout::Unread)
    }

    /// With an access log that goes to a pipe whose reader is gone.
    #[must_use]
    pub fn with_stdout_closed(self) -> Setup {
        self.stdout(Stdout::Closed)
    }

    /// With its access log in the file `access.log` of its directory.
    #[must_use]
    pub fn with_stdout_in_a_file(self) -> Setup {
        self.stdout(Stdout::File)
    }

    /// With a log that nobody reads once it serves.
    #[must_use]
    pub fn with_stderr_unread(mut self) -> Setup {
        self.outside.stderr = Stderr::Unread;
        self
    }

    /// With a log whose reader goes once it serves.
    #[must_use]
    pub fn with_stderr_closed(mut self) -> Setup {
        self.outside.stderr = Stderr::Closed;
        self
    }

    /// With so many open files at most.
    #[must_use]
    pub fn with_open_files(mut self, limit: u32) -> Setup {
        self.outside.open_files = Some(limit);
        self
    }

    fn stdout(mut self, stdout: Stdout) -> Setup {
        self.outside.stdout = stdout;
        self
    }

    /// With an environment variable more.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.outside.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the node, and returns when it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(self) -> Node {
        let mut node = self.start_waiting().await;
        node.serves().await;
        node
    }

    /// Starts the node, and returns when its admin listener is known: it may still wait for a routing table.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_waiting(self) -> Node {
        Node::start_waiting(self.write(), self.outside).await
    }

    /// Writes `node.toml` and all that it names, without starting anything.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        self.write_to(directory.path());
        directory
    }

    fn write_to(&self, directory: &Path) {
        let file = |name: &str, content: &[u8]| std::fs::write(directory.join(name), content).expect("a file");
        file("node.toml", self.node_file().as_bytes());
        if let Routing::File(table) = &self.routing {
            file("routes.toml", table.as_bytes());
        }
        if let Some(database) = &self.database {
            file("countries.mmdb", database);
        }
        for (name, content) in &self.files {
            file(name, content);
        }
        for (number, certificate) in self.certificates().enumerate() {
            certificate.write(directory, &format!("tls-{number}"));
        }
    }

    /// The text of the node file.
    pub fn node_file(&self) -> String {
        let Setup { name, region, threads, .. } = self;
        let mut text = format!("[node]\nname = \"{name}\"\nregion = \"{region}\"\nthreads = {threads}\n");
        let mut number = 0;
        let plain = [Listener::of(Kind::Plain)];
        let listeners = if self.listeners.is_empty() { &plain[..] } else { &self.listeners };
        for listener in listeners {
            writeln!(text, "\n[[listeners]]\naddress = \"{}\"", listener.address).expect("a string takes everything");
            if listener.proxy_header {
                text.push_str("proxy_protocol = \"trusted\"\n");
            }
            match &listener.kind {
                Kind::Plain => {}
                Kind::Redirecting => text.push_str("redirect_to_https = true\n"),
                Kind::Tls(certificates) => {
                    let pairs: Vec<String> = (number..number + certificates.len())
                        .map(|n| format!("{{ certificate = \"tls-{n}.pem\", key = \"tls-{n}-key.pem\" }}"))
                        .collect();
                    number += certificates.len();
                    writeln!(text, "tls = {{ certificates = [{}] }}", pairs.join(", "))
                        .expect("a string takes everything");
                }
            }
        }
        let databases = self.database.iter().map(|_| "countries.mmdb").chain(self.databases.iter().map(String::as_str));
        let databases: Vec<String> = databases.map(|name| format!("\"{name}\"")).collect();
        let trusted: Vec<String> = self.trusted.iter().map(|network| format!("\"{network}\"")).collect();
        if !self.peers.is_empty() {
            write!(text, "\n[peers]\n{}", self.peers).expect("a string takes everything");
        }
        let routing = match &self.routing {
            Routing::File(_) => "file = \"routes.toml\"",
            Routing::Bus(lines) => lines,
        };
        write!(
            text,
            "\n[admin]\naddress = \"127.0.0.1:0\"\n\n[geoip]\ndatabases = [{}]\ntrusted_proxies = [{}]\n{}\
             \n[routing]\n{}\n{}",
            databases.join(", "),
            trusted.join(", "),
            self.geoip,
            routing,
            self.sections
        )
        .expect("a string takes everything");
        if !self.says_how_to_drain() {
            text.push_str("\n[drain]\nannounce = \"0s\"\n");
        }
        text
    }

    /// Whether it says how it takes its leave; else it goes at once, so that no test waits for it.
    fn says_how_to_drain(&self) -> bool {
        self.sections.contains("\n[drain]\n")
    }

    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.listeners.iter().flat_map(|listener| match &listener.kind {
            Kind::Plain | Kind::Redirecting => &[][..],
            Kind::Tls(certificates) => certificates,
        })
    }

    fn listener(mut self, kind: Kind) -> Setup {
        self.listeners.push(Listener::of(kind));
        self
    }
}
