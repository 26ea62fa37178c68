//! Routing tables: the shipped examples on loopback, and small ones for one question.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The path of a file of `config/examples`.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name)
}

/// The text of a shipped table, with the lists that it names by file written into it, so that it can be anywhere.
///
/// # Panics
/// When it cannot be read.
pub fn shipped(name: &str) -> String {
    let file = example(&format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("the example");
    config::RoutingTable::text_to_publish(&file, &text)
}

/// The names of all TOML files of `config/examples`.
///
/// # Panics
/// When there are none.
pub fn example_names() -> Vec<String> {
    let entries = example("").read_dir().expect("the examples");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"));
    let names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    assert!(!names.is_empty(), "config/examples is empty");
    names
}

/// A table as it was shipped but for four things, line by line: its endpoints are these, regions are reached without
/// gateways, probes come often, and a region that is healthy again is back at once.
///
/// # Panics
/// When a region has no endpoints here or no line for them there.
pub fn rewritten(table: &str, endpoints: &BTreeMap<String, Vec<SocketAddr>>) -> String {
    let mut text = String::new();
    let mut region: Option<&str> = None;
    let mut done = 0;
    let table = back_at_once(table);
    for line in table.lines() {
        if line.starts_with('[') {
            region = line.strip_prefix("[regions.").and_then(|rest| rest.strip_suffix(']'));
        }
        let key = line.split_once('=').map(|(key, _)| key.trim());
        match (region, key) {
            (Some(region), Some("endpoints")) => {
                let addresses = endpoints.get(region).unwrap_or_else(|| panic!("no origins for {region}"));
                text.push_str(&endpoints_line(addresses));
                done += 1;
            }
            (Some(_), Some("gateway")) => {}
            (Some(_), Some("health")) => {
                let path = line.split_once("path = ").and_then(|(_, rest)| rest.split_once(','));
                let (path, _) = path.unwrap_or_else(|| panic!("no path in {line}"));
                text.push_str(&health_line(path.trim_matches('"'), OFTEN));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    assert_eq!(done, endpoints.len(), "a line with endpoints for each region");
    far_as_said(text)
}

/// How many endpoints each region of a table has, and the path of its probes, line by line.
pub(crate) fn regions_of(table: &str) -> BTreeMap<String, usize> {
    let mut regions = BTreeMap::new();
    let mut region: Option<&str> = None;
    for line in table.lines() {
        if line.starts_with('[') {
            region = line.strip_prefix("[regions.").and_then(|rest| rest.strip_suffix(']'));
        }
        if let (Some(region), Some(list)) = (region, line.strip_prefix("endpoints = ")) {
            regions.insert(region.to_owned(), list.split(',').count());
        }
    }
    regions
}

/// A table of a few regions, preferred in this order, and some routes.
#[derive(Clone, Debug)]
pub struct SmallTable {
    version: String,
    regions: Vec<SmallRegion>,
    rest: String,
    probes: &'static str,
}

#[derive(Clone, Debug)]
struct SmallRegion {
    name: String,
    country: String,
    /// The line of TOML.
    endpoints: String,
    more: String,
}

impl SmallTable {
    /// Without regions yet. `rest` is TOML: routes, and whatever else.
    pub fn new(rest: &str) -> SmallTable {
        SmallTable { version: "1".to_owned(), regions: Vec::new(), rest: rest.to_owned(), probes: RARELY }
    }

    /// With one more region, preferred after those before it.
    #[must_use]
    pub fn region(self, name: &str, country: &str, endpoints: &[SocketAddr]) -> SmallTable {
        self.region_with(name, country, endpoints, "")
    }

    /// The same with more lines of TOML.
    #[must_use]
    pub fn region_with(self, name: &str, country: &str, endpoints: &[SocketAddr], more: &str) -> SmallTable {
        self.push(name, country, endpoints_line(endpoints), more)
    }

    /// With one more region, whose endpoints have versions.
    #[must_use]
    pub fn region_of_versions(self, name: &str, country: &str, endpoints: &[(SocketAddr, &str)]) -> SmallTable {
        let endpoint =
            |(address, version): &(SocketAddr, &str)| format!("{{ address = \"{address}\", version = \"{version}\" }}");
        let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
        self.push(name, country, format!("endpoints = [{}]", endpoints.join(", ")), "")
    }

    /// With one more region, at one endpoint as a table writes it (`h2c://…`), which probes only connect to.
    #[must_use]
    pub fn region_at(self, name: &str, country: &str, endpoint: &str) -> SmallTable {
        let health = "health = { kind = \"tcp\", interval = \"1h\" }\n";
        let table = self.push(name, country, format!("endpoints = [\"{endpoint}\"]"), health);
        SmallTable { probes: "", ..table }
    }

    fn push(mut self, name: &str, country: &str, endpoints: String, more: &str) -> SmallTable {
        let (name, country, more) = (name.to_owned(), country.to_owned(), more.to_owned());
        self.regions.push(SmallRegion { name, country, endpoints, more });
        self
    }

    /// With another version than `"1"`.
    #[must_use]
    pub fn version(self, version: &str) -> SmallTable {
        SmallTable { version: version.to_owned(), ..self }
    }

    /// With probes several times a second, instead of one at the start only.
    #[must_use]
    pub fn probed_often(self) -> SmallTable {
        SmallTable { probes: OFTEN, ..self }
    }

    /// The table's text.
    pub fn text(&self) -> String {
        let mut text = format!("version = \"{}\"\n", self.version);
        for (priority, region) in self.regions.iter().enumerate() {
            let SmallRegion { name, country, endpoints, more } = region;
            let health = if self.probes.is_empty() { String::new() } else { health_line("/health", self.probes) };
            write!(
                text,
                "\n[regions.{name}]\ncountry = \"{country}\"\npriority = {priority}\n{endpoints}\n{health}\n{more}\n"
            )
            .expect("a string takes everything");
        }
        text.push('\n');
        text.push_str(&self.rest);
        text.push('\n');
        far_as_said(if self.rest.contains("failback_delay") { text } else { back_at_once(&text) })
    }
}

/// A table in which regions return without a delay and a ramp.
fn back_at_once(table: &str) -> String {
    let theirs =
        |line: &&str| !["failback_delay", "ramp", "ramp_step"].contains(&line.split([' ', '=']).next().unwrap());
    let mut lines: Vec<&str> = table.lines().filter(theirs).collect();
    let at = lines.iter().position(|line| line.trim() == "[failover]").unwrap_or_else(|| {
        lines.push("[failover]");
        lines.len() - 1
    });
    lines.insert(at + 1, "failback_delay = \"0s\"\nramp = [100]");
    lines.join("\n") + "\n"
}

/// A table whose regions are as far as it says, unless it says how that is measured: here all of them are at hand.
fn far_as_said(table: String) -> String {
    if table.contains("[latency]") { table } else { table + "[latency]\nwindow = \"0s\"\n" }
}

fn endpoints_line(endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!("endpoints = [{}]", endpoints.join(", "))
}

/// A probe may take long, as on a busy machine.
fn health_line(path: &str, interval: &str) -> String {
    format!(
        "health = {{ path = \"{path}\", interval = \"{interval}\", unhealthy_interval = \"100ms\", timeout = \"5s\", \
            failures = 2, successes = 2 }}"
    )
}

const OFTEN: &str = "200ms";
const RARELY: &str = "1h";
