//! `meridian check`

use std::path::{Path, PathBuf};

use config::{FileKind, Problem, Problems, RoutingTable, Severity};

use super::{Failed, Format, print};
use crate::prepare::Prepared;

/// Check files.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Node files and routing tables
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let mut problems = Vec::new();
        let mut good = String::new();
        for file in &self.files {
            match checked(file) {
                Ok((summary, warnings)) => {
                    good.push_str(&format!("{}: good: {summary}\n", file.display()));
                    problems.extend(warnings);
                }
                Err(found) => problems.extend(found.0),
            }
        }
        let bad = problems.iter().any(|problem| problem.severity == Severity::Error);
        match self.format {
            Format::Json => {
                let report = serde_json::json!({ "good": !bad, "problems": problems });
                print(&format!("{report:#}\n"));
            }
            Format::Text => {
                problems.iter().for_each(|problem| eprintln!("{problem}"));
                print(&good);
            }
        }
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        if bad { Err(Failed::Input(anyhow::anyhow!("meridian check: {errors} error(s)"))) } else { Ok(()) }
    }
}

/// What a good file holds, and its warnings.
fn checked(file: &Path) -> Result<(String, Vec<Problem>), Problems> {
    // An unreadable file gets its error from the load.
    let kind = std::fs::read_to_string(file).map_or(FileKind::Table, |text| config::kind_of(&text));
    if kind == FileKind::Node {
        let prepared = Prepared::load(file)?;
        let (node, table) = (&prepared.config, table_summary(&prepared.document));
        let summary = format!("node {} in {}; its table: {table}", node.name, node.region);
        return Ok((summary, [prepared.config.warnings, prepared.document.warnings].concat()));
    }
    let table = RoutingTable::load(file)?;
    Ok((table_summary(&table), table.warnings))
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
