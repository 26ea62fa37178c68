//! Measures how tables travel to a fleet: a real nats-server, real nodes, a steady load, and publications one after
//! the other. It exits with 1 when a request failed or a node has not applied a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::{Plan, Report, RequestSpec, RunError, Target, run_until};
use meridian_tests::{BusPublisher, BusServer, Node, Published, Setup, Usage, World, geo};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Measures how tables travel over the config bus to a fleet of real nodes under load. The binary is built for it, in
/// debug mode, unless MERIDIAN_BIN names one.
#[derive(Parser)]
#[command(name = "meridian-tests-fleet")]
struct Args {
    /// How many nodes, of all regions of the table in turn.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    nodes: u32,
    /// How many tables, each published when all nodes have the one before.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    publications: u32,
    /// The table's example (config/examples), on loopback.
    #[arg(long, default_value = "erlmcp-gcp")]
    example: String,
    /// How many of the nodes get a load.
    #[arg(long, default_value_t = 4)]
    loaded: usize,
    /// Requests per second on each of these.
    #[arg(long, default_value_t = 25.0)]
    rate: f64,
    /// Seconds after which a node has not applied a table.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// The nodes write no snapshots: what a table takes without the disk.
    #[arg(long)]
    without_snapshots: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(measure(&args))
}

async fn measure(args: &Args) -> ExitCode {
    let world = World::of_example(&args.example).await;
    // Probes are not the question: so many nodes would do little else.
    let table = world.table().replace("interval = \"200ms\"", "interval = \"10s\"");
    let server = BusServer::start().await;
    let mut publisher = BusPublisher::connect(&server).await;
    let first = publisher.publish(&version(&table, 0)).await;
    let nodes = start(args, &world, &server).await;
    let names: BTreeSet<String> = nodes.keys().cloned().collect();
    let mut course = Course::default();
    course.publication(&mut publisher, &first, &names, Duration::from_secs(60)).await;
    assert!(course.dropped.is_empty(), "not every node has the first table: {:?}", course.dropped);
    course = Course::default();

    let load: Vec<Load> = nodes.values().take(args.loaded).map(|node| Load::start(node, args.rate)).collect();
    sleep(WARM_UP).await;
    let (before, began) = (Takings::of(&nodes), Instant::now());
    sleep(WITHOUT_PUBLICATIONS).await;
    let quiet = (Takings::of(&nodes).cpu - before.cpu).div_f64(began.elapsed().as_secs_f64());

    let (start, began) = (Takings::of(&nodes), Instant::now());
    let mut early = start;
    for number in 1..=args.publications {
        let published = publisher.publish(&version(&table, number)).await;
        course.publication(&mut publisher, &published, &names, Duration::from_secs(args.patience)).await;
        if number == args.publications.div_ceil(10) {
            early = Takings::of(&nodes);
        }
        if number % args.publications.div_ceil(10) == 0 {
            eprintln!("{number} publications in {:.1?}, {} dropped", began.elapsed(), course.dropped.len());
        }
    }
    let (end, took) = (Takings::of(&nodes), began.elapsed());
    let mut reports = Vec::new();
    for load in load {
        reports.push(load.stop().await.expect("a sound plan"));
    }

    let Args { nodes: count, publications, example, .. } = args;
    println!("{count} nodes, {publications} publications of {example} in {took:.1?}; {} bytes each", table.len());
    print!("{course}");
    let (due, failed) =
        (reports.iter().map(|report| report.due).sum::<u64>(), reports.iter().map(failures).sum::<u64>());
    let slowest = reports.iter().map(|report| report.latency.p99).max().unwrap_or_default();
    println!("requests      {due} on {} nodes, {failed} failed, p99 {slowest:.1?}", reports.len());
    for report in reports.iter().filter(|report| failures(report) > 0) {
        println!("{report}");
    }
    println!("\n{:<14}{:>12}{:>12}{:>12}{:>12}", "", "MB", "MB at most", "files", "threads");
    for (when, takings) in [("at the start", start), ("at 10 %", early), ("at the end", end)] {
        println!("{when:<14}{takings}");
    }
    let server = server.usage();
    println!("nats-server   {:>12.1}, {:.1?} of CPU time", megabytes(server.resident_bytes), server.cpu);
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e3 / f64::from(*publications);
    let (all, idle) = (end.cpu - start.cpu, quiet.mul_f64(took.as_secs_f64()));
    println!(
        "CPU time      {:.1} ms a publication of all nodes together, {:.1} ms of it for the load and for nothing",
        each(all),
        each(idle)
    );
    println!("events        {}", events(&nodes).await);
    for (line, count) in complaints(&nodes) {
        println!("{count:>6} times    {line}");
    }
    ExitCode::from(u8::from(failed > 0 || !course.dropped.is_empty()))
}

/// Starts the nodes, each in a region of the table in turn, and returns when all serve.
async fn start(args: &Args, world: &World, server: &BusServer) -> BTreeMap<String, Node> {
    let regions: Vec<&str> = world.regions().collect();
    let snapshot = if args.without_snapshots { "" } else { ", snapshot = \"last-good.toml\"" };
    let routing = format!("bus = {{ servers = [\"{}\"]{snapshot} }}", server.url());
    let mut nodes = BTreeMap::new();
    for number in 0..args.nodes {
        let region = regions[number as usize % regions.len()];
        let name = format!("node-{number:03}");
        let setup = Setup::new(region, "").name(&name).bus(&routing).without_access_log();
        nodes.insert(name, setup.start_waiting().await);
    }
    for node in nodes.values_mut() {
        node.serves().await;
    }
    nodes
}

/// The table with another version, so that no two are the same text.
fn version(table: &str, number: u32) -> String {
    let line =
        |line: &str| if line.starts_with("version = ") { format!("version = \"{number}\"") } else { line.into() };
    table.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// What became of the publications.
#[derive(Default)]
struct Course {
    /// By publication and node.
    times: Vec<Duration>,
    /// By publication, the slowest node's.
    slowest: Vec<Duration>,
    dropped: Vec<String>,
}

impl Course {
    async fn publication(
        &mut self,
        publisher: &mut BusPublisher,
        published: &Published,
        nodes: &BTreeSet<String>,
        patience: Duration,
    ) {
        let seen = publisher.propagation(published, nodes, patience).await;
        self.slowest.extend(seen.applied.values().max());
        let slow: Vec<_> = seen.applied.iter().filter(|(_, time)| **time > SLOW).collect();
        if !slow.is_empty() {
            eprintln!("slow: revision {} by {slow:.1?}", published.revision);
        }
        self.times.extend(seen.applied.values());
        for (node, report) in seen.missing {
            let last = report.map_or("nothing".to_owned(), |report| {
                format!("{:?} {}, {:?} {:?}", report.state, report.revision, report.refused, report.problems)
            });
            let line = format!("revision {} by {node}, which reports {last}", published.revision);
            eprintln!("not applied: {line}");
            self.dropped.push(line);
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in [("by each node", &self.times), ("by all nodes", &self.slowest)] {
            let mut times = times.clone();
            times.sort_unstable();
            // The nearest rank.
            let at = |share: f64| {
                times.get(((times.len() as f64 * share).ceil() as usize).max(1) - 1).copied().unwrap_or_default()
            };
            let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
            writeln!(f, "applied {what}  p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}")?;
        }
        writeln!(f, "dropped       {}", self.dropped.len())
    }
}

/// A steady load on one node.
struct Load {
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Load {
    fn start(node: &Node, rate: f64) -> Load {
        let plan = Plan { connections: 8, ..Plan::new(Target::http1(node.http()), rate, Duration::MAX) };
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            run_until(&plan, stopped, request, |_| {}).await
        });
        Load { stop, run }
    }

    async fn stop(self) -> Result<Report, RunError> {
        // It may have failed already, which the next line tells.
        let _ = self.stop.send(());
        self.run.await.expect("no panic")
    }
}

/// Clients of several countries, and of several networks in each.
fn request(number: u64) -> RequestSpec {
    let country = ["US", "DE", "BR", "IN"][number as usize % 4];
    let client = geo::address(country, 1);
    let mut request = RequestSpec::get("api.example.com", "/v3/identity");
    request.headers.push(("x-forwarded-for".to_owned(), client.to_string()));
    request
}

/// Requests that were not answered with 200.
fn failures(report: &Report) -> u64 {
    report.due - report.statuses.get(&200).copied().unwrap_or_default()
}

/// What the nodes take of the machine, together.
#[derive(Clone, Copy, Default)]
struct Takings {
    resident_bytes: u64,
    most_resident_bytes: u64,
    open_files: u64,
    threads: u64,
    cpu: Duration,
}

impl Takings {
    fn of(nodes: &BTreeMap<String, Node>) -> Takings {
        nodes.values().fold(Takings::default(), |all, node| {
            let Usage { resident_bytes, open_files, threads, cpu } = node.usage();
            Takings {
                resident_bytes: all.resident_bytes + resident_bytes,
                most_resident_bytes: all.most_resident_bytes.max(resident_bytes),
                open_files: all.open_files + open_files,
                threads: all.threads + threads,
                cpu: all.cpu + cpu,
            }
        })
    }
}

impl fmt::Display for Takings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Takings { resident_bytes, most_resident_bytes, open_files, threads, .. } = self;
        let (all, most) = (megabytes(*resident_bytes), megabytes(*most_resident_bytes));
        write!(f, "{all:>12.1}{most:>12.1}{open_files:>12}{threads:>12}")
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What the nodes have counted of the bus, together.
async fn events(nodes: &BTreeMap<String, Node>) -> String {
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for node in nodes.values() {
        let metrics = node.metrics().await;
        for series in metrics.named("meridian_bus_events_total") {
            *counts.entry(series.label("event").unwrap_or_default().to_owned()).or_default() += series.value;
        }
        for series in metrics.named("meridian_load_reports_total") {
            let outcome = series.label("outcome").unwrap_or_default();
            *counts.entry(format!("load report {outcome}")).or_default() += series.value;
        }
    }
    let counts: Vec<String> = counts.iter().filter(|(_, n)| **n > 0.0).map(|(what, n)| format!("{what} {n}")).collect();
    counts.join(", ")
}

/// The warnings and errors of the nodes' logs, and how often there was each. The table's own are about the example.
fn complaints(nodes: &BTreeMap<String, Node>) -> BTreeMap<String, usize> {
    let mut complaints = BTreeMap::new();
    for line in nodes.values().flat_map(|node| node.log().all()) {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        let message = event["message"].as_str().unwrap_or_default();
        if ["WARN", "ERROR"].contains(&event["level"].as_str().unwrap_or_default()) && !message.contains(": warning: ")
        {
            let what = event["error"].as_str().unwrap_or_default();
            *complaints.entry(format!("{message} {what}").trim().to_owned()).or_default() += 1;
        }
    }
    complaints
}

/// A node that takes longer than this is told of by name: one, and the node is to blame; all, and the machine is.
const SLOW: Duration = Duration::from_secs(1);

/// Caches fill, connections are made.
const WARM_UP: Duration = Duration::from_secs(5);

/// What the nodes use without publications is taken over this.
const WITHOUT_PUBLICATIONS: Duration = Duration::from_secs(5);
