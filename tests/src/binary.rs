//! The binary under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The path of the `meridian` binary: what `MERIDIAN_BIN` names, else built once in this process.
///
/// # Panics
/// When it does not build.
pub fn meridian() -> &'static Path {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| std::env::var_os("MERIDIAN_BIN").map(PathBuf::from).or_else(build));
    binary.as_deref().expect("a binary under test; its build failed")
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs the binary to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> Ended {
    run_in(Path::new("."), arguments)
}

/// Runs the binary in a directory to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run_in(directory: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(meridian()).args(arguments).current_dir(directory).output();
    let Output { status, stdout, stderr } = output.expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output in UTF-8");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Builds it; `None` when that fails, of which the compiler has told.
fn build() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace above this crate");
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "proxy", "--bin", "meridian", "--target-dir"])
        .arg(target_directory())
        .current_dir(workspace)
        .status()
        .expect("cargo starts");
    built.success().then(|| target_directory().join("debug").join("meridian"))
}

/// The directory that this program itself was built into: a test runs as `TARGET/PROFILE/deps/NAME`, a measurement as
/// `TARGET/PROFILE/NAME`.
fn target_directory() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let mut directories = this.ancestors().skip(1).skip_while(|directory| directory.ends_with("deps"));
    directories.nth(1).expect("a program below TARGET/PROFILE").to_owned()
}
