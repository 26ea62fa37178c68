//! An origin in a process of its own, as [`meridian_tests::OriginProcess`] starts it: `origin ADDRESS NAME`.
//!
//! On stdout it writes `listening ADDRESS`, then one line of JSON for each request as soon as its head has arrived, so
//! that what it has received can be read even after its death. On stdin it takes commands: `behave BEHAVIOUR` (towards
//! clients), `probes BEHAVIOUR` (towards health probes), `lag SECONDS` (what probes are told) and `tell` (nothing but the
//! answer), each answered with `done N`, N counting from 1. When stdin ends, so does it.

use std::io::BufRead as _;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Response, StatusCode};
use loadtest::origin::{Behaviour, Origin, OriginConfig, Received};
use meridian_tests::is_probe;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, name] = &arguments[..] else { panic!("origin ADDRESS NAME") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = address.parse().expect("an address");
    let config = OriginConfig { address, kept: 0, witness: Some(witness), ..OriginConfig::named(name) };
    runtime.block_on(async {
        let origin = Origin::start(config).await.expect("an address of our own");
        let (towards_clients, towards_probes) = (Arc::new(Mutex::new(Behaviour::Normal)), Arc::default());
        choose(&origin, &towards_clients, &towards_probes);
        println!("listening {}", origin.address());
        let mut commands = commands();
        let mut done = 0;
        while let Some(command) = commands.recv().await {
            let (word, rest) = command.split_once(' ').unwrap_or((&command, ""));
            match word {
                "behave" => set(&towards_clients, rest.parse().expect("a behaviour")),
                "probes" => set(&towards_probes, Some(rest.parse().expect("a behaviour"))),
                "lag" => set(&towards_probes, Some(lagging(rest))),
                "tell" => {}
                _ => panic!("{command:?} is no command"),
            }
            // What it stalls is decided anew.
            choose(&origin, &towards_clients, &towards_probes);
            done += 1;
            println!("done {done}");
        }
    });
}

fn choose(origin: &Origin, towards_clients: &Arc<Mutex<Behaviour>>, towards_probes: &Arc<Mutex<Option<Behaviour>>>) {
    let (towards_clients, towards_probes) = (towards_clients.clone(), towards_probes.clone());
    origin.behave(move |received| match get(&towards_probes) {
        Some(behaviour) if is_probe(received) => behaviour,
        None if is_probe(received) => Behaviour::Normal,
        _ => get(&towards_clients),
    });
}

/// The lines of stdin, read by a thread of its own.
fn commands() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// An answer to probes from a replica that lags by so many seconds.
fn lagging(seconds: &str) -> Behaviour {
    let answer = Response::builder().status(StatusCode::OK).header("x-replication-lag", seconds);
    Behaviour::Answer(answer.body(bytes::Bytes::new()).expect("an answer"))
}

/// One write to a pipe for one line, made before anything else becomes of the request.
fn witness(received: &Received) {
    let headers: serde_json::Map<String, serde_json::Value> = received
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let line = serde_json::json!({
        "method": received.method.as_str(), "path": received.path, "probe": is_probe(received), "headers": headers,
    });
    println!("{line}");
}

fn get<T: Clone>(shared: &Mutex<T>) -> T {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set<T>(shared: &Mutex<T>, value: T) {
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = value;
}
