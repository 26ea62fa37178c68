//! Formats the fleet for people.

use std::time::Duration;

use super::row::{Row, State};
use super::{FleetView, Live};
use crate::cli::bus::console::aligned;
use crate::cli::bus::console::long;

/// Returns a line for each node, the troubles of some, and a summary.
pub(super) fn text(view: &FleetView) -> String {
    let bucket: String = view.bucket.iter().map(|trouble| format!("warning: {}\n", trouble.says)).collect();
    if view.nodes.is_empty() {
        let live = view.live.as_ref().map_or_else(
            || "there is no table on the bus".to_owned(),
            |live| format!("{} is live", live_in_words(live)),
        );
        return format!("{bucket}no node reports; {live}\n");
    }
    let lines: Vec<_> = view.nodes.iter().map(line).collect();
    let table = aligned(["NODE", "REGION", "REVISION", "VERSION", "STATE", "LAG", "SINCE"], &lines);
    let troubles: String = view.nodes.iter().map(troubles).collect();
    format!("{table}{troubles}{bucket}{}\n", summary(view))
}

fn line(row: &Row) -> [String; 7] {
    let states: Vec<&str> = row.state.iter().map(|state| state.name()).collect();
    let has_table = !row.is(State::Waiting);
    let cell = |text: String| if has_table { text } else { "-".to_owned() };
    [
        row.node.clone(),
        row.region.clone(),
        cell(row.revision.to_string()),
        cell(row.version.clone()),
        states.join(", "),
        row.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        row.since.clone(),
    ]
}

fn troubles(row: &Row) -> String {
    let mut out = String::new();
    if row.is(State::Rejected) {
        let what = row.refused.map_or_else(|| "the newest table".to_owned(), |revision| format!("revision {revision}"));
        out.push_str(&format!("{} rejects {what}:\n", row.node));
        let first = row.problems.iter().take(MOST_PROBLEMS);
        first.for_each(|problem| out.push_str(&format!("  {problem}\n")));
        if row.problems.len() > MOST_PROBLEMS {
            out.push_str(&format!("  and {} more: --format json has them\n", row.problems.len() - MOST_PROBLEMS));
        }
    }
    row.notes.iter().for_each(|note| out.push_str(&format!("{}: {note}\n", row.node)));
    out
}

/// Returns `20 nodes: 19 on revision 14 ("2026-11-21.3"), 1 rejected`.
fn summary(view: &FleetView) -> String {
    let live = match &view.live {
        None => "there is no table on the bus".to_owned(),
        Some(live) => {
            let has_it = |row: &&Row| (row.epoch, row.revision) == (live.epoch, live.revision);
            let on = view.nodes.iter().filter(has_it).count();
            format!("{on} on {}", live_in_words(live))
        }
    };
    let count = |state: State| {
        let count = view.nodes.iter().filter(|row| row.is(state)).count();
        (count > 0).then(|| format!(", {count} {}", state.name()))
    };
    let states =
        [State::Staged, State::Rejected, State::Waiting, State::Expired, State::Ahead, State::Draining, State::Silent];
    let rest: String = states.into_iter().filter_map(count).collect();
    let all = if view.nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", view.nodes.len()) };
    format!("{all}: {live}{rest}{}", signs(view))
}

/// Returns `; issued 2026-11-21T15:33:36Z, heartbeat 5m ago`: the signed times by which nodes with keys decide.
fn signs(view: &FleetView) -> String {
    let Some(live) = &view.live else { return String::new() };
    let issued = if live.signed { format!("; issued {}", live.issued) } else { String::new() };
    let until = live.valid_until.as_ref().map(|until| format!(", valid until {until}")).unwrap_or_default();
    let beat = view.heartbeat.as_ref().map(|beat| {
        let ago = long(Duration::from_secs(beat.age_seconds));
        let of = if beat.of_live { String::new() } else { format!(" of revision {}", beat.revision) };
        format!(", heartbeat{of} {ago} ago")
    });
    issued + &until + &beat.unwrap_or_default()
}

/// Returns `revision 14 ("2026-11-21.3")`.
fn live_in_words(live: &Live) -> String {
    let version = live.version.as_ref().map_or_else(String::new, |version| format!(" ({version:?})"));
    format!("revision {}{version}", live.revision)
}

const MOST_PROBLEMS: usize = 3;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use config::bus::{NodeReport, NodeState, Refused};
    use config::{Problem, Severity};

    use super::super::{Beat, Trouble};
    use super::*;
    use crate::cli::bus::view::samples::report;

    #[test]
    fn a_fleet_is_a_table_its_troubles_and_a_summary() {
        let problem = Problem {
            severity: Severity::Error,
            file: "revision 14".to_owned(),
            line: 3,
            path: "regions.a".to_owned(),
            message: "no country".to_owned(),
        };
        let refused = Some(Refused { epoch: 1, revision: 14, sha256: String::new(), at: 0 });
        let rejecting = NodeReport {
            state: NodeState::Rejected,
            refused,
            problems: vec![problem; 4],
            notes: vec!["the snapshot cannot be written".to_owned()],
            ..report("use1-b", "us-east-1", (1, 12))
        };
        let at = SystemTime::UNIX_EPOCH;
        let row = |report| Row::of(report, at, &[], at);
        let nodes = vec![row(report("use1-a", "us-east-1", (1, 14))), row(rejecting)];
        let live = || Live {
            epoch: 1,
            revision: 14,
            version: Some("1".to_owned()),
            signed: false,
            issued: "then".to_owned(),
            valid_until: None,
        };
        let none = || FleetView { live: None, heartbeat: None, bucket: Vec::new(), nodes: Vec::new() };
        assert_eq!(
            text(&FleetView { live: Some(live()), nodes, ..none() }),
            "NODE    REGION     REVISION  VERSION  STATE     LAG  SINCE\n\
             use1-a  us-east-1  14        1        applied   -    1970-01-01T00:00:00Z\n\
             use1-b  us-east-1  12        1        rejected  -    1970-01-01T00:00:00Z\n\
             use1-b rejects revision 14:\n\
             \x20 revision 14:3: error: regions.a: no country\n\
             \x20 revision 14:3: error: regions.a: no country\n\
             \x20 revision 14:3: error: regions.a: no country\n\
             \x20 and 1 more: --format json has them\n\
             use1-b: the snapshot cannot be written\n\
             2 nodes: 1 on revision 14 (\"1\"), 1 rejected\n"
        );
        assert_eq!(text(&none()), "no node reports; there is no table on the bus\n");
        let beat = |of_live| Beat {
            epoch: 1,
            revision: 14,
            by: "me".to_owned(),
            signed: String::new(),
            age_seconds: 65,
            of_live,
        };
        let signed = Live { signed: true, valid_until: Some("later".to_owned()), ..live() };
        let bucket = vec![Trouble { kind: "memory", says: "it is in memory".to_owned() }];
        let nodes = vec![row(report("a", "r", (1, 14)))];
        let shown = text(&FleetView { live: Some(signed), heartbeat: Some(beat(true)), bucket, nodes });
        assert!(shown.ends_with("\nwarning: it is in memory\n1 node: 1 on revision 14 (\"1\"); issued then, valid until later, heartbeat 1m 5s ago\n"), "{shown}");
        let other = signs(&FleetView { live: Some(live()), heartbeat: Some(beat(false)), ..none() });
        assert_eq!(other, ", heartbeat of revision 14 1m 5s ago");
    }
}
