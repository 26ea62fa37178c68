//! What a process takes of the machine, as Linux tells it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its resident memory in bytes, without the code that is mapped from the binary.
    pub resident_bytes: u64,
    /// Its open files, sockets among them.
    pub open_files: u64,
    /// Its threads.
    pub threads: u64,
    /// The processor time that it has used since its start, in steps of 10 ms.
    pub cpu: Duration,
}

impl Usage {
    /// That of a process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn of(pid: u32) -> Usage {
        let process = Path::new("/proc").join(pid.to_string());
        let status = read(process.join("status"));
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.unwrap_or_else(|| panic!("{name} in {status}")).trim().trim_end_matches(" kB");
            value.parse().expect("a number")
        };
        Usage {
            resident_bytes: field("RssAnon:") * 1024,
            open_files: process.join("fd").read_dir().expect("a process of ours").count() as u64,
            threads: field("Threads:"),
            cpu: cpu(&read(process.join("stat"))),
        }
    }
}

/// The processor time in a `stat` (proc(5)): the 14th and 15th field, in hundredths of a second on every architecture
/// that Linux shows them on. The second field is a name in parentheses, after which one counts anew.
fn cpu(stat: &str) -> Duration {
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).expect("a running process")
}
