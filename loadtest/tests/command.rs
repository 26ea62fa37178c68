//! The binary: its exit codes and what it prints.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

/// `loadtest origin` in a process of its own, which ends with it.
struct OriginProcess {
    child: Child,
    address: SocketAddr,
}

#[test]
fn a_run_is_reported_in_json() {
    let origin = OriginProcess::start(&["--body-bytes", "100", "--region", "here"]);
    let url = format!("http://{}/v3/x", origin.address);
    let output = http(&[
        "--url",
        &url,
        "--rate",
        "200",
        "--duration",
        "200ms",
        "--format",
        "json",
        "--fail-on-error",
        "--vary-client",
        "192.0.2.0/24",
        "--header",
        "x-one: 1",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["due"], 40);
    assert_eq!(report["answered"], 40);
    assert_eq!(report["statuses"]["200"], 40);
    assert_eq!(report["bytes"], 4_000);
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    assert!(report["duration_s"].as_f64().unwrap() >= 0.19);
}

#[test]
fn failures_set_the_exit_code_when_asked() {
    // Bound but never accepted from, then closed: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/");
    let args = ["--url", &url, "--rate", "100", "--duration", "50ms"];
    let output = http(&args);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("5 due, 5 sent, 0 answered, 5 failed"), "{text}");
    assert!(text.contains("failed connect"), "{text}");
    assert_eq!(http(&[&args[..], &["--fail-on-error"]].concat()).status.code(), Some(1));
}

#[test]
fn bad_arguments_are_refused() {
    for (args, complaint) in [
        (&["--url", "http://192.0.2.1/"][..], "not a loopback address"),
        (&["--url", "http://[2001:db8::1]/"], "not a loopback address"),
        (&["--url", "http://api.example.com/"], "may not be on loopback"),
        (&["--url", "/v3/x"], "no host"),
        (&["--url", "ftp://127.0.0.1/"], "http://"),
        (&["--url", "https://127.0.0.1/"], "--ca"),
        (&["--url", "https://127.0.0.1/", "--ca", "/nonexistent.pem"], "/nonexistent.pem"),
        (&["--url", "http://127.0.0.1/", "--rate", "0"], "rate of 0"),
        (&["--url", "http://127.0.0.1/", "--connections", "0"], "0 connections"),
        (&["--url", "http://127.0.0.1/", "--header", "nonsense"], "NAME:VALUE"),
        (&["--url", "http://127.0.0.1/", "--duration", "ten"], "--duration"),
        (&["--url", "http://127.0.0.1/", "--body", "/nonexistent"], "/nonexistent"),
    ] {
        let output = http(args);
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?} {complaints}");
        assert!(complaints.contains(complaint), "{args:?} {complaints}");
    }
}

fn http(args: &[&str]) -> Output {
    Command::new(LOADTEST).arg("http").args(args).output().unwrap()
}

impl OriginProcess {
    fn start(args: &[&str]) -> OriginProcess {
        let mut child = Command::new(LOADTEST).arg("origin").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        OriginProcess { child, address: line.trim().parse().unwrap() }
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("simulate").args(args).output().unwrap()
}

#[test]
fn scenarios_are_listed_and_unknown_ones_refused() {
    let list = simulate(&["--list"]);
    assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("flash-crowd "), "{list:?}");
    for (args, complaint) in [
        (&["stedy"][..], "no scenario \"stedy\"; there are steady,"),
        (&["steady", "--regions", "2"], "2 regions: between 3 and 30"),
        (&["steady", "--nodes", "5"], "5 nodes in 20 regions"),
        (&["steady", "--hours", "0.1"], "360 s: between 600 s and a day"),
        (&["steady", "--hours", "NaN"], "no time"),
        (&[], "SCENARIO"),
    ] {
        let output = simulate(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(complaint), "{args:?}: {output:?}");
    }
}

#[test]
fn a_simulation_is_told_drawn_and_tabulated() {
    let directory = std::env::temp_dir().join(format!("loadtest-simulation-{}", std::process::id()));
    let (table, svg) = (directory.join("table.md"), directory.join("svg"));
    std::fs::create_dir_all(&directory).unwrap();
    let size = ["--nodes", "3", "--regions", "3", "--hours", "0.17"];
    let files = ["--table", table.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let output = simulate(&[&["steady", "--format", "json"][..], &size, &files].concat());
    assert!(output.status.success(), "{output:?}");
    let runs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((runs[0]["scenario"].as_str(), runs[0]["seconds"].as_u64()), (Some("steady"), Some(612)));
    assert!(std::fs::read_to_string(&table).unwrap().contains("| steady"));
    assert!(std::fs::read_to_string(svg.join("steady.svg")).unwrap().starts_with("<svg"));
    std::fs::remove_dir_all(&directory).unwrap();
}
