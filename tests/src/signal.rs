//! Signals to processes that this test started.

use std::process::Command;

/// Sends a signal, such as `TERM`.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own `kill`, since calling the system's needs unsafe code.
    let script = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("a shell").success(), "{script}");
}
