//! What keeps a table from being published without a word more: a new table is to be a deliberate one.

use std::collections::BTreeSet;
use std::time::SystemTime;

use config::RoutingTable;
use config::bus::MOST_SKEW;
use policy::shrinkage::{Shrinkage, shrinkage};

use super::scene::Scene;
use super::time::{long, utc};

/// Whether revisions would start over without the nodes knowing: the bucket is not the one that they
/// know.
///
/// # Errors
/// What is wrong, and the remedy.
pub(super) fn newer(scene: &Scene, epoch: u64) -> Result<(), String> {
    match scene.fleet() {
        Some((known, revision)) if (known, revision) > (epoch, scene.last_revision) => Err(format!(
            "nodes have revision {revision} of epoch {known} in force, and ignore revision {} of epoch {epoch}: the \
             bucket was made anew, or an old state restored; with --new-epoch revisions start over",
            scene.last_revision + 1
        )),
        _ => Ok(()),
    }
}

/// Whether a signed table would be followed by an unsigned one.
///
/// # Errors
/// What is wrong, and the remedy.
pub(super) fn signed(scene: &Scene, signs: bool, unsigned: bool) -> Result<(), String> {
    match &scene.newest {
        Some(newest) if newest.publication.signature.is_some() && !signs && !unsigned => Err(format!(
            "revision {} is signed, and this would not be: sign it with --sign KEY.pem, or say --unsigned",
            newest.revision
        )),
        _ => Ok(()),
    }
}

/// Whether this machine's clock and the bus' agree: nodes take no table from the future, and one that is stamped in the
/// past is old when it comes.
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

/// Whether each override names something that could shrink.
///
/// # Errors
/// The first that does not, with what there is.
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

/// What a table takes away past the mark without being allowed to.
pub(super) fn shrunk(
    old: &RoutingTable,
    new: &RoutingTable,
    max_shrink: f64,
    allow: &BTreeSet<String>,
) -> Vec<Shrinkage> {
    let all = shrinkage(&old.table, &new.table).into_iter();
    all.filter(|shrinkage| shrinkage.lost() > max_shrink && !allow.contains(shrinkage.name())).collect()
}

/// The refusal of a table that takes too much away, and the flags that let it pass.
pub(super) fn too_small(shrunk: &[Shrinkage], max_shrink: f64) -> String {
    let lines: String = shrunk.iter().map(|shrinkage| format!("  {shrinkage}\n")).collect();
    let flags: Vec<String> = shrunk.iter().map(|each| format!("--allow-shrink {}", each.name())).collect();
    format!(
        "the table takes away more than {:.0} % of a capacity:\n{lines}if that is meant, add {}",
        max_shrink * 100.0,
        flags.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::bus::Publication;

    use super::super::scene::samples::report;
    use super::super::scene::{Mark, Published};
    use super::*;

    #[test]
    fn revisions_that_start_over_need_a_new_epoch() {
        let scene = |fleet: Option<Mark>, last_revision| Scene {
            last_revision,
            reports: fleet.map(|mark| (report("a", "r", mark), SystemTime::UNIX_EPOCH)).into_iter().collect(),
            ..Scene::default()
        };
        for (fleet, last_revision, epoch, good) in [
            (None, 0, 1, true),
            (Some((1, 900)), 1_200, 1, true),
            (Some((1, 900)), 900, 1, true),
            (Some((1, 900)), 12, 1, false),
            (Some((1, 900)), 12, 2, true),
            (Some((2, 3)), 900, 1, false),
        ] {
            assert_eq!(newer(&scene(fleet, last_revision), epoch).is_ok(), good, "{fleet:?} {last_revision} {epoch}");
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
        let scene = |publication: &Publication| {
            let (publication, created) = (publication.clone(), SystemTime::UNIX_EPOCH);
            Scene { newest: Some(Published { revision: 3, created, publication }), ..Scene::default() }
        };
        assert!(signed(&scene(&publication), false, false).is_ok());
        publication.signature = Some("a:b".to_owned());
        assert!(signed(&scene(&publication), false, false).unwrap_err().contains("--sign KEY.pem"));
        assert!(signed(&scene(&publication), true, false).is_ok());
        assert!(signed(&scene(&publication), false, true).is_ok());
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
}
