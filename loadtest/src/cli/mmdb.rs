//! `loadtest mmdb`: write a GeoIP database.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use loadtest::country_database;

/// The arguments as written.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many networks
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    networks: u32,
}

pub(super) fn run(args: &Args) -> ExitCode {
    super::ended(write(args))
}

fn write(args: &Args) -> anyhow::Result<ExitCode> {
    let networks = country_database::networks(args.networks as usize);
    let writing = || format!("writing {}", args.out.display());
    let mut file = BufWriter::new(File::create(&args.out).with_context(writing)?);
    country_database::write(&networks, &mut file).with_context(writing)?;
    file.flush().with_context(writing)?;
    let mut list = BufWriter::new(std::io::stdout().lock());
    for (network, country) in networks {
        writeln!(list, "{network},{country}")?;
    }
    list.flush()?;
    Ok(ExitCode::SUCCESS)
}
