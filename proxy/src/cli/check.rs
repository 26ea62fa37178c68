//! `meridian check`

pub(super) mod against;
mod capacity;
mod horizon;
pub(super) mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use config::{FileKind, Problem, Problems, RoutingTable, Severity};
use policy::diff::{Dated, DiffError};
use policy::jurisdiction::ClassId;
use policy::proof::Unlisted;
use policy::route::RouteSpec;
use policy::{Access, Method, Moment, RouteId, Table};

use super::countries::{countries_as_json, countries_in_words};
use super::{Failed, Format, print};
use crate::descriptors::{hard_limit, shortage};
use crate::prepare::LoadedNode;
use crate::status::EmergencyStatus;

/// Check files.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Node files and routing tables
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show what changes for whom since this table, or a node file's table
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
    /// Show each date within that time, such as 400d, on which somebody gains or loses regions
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    horizon: Option<Duration>,
    /// Exit with 1 if the comparison finds any of these
    #[arg(long, value_enum, value_delimiter = ',', requires = "against", value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Which differences fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Some request of the old routes may go where the old table does not let it, or without its
    /// safeguards; or some region is in a country where the old table has none.
    Widening,
    /// Some request may no longer go where the old table lets it.
    Shrinking,
    /// Any difference but the version.
    Any,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        match &self.against {
            Some(old) => self.compare(old),
            None => self.check(),
        }
    }

    fn check(&self) -> Result<(), Failed> {
        let at = crate::clock::wall();
        let mut problems = Vec::new();
        let (mut good, mut files) = (String::new(), Vec::new());
        for file in &self.files {
            match checked(file, at) {
                Ok(checked) => {
                    let dated =
                        self.horizon.and_then(|ahead| Some(checked.ahead(ahead)?.map_err(|error| failed(&error))));
                    let dated = dated.transpose()?;
                    good.push_str(&checked.in_words(file));
                    if let Some((until, dated)) = &dated {
                        good.push_str(&horizon::text(*until, dated));
                    }
                    let mut shown = checked.as_json(file);
                    if let (Some((until, dated)), Some(shown)) = (&dated, shown.as_object_mut()) {
                        shown.insert("horizon".to_owned(), serde_json::json!({ "until": until, "changes": dated }));
                    }
                    files.push(shown);
                    problems.extend(checked.warnings);
                }
                Err(found) => problems.extend(found.0),
            }
        }
        let bad = problems.iter().any(|problem| problem.severity == Severity::Error);
        match self.format {
            Format::Json => {
                let report = serde_json::json!({ "good": !bad, "problems": problems, "files": files });
                print(&format!("{report:#}\n"));
            }
            Format::Text => {
                problems.iter().for_each(|problem| eprintln!("{problem}"));
                print(&good);
            }
        }
        if bad { Err(bad_input(&problems)) } else { Ok(()) }
    }

    /// Checks one file, and shows what changes from the old table to it.
    fn compare(&self, old: &Path) -> Result<(), Failed> {
        let [new] = self.files.as_slice() else {
            return Err(Failed::Input(anyhow!(
                "meridian check: --against compares with one FILE, and there are {}",
                self.files.len()
            )));
        };
        let at = crate::clock::wall();
        let (before, after) = (table_of(old, at), checked(new, at));
        let problems: Vec<Problem> = [
            before.as_ref().err().map(|problems| problems.0.clone()),
            after.as_ref().map_or_else(|problems| Some(problems.0.clone()), |checked| Some(checked.warnings.clone())),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
        let (before, after) = match (before, after) {
            (Ok(before), Ok(after)) => (before, after),
            _ => {
                match self.format {
                    Format::Json => {
                        print(&format!("{:#}\n", serde_json::json!({ "good": false, "problems": problems })));
                    }
                    Format::Text => problems.iter().for_each(|problem| eprintln!("{problem}")),
                }
                return Err(bad_input(&problems));
            }
        };
        let Some(document) = &after.document else { return Err(Failed::Input(anyhow!("{}", on_a_bus(new)))) };
        let diff =
            against::diff(&before, document).map_err(|error| Failed::Input(anyhow!("meridian check: {error}")))?;
        match self.format {
            Format::Json => {
                let report = serde_json::json!({
                    "good": true,
                    "problems": problems,
                    "diff": diff,
                    "widening": diff.widens(),
                    "shrinking": diff.shrinks(),
                });
                print(&format!("{report:#}\n"));
            }
            Format::Text => {
                problems.iter().for_each(|problem| eprintln!("{problem}"));
                print(&format!("{}{}", after.in_words(new), words::text(&diff, old, new)));
            }
        }
        let found = self.fail_on.iter().find(|what| match what {
            FailOn::Widening => diff.widens(),
            FailOn::Shrinking => diff.shrinks(),
            FailOn::Any => !diff.is_empty(),
        });
        let what = match found {
            None => return Ok(()),
            Some(FailOn::Widening) => "lets requests go where the old table does not (widening)",
            Some(FailOn::Shrinking) => "keeps requests from where the old table lets them go (shrinking)",
            Some(FailOn::Any) => "differs from the old table",
        };
        Err(Failed::Ran(anyhow!("check: {} {what}", new.display())))
    }
}

/// The contents of a good file.
struct Checked {
    summary: String,
    warnings: Vec<Problem>,
    /// The file's table, or the table that a node file names; `None` for a node whose table is on a bus.
    document: Option<RoutingTable>,
}

/// A date, and what changes up to it.
type Ahead = (Moment, Vec<Dated>);

impl Checked {
    /// Returns what the table's dates change within a time from now; `None` without a table.
    fn ahead(&self, time: Duration) -> Option<Result<Ahead, DiffError>> {
        let table = &self.document.as_ref()?.table;
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let until = table.spec().at.latest().plus_seconds(seconds);
        Some(policy::diff::horizon(table, until).map(|dated| (until, dated)))
    }

    fn in_words(&self, file: &Path) -> String {
        let lines = self.proved().into_iter().map(|line| format!("  {line}\n"));
        let proved = match &self.document {
            Some(document) => format!("; {} decisions proved", document.proof.decisions),
            None => String::new(),
        };
        let unlisted = self.document.as_ref().map(unlisted_in_words).unwrap_or_default();
        let bare = self.document.as_ref().map(websockets_over_http2).unwrap_or_default();
        let bare = match bare.is_empty() {
            true => String::new(),
            false => format!(
                "  WebSockets only to endpoints that announce extended CONNECT (RFC 8441), since all speak HTTP/2: {}\n",
                bare.join(", ")
            ),
        };
        let capacity = self.document.as_ref().map(|document| capacity::in_words(&document.table)).unwrap_or_default();
        let emergency = self.document.as_ref().and_then(|document| EmergencyStatus::of(&document.table));
        let emergency = emergency.map(|now| format!("  AN EMERGENCY IS IN FORCE: {now}\n")).unwrap_or_default();
        let calls = self.document.as_ref().and_then(|document| calls_refused(&document.table)).unwrap_or_default();
        let lines: String = lines.collect();
        format!(
            "{}: good: {}{proved}\n{emergency}{calls}{lines}{capacity}{unlisted}{bare}",
            file.display(),
            self.summary
        )
    }

    /// Returns the proof's notes, without its problems.
    fn proved(&self) -> Vec<String> {
        let lines = |document: &RoutingTable| document.proof.lines(document.table.spec());
        self.document.as_ref().map(lines).unwrap_or_default()
    }

    fn as_json(&self, file: &Path) -> serde_json::Value {
        serde_json::json!({
            "file": file.display().to_string(),
            "summary": self.summary,
            "decisions_proved": self.document.as_ref().map(|document| document.proof.decisions),
            "notes": self.proved(),
            "emergency": self.document.as_ref().and_then(|document| EmergencyStatus::of(&document.table)),
            "capacity": self.document.as_ref().map(|document| capacity::as_json(&document.table)),
            "unlisted": self.document.as_ref().and_then(unlisted_as_json),
            "websockets_over_http2": self.document.as_ref().map(websockets_over_http2).unwrap_or_default(),
        })
    }
}

/// Returns the regions all of whose endpoints speak HTTP/2: a WebSocket is opened only to those that announce that they take it.
fn websockets_over_http2(document: &RoutingTable) -> Vec<&str> {
    let regions = document.table.regions().zip(&document.upstreams);
    let bare = regions.filter(|(_, upstream)| {
        !upstream.endpoints.is_empty() && upstream.endpoints.iter().all(|endpoint| endpoint.http2)
    });
    bare.map(|((_, region), _)| region.name.as_str()).collect()
}

/// Formats the countries that no jurisdiction lists, where a forgotten country shows.
fn unlisted_in_words(document: &RoutingTable) -> String {
    let Some(unlisted) = &document.proof.unlisted else { return String::new() };
    let classes = unlisted_classes(document, unlisted);
    format!(
        "  unlisted_jurisdiction = \"allow\": no rule applies to {} of clients in the {} countries that no jurisdiction \
         lists:\n{}",
        classes.join(", "),
        unlisted.countries.len(),
        countries_in_words(&unlisted.countries, "    ")
    )
}

fn unlisted_as_json(document: &RoutingTable) -> Option<serde_json::Value> {
    let unlisted = document.proof.unlisted.as_ref()?;
    Some(serde_json::json!({
        "count": unlisted.countries.len(),
        "countries": countries_as_json(&unlisted.countries),
        "data_classes": unlisted_classes(document, unlisted),
    }))
}

fn unlisted_classes<'a>(document: &'a RoutingTable, unlisted: &Unlisted) -> Vec<&'a str> {
    let class = |id: &ClassId| Some(document.table.spec().data_classes.get(id.0)?.name.as_str());
    unlisted.classes.iter().filter_map(class).collect()
}

fn checked(file: &Path, at: Moment) -> Result<Checked, Problems> {
    if kind(file) == FileKind::Node {
        let loaded = LoadedNode::load(file, at.into())?;
        let (node, document) = (&loaded.config, loaded.document);
        let table = match (&document, &node.routing) {
            (Some(document), _) => table_summary(document),
            (None, config::Routing::Bus(source)) => {
                format!("on the bus {}, bucket {}", source.access.servers_shown(), source.access.bucket)
            }
            (None, config::Routing::File(file)) => file.display().to_string(),
        };
        let summary = format!("node {} in {}; its table: {table}", node.name, node.region);
        let table_warnings = document.iter().flat_map(|document| document.warnings.clone());
        let shortage = shortage(hard_limit(), &node.limits)
            .map(|what| Problem { severity: Severity::Warning, ..crate::prepare::problem(file, "limits", what) });
        let warnings = loaded.config.warnings.into_iter().chain(shortage).chain(table_warnings).collect();
        return Ok(Checked { summary, warnings, document });
    }
    let document = RoutingTable::load(file, at)?;
    Ok(Checked { summary: table_summary(&document), warnings: document.warnings.clone(), document: Some(document) })
}

/// Loads the table of a file of either kind. Nothing else of a node file is checked: its other files
/// may be on another machine.
fn table_of(file: &Path, at: Moment) -> Result<RoutingTable, Problems> {
    if kind(file) == FileKind::Node {
        let config = config::NodeConfig::load(file)?;
        return match &config.routing {
            config::Routing::File(table) => RoutingTable::load(table, at),
            config::Routing::Bus(_) => Err(on_a_bus(file)),
        };
    }
    RoutingTable::load(file, at)
}

/// Returns the problem of a comparison with a table on a bus.
fn on_a_bus(file: &Path) -> Problems {
    let message = "the table is on a bus, and `meridian publish` compares with it; name a file here".to_owned();
    Problems(vec![crate::prepare::problem(file, "routing.bus", message)])
}

/// Returns the kind of a file. The error of an unreadable file is that of the load.
fn kind(file: &Path) -> FileKind {
    std::fs::read_to_string(file).map_or(FileKind::Table, |text| config::kind_of(&text))
}

fn failed(error: &DiffError) -> Failed {
    Failed::Input(anyhow!("meridian check: {error}"))
}

fn bad_input(problems: &[Problem]) -> Failed {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    Failed::Input(anyhow!("meridian check: {errors} error(s)"))
}

fn table_summary(document: &RoutingTable) -> String {
    let spec = document.table.spec();
    format!(
        "version {:?}, {} regions, {} jurisdictions, {} residency rules, {} routes",
        spec.version,
        spec.regions.len(),
        spec.jurisdictions.len(),
        spec.rules.len(),
        spec.routes.len()
    )
}

/// Says which routes take no call of gRPC and no WebSocket of those who may read only: they write, as all that sends content
/// does, unless their route says otherwise. `None` where nobody may read only.
fn calls_refused(table: &Table) -> Option<String> {
    table.emergency()?;
    let emergency = table.spec().emergency.as_ref()?;
    emergency.read_only.as_ref()?;
    let routes = table.spec().routes.iter().enumerate();
    let is_on = |index: usize| !emergency.routes_off.contains(&RouteId(index as u32));
    let takes = |route: &RouteSpec| {
        let methods = [Method::Get, Method::Post, Method::Connect];
        route.methods.is_none_or(|taken| methods.into_iter().any(|method| taken.contains(method)))
    };
    let writes = routes.filter(|(index, route)| route.access != Some(Access::Read) && is_on(*index) && takes(route));
    let names: Vec<&str> = writes.map(|(_, route)| route.name.as_str()).collect();
    let (shown, more) = names.split_at(names.len().min(MOST_SHOWN));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!shown.is_empty()).then(|| {
        format!(
            "  read_only also refuses every gRPC call and WebSocket, which write unless their route has access = \
             \"read\": of the routes {}{more}\n",
            shown.join(", ")
        )
    })
}

/// How many routes are named where all would be.
const MOST_SHOWN: usize = 5;
