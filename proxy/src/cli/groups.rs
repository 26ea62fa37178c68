//! `meridian groups`

use anyhow::anyhow;
use policy::country::{GROUPS, Group};
use serde_json::json;

use super::countries::{countries_as_json, countries_in_words};
use super::{Failed, Format, print};

/// List the built-in groups of countries, or a group's members, and who says so.
#[derive(Debug, clap::Args)]
pub(super) struct Groups {
    /// A group's name, such as @EU; every group when there is none
    #[arg(value_name = "GROUP")]
    names: Vec<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Groups {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let groups = self.groups()?;
        match self.format {
            Format::Json => {
                let all: serde_json::Value = groups.iter().map(|group| as_json(group)).collect();
                print(&format!("{all:#}\n"));
            }
            Format::Text if self.names.is_empty() => {
                for group in groups {
                    print(&format!("{:<15} {:>3}  {}\n", group.name, group.members().len(), group.title));
                }
                print("`meridian groups NAME` lists the members and who says so\n");
            }
            Format::Text => groups.iter().for_each(|group| print(&in_words(group))),
        }
        Ok(())
    }

    fn groups(&self) -> Result<Vec<&'static Group>, Failed> {
        if self.names.is_empty() {
            return Ok(GROUPS.iter().collect());
        }
        self.names.iter().map(|name| named(name)).collect()
    }
}

/// Returns the group of a name, in either case, with or without its `@`.
fn named(name: &str) -> Result<&'static Group, Failed> {
    let wanted = format!("@{}", name.trim_start_matches('@').to_ascii_uppercase());
    GROUPS.iter().find(|group| group.name == wanted).ok_or_else(|| {
        let known: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        Failed::Input(anyhow!("meridian groups: there is no group {name:?}; known: {}", known.join(", ")))
    })
}

fn in_words(group: &Group) -> String {
    let members = group.members();
    format!(
        "{}: {}\n  {} countries, as of 2026-01, by: {}\n{}",
        group.name,
        group.title,
        members.len(),
        group.source,
        countries_in_words(&members, "  ")
    )
}

fn as_json(group: &Group) -> serde_json::Value {
    json!({
        "name": group.name,
        "title": group.title,
        "source": group.source,
        "as_of": "2026-01",
        "count": group.members().len(),
        "members": countries_as_json(&group.members()),
    })
}
