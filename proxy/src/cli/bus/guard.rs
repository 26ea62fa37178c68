//! The checks that refuse a publication without a further flag, and the warnings for its publisher.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use config::RoutingTable;
use config::bus::{Bus, BusError, MOST_SKEW};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use policy::shrinkage::{Shrinkage, shrinkage};

use super::console::{Console, long, unix_ms, utc, utc_millis};
use super::outcome::{Outcome, refused, warn};
use super::view::BusView;
use crate::cli::Failed;
use crate::clock;

/// Checks that the next revision is newer than all that nodes have: the bucket may not be the one that they know.
///
/// # Errors
/// What is wrong, and the remedy.
pub(super) fn newer(view: &BusView, epoch: u64) -> Result<(), String> {
    match view.fleet() {
        Some((known, revision)) if (known, revision) > (epoch, view.last_revision) => Err(format!(
            "nodes have revision {revision} of epoch {known} in force, and ignore revision {} of epoch {epoch}: the \
             bucket was made anew, or an old state restored; with --new-epoch revisions start over",
            view.last_revision + 1
        )),
        _ => Ok(()),
    }
}

/// Checks that a signed table is not followed by an unsigned one.
///
/// # Errors
/// What is wrong, and the remedy.
pub(super) fn signed(view: &BusView, signs: bool, unsigned: bool) -> Result<(), String> {
    match &view.newest {
        Some(newest) if newest.publication.signature.is_some() && !signs && !unsigned => Err(format!(
            "revision {} is signed, and this would not be: sign it with --sign KEY.pem, or say --unsigned",
            newest.revision
        )),
        _ => Ok(()),
    }
}

/// Checks that this machine's clock and the bus' agree: nodes take no table from the future, and one that is
/// stamped in the past is old when it comes.
///
/// # Errors
/// What is wrong, and the remedy.
pub(in crate::cli) fn clock(bus: SystemTime, now: SystemTime) -> Result<(), String> {
    let (apart, how) = match now.duration_since(bus) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= MOST_SKEW {
        return Ok(());
    }
    Err(format!(
        "this machine's clock ({}) is {} {how} the bus' ({}): what it signs would be refused, or too old; set the clock \
         that is wrong",
        utc(now),
        long(apart),
        utc(bus)
    ))
}

/// Checks that each override names the fleet or a jurisdiction.
///
/// # Errors
/// The first that does not, with the known names.
pub(super) fn known(allow: &BTreeSet<String>, table: &RoutingTable) -> Result<(), String> {
    let jurisdictions = table.table.spec().jurisdictions.iter().map(|jurisdiction| jurisdiction.name.as_str());
    let names: Vec<&str> = std::iter::once("fleet").chain(jurisdictions).collect();
    match allow.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let near = config::nearest(name, names.iter().copied()).map(|near| format!("did you mean {near:?}?"));
            let hint = near.unwrap_or_else(|| format!("there are {}", names.join(", ")));
            Err(format!("--allow-shrink {name:?} names neither the fleet nor a jurisdiction of the table; {hint}"))
        }
    }
}

/// Returns what a table takes away past `max_shrink` without an override.
pub(super) fn shrunk(
    old: &RoutingTable,
    new: &RoutingTable,
    max_shrink: f64,
    allow: &BTreeSet<String>,
) -> Vec<Shrinkage> {
    let all = shrinkage(&old.table, &new.table).into_iter();
    all.filter(|shrinkage| shrinkage.lost() > max_shrink && !allow.contains(shrinkage.name())).collect()
}

/// Returns the refusal of a table that takes too much away, and the flags that let it pass.
pub(super) fn too_small(shrunk: &[Shrinkage], max_shrink: f64) -> String {
    let lines: String = shrunk.iter().map(|shrinkage| format!("  {shrinkage}\n")).collect();
    let flags: Vec<String> = shrunk.iter().map(|each| format!("--allow-shrink {}", each.name())).collect();
    format!(
        "the table takes away more than {:.0} % of a capacity:\n{lines}if that is meant, add {}",
        max_shrink * 100.0,
        flags.join(" ")
    )
}

/// Compares this machine's clock with the bus' and with the newest publication.
pub(super) async fn check_clock(bus: &Bus, view: &BusView, console: &mut Console) -> Result<(), Failed> {
    let now = clock::system_time();
    match bus.time().await {
        Ok(time) => clock(time, now).map_err(refused)?,
        // Without a bucket there is no clock to ask; a lack of permission shows in a complaint.
        Err(BusError::NoBucket { .. }) => {}
        Err(error) => {
            drop(bus.complaint());
            console.warn(&format!("warning: the bus' clock is not known ({error}), and not compared with this one"));
        }
    }
    let newest = view.newest.as_ref().filter(|newest| is_from_the_future(newest.publication.issued_ms, unix_ms(now)));
    if let Some(newest) = newest {
        console.warn(&format!(
            "warning: revision {} by {} has the issue time {}, which is in the future: no node takes it, and this one \
             is not issued after it",
            newest.revision,
            newest.publication.by,
            utc_millis(newest.publication.issued_ms)
        ));
    }
    Ok(())
}

/// Warns of the bucket's weaknesses, if there is a bucket.
pub(super) async fn warn_of_weaknesses(bus: &Bus, outcome: &mut Outcome, console: &mut Console) -> Result<(), Failed> {
    let weaknesses = match bus.weaknesses().await {
        Err(BusError::NoBucket { .. }) => return Ok(()),
        weaknesses => weaknesses?,
    };
    for weakness in weaknesses {
        warn(weakness.to_string(), outcome, console);
    }
    Ok(())
}

/// Returns whether a publication's time lies further ahead than clocks may differ.
pub(super) fn is_from_the_future(issued_ms: u64, now_ms: u64) -> bool {
    Duration::from_millis(issued_ms.saturating_sub(now_ms)) > MOST_SKEW
}

/// Parses a time with its offset, or a date, which is 00:00 UTC.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    // A time without an offset is refused: read as a date, it would lose its hours.
    let is_date = text.len() == "2026-12-31".len();
    let timestamp = match is_date {
        true => text.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::UTC)).map(|zoned| zoned.timestamp()),
        false => text.parse::<Timestamp>(),
    };
    timestamp
        .map(SystemTime::from)
        .map_err(|_| "say a date such as 2026-12-31, or a time such as 2026-12-31T18:00:00Z".to_owned())
}

/// Parses a share, from 0 to 1.
///
/// # Errors
/// When it is no number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::bus::Publication;

    use super::super::view::samples::report;
    use super::super::view::{Published, Revision};
    use super::*;

    #[test]
    fn revisions_that_start_over_need_a_new_epoch() {
        let view = |fleet: Option<Revision>, last_revision| BusView {
            last_revision,
            reports: fleet.map(|order| (report("a", "r", order), SystemTime::UNIX_EPOCH)).into_iter().collect(),
            ..BusView::default()
        };
        for (fleet, last_revision, epoch, good) in [
            (None, 0, 1, true),
            (Some((1, 900)), 1_200, 1, true),
            (Some((1, 900)), 900, 1, true),
            (Some((1, 900)), 12, 1, false),
            (Some((1, 900)), 12, 2, true),
            (Some((2, 3)), 900, 1, false),
        ] {
            assert_eq!(newer(&view(fleet, last_revision), epoch).is_ok(), good, "{fleet:?} {last_revision} {epoch}");
        }
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let now = SystemTime::UNIX_EPOCH + MOST_SKEW * 10;
        assert_eq!(clock(now - MOST_SKEW, now), Ok(()));
        assert_eq!(clock(now + MOST_SKEW, now), Ok(()));
        let second = std::time::Duration::from_secs(1);
        assert!(clock(now - MOST_SKEW - second, now).unwrap_err().contains("is 5m 1s ahead of the bus'"));
        assert!(clock(now + MOST_SKEW + second, now).unwrap_err().contains("is 5m 1s behind the bus'"));
    }

    #[test]
    fn signed_tables_are_followed_by_signed_ones() {
        let mut publication = Publication::new("a", 1, 0, "me");
        let view = |publication: &Publication| {
            let (publication, created) = (publication.clone(), SystemTime::UNIX_EPOCH);
            BusView { newest: Some(Published { revision: 3, created, publication }), ..BusView::default() }
        };
        assert!(signed(&view(&publication), false, false).is_ok());
        publication.signature = Some("a:b".to_owned());
        assert!(signed(&view(&publication), false, false).unwrap_err().contains("--sign KEY.pem"));
        assert!(signed(&view(&publication), true, false).is_ok());
        assert!(signed(&view(&publication), false, true).is_ok());
    }

    #[test]
    fn what_shrinks_must_be_allowed_by_name() {
        let table = |regions: &[&str]| {
            let region = |name: &&str| format!("[regions.{name}]\ncountry = 'DE'\nendpoints = ['h:1']\n");
            let text = format!("{}[[routes]]\nname = 'r'", regions.iter().map(region).collect::<String>());
            RoutingTable::from_text(Path::new("routes.toml"), &text, crate::clock::wall())
                .unwrap_or_else(|problems| panic!("{problems}"))
        };
        let (large, small) = (table(&["a", "b", "c"]), table(&["a"]));
        let names = |old, new, max_shrink, allow: &[&str]| {
            let allow = allow.iter().map(|name| (*name).to_owned()).collect();
            shrunk(old, new, max_shrink, &allow).iter().map(|each| each.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&large, &small, 0.5, &[]), ["fleet"]);
        assert!(names(&large, &small, 0.5, &["fleet"]).is_empty());
        assert!(names(&large, &small, 0.7, &[]).is_empty());
        assert!(names(&small, &large, 0.0, &[]).is_empty());
        let told = too_small(&shrunk(&large, &small, 0.5, &BTreeSet::new()), 0.5);
        assert!(told.starts_with("the table takes away more than 50 % of a capacity:\n  fleet"), "{told}");
        assert!(told.ends_with("add --allow-shrink fleet"), "{told}");
    }

    #[test]
    fn a_moment_is_a_date_or_a_time_with_its_offset() {
        let seconds = |text| moment(text).map(|time| unix_ms(time) / 1000);
        assert_eq!(seconds("2026-12-31"), Ok(1_798_675_200));
        assert_eq!(seconds("2026-12-31T01:00:00+01:00"), Ok(1_798_675_200));
        assert_eq!(seconds("2026-12-31T00:00:00Z"), Ok(1_798_675_200));
        for wrong in ["", "soon", "2026-13-31", "2026-12-31T00:00:00"] {
            assert!(seconds(wrong).unwrap_err().contains("say a date"), "{wrong}");
        }
    }
}
