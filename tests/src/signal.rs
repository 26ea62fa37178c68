//! Signals to processes that this test started.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Sends a signal, such as `TERM`.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own `kill`, since calling the system's needs unsafe code.
    let script = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("a shell").success(), "{script}");
}

/// Stops a process (SIGSTOP), and returns when none of its threads runs any more.
pub(crate) fn stop(pid: u32) {
    signal(pid, "STOP");
    // The signal reaches each thread in its own time, and a thread that it has not reached still answers.
    let deadline = Instant::now() + PATIENCE;
    while !is_stopped(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not stop");
        thread::yield_now();
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = Path::new("/proc").join(pid.to_string()).join("task").read_dir().expect("a process of ours");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat"));
        // After the name in parentheses comes the state. A thread that has just ended has no file any more.
        stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}

const PATIENCE: Duration = Duration::from_secs(20);
