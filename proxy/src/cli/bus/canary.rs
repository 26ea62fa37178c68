//! Which nodes get a table first: named, a region's, or a share of all.

use std::collections::BTreeSet;
use std::time::SystemTime;

use policy::hash::client_key;

use super::scene::{Reports, is_silent};

/// Whom a canary is to be: `NODE`, `REGION` or `10%`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selector {
    /// The node or the region of this name.
    Name(String),
    /// This share of the nodes, `0 < share <= 1`: at least one.
    Share(f64),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let is_name = !text.is_empty() && !text.contains(char::is_whitespace);
            let wrong = || "name a node, a region, or a share such as 10%".to_owned();
            return is_name.then(|| Selector::Name(text.to_owned())).ok_or_else(wrong);
        };
        match percent.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Selector::Share(percent / 100.0)),
            _ => Err("a share is more than 0% and at most 100%".to_owned()),
        }
    }
}

/// The nodes that these selectors mean, by what reports. `salt` spreads shares: another table is
/// tried on other nodes.
///
/// # Errors
/// When nobody reports, or nothing has such a name: with the nearest that there is.
pub(super) fn resolve(
    selectors: &[Selector],
    reports: &Reports,
    salt: &str,
    now: SystemTime,
) -> Result<BTreeSet<String>, String> {
    if reports.is_empty() {
        return Err("no node reports to the bus, so nobody can be the canary: publish without --canary".to_owned());
    }
    let mut found = BTreeSet::new();
    for selector in selectors {
        match selector {
            Selector::Share(share) => found.extend(spread(*share, reports, salt, now)),
            Selector::Name(name) => {
                let named = reports.iter().map(|(report, _)| report);
                let named = named.filter(|report| report.node == *name || report.region == *name);
                let mut nodes = named.map(|report| report.node.clone()).peekable();
                if nodes.peek().is_none() {
                    return Err(unknown(name, reports));
                }
                found.extend(nodes);
            }
        }
    }
    Ok(found)
}

/// A share of the nodes that are heard from, at least one.
fn spread(share: f64, reports: &Reports, salt: &str, now: SystemTime) -> Vec<String> {
    let audible = reports.iter().filter(|(_, heard)| !is_silent(*heard, now));
    let mut nodes: Vec<&str> = audible.map(|(report, _)| report.node.as_str()).collect();
    nodes.sort_by_cached_key(|node| client_key(format!("{salt}/{node}").as_bytes()));
    let wanted = ((nodes.len() as f64 * share).round() as usize).max(1);
    nodes.into_iter().take(wanted).map(str::to_owned).collect()
}

fn unknown(name: &str, reports: &Reports) -> String {
    let known = || reports.iter().flat_map(|(report, _)| [report.node.as_str(), report.region.as_str()]);
    let hint = match config::nearest(name, known()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => {
            let known: BTreeSet<&str> = known().collect();
            format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", "))
        }
    };
    format!("no node that reports is {name:?}, or in a region of that name; {hint}")
}

#[cfg(test)]
mod tests {
    use super::super::scene::samples::report;
    use super::*;

    fn fleet(count: usize) -> Reports {
        let node = |number| {
            (report(&format!("n{number}"), if number < 2 { "us" } else { "eu-west" }, (1, 1)), SystemTime::UNIX_EPOCH)
        };
        (0..count).map(node).collect()
    }

    fn resolved(selectors: &[&str], count: usize, salt: &str) -> Result<BTreeSet<String>, String> {
        let selectors: Vec<Selector> = selectors.iter().map(|text| Selector::parse(text).unwrap()).collect();
        resolve(&selectors, &fleet(count), salt, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn selectors_are_names_or_shares() {
        for (text, expected) in [
            ("use1-a", Ok(Selector::Name("use1-a".to_owned()))),
            ("10%", Ok(Selector::Share(0.1))),
            ("0.5%", Ok(Selector::Share(0.005))),
            ("0%", Err(())),
            ("101%", Err(())),
            ("NaN%", Err(())),
            ("-1%", Err(())),
            ("", Err(())),
            ("a b", Err(())),
        ] {
            assert_eq!(Selector::parse(text).map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn names_are_nodes_or_regions() {
        let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(resolved(&["n3"], 5, ""), names(&["n3"]));
        assert_eq!(resolved(&["us"], 5, ""), names(&["n0", "n1"]));
        assert_eq!(resolved(&["us", "n1", "n4"], 5, ""), names(&["n0", "n1", "n4"]));
        assert!(resolved(&["eu-wset"], 5, "").unwrap_err().contains("did you mean \"eu-west\"?"));
        assert!(resolved(&["mars"], 3, "").unwrap_err().contains("there are eu-west, n0, n1, n2, us"));
        assert!(resolved(&["us"], 0, "").unwrap_err().contains("publish without --canary"));
    }

    #[test]
    fn shares_are_spread_by_the_table_and_at_least_one() {
        for (share, count, expected) in [("10%", 20, 2), ("1%", 20, 1), ("100%", 20, 20), ("50%", 1, 1)] {
            assert_eq!(resolved(&[share], count, "t").unwrap().len(), expected, "{share} of {count}");
        }
        assert_eq!(resolved(&["20%"], 20, "t"), resolved(&["20%"], 20, "t"));
        assert!((0..20).any(|salt| resolved(&["20%"], 20, &salt.to_string()) != resolved(&["20%"], 20, "t")));
        // The silent are no canaries, unless they are named.
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(11);
        let share = [Selector::parse("100%").unwrap()];
        let mut reports = fleet(3);
        reports[1].1 = now;
        assert_eq!(resolve(&share, &reports, "t", now), Ok(["n1".to_owned()].into()));
    }
}
